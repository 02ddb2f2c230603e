//! Rows, change log, outcomes and sessions in one SQLite database.
//!
//! One thread owns the write connection and commits in groups; reads take a connection from a small pool. What a write or
//! a read may do is decided by `syncline_core::server`; what it looks like from outside is `docs/protocol.md`. This module
//! knows neither HTTP nor sockets.

mod session;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use syncline_core::server::Schema;
use syncline_protocol::{ClientId, EntityName, ErrorCode, OpId, OutcomeResult, Page, RowId, Timestamp, limits};

pub use session::{Session, SessionError, SessionEvent, SessionKind};

/// Who reads or writes, as their session says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reader {
    /// The user; `None` for anonymous.
    pub user_id: Option<String>,
    /// The selected organisation; `None` for none.
    pub tenant_id: Option<String>,
    /// Roles within it.
    pub roles: Vec<String>,
}

/// Who pushes.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    /// The session's user and tenant.
    pub reader: Reader,
    /// The replica; `None` for REST.
    pub client_id: Option<ClientId>,
    /// Number of the replica's leader; a lower one than seen before is refused.
    pub fence: u64,
}

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Connections for reads.
    pub readers: usize,
    /// Writes that may wait for the writer thread before new ones are answered with `BUSY`.
    pub queue: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { readers: 4, queue: 1_024 }
    }
}

/// Soft bounds of one page: it ends at the end of the transaction that reaches one.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    /// Changes.
    pub changes: usize,
    /// Bytes of row data.
    pub bytes: usize,
}

impl Default for PageLimits {
    fn default() -> Self {
        Self { changes: limits::PAGE_CHANGES_SOFT, bytes: limits::PAGE_BYTES_SOFT }
    }
}

/// A page in the shape that Pylon clients know.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PylonPage {
    /// By seq.
    pub changes: Vec<PylonChange>,
    /// `{last_seq}`.
    pub cursor: PylonCursor,
    /// Whether to ask again.
    pub has_more: bool,
}

/// Where a Pylon client stands.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct PylonCursor {
    /// Last seq of the page, before policies left changes out.
    pub last_seq: u64,
}

/// A change in the shape that Pylon clients know.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PylonChange {
    /// Place in the log.
    pub seq: u64,
    /// Kind of row.
    pub entity: EntityName,
    /// Which row.
    pub row_id: RowId,
    /// `insert`, `update` or `delete`.
    pub kind: &'static str,
    /// The row after the change; absent for `delete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// Seconds since 1970, with a `Z`.
    pub timestamp: String,
}

/// Some rows of one entity.
#[derive(Debug, Clone)]
pub struct RowList {
    /// The rows, each with its `id`, in order of ids.
    pub rows: Vec<Box<RawValue>>,
    /// How many rows the reader may see in all.
    pub count: u64,
}

/// Why the store could not do its own work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database refused.
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file was written by a newer version.
    #[error("the database has format {found}, this version knows up to {known}; use the version that wrote it, or a newer one")]
    TooNew {
        /// Format of the file.
        found: i64,
        /// Newest known format.
        known: i64,
    },
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
    /// A record does not have its documented form.
    #[error("stored {what} does not decode")]
    Corrupt {
        /// Which record.
        what: &'static str,
    },
    /// Too many writes wait, or the store is shutting down.
    #[error("the store is busy")]
    Busy,
    /// No such session.
    #[error("no such session")]
    NoSession,
}

/// Why a push was not looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// A newer leader of the same replica has pushed.
    #[error("a newer leader of this replica (fence {current}) has taken over")]
    Fenced {
        /// The highest fence seen.
        current: u64,
    },
}

/// Why a read was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The cursor is of no use: begin with a snapshot.
    #[error("the cursor is of another database, view or time; pull without one")]
    Resync {
        /// The oldest seq the log holds.
        oldest_seq: u64,
    },
    /// The manifest has no such entity.
    #[error("there is no entity {0}")]
    NoEntity(String),
    /// This user may not read this entity at all.
    #[error("the read policy of {0} does not admit this user")]
    Denied(String),
    /// The filter is not understood.
    #[error("{0}")]
    InvalidQuery(String),
    /// The store could not do it now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReadError {
    /// The stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Resync { .. } => ErrorCode::ResyncRequired,
            Self::NoEntity(_) => ErrorCode::EntityNotFound,
            Self::Denied(_) => ErrorCode::PolicyDenied,
            Self::InvalidQuery(_) => ErrorCode::InvalidQuery,
            Self::Store(StoreError::Busy) => ErrorCode::Busy,
            Self::Store(_) => ErrorCode::Internal,
        }
    }
}

/// The database of one server. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    schema: Schema,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

