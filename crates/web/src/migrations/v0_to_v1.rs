//! From nothing to the four stores of `docs/storage.md`.

use idb::{Database, Error, ObjectStoreParams};

/// Makes the stores. All keys are out of line: WebKit was seen to fail when it puts a key into a value.
pub(super) fn run(database: &Database) -> Result<(), Error> {
    let mut minted = ObjectStoreParams::new();
    minted.auto_increment(true);
    database.create_object_store("entities", ObjectStoreParams::new())?;
    database.create_object_store("cursors", ObjectStoreParams::new())?;
    database.create_object_store("pendingMutations", minted.clone())?;
    database.create_object_store("journal", minted)?;
    Ok(())
}
