//! The steps from one version of the database to the next, one module each.
//!
//! A released version is never changed: every version has a stored fixture in `tests/browser/fixtures/` that must open.

mod v0_to_v1;

use idb::Database;

/// The version this build reads and writes.
pub(crate) const VERSION: u32 = 1;

/// Runs the steps that lead from `from` to [`VERSION`], inside the upgrade transaction.
///
/// # Errors
/// What the browser refused. The upgrade is then aborted and the database is what it was.
pub(crate) fn run(database: &Database, from: u32) -> Result<(), idb::Error> {
    if from < 1 {
        v0_to_v1::run(database)?;
    }
    Ok(())
}
