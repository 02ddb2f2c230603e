//! Rows, change log, outcomes and sessions in one SQLite database.
//!
//! One thread owns the write connection and commits in groups; reads take a connection from a small pool. What a write or
//! a read may do is decided by `syncline_core::server`; what it looks like from outside is `docs/protocol.md`. This module
//! knows neither HTTP nor sockets.

mod backup;
mod committer;
mod cursor;
mod database;
mod filter;
mod gate;
mod head;
mod inspection;
mod local;
mod log;
mod member_lookup;
mod outcome;
mod pull;
mod push;
mod pylon;
mod query;
mod read_pool;
mod retention;
mod row_export;
mod row_import;
mod row_json;
mod scope_change;
mod server_lock;
mod session;
mod snapshot;
mod visibility;
mod write;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use syncline_core::server::{Schema, SchemaChange};
use syncline_protocol::{ClientId, EntityName, ErrorCode, Page, RawJson, RowId, limits};

use crate::store::database::Facts;
use crate::store::head::Heads;
use crate::store::pull::LogRead;
use crate::store::read_pool::ReadPool;
use crate::store::session::{SessionCache, StoredSession};
use crate::store::writer::{WriterHandle, now};
pub use backup::{BackupError, backup, restore};
pub use gate::{ProposedChange, ProposedWrite, Verdict, Watched, WriteGate};
pub use inspection::{Inspection, TenantInspection, inspect};
pub use local::{Committed, LocalBackup, LocalStore};
pub(crate) use outcome::outcome_floor;
pub use retention::LogRetention;
pub use row_export::RowExport;
pub use row_import::{ImportRefusal, ImportedRow, RowImport};
pub(crate) use row_json::with_id;
pub use server_lock::{LockError, ServerLock};
pub(crate) use session::{IDENTITY_BYTES_MAX, is_identity_text, token_hash};
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

impl Reader {
    /// Whether it is this user in this organisation.
    pub(crate) fn is(&self, user_id: &str, tenant_id: &str) -> bool {
        self.user_id.as_deref() == Some(user_id) && self.tenant_id.as_deref() == Some(tenant_id)
    }
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
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Connections for reads.
    pub readers: usize,
    /// Writes that may wait for the writer thread before new ones are answered with `BUSY`.
    pub queue: usize,
    /// Whether the schema becomes the one that readers are served with.
    pub policies: PolicyUse,
}

/// What opening a database with a schema means to those who read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyUse {
    /// Readers are served with this schema: its indexes are built, and cursors from before other policies end.
    Adopt,
    /// A tool looks in; a server with another schema may be running.
    Keep,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { readers: 4, queue: 1_024, policies: PolicyUse::Adopt }
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
    pub data: Option<RawJson>,
    /// Seconds since 1970, with a `Z`.
    pub timestamp: String,
}

