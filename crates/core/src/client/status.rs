//! Where a replica stands, in words an application can show.

use serde::Serialize;
use syncline_protocol::{ErrorDetail, Identity, Timestamp};

/// The state of a replica at one moment. Serialises in snake case for JavaScript.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The line to the server.
    pub connection: Connection,
    /// Whose rows are shown; `None` (in JSON `null`) while that is not known.
    pub identity: Option<Identity>,
    /// Whether the replica has been complete since this client started, or was when it was stored.
    pub synced: bool,
    /// Whether rows are being fetched.
    pub syncing: bool,
    /// When the server last proved to be there.
    pub last_heard_at: Option<Timestamp>,
    /// Writes the server has not answered.
    pub pending: usize,
    /// Writes that failed and wait for `retry` or `remove`.
    pub failed: usize,
    /// Where rows and writes are kept.
    pub storage: StorageState,
    /// Seq of the rows shown.
    pub seq: u64,
    /// Last seq of the server's log, as far as it was said.
    pub server_head: Option<u64>,
    /// What went wrong last, until it works again.
    pub last_error: Option<ErrorDetail>,
}

/// The line to the server. Serialises as `{"state": "waiting", "retry_at": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Connection {
    /// Not started.
    Idle,
    /// On the way: resolving the identity, opening, greeting or fetching what was missed.
    Connecting,
    /// Changes arrive as they happen.
    Live,
    /// The last attempt failed.
    Waiting {
        /// When the next one begins.
        retry_at: Timestamp,
    },
    /// The application said so.
    Paused,
    /// The server does not accept the token and the application has no other.
    Unauthorized,
    /// The server speaks another version, or sent what this version does not know.
    Incompatible,
    /// For good.
    Stopped,
}

/// Where rows and writes are kept. Serialises as `{"kind": "memory", "reason": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StorageState {
    /// Not known yet.
    Opening,
    /// Another tab has the database; said by the driver, because the core does not know of tabs.
    Waiting {
        /// For whom or what.
        reason: String,
    },
    /// On disk.
    Indexeddb,
    /// Nowhere else: a reload forgets them.
    Memory {
        /// Why.
        reason: String,
    },
}

impl Status {
    /// The status of a client that was not started.
    pub(crate) const fn initial() -> Self {
        Self {
            connection: Connection::Idle,
            identity: None,
            synced: false,
            syncing: false,
            last_heard_at: None,
            pending: 0,
            failed: 0,
            storage: StorageState::Opening,
            seq: 0,
            server_head: None,
            last_error: None,
        }
    }
}
