//! The thread that owns the write connection and commits in groups.
//!
//! It takes all jobs that wait, up to a bound, runs each in a savepoint of one database transaction, commits once, and only
//! then answers: one sync of the disk serves many writers, and no answer is ahead of the disk.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use syncline_protocol::Timestamp;
use tokio::sync::oneshot;

use crate::store::head::Heads;
use crate::store::outcome::forget_outcomes;
use crate::store::session::SessionCache;
use crate::store::{SessionEvent, StoreError};

/// Sends jobs to the writer thread.
pub(crate) struct WriterHandle {
    jobs: SyncSender<Job>,
}

/// What a job leaves to be announced after the commit.
#[derive(Default)]
pub(crate) struct Announcements {
    /// The last seq of a tenant that has grown.
    pub(crate) heads: Vec<(String, u64)>,
    /// Sessions that are not what they were.
    pub(crate) sessions: Vec<SessionEvent>,
}

impl Announcements {
    fn append(&mut self, other: Self) {
        self.heads.extend(other.heads);
        self.sessions.extend(other.sessions);
    }
}

type Completion = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Work = Box<dyn FnOnce(&Connection, &mut Announcements) -> (Completion, bool) + Send>;

enum Job {
    Work(Work),
    Stop(oneshot::Sender<()>),
}

const GROUP_MAX: usize = 256;
const FORGET_EVERY_MS: u64 = 3_600_000;

impl WriterHandle {
    /// Starts the thread.
    pub(crate) fn start(connection: Connection, heads: Arc<Heads>, sessions: Arc<SessionCache>, queue: usize) -> Self {
        let (jobs, waiting) = sync_channel(queue);
        std::thread::spawn(move || Thread { connection, heads, sessions, forgot_at: 0 }.run(&waiting));
        Self { jobs }
    }

    /// Runs `task` inside the next group and answers when that is on disk.
    pub(crate) async fn run<T, E, F>(&self, task: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Connection, &mut Announcements) -> Result<T, E> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let work: Work = Box::new(move |connection, announcements| {
            let result = task(connection, announcements);
            let done = result.is_ok();
            let completion: Completion = Box::new(move |committed| {
                // The caller may have gone away; the commit stands.
                let _ = sender.send(committed.map_err(E::from).and(result));
            });
            (completion, done)
        });
        match self.jobs.try_send(Job::Work(work)) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(StoreError::Busy.into())),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(StoreError::Busy.into()),
        }
    }

    /// Finishes what waits, checkpoints and ends the thread.
    pub(crate) async fn stop(&self) {
        let (sender, stopped) = oneshot::channel();
        let jobs = self.jobs.clone();
        let sent = tokio::task::spawn_blocking(move || jobs.send(Job::Stop(sender))).await;
        if matches!(sent, Ok(Ok(()))) {
            // An error means the thread has ended already.
            let _ = stopped.await;
        }
    }
}

struct Thread {
    connection: Connection,
    heads: Arc<Heads>,
    sessions: Arc<SessionCache>,
    forgot_at: u64,
}

impl Thread {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut group = Vec::new();
            let mut stop = None;
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Work(work) => group.push(work),
                    Job::Stop(sender) => stop = Some(sender),
                }
                next = if stop.is_none() && group.len() < GROUP_MAX { jobs.try_recv().ok() } else { None };
            }
            self.commit_group(group);
            if let Some(stopped) = stop {
                self.checkpoint();
                let _ = stopped.send(());
                return;
            }
        }
        self.checkpoint();
    }

    fn checkpoint(&self) {
        if let Err(error) = self.connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);") {
            tracing::warn!(%error, "the last checkpoint failed; the next start does it");
        }
    }

    fn commit_group(&mut self, group: Vec<Work>) {
        if group.is_empty() {
            return;
        }
        self.forget_old_records();
        if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            tracing::error!(%error, "cannot begin a transaction");
            // Dropping the jobs answers their callers with `Busy`.
            return;
        }
        let mut announcements = Announcements::default();
        let mut completions = Vec::with_capacity(group.len());
        let mut failure = None;
        for work in group {
            match self.run_one(work, &mut announcements) {
                Ok(completion) => completions.push(completion),
                Err((completion, error)) => {
                    completions.push(completion);
                    failure = Some(error);
                    break;
                }
            }
        }
        let committed = match failure {
            None => self.connection.execute_batch("COMMIT"),
            Some(error) => Err(error),
        };
        if let Err(error) = &committed {
            tracing::error!(%error, "a group of writes was not committed");
            // After some failures SQLite has rolled back by itself, and this one then has nothing to do.
            let _ = self.connection.execute_batch("ROLLBACK");
        } else {
            // Before the heads, so that nobody is shown rows as somebody they are no longer.
            for event in announcements.sessions {
                self.sessions.changed(event);
            }
            for (tenant, head) in announcements.heads {
                self.heads.raise(&tenant, head);
            }
        }
        for completion in completions {
            completion(if committed.is_ok() { Ok(()) } else { Err(StoreError::Busy) });
        }
    }

    /// Runs one job in a savepoint; a job that fails leaves nothing behind and does not disturb the others.
    fn run_one(&self, work: Work, announcements: &mut Announcements) -> Result<Completion, (Completion, rusqlite::Error)> {
        if let Err(error) = self.connection.execute_batch("SAVEPOINT job") {
            return Err((Box::new(|_| ()), error));
        }
        let mut own = Announcements::default();
        let (completion, done) = work(&self.connection, &mut own);
        let end = if done { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
        if let Err(error) = self.connection.execute_batch(end) {
            return Err((completion, error));
        }
        if done {
            announcements.append(own);
        }
        Ok(completion)
    }

    fn forget_old_records(&mut self) {
        let now = now().0;
        if now < self.forgot_at + FORGET_EVERY_MS {
            return;
        }
        self.forgot_at = now;
        let forgotten =
            forget_outcomes(&self.connection, now).and_then(|()| crate::store::session::forget(&self.connection, Timestamp(now)));
        if let Err(error) = forgotten {
            tracing::warn!(%error, "old outcomes and sessions could not be dropped; the next try is in an hour");
        }
    }
}

/// The server's clock.
pub(crate) fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
