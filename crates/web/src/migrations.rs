//! The steps from one version of the database to the next, one module each.
//!
//! A released version is never changed: every version has a stored fixture in `tests/browser/fixtures/` that must open.

mod v0_to_v1;

use wasm_bindgen::JsValue;
use web_sys::IdbDatabase;

/// The version this build reads and writes.
pub(crate) const VERSION: u32 = 1;

/// Runs the steps that lead from `from` to [`VERSION`], inside the upgrade transaction.
///
/// # Errors
/// What the browser refused. The upgrade is then aborted and the database is what it was.
pub(crate) fn run(database: &IdbDatabase, from: f64) -> Result<(), JsValue> {
    if from < 1.0 {
        v0_to_v1::run(database)?;
    }
    Ok(())
}
