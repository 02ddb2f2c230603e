//! What the client asks its driver to do.

use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::{Identity, Timestamp};

use super::Event;

/// Pairs a reply with its request; never used twice by one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RequestId(pub u64);

/// One effect to carry out. Drain [`Client::poll_output`](super::Client::poll_output) until `Idle` after each input.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Ask the server whose token it is (`GET /api/auth/me`); answered by `IdentityResolved` or `IdentityUnavailable`.
    ResolveIdentity,
    /// Open the database of this identity; answered by `Opened` or `OpenFailed`. If no other tab leads its replica, this one
    /// does; else it stands in line, and `Opened` follows again when it has taken the lead.
    OpenStorage {
        /// Whose.
        identity: Identity,
    },
    /// Read the database again; answered by `Opened`.
    ReadStorage {
        /// The replica record that the core knows: rows need not be read when the stored one is the same.
        known: Option<Vec<u8>>,
    },
    /// Take the lead by force, if somebody looks at this tab; then `Opened` follows.
    TakeLead,
    /// Let the lead go and stand in line for it.
    Resign,
    /// Tell the other tabs. What this tab stores they are told without being asked for: each request that was carried out, in
    /// order.
    TellTabs(String),
    /// Carry out a storage request; answered by `Stored`.
    Store(StorageRequest),
    /// Open a socket with the current token, closing one that may still exist.
    OpenSocket,
    /// Close the socket and forget it: nothing it still says may come back as an input.
    CloseSocket {
        /// The code for the close frame, 1000 or one of 3000 to 4999.
        code: u16,
    },
    /// Send a text message on the socket.
    Send(String),
    /// GET this with the current token; answered by `PullAnswered` or `PullFailed`.
    Pull {
        /// Comes back with the answer.
        request: RequestId,
        /// Path and query, relative to the server's base URL.
        path_and_query: String,
    },
    /// Tell the application.
    Notify(Event),
    /// Nothing more to do before the next input.
    Idle {
        /// When to give [`Input::Tick`](super::Input::Tick), unless something else happens first.
        wake_at: Option<Timestamp>,
    },
}

/// A storage request with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageRequest {
    /// Comes back with the reply.
    pub id: RequestId,
    /// What to do. Each is one transaction: all of it, or nothing.
    pub kind: StorageKind,
}

/// A record of the queue whose place another one takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// Which of the new records takes it: its number in the request.
    pub number: usize,
    /// Its key.
    pub key: u64,
    /// What it must be, byte for byte; `None`: anything but the mark of a discarded write.
    pub expect: Option<Vec<u8>>,
}

/// What to do with the database. `docs/storage.md` names the stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageKind {
    /// Strict. Adds records to the queue in place of others, which it removes; gives the key of each. One is not added, and its
    /// key is 0, when a record whose place it takes is not as expected: another tab was faster.
    Enqueue {
        /// Mutation records, in order.
        records: Vec<Vec<u8>>,
        /// What they take the place of.
        formers: Vec<Former>,
    },
    /// Strict. Checks the fence, then rewrites and removes records of the queue; gives the keys that were there. The mark of a
    /// discarded write counts as not there, unless it is to be removed.
    UpdateQueue {
        /// What the stored fence must be.
        fence: u64,
        /// New contents; only over keys that exist.
        put: Vec<(u64, Vec<u8>)>,
        /// Keys to remove.
        remove: Vec<u64>,
    },
    /// Strict. Checks the fence and that every record named is there, then rewrites and removes; gives the keys, or none when
    /// nothing was changed because one is missing. The records put are of earlier writes into which those removed were folded;
    /// without any, what is removed came to nothing.
    FoldQueue {
        /// What the stored fence must be.
        fence: u64,
        /// New contents.
        put: Vec<(u64, Vec<u8>)>,
        /// Keys to remove.
        remove: Vec<u64>,
    },
    /// Strict. Puts the mark of a discarded write in the place of a record of the queue, for a tab that does not lead; gives
    /// its key, or none when the record is not as expected: whatever was sent meanwhile stays.
    Discard {
        /// Its key.
        key: u64,
        /// What it must be, byte for byte.
        expect: Vec<u8>,
        /// What it becomes.
        mark: Vec<u8>,
    },
    /// Relaxed. Checks the fence and the replica record, then writes rows and the new replica record, and removes
    /// acknowledged mutations.
    Commit {
        /// What the stored fence must be.
        fence: u64,
        /// What the stored replica record must be, byte for byte; `None`: there must be none.
        expect: Option<Vec<u8>>,
        /// The new replica record.
        replica: Vec<u8>,
        /// Records of `entities` to put.
        put: Vec<(u64, Vec<u8>)>,
        /// Keys of `entities` to delete.
        delete: Vec<u64>,
        /// Keys of the queue to remove, each with the seq at which its write was applied.
        remove_queue: Vec<(u64, u64)>,
    },
    /// Relaxed. Checks the fence and that the replica record shows this generation, then exchanges records.
    Compact {
        /// What the stored fence must be.
        fence: u64,
        /// What the stored replica record's `generation` must be.
        generation: u64,
        /// Records of `entities` to put.
        put: Vec<(u64, Vec<u8>)>,
        /// Keys of `entities` to delete.
        delete: Vec<u64>,
    },
    /// Relaxed. Checks the fence, then deletes a range of `entities`.
    DeleteGeneration {
        /// What the stored fence must be.
        fence: u64,
        /// First key.
        first: u64,
        /// Last key, included.
        last: u64,
    },
    /// Relaxed. Checks the fence, then moves a record of `entities` to the journal.
    Quarantine {
        /// What the stored fence must be.
        fence: u64,
        /// Its key in `entities`.
        key: u64,
    },
}
