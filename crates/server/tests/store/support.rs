//! A store in a folder of its own, and the shortest way to write to it.

use serde_json::{Value, json};
use syncline_protocol::{OpId, OutcomeResult, OutcomeStatus, RawJson};
use syncline_server::manifest::Manifest;
use syncline_server::store::{Reader, Store, StoreOptions, Writer};
use tempfile::TempDir;

/// A store and the folder it goes away with.
pub(crate) struct TestStore {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
}

impl TestStore {
    pub(crate) fn open(manifest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open_at(&folder, manifest);
        Self { folder, store }
    }

    /// Ends the store and opens it again, perhaps with another manifest.
    pub(crate) async fn reopen(self, manifest: &str) -> Self {
        self.store.shutdown().await;
        let store = open_at(&self.folder, manifest);
        Self { folder: self.folder, store }
    }

    /// Pushes one transaction and returns its result.
    pub(crate) async fn write(&self, user: &str, op: u64, changes: Value) -> OutcomeResult {
        let mut results = self.push(user, vec![intent(op, &changes)]).await;
        assert_eq!(results.len(), 1);
        results.remove(0)
    }

    /// Pushes one transaction that must apply; returns its last seq.
    pub(crate) async fn applied(&self, user: &str, op: u64, changes: Value) -> u64 {
        let result = self.write(user, op, changes).await;
        assert_eq!(result.status, OutcomeStatus::Applied, "{:?}", result.error);
        result.last_seq.unwrap()
    }

    pub(crate) async fn push(&self, user: &str, intents: Vec<Value>) -> Vec<OutcomeResult> {
        let writer = Writer { reader: reader(user), ..Writer::default() };
        self.store.push(writer, raw(intents), Vec::new()).await.unwrap()
    }
}

fn open_at(folder: &TempDir, manifest: &str) -> Store {
    let schema = match manifest {
        "" => syncline_core::server::Schema::open(),
        text => Manifest::parse(text).unwrap().schema,
    };
    Store::open(&folder.path().join("test.db"), schema, StoreOptions::default()).unwrap()
}

/// A reader; the empty name is the anonymous one.
pub(crate) fn reader(user: &str) -> Reader {
    Reader { user_id: (!user.is_empty()).then(|| user.to_owned()), ..Reader::default() }
}

pub(crate) fn op_id(op: u64) -> OpId {
    OpId::parse(format!("{op:032x}")).unwrap()
}

pub(crate) fn intent(op: u64, changes: &Value) -> Value {
    json!({"op_id": op_id(op), "issued_at": 5, "schema": 0, "changes": changes})
}

pub(crate) fn raw(intents: Vec<Value>) -> Vec<RawJson> {
    intents.into_iter().map(|intent| serde_json::value::to_raw_value(&intent).unwrap().into()).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "calls read better with a value written in place")]
pub(crate) fn insert(entity: &str, id: &str, data: Value) -> Value {
    json!({"entity": entity, "row_id": id, "kind": "insert", "data": data})
}

#[expect(clippy::needless_pass_by_value, reason = "calls read better with a value written in place")]
pub(crate) fn update(entity: &str, id: &str, data: Value) -> Value {
    json!({"entity": entity, "row_id": id, "kind": "update", "data": data})
}

pub(crate) fn delete(entity: &str, id: &str) -> Value {
    json!({"entity": entity, "row_id": id, "kind": "delete"})
}

pub(crate) fn code(result: &OutcomeResult) -> &str {
    result.error.as_ref().map_or("", |error| error.code.as_str())
}
