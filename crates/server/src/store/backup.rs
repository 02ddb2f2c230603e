//! Copies of the database: taken while a server runs, put back while none does.
//!
//! SQLite's online backup copies the pages of one moment, what stands in the write-ahead log included.

use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, MAIN_DB};

use crate::store::StoreError;
use crate::store::database::{check_format, open_reader, random_u64, set_epoch};
use crate::store::server_lock::{LockError, ServerLock};

/// Why no copy was made or put back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is nothing to copy.
    #[error("there is no database {0}")]
    Missing(PathBuf),
    /// The copy's place is taken.
    #[error("{0} exists; name another file, or take this one away")]
    Exists(PathBuf),
    /// The database to be replaced is there, and nobody said that it may go.
    #[error("{0} exists; --replace puts the backup in its place, and what it holds is lost")]
    WouldReplace(PathBuf),
    /// The backup is no whole database of this program.
    #[error("{path} is no whole database of syncline: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Somebody writes to the database all the time, or holds it.
    #[error("the database is in use; try again")]
    InUse,
    /// A server holds the database.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The copy cannot be moved to its place.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Copies the database at `db`, as it is at this moment, to the new file `target`. A server may be running.
///
/// # Errors
/// When there is no database, the target exists, or the copy fails; there is no target then.
pub fn backup(db: &Path, target: &Path) -> Result<(), BackupError> {
    if !db.exists() {
        return Err(BackupError::Missing(db.to_owned()));
    }
    if target.exists() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let unfinished = beside(target, ".unfinished");
    let copied = copy_whole(db, &unfinished).and_then(|()| {
        std::fs::rename(&unfinished, target).map_err(|source| BackupError::Write { path: target.to_owned(), source })
    });
    if copied.is_err() {
        remove(&unfinished);
    }
    copied
}

/// Puts a backup in the place of the database at `db` and gives it an epoch of its own, so that every replica starts afresh
/// rather than go on from what the backup may not hold.
///
/// # Errors
/// When a server holds the database, the backup is not whole, or `db` exists and is not to be replaced. The database is then as
/// it was: SQLite replaces all of it in one transaction.
pub fn restore(backup: &Path, db: &Path, replace: bool) -> Result<(), BackupError> {
    if !backup.exists() {
        return Err(BackupError::Missing(backup.to_owned()));
    }
    let _lock = ServerLock::take(db)?;
    if db.exists() && !replace {
        return Err(BackupError::WouldReplace(db.to_owned()));
    }
    let prepared = beside(db, ".restoring");
    remove(&prepared);
    let done = prepare(backup, &prepared).and_then(|()| {
        let source = open_reader(&prepared)?;
        let mut place = Connection::open(db)?;
        copy(&source, &mut place)?;
        Ok(place.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?)
    });
    remove(&prepared);
    done
}

/// Makes a copy of a backup that was looked through and has a new epoch.
fn prepare(backup: &Path, prepared: &Path) -> Result<(), BackupError> {
    copy_whole(backup, prepared)?;
    let damaged = |reason: String| BackupError::Damaged { path: backup.to_owned(), reason };
    let connection = Connection::open(prepared)?;
    let found: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(|error| damaged(error.to_string()))?;
    if found != "ok" {
        return Err(damaged(found));
    }
    check_format(&connection).map_err(|error| damaged(error.to_string()))?;
    set_epoch(&connection, random_u64()?)?;
    Ok(connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?)
}

fn copy_whole(from: &Path, to: &Path) -> Result<(), BackupError> {
    remove(to);
    let source = open_reader(from)?;
    let mut target = Connection::open(to)?;
    copy(&source, &mut target)?;
    // One file, on the disk: what is still in its write-ahead log goes into it.
    Ok(target.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?)
}

fn copy(source: &Connection, target: &mut Connection) -> Result<(), BackupError> {
    target.busy_timeout(std::time::Duration::from_secs(5))?;
    let backup = Backup::new_with_names(source, MAIN_DB, target, MAIN_DB)?;
    // All pages in one step: the copy is of one moment and never begins again because somebody wrote.
    match backup.step(-1)? {
        StepResult::Done => Ok(()),
        StepResult::More | StepResult::Busy | StepResult::Locked | _ => Err(BackupError::InUse),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Takes an unfinished copy away; one that is not there is none to take away.
fn remove(path: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(beside(path, ending));
    }
}
