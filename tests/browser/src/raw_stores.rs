//! Reads and damages a database as a stranger: through rexie, from `docs/storage.md`, with none of the driver's code.

use js_sys::Uint8Array;
use rexie::{ObjectStore, Rexie, TransactionMode};
use serde_json::Value;
use wasm_bindgen::{JsCast as _, JsValue};

use crate::page::eval_async;

/// One record of a store.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its key, a number in all stores but `cursors`.
    pub key: JsValue,
    /// Its value as it is.
    pub value: JsValue,
}

impl Record {
    /// The key of a store with numbers for keys.
    pub fn number(&self) -> f64 {
        self.key.as_f64().unwrap_or(f64::NAN)
    }

    /// The value's bytes; empty when it is no `Uint8Array`.
    pub fn bytes(&self) -> Vec<u8> {
        self.value.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec).unwrap_or_default()
    }

    /// The value's bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// Everything in a store, in order of the keys.
pub async fn records(database: &str, store: &str) -> Vec<Record> {
    let database = open(database).await;
    let tx = database.transaction(&[store], TransactionMode::ReadOnly).unwrap_or_else(|error| panic!("{error}"));
    let read = tx.store(store).unwrap_or_else(|error| panic!("{error}"));
    let found = read.scan(None, None, None, None).await.unwrap_or_else(|error| panic!("{error}"));
    tx.done().await.unwrap_or_else(|error| panic!("{error}"));
    database.close();
    found.into_iter().map(|(key, value)| Record { key, value }).collect()
}

/// The value under one key of `cursors`.
pub async fn cursor(database: &str, key: &str) -> JsValue {
    let found = records(database, "cursors").await;
    found.into_iter().find(|record| record.key == key).map_or(JsValue::UNDEFINED, |record| record.value)
}

/// Overwrites or adds one record.
pub async fn put(database: &str, store: &str, key: &JsValue, value: &JsValue) {
    let database = open(database).await;
    let tx = database.transaction(&[store], TransactionMode::ReadWrite).unwrap_or_else(|error| panic!("{error}"));
    let write = tx.store(store).unwrap_or_else(|error| panic!("{error}"));
    write.put(value, Some(key)).await.unwrap_or_else(|error| panic!("{error}"));
    tx.done().await.unwrap_or_else(|error| panic!("{error}"));
    database.close();
}

/// Removes everything in a store.
pub async fn clear(database: &str, store: &str) {
    let database = open(database).await;
    let tx = database.transaction(&[store], TransactionMode::ReadWrite).unwrap_or_else(|error| panic!("{error}"));
    let write = tx.store(store).unwrap_or_else(|error| panic!("{error}"));
    write.clear().await.unwrap_or_else(|error| panic!("{error}"));
    tx.done().await.unwrap_or_else(|error| panic!("{error}"));
    database.close();
}

/// Makes a database of version 1 as a file of `fixtures/` tells.
pub async fn restore(name: &str, fixture: &Value) {
    let stores = ["entities", "cursors", "pendingMutations", "journal"];
    let builder = stores.iter().fold(Rexie::builder(name).version(1), |builder, store| {
        let minted = matches!(*store, "pendingMutations" | "journal");
        builder.add_object_store(ObjectStore::new(store).auto_increment(minted))
    });
    builder.build().await.unwrap_or_else(|error| panic!("{error}")).close();
    for store in stores {
        for record in fixture["stores"][store].as_array().into_iter().flatten() {
            let value = record[1]["hex"].as_str().map_or_else(|| to_js(&record[1]), bytes_of_hex);
            put(name, store, &to_js(&record[0]), &value).await;
        }
    }
}

/// Keeps a transaction over the queue open until [`let_go`]: all others over it wait.
pub async fn hold_queue(name: &str) {
    eval_async(&format!(
        "new Promise((resolve, reject) => {{ const request = indexedDB.open('{name}', 1);
         request.onerror = reject;
         request.onsuccess = () => {{
           const tx = request.result.transaction(['pendingMutations'], 'readwrite');
           const queue = tx.objectStore('pendingMutations');
           let held = true;
           globalThis.letGo = () => {{ held = false }};
           globalThis.gone = new Promise((done) => {{ tx.oncomplete = () => {{ request.result.close(); done(); }} }});
           const turn = () => {{ if (held) queue.count().onsuccess = turn }};
           turn(); resolve(); }} }})"
    ))
    .await;
}

/// Ends what [`hold_queue`] began.
pub async fn let_go() {
    eval_async("letGo(), gone").await;
}

/// Deletes a database; with a connection that does not make way it never ends. `WebKit` says `blocked` also while it hears of a
/// close that was already asked for.
pub async fn delete(name: &str) {
    eval_async(&format!(
        "new Promise((resolve, reject) => {{ const request = indexedDB.deleteDatabase('{name}');
         request.onerror = () => reject(request.error); request.onsuccess = () => resolve() }})"
    ))
    .await;
}

/// Whether a database was made whose name contains this one. `WebKit` lists one that was never made too, without a version.
pub async fn exists(name: &str) -> bool {
    let found = eval_async(&format!(
        "indexedDB.databases().then((all) => all.some((one) => one.version > 0 && one.name.includes('{name}')))"
    ))
    .await;
    found.is_truthy()
}

fn to_js(value: &Value) -> JsValue {
    value.as_f64().map_or_else(|| JsValue::from_str(value.as_str().unwrap_or_default()), JsValue::from_f64)
}

fn bytes_of_hex(digits: &str) -> JsValue {
    let parse = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_else(|error| panic!("{error}"));
    bytes(&(0..digits.len()).step_by(2).map(parse).collect::<Vec<_>>())
}

/// Bytes as a value.
pub fn bytes(bytes: &[u8]) -> JsValue {
    Uint8Array::from(bytes).into()
}

async fn open(name: &str) -> Rexie {
    Rexie::builder(name).version(1).build().await.unwrap_or_else(|error| panic!("{error}"))
}
