//! A database in memory for one thread, whose clock and random bits are the caller's: what the simulation drives.
//!
//! What is decided about a write or a read is decided by the same code as in [`Store`](super::Store); what is missing here is
//! that nobody waits for anybody.

use std::sync::Arc;

use rusqlite::backup::Backup;
use rusqlite::{Connection, MAIN_DB};
use syncline_core::planted;
use syncline_core::server::Schema;
use syncline_protocol::{OpId, OutcomeResult, Page, RawJson, Timestamp};

use crate::store::committer::{Announcements, Committer};
use crate::store::database::{Facts, configure, prepare, set_epoch};
use crate::store::gate::Watched;
use crate::store::log::{self, LogBounds};
use crate::store::pull::LogRead;
use crate::store::push::{PreparedIntent, PushRequest, push_and_announce};
use crate::store::session::{self, StoredSession};
use crate::store::{
    PageLimits, PolicyUse, PushError, ReadError, Reader, Session, SessionError, SessionEvent, SessionKind, StoreError, Writer,
    token_hash,
};

/// Rows, log, outcomes and sessions of one server, in memory.
#[derive(Debug)]
pub struct LocalStore {
    schema: Arc<Schema>,
    facts: Facts,
    committer: Committer,
}

/// What a write did, after its commit.
#[derive(Debug, Default)]
pub struct Committed<T> {
    /// What it gave.
    pub value: T,
    /// Sessions that are not what they were.
    pub sessions: Vec<SessionEvent>,
}

/// A copy of a [`LocalStore`] at one moment.
#[derive(Debug)]
pub struct LocalBackup(Connection);

