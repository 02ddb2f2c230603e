//! Several pieces of work in one database transaction, committed and announced together.
//!
//! It knows no thread and no clock: the writer's thread hands it what waits, the simulation one piece at a time.

use rusqlite::Connection;
use syncline_protocol::Timestamp;

use crate::store::outcome::forget_outcomes;
use crate::store::{SessionEvent, session};

/// What work leaves to be announced after the commit.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    /// The last seq of a tenant that has grown.
    pub(crate) heads: Vec<(String, u64)>,
    /// Sessions that are not what they were.
    pub(crate) sessions: Vec<SessionEvent>,
}

/// The write connection and the group under way.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) connection: Connection,
    forgot_at: u64,
    announcements: Announcements,
}

const FORGET_EVERY_MS: u64 = 3_600_000;

impl Committer {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, forgot_at: 0, announcements: Announcements::default() }
    }

    /// Forgets what a process that ends forgets.
    pub(crate) fn restart(&mut self) {
        self.forgot_at = 0;
    }

    /// Begins a group.
    pub(crate) fn begin(&mut self, now: Timestamp) -> rusqlite::Result<()> {
        self.forget_old_records(now);
        self.announcements = Announcements::default();
        self.connection.execute_batch("BEGIN IMMEDIATE")
    }

    /// Runs one piece of work in a savepoint; says what it gave and whether the group can go on. Work that is not done leaves
    /// nothing behind and does not disturb the rest.
    pub(crate) fn run<T>(
        &mut self,
        work: impl FnOnce(&Connection, &mut Announcements) -> (T, bool),
    ) -> (Option<T>, rusqlite::Result<()>) {
        if let Err(error) = self.connection.execute_batch("SAVEPOINT job") {
            return (None, Err(error));
        }
        let mut own = Announcements::default();
        let (given, done) = work(&self.connection, &mut own);
        let end = if done { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
        if let Err(error) = self.connection.execute_batch(end) {
            return (Some(given), Err(error));
        }
        if done {
            self.announcements.heads.append(&mut own.heads);
            self.announcements.sessions.append(&mut own.sessions);
        }
        (Some(given), Ok(()))
    }

    /// Commits the group, unless it cannot go on; gives what is to be announced now.
    pub(crate) fn end(&mut self, group: rusqlite::Result<()>) -> rusqlite::Result<Announcements> {
        let committed = group.and_then(|()| self.connection.execute_batch("COMMIT"));
        if let Err(error) = committed {
            tracing::error!(%error, "a group of writes was not committed");
            // After some failures SQLite has rolled back by itself, and this one then has nothing to do.
            let _ = self.connection.execute_batch("ROLLBACK");
            return Err(error);
        }
        Ok(std::mem::take(&mut self.announcements))
    }

    fn forget_old_records(&mut self, now: Timestamp) {
        if now.0 < self.forgot_at + FORGET_EVERY_MS {
            return;
        }
        self.forgot_at = now.0;
        let forgotten = forget_outcomes(&self.connection, now.0).and_then(|()| session::forget(&self.connection, now));
        if let Err(error) = forgotten {
            tracing::warn!(%error, "old outcomes and sessions could not be dropped; the next try is in an hour");
        }
    }
}
