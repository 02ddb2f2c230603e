//! From nothing to the four stores of `docs/storage.md`.

use wasm_bindgen::JsValue;
use web_sys::{IdbDatabase, IdbObjectStoreParameters};

/// Makes the stores. All keys are out of line: WebKit was seen to fail when it puts a key into a value.
pub(super) fn run(database: &IdbDatabase) -> Result<(), JsValue> {
    let minted = IdbObjectStoreParameters::new();
    minted.set_auto_increment(true);
    database.create_object_store("entities")?;
    database.create_object_store("cursors")?;
    database.create_object_store_with_optional_parameters("pendingMutations", &minted)?;
    database.create_object_store_with_optional_parameters("journal", &minted)?;
    Ok(())
}