/// Some rows of one entity.
#[derive(Debug, Clone)]
pub struct RowList {
    /// The rows, each with its `id`, in order of ids.
    pub rows: Vec<RawJson>,
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
    /// The file is a database of something else.
    #[error("it is no database of syncline")]
    Foreign,
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
    /// Rows are stored that the manifest at hand does not fit.
    #[error("the manifest has changed: {0}")]
    SchemaChange(#[from] SchemaChange),
    /// The schema at hand is not the one the log is written for.
    #[error("this database is served with a manifest, or with another one; name it with --manifest")]
    OtherPolicies,
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
    /// The user is no member of the session's organisation any more.
    #[error("the user is no member of this organisation any more")]
    NotAMember,
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

struct Shared {
    schema: Arc<Schema>,
    facts: Facts,
    writer: WriterHandle,
    reads: Arc<ReadPool>,
    heads: Arc<Heads>,
    sessions: Arc<SessionCache>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database at `path`, creating it if there is none.
    ///
    /// # Errors
    /// When it cannot be opened or was written by a newer version.
    pub fn open(path: &Path, schema: Schema, options: StoreOptions) -> Result<Self, StoreError> {
        let (connection, facts) = database::open_writer(path, &schema, options.policies)?;
        let heads = Arc::new(Heads::load(&connection)?);
        let sessions = Arc::new(SessionCache::new());
        let writer = WriterHandle::start(connection, Arc::clone(&heads), Arc::clone(&sessions), options.queue);
        let reads = Arc::new(ReadPool::new(path.to_owned(), options.readers));
        let shared = Shared { schema: Arc::new(schema), facts, writer, reads, heads, sessions };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What the server accepts and shows.
    pub fn schema(&self) -> &Schema {
        &self.shared.schema
    }

    /// The page after a cursor, or the first of a snapshot.
    ///
    /// # Errors
    /// When the cursor is of no use, or the store could not read.
    pub async fn pull(&self, reader: &Reader, cursor: Option<&str>, limits: PageLimits) -> Result<Page, ReadError> {
        let cursor = cursor.map(str::to_owned);
        self.read_log(reader, move |read| read.page(cursor.as_deref(), limits)).await
    }

    /// The page after a seq, in the shape that Pylon clients know.
    ///
    /// # Errors
    /// When the log does not reach back that far, or the store could not read.
    pub async fn pull_since(&self, reader: &Reader, since: u64) -> Result<PylonPage, ReadError> {
        self.read_log(reader, move |read| pylon::page_since(read, since)).await
    }

    /// Checks a cursor's token and returns its seq.
    ///
    /// # Errors
    /// When the cursor is of no use, or the store could not read.
    pub async fn check_cursor(&self, reader: &Reader, cursor: &str) -> Result<u64, ReadError> {
        let cursor = cursor.to_owned();
        self.read_log(reader, move |read| Ok(read.check(&cursor)?.seq)).await
    }

    /// The last committed seq of a tenant.
    pub fn head(&self, tenant: Option<&str>) -> u64 {
        self.shared.heads.head(tenant.unwrap_or_default())
    }

    /// Follows the last committed seq of a tenant.
    pub fn watch_head(&self, tenant: Option<&str>) -> tokio::sync::watch::Receiver<u64> {
        self.shared.heads.watch(tenant.unwrap_or_default())
    }

    /// Rows of an entity by id.
    ///
    /// # Errors
    /// When there is no such entity, the reader may not read it, or the store could not read.
    pub async fn list(
        &self,
        reader: &Reader,
        entity: &EntityName,
        limit: Option<u64>,
        offset: u64,
    ) -> Result<RowList, ReadError> {
        let entity = entity.clone();
        self.read_log(reader, move |read| query::list(read, entity.as_str(), limit, offset)).await
    }

    /// One row with its `id`, as JSON; `None` when there is none this reader may see.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn get(&self, reader: &Reader, entity: &EntityName, id: &RowId) -> Result<Option<String>, ReadError> {
        let (entity, id) = (entity.clone(), id.clone());
        self.read_log(reader, move |read| query::row(read, entity.as_str(), id.as_str())).await
    }

    /// Rows that match a filter, each with its `id`.
    ///
    /// # Errors
    /// As [`Store::list`], and when the filter is not understood.
    pub async fn query(
        &self,
        reader: &Reader,
        entity: &EntityName,
        filter: &serde_json::Value,
    ) -> Result<Vec<RawJson>, ReadError> {
        let (entity, filter) = (entity.clone(), filter.clone());
        self.read_log(reader, move |read| query::query(read, entity.as_str(), &filter)).await
    }

    /// Recognises the database.
    pub fn epoch(&self) -> u64 {
        self.shared.facts.epoch
    }

    /// Makes a session and returns its token. Only a hash of the token is stored.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn create_session(&self, user_id: &str, kind: SessionKind, ttl: Duration) -> Result<String, StoreError> {
        let token = session::mint_token()?;
        let (hash, user_id) = (token_hash(&token), user_id.to_owned());
        let created = now();
        let expires = created.plus_ms(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX >> 1));
        self.shared.writer.run(move |connection, _| session::insert(connection, hash, &user_id, kind, created, expires)).await?;
        Ok(token)
    }

    /// The session of a token.
    ///
    /// # Errors
    /// When there is none, or it is over.
    pub async fn session(&self, token: &str) -> Result<Session, SessionError> {
        let hash = token_hash(token);
        if let Some(known) = self.shared.sessions.find(hash, now()) {
            return known.at(now());
        }
        let schema = Arc::clone(&self.shared.schema);
        let stored = self.shared.reads.run(move |connection| StoredSession::load(connection, &schema, hash)).await?;
        let stored = stored.ok_or(SessionError::Unknown)?;
        self.shared.sessions.keep(stored.clone(), now());
        stored.at(now())
    }

