//! The state machine of one replica of one identity.
//!
//! It keeps the rows the server confirmed (the base), the queue of writes it has not answered (the overlay), and decides
//! what to store, send and show. It knows no clock, socket or database: a driver feeds [`Input`]s and carries out
//! [`Output`]s. Specified in `docs/protocol.md` and `docs/storage.md`.

mod client_error;
mod config;
mod event;
mod input;
mod output;
mod status;

pub use client_error::ClientError;
pub use config::ClientConfig;
pub use event::Event;
pub use input::{Input, NewChange, StorageFailure, StoredReplica, StoredValue};
pub use output::{Output, RequestId, StorageKind, StorageRequest};
pub use status::{Connection, Status, StorageState};

use syncline_protocol::{OpId, RowId, Timestamp};

/// One replica of one identity.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
}

/// A write that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Recognises it for ever.
    pub op_id: OpId,
    /// The row of each change, in order.
    pub row_ids: Vec<RowId>,
}

impl Client {
    /// Makes a client that waits for [`Input::Start`].
    pub const fn new(config: ClientConfig) -> Self {
        Self { config }
    }

    /// Takes one input. Drain [`Client::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) {
        let _ = (now, input);
    }

    /// Gives the next effect to carry out; the last one is always [`Output::Idle`].
    pub fn poll_output(&mut self) -> Output {
        Output::Idle { wake_at: None }
    }

    /// Builds, checks and queues one transaction. It is in the view when this returns. Drain the outputs afterwards.
    ///
    /// # Errors
    /// When a change is malformed, does not fit the view, or the queue is full. Nothing happened then.
    pub fn mutate(&mut self, now: Timestamp, changes: Vec<NewChange>) -> Result<Accepted, ClientError> {
        let _ = (now, changes, &self.config);
        Err(ClientError::NotStarted)
    }

    /// Queues a failed write again, as a new one at the end of the queue; gives its op_id.
    ///
    /// # Errors
    /// When no write has this op_id, or it has not failed, or its changes no longer fit the view.
    pub fn retry(&mut self, now: Timestamp, op_id: &OpId) -> Result<OpId, ClientError> {
        let _ = now;
        Err(ClientError::UnknownMutation(op_id.to_string()))
    }

    /// Discards a write that failed or was not sent yet.
    ///
    /// # Errors
    /// When no write has this op_id, or it is on its way.
    pub fn remove(&mut self, now: Timestamp, op_id: &OpId) -> Result<(), ClientError> {
        let _ = now;
        Err(ClientError::UnknownMutation(op_id.to_string()))
    }

    /// One row of the view as JSON, with its `id`.
    pub fn row_json(&self, entity: &str, id: &str) -> Option<String> {
        let _ = (entity, id);
        None
    }

    /// Changes when the row changes; 0 when the view does not have it.
    pub fn row_version(&self, entity: &str, id: &str) -> u64 {
        let _ = (entity, id);
        0
    }

    /// What changed in the view of an entity since a former call said `at`:
    /// `{"at":N,"full":bool,"rows":[row, … by id],"removed":[id, …]}`. `since` 0 gives everything.
    pub fn delta_json(&mut self, entity: &str, since: u64) -> String {
        let _ = (entity, since);
        r#"{"at":0,"full":true,"rows":[],"removed":[]}"#.to_owned()
    }

    /// The queue in order: `[{op_id, status, changes, error, waiting_on, issued_at}]`.
    pub fn mutations_json(&self) -> String {
        "[]".to_owned()
    }

    /// Where the replica stands.
    pub fn status(&self) -> Status {
        Status {
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
