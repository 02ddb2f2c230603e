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

use crate::store::StoreError;
use crate::store::committer::{Announcements, Committer};
use crate::store::head::Heads;
use crate::store::session::SessionCache;

/// Sends jobs to the writer thread.
pub(crate) struct WriterHandle {
    jobs: SyncSender<Job>,
}

type Completion = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Work = Box<dyn FnOnce(&Connection, &mut Announcements) -> (Completion, bool) + Send>;

enum Job {
    Work(Work),
    Stop(oneshot::Sender<()>),
}

const GROUP_MAX: usize = 256;

impl WriterHandle {
    /// Starts the thread.
    pub(crate) fn start(connection: Connection, heads: Arc<Heads>, sessions: Arc<SessionCache>, queue: usize) -> Self {
        let (jobs, waiting) = sync_channel(queue);
        std::thread::spawn(move || Thread { committer: Committer::new(connection), heads, sessions }.run(&waiting));
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
    committer: Committer,
    heads: Arc<Heads>,
    sessions: Arc<SessionCache>,
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
        let checkpoint = "PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);";
        if let Err(error) = self.committer.connection.execute_batch(checkpoint) {
            tracing::warn!(%error, "the last checkpoint failed; the next start does it");
        }
    }

    fn commit_group(&mut self, group: Vec<Work>) {
        if group.is_empty() {
            return;
        }
        if let Err(error) = self.committer.begin(now()) {
            tracing::error!(%error, "cannot begin a transaction");
            // Dropping the jobs answers their callers with `Busy`.
            return;
        }
        let mut completions = Vec::with_capacity(group.len());
        let mut whole = Ok(());
        for work in group {
            let (completion, ran) = self.committer.run(work);
            completions.extend(completion);
            whole = ran;
            if whole.is_err() {
                break;
            }
        }
        let committed = self.committer.end(whole).ok();
        let is_committed = committed.is_some();
        if let Some(announcements) = committed {
            // Before the heads, so that nobody is shown rows as somebody they are no longer.
            for event in announcements.sessions {
                self.sessions.changed(event);
            }
            for (tenant, head) in announcements.heads {
                self.heads.raise(&tenant, head);
            }
        }
        for completion in completions {
            completion(if is_committed { Ok(()) } else { Err(StoreError::Busy) });
        }
    }
}

/// The server's clock.
pub(crate) fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
