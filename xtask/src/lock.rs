//! One writer of generated files at a time, also when two commands run at once.

use std::fs::{self, File, TryLockError};

use anyhow::Context as _;

use crate::progress::note;
use crate::repo::Repo;

/// Does the work while no other command of this checkout generates files.
///
/// The system releases the lock when the process ends, however it ends.
pub(crate) fn alone<T>(repo: &Repo, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    fs::create_dir_all(repo.tools())?;
    let path = repo.tools().join("lock");
    let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            note("waiting for another `cargo xtask` that generates files in this checkout");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("locking .tools/lock"),
    }
    work()
}