#[expect(clippy::unused_async, reason = "the bodies follow in the next commits")]
impl Store {
    /// Opens the database at `path`, creating it if there is none.
    ///
    /// # Errors
    /// When it cannot be opened or was written by a newer version.
    pub fn open(_path: &Path, schema: Schema, _options: StoreOptions) -> Result<Self, StoreError> {
        Ok(Self { shared: Arc::new(Shared { schema }) })
    }

    /// What the server accepts and shows.
    pub fn schema(&self) -> &Schema {
        &self.shared.schema
    }

    /// Applies intents in order; one result for each. `processed` names transactions whose outcome the client has on disk.
    ///
    /// # Errors
    /// When a newer leader of the replica has pushed.
    pub async fn push(
        &self,
        _writer: Writer,
        _intents: Vec<Box<RawValue>>,
        _processed: Vec<OpId>,
    ) -> Result<Vec<OutcomeResult>, PushError> {
        Ok(Vec::new())
    }

    /// The page after a cursor, or the first of a snapshot.
    ///
    /// # Errors
    /// When the cursor is of no use, or the store could not read.
    pub async fn pull(&self, _reader: &Reader, _cursor: Option<&str>, _limits: PageLimits) -> Result<Page, ReadError> {
        Err(StoreError::Busy.into())
    }

    /// The page after a seq, in the shape that Pylon clients know.
    ///
    /// # Errors
    /// When the log does not reach back that far, or the store could not read.
    pub async fn pull_since(&self, _reader: &Reader, _since: u64) -> Result<PylonPage, ReadError> {
        Err(StoreError::Busy.into())
    }

    /// Checks a cursor's token and returns its seq.
    ///
    /// # Errors
    /// When the cursor is of no use, or the store could not read.
    pub async fn check_cursor(&self, _reader: &Reader, _cursor: &str) -> Result<u64, ReadError> {
        Err(StoreError::Busy.into())
    }

    /// The last committed seq of a tenant.
    pub fn head(&self, tenant: Option<&str>) -> u64 {
        *self.watch_head(tenant).borrow()
    }

    /// Follows the last committed seq of a tenant.
    pub fn watch_head(&self, _tenant: Option<&str>) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }

    /// Rows of an entity by id.
    ///
    /// # Errors
    /// When there is no such entity, the reader may not read it, or the store could not read.
    pub async fn list(
        &self,
        _reader: &Reader,
        _entity: &EntityName,
        _limit: Option<u64>,
        _offset: u64,
    ) -> Result<RowList, ReadError> {
        Err(StoreError::Busy.into())
    }

    /// One row with its `id`, as JSON; `None` when there is none this reader may see.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn get(&self, _reader: &Reader, _entity: &EntityName, _id: &RowId) -> Result<Option<String>, ReadError> {
        Err(StoreError::Busy.into())
    }

    /// Rows that match a filter, each with its `id`.
    ///
    /// # Errors
    /// As [`Store::list`], and when the filter is not understood.
    pub async fn query(
        &self,
        _reader: &Reader,
        _entity: &EntityName,
        _filter: &serde_json::Value,
    ) -> Result<Vec<Box<RawValue>>, ReadError> {
        Err(StoreError::Busy.into())
    }

    /// Recognises the database.
    pub fn epoch(&self) -> u64 {
        0
    }

    /// Outcomes of writes issued before this time may be forgotten.
    pub fn outcome_floor(&self) -> Timestamp {
        Timestamp(0)
    }

    /// Makes a session and returns its token. Only a hash of the token is stored.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn create_session(&self, _user_id: &str, _kind: SessionKind, _ttl: Duration) -> Result<String, StoreError> {
        Err(StoreError::Busy)
    }

    /// The session of a token.
    ///
    /// # Errors
    /// When there is none, or it is over.
    pub async fn session(&self, _token: &str) -> Result<Session, SessionError> {
        Err(SessionError::Unknown)
    }

    /// Ends a session; false when there is none.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub async fn revoke_session(&self, _token: &str) -> Result<bool, StoreError> {
        Err(StoreError::Busy)
    }

    /// Selects a session's tenant.
    ///
    /// # Errors
    /// When there is no such session, or it cannot be stored.
    pub async fn select_tenant(&self, _token: &str, _tenant: Option<&str>) -> Result<(), StoreError> {
        Err(StoreError::Busy)
    }

    /// Follows the ends and tenant changes of sessions.
    pub fn watch_sessions(&self) -> tokio::sync::broadcast::Receiver<SessionEvent> {
        tokio::sync::broadcast::channel(1).1
    }

    /// Drops the log below the transaction that contains `keep_from` and returns the floor: the last seq dropped.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub async fn truncate_log(&self, _tenant: Option<&str>, _keep_from: u64) -> Result<u64, StoreError> {
        Err(StoreError::Busy)
    }

    /// Finishes waiting writes and checkpoints the database.
    pub async fn shutdown(&self) {}
}
