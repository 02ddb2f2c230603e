//! What a driver tells the client.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::json::{JsonError, Reader, Slot};
use syncline_protocol::{ChangeKind, Identity};

use super::{RequestId, TabMessage};

/// Everything that can happen to a client from outside. Late and repeated replies are legal and do nothing.
#[derive(Debug, Clone)]
pub enum Input {
    /// Begins. `None`: the token is unknown here, so the server must say whose it is before anything is shown.
    Start {
        /// Whose replica this is, when that is known without the network.
        identity: Option<Identity>,
    },
    /// The database of the identity was read: when it was opened, when the core asked for it, and when this tab took the lead.
    Opened(Box<StoredReplica>),
    /// The database cannot be used, or not any more; the client goes on in memory and says so.
    OpenFailed(StorageFailure),
    /// This tab lost the lead, or is about to sleep for a time that others should not wait.
    LeadLost,
    /// Another tab of this replica did or said something.
    TabHeard {
        /// Who, by a number that no other tab has.
        tab: u64,
        /// Counts the messages of that tab, so that a loss shows.
        number: u64,
        /// What.
        message: TabMessage,
    },
    /// The server said whose token it is.
    IdentityResolved(Identity),
    /// The server did not say whose token it is.
    IdentityUnavailable {
        /// HTTP status, if there was an answer at all.
        status: Option<u16>,
        /// Code of the error body, if it was one.
        code: Option<String>,
        /// The answer's `Retry-After`, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// A storage request was carried out, or not.
    Stored {
        /// Which.
        request: RequestId,
        /// What it gave.
        result: Result<StoredValue, StorageFailure>,
    },
    /// The socket is open and the subprotocol selected.
    SocketOpened,
    /// The socket is closed, or never opened.
    SocketClosed {
        /// The close code; 1006 when there was no close frame.
        code: u16,
        /// The close frame's reason.
        reason: String,
    },
    /// A text message came.
    Received(String),
    /// A pull was answered, with whatever status.
    PullAnswered {
        /// Which.
        request: RequestId,
        /// HTTP status.
        status: u16,
        /// The body as text.
        body: String,
        /// The answer's `Retry-After`, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// A pull got no answer.
    PullFailed {
        /// Which.
        request: RequestId,
    },
    /// The application gave a new token for the same identity: try again now.
    TokenChanged,
    /// The application has no other token: stay unauthorised until [`Input::TokenChanged`].
    TokenUnavailable,
    /// Stop talking to the network, keep everything else.
    Pause,
    /// Talk again.
    Resume,
    /// The device came online or the page became visible: cuts a wait short, checks an open socket.
    Wake,
    /// Ask for what is new now; [`Event::Synced`](super::Event::Synced) says when everything is here.
    Pull,
    /// Fetch every row anew; unsent writes stay.
    Resync,
    /// The time named by the last `Idle` has come.
    Tick,
    /// Close the socket and do nothing more.
    Stop,
}

/// What a database holds when it is opened.
#[derive(Debug, Clone, Default)]
pub struct StoredReplica {
    /// The replica record, if there is one.
    pub replica: Option<Vec<u8>>,
    /// Commit records and segments with their keys, in order of the keys, of every generation present.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Mutation records with their keys, in order of the keys.
    pub queue: Vec<(u64, Vec<u8>)>,
    /// The fence that stands in the database.
    pub fence: u64,
    /// Whether this driver wrote it: then this tab leads the replica, and what was read is what it was when it took the lead.
    pub leads: bool,
    /// Whether the replica record is the one that the core named, so that `replica` and `records` were left out.
    pub is_known: bool,
    /// Why the store is only memory; `None` for a durable one.
    pub memory: Option<String>,
}

/// What a storage request gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredValue {
    /// It was carried out.
    Done,
    /// The keys of the records concerned, in the order of the request.
    Keys(Vec<u64>),
}

/// Why the database could not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageFailure {
    /// The fence or the expected replica record did not match; nothing was written.
    Conflict,
    /// The quota is used up; nothing was written.
    Full,
    /// Missing, refused, hanging or broken.
    Unavailable(String),
    /// Written by a newer version.
    TooNew,
    /// Another tab upgrades or deletes it: this one may finish what it began, and has to be reloaded.
    Outdated,
    /// Unreadable.
    Corrupt(String),
}

/// One change an application asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewChange {
    /// Kind of row.
    pub entity: String,
    /// Which row; minted for an insert without one.
    pub row_id: Option<String>,
    /// `Insert`, `Update` or `Delete`.
    pub kind: ChangeKind,
    /// Insert: the fields. Update: the fields that change. Delete: none. The text of a JSON object.
    pub data: Option<String>,
}

impl NewChange {
    /// Parses the changes of a transaction: `[{entity, kind, row_id?, data?}]`.
    ///
    /// # Errors
    /// When the text is something else.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, JsonError> {
        let (mut reader, mut changes) = (Reader::new(text), Vec::new());
        let mut list = reader.array();
        while reader.next_item(&mut list) {
            let (mut entity, mut kind, mut row_id, mut data) = (String::new(), String::new(), None, None);
            reader.members(
                &mut [("entity", Slot::Text(&mut entity)), ("kind", Slot::Text(&mut kind))],
                &mut [("row_id", Slot::OptionalText(&mut row_id)), ("data", Slot::Raw(&mut data))],
            );
            changes.push(Self { entity, row_id, kind: ChangeKind::from(kind), data: data.map(str::to_owned) });
        }
        reader.finish().map(|()| changes)
    }
}