    /// Ends a session; false when there is none.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub async fn revoke_session(&self, token: &str) -> Result<bool, StoreError> {
        let token_hash = token_hash(token);
        let revoked = self.shared.writer.run(move |connection, _| session::revoke(connection, token_hash, now())).await?;
        self.shared.sessions.changed(SessionEvent::Revoked { token_hash });
        Ok(revoked)
    }

    /// Selects a session's tenant.
    ///
    /// # Errors
    /// When there is no such session, or it cannot be stored.
    pub async fn select_tenant(&self, token: &str, tenant: Option<&str>) -> Result<(), StoreError> {
        let token_hash = token_hash(token);
        let tenant = tenant.unwrap_or_default().to_owned();
        let task = move |connection: &rusqlite::Connection| session::select_tenant(connection, token_hash, &tenant);
        let found = self.shared.writer.run(move |connection, _| task(connection)).await?;
        self.shared.sessions.changed(SessionEvent::TenantChanged { token_hash });
        if found { Ok(()) } else { Err(StoreError::NoSession) }
    }

    /// Whether a user may be in an organisation: as the membership rows say, if the schema names them.
    ///
    /// # Errors
    /// When the store cannot look.
    pub async fn may_be_in(&self, user_id: &str, tenant_id: &str) -> Result<bool, StoreError> {
        let (schema, user_id, tenant_id) = (Arc::clone(&self.shared.schema), user_id.to_owned(), tenant_id.to_owned());
        self.shared.reads.run(move |connection| member_lookup::may_be_in(connection, &schema, &user_id, &tenant_id)).await
    }

    /// Follows the ends and tenant changes of sessions.
    pub fn watch_sessions(&self) -> tokio::sync::broadcast::Receiver<SessionEvent> {
        self.shared.sessions.watch()
    }

    /// Drops the log below the transaction that contains `keep_from` and returns the floor: the last seq dropped.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub async fn truncate_log(&self, tenant: Option<&str>, keep_from: u64) -> Result<u64, StoreError> {
        let tenant = tenant.unwrap_or_default().to_owned();
        self.shared.writer.run(move |connection, _| log::truncate(connection, &tenant, keep_from)).await
    }

    /// Hands a [`RowImport`] to `read` on the writer's thread; what it put is kept when `read` succeeds, and only then.
    ///
    /// # Errors
    /// Those of `read`; and when the database fails, or its readers are served with other policies than this schema's.
    pub async fn import<T, E, F>(&self, entity: &EntityName, tenant: Option<&str>, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut RowImport<'_>) -> Result<T, E> + Send + 'static,
    {
        if !self.shared.facts.policies_match {
            return Err(StoreError::OtherPolicies.into());
        }
        let (entity, tenant) = (entity.clone(), tenant.unwrap_or_default().to_owned());
        let schema = Arc::clone(&self.shared.schema);
        let imported = self.shared.writer.run(move |connection, announcements| {
            let mut rows = RowImport::begin(connection, &schema, &tenant, &entity);
            let done = read(&mut rows).and_then(|done| rows.finish().map(|()| done).map_err(E::from));
            announcements.heads.extend(rows.head().map(|head| (tenant.clone(), head)));
            done
        });
        imported.await
    }

    /// Finishes waiting writes and checkpoints the database.
    pub async fn shutdown(&self) {
        self.shared.writer.stop().await;
    }

    /// Reads at one moment, on a thread that may block.
    async fn read_log<T, F>(&self, reader: &Reader, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&LogRead<'_>) -> Result<T, ReadError> + Send + 'static,
    {
        let (schema, facts, reader) = (Arc::clone(&self.shared.schema), self.shared.facts, reader.clone());
        let heads = Arc::clone(&self.shared.heads);
        self.shared
            .reads
            .run(move |connection| {
                let log = LogRead::begin(connection, &schema, facts, &reader)?;
                // Another process, an import, may have written.
                heads.raise(log.tenant, log.bounds.head);
                read(&log)
            })
            .await
    }
}
