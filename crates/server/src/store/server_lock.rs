//! One database has one server: a file beside the database, locked for as long as a server runs.
//!
//! The system takes the lock back from a process that dies, however it dies; the file itself stays. What stands in it is for
//! people and for `syncline inspect`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Holds a database for one server, or for what must not happen beside one.
#[derive(Debug)]
pub struct ServerLock {
    file: File,
}

/// Why a database could not be held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// A server has it.
    #[error("a server holds this database ({holder}); stop it first")]
    Held {
        /// What that server says of itself.
        holder: String,
    },
    /// The lock file cannot be made or locked.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ServerLock {
    /// Holds the database at `db`.
    ///
    /// # Errors
    /// When a server holds it, or the lock file cannot be made.
    pub fn take(db: &Path) -> Result<Self, LockError> {
        let path = lock_path(db);
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                let mut lock = Self { file };
                lock.describe("").map_err(failed)?;
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => Err(LockError::Held { holder: contents(&mut file) }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Writes down what the holder is, for whoever meets the lock.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn describe(&mut self, holder: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "process {}{}{holder}", std::process::id(), if holder.is_empty() { "" } else { ", " })
    }

    /// What the server that holds the database says of itself; `None` when there is none.
    pub fn holder(db: &Path) -> Option<String> {
        let mut file = File::open(lock_path(db)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(contents(&mut file)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

fn lock_path(db: &Path) -> PathBuf {
    let mut path = db.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn contents(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => text,
        Ok(_) | Err(_) => "it does not say which".to_owned(),
    }
}
