//! A few connections for reads, lent to blocking threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::StoreError;
use crate::store::database::open_reader;

/// Lends connections; callers beyond their number wait in line.
#[derive(Debug)]
pub(crate) struct ReadPool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl ReadPool {
    pub(crate) fn new(path: PathBuf, connections: usize) -> Self {
        Self { path, idle: Mutex::new(Vec::new()), permits: Semaphore::new(connections) }
    }

    /// Runs `read` in one read transaction, on a thread that may block: everything it sees is of one moment.
    pub(crate) async fn run<T, E, F>(self: &Arc<Self>, read: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let _permit = self.permits.acquire().await.map_err(|_| StoreError::Busy)?;
        let pool = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let connection = pool.take()?;
            let answer = in_transaction(&connection, read);
            pool.give_back(connection);
            answer
        });
        task.await.map_err(|error| {
            tracing::error!(%error, "a read panicked");
            StoreError::Busy
        })?
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| open_reader(&self.path), Ok)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

fn in_transaction<T, E: From<StoreError>>(
    connection: &Connection,
    read: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = connection.unchecked_transaction().map_err(StoreError::from)?;
    let answer = read(&transaction);
    // Nothing was written: ending the transaction by dropping it loses nothing.
    drop(transaction);
    answer
}
