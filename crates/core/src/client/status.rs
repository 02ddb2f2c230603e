//! Where a replica stands, in words an application can show.

use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::json::{Object, Reader, Slot, finish};
use syncline_protocol::{ErrorDetail, Identity, Timestamp};

/// The state of a replica at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Whether this tab talks to the server; else another one does, for this one too.
    pub leads: bool,
    /// The line to the server: this tab's own, or the leader's.
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

/// The line to the server. In JSON `{"state": "waiting", "retry_at": …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Where rows and writes are kept. In JSON `{"kind": "memory", "reason": …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageState {
    /// Not known yet.
    Opening,
    /// On disk.
    Indexeddb,
    /// Nowhere else: a reload forgets them.
    Memory {
        /// Why.
        reason: String,
    },
}

impl Status {
    /// As JSON for JavaScript: members in snake case.
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        finish(out)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.bool("leads", self.leads);
        self.connection.write(object.name("connection"));
        match &self.identity {
            Some(identity) => identity.write(object.name("identity")),
            None => object.raw("identity", "null"),
        }
        object.bool("synced", self.synced);
        object.bool("syncing", self.syncing);
        object.uint_or_null("last_heard_at", self.last_heard_at.map(|at| at.0));
        object.uint("pending", self.pending as u64);
        object.uint("failed", self.failed as u64);
        self.storage.write(object.name("storage"));
        object.uint("seq", self.seq);
        object.uint_or_null("server_head", self.server_head);
        match &self.last_error {
            Some(error) => error.write(object.name("last_error")),
            None => object.raw("last_error", "null"),
        }
        object.end();
    }
}

impl Connection {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        let state = match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Waiting { .. } => "waiting",
            Self::Paused => "paused",
            Self::Unauthorized => "unauthorized",
            Self::Incompatible => "incompatible",
            Self::Stopped => "stopped",
        };
        object.text("state", state);
        if let Self::Waiting { retry_at } = self {
            object.uint("retry_at", retry_at.0);
        }
        object.end();
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let (mut state, mut retry_at) = (String::new(), 0);
        reader.members(&mut [("state", Slot::Text(&mut state))], &mut [("retry_at", Slot::Uint(&mut retry_at))]);
        match state.as_str() {
            "idle" => Self::Idle,
            "live" => Self::Live,
            "waiting" => Self::Waiting { retry_at: Timestamp(retry_at) },
            "paused" => Self::Paused,
            "unauthorized" => Self::Unauthorized,
            "incompatible" => Self::Incompatible,
            "stopped" => Self::Stopped,
            _ => Self::Connecting,
        }
    }
}

impl StorageState {
    fn write(&self, out: &mut Vec<u8>) {
        let (kind, reason) = match self {
            Self::Opening => ("opening", None),
            Self::Indexeddb => ("indexeddb", None),
            Self::Memory { reason } => ("memory", Some(reason)),
        };
        let mut object = Object::begin(out);
        object.text("kind", kind);
        if let Some(reason) = reason {
            object.text("reason", reason);
        }
        object.end();
    }
}