impl LocalStore {
    /// Makes a new database, which `epoch` recognises.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn new(schema: Schema, epoch: u64) -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        configure(&connection)?;
        let facts = prepare(&mut connection, &schema, PolicyUse::Adopt, epoch)?;
        Ok(Self { schema: Arc::new(schema), facts, committer: Committer::new(connection) })
    }

    /// Applies intents in order, each push in a database transaction of its own; one result for each.
    ///
    /// # Errors
    /// When the database fails; inside, when a newer leader of the replica has pushed or the writer has lost the tenant.
    pub fn push(
        &mut self,
        writer: &Writer,
        intents: &[RawJson],
        processed: Vec<OpId>,
        now: Timestamp,
        mark_seed: u64,
    ) -> Result<Committed<Result<Vec<OutcomeResult>, PushError>>, StoreError> {
        let schema = Arc::clone(&self.schema);
        let intents = intents.iter().map(|raw| PreparedIntent::prepare(raw.get())).collect();
        let request = PushRequest { intents, first: 0, answer: None, watched: Watched::Nothing, processed, mark_seed };
        let pushed = self.write(now, |connection, announcements| {
            push_and_announce(connection, &schema, writer, request, now, announcements)
        })?;
        Ok(Committed { value: pushed.value.map(|pushed| pushed.results), sessions: pushed.sessions })
    }

    /// The page after a cursor, or the first of a snapshot.
    ///
    /// # Errors
    /// When the cursor is of no use, or the database fails.
    pub fn pull(&self, reader: &Reader, cursor: Option<&str>, limits: PageLimits) -> Result<Page, ReadError> {
        self.read(reader)?.page(cursor, limits)
    }

    /// Checks a cursor's token and returns its seq.
    ///
    /// # Errors
    /// When the cursor is of no use, or the database fails.
    pub fn check_cursor(&self, reader: &Reader, cursor: &str) -> Result<u64, ReadError> {
        Ok(self.read(reader)?.check(cursor)?.seq)
    }

    /// The last committed seq of a tenant.
    ///
    /// # Errors
    /// When the database fails.
    pub fn head(&self, tenant: Option<&str>) -> Result<u64, StoreError> {
        Ok(LogBounds::load(&self.committer.connection, tenant.unwrap_or_default())?.head)
    }

    /// Recognises the database.
    pub const fn epoch(&self) -> u64 {
        self.facts.epoch
    }

    /// Stores a session of a token that the caller has made.
    ///
    /// # Errors
    /// When the database fails.
    pub fn create_session(&mut self, token: &str, user_id: &str, now: Timestamp, expires: Timestamp) -> Result<(), StoreError> {
        let hash = token_hash(token);
        self.write(now, |connection, _| session::insert(connection, hash, user_id, SessionKind::Issued, now, expires))?;
        Ok(())
    }

    /// The session of a token.
    ///
    /// # Errors
    /// When there is none, or it is over.
    pub fn session(&self, token: &str, now: Timestamp) -> Result<Session, SessionError> {
        let stored = StoredSession::load(&self.committer.connection, &self.schema, token_hash(token))?;
        stored.ok_or(SessionError::Unknown)?.at(now)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When the database fails.
    pub fn revoke_session(&mut self, token: &str, now: Timestamp) -> Result<Vec<SessionEvent>, StoreError> {
        let token_hash = token_hash(token);
        self.write(now, |connection, _| session::revoke(connection, token_hash, now))?;
        Ok(vec![SessionEvent::Revoked { token_hash }])
    }

    /// Selects a session's tenant.
    ///
    /// # Errors
    /// When the database fails.
    pub fn select_tenant(&mut self, token: &str, tenant: Option<&str>, now: Timestamp) -> Result<Vec<SessionEvent>, StoreError> {
        let token_hash = token_hash(token);
        let tenant = tenant.unwrap_or_default().to_owned();
        self.write(now, |connection, _| session::select_tenant(connection, token_hash, &tenant))?;
        Ok(vec![SessionEvent::TenantChanged { token_hash }])
    }

    /// Drops the log below the transaction that contains `keep_from` and returns the floor.
    ///
    /// # Errors
    /// When the database fails.
    pub fn truncate_log(&mut self, tenant: Option<&str>, keep_from: u64, now: Timestamp) -> Result<u64, StoreError> {
        let tenant = tenant.unwrap_or_default().to_owned();
        Ok(self.write(now, |connection, _| log::truncate(connection, &tenant, keep_from))?.value)
    }

    /// Copies everything there is.
    ///
    /// # Errors
    /// When the database fails.
    pub fn back_up(&self) -> Result<LocalBackup, StoreError> {
        let mut copy = Connection::open_in_memory()?;
        Backup::new_with_names(&self.committer.connection, MAIN_DB, &mut copy, MAIN_DB)?.step(-1)?;
        Ok(LocalBackup(copy))
    }

    /// Puts a copy in the place of everything there is, under an epoch of its own.
    ///
    /// # Errors
    /// When the database fails.
    pub fn restore(&mut self, backup: &LocalBackup, epoch: u64) -> Result<(), StoreError> {
        Backup::new_with_names(&backup.0, MAIN_DB, &mut self.committer.connection, MAIN_DB)?.step(-1)?;
        let epoch = if planted::is(30) { self.facts.epoch } else { epoch };
        set_epoch(&self.committer.connection, epoch)?;
        self.facts = prepare(&mut self.committer.connection, &self.schema, PolicyUse::Adopt, epoch)?;
        Ok(())
    }

    /// Another process uses it now: what this one kept in memory is gone.
    pub(crate) fn restart(&mut self) {
        self.committer.restart();
    }

    fn read<'a>(&'a self, reader: &'a Reader) -> Result<LogRead<'a>, StoreError> {
        LogRead::begin(&self.committer.connection, &self.schema, self.facts, reader)
    }

    /// Commits one piece of work as a group of its own.
    fn write<T>(
        &mut self,
        now: Timestamp,
        work: impl FnOnce(&Connection, &mut Announcements) -> Result<T, StoreError>,
    ) -> Result<Committed<T>, StoreError> {
        self.committer.begin(now)?;
        let (given, ran) = self.committer.run(|connection, announcements| {
            let given = work(connection, announcements);
            let done = given.is_ok();
            (given, done)
        });
        let announced = self.committer.end(ran)?;
        let value = given.ok_or(StoreError::Busy)??;
        Ok(Committed { value, sessions: announced.sessions })
    }
}
