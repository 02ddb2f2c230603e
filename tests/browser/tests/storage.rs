//! The transactions of `docs/storage.md`, each against a real database that is read back by a stranger.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "whatever is not as expected makes the test fail")]

use syncline_browser_tests::page::{eval, eval_async, replace_global, unique_name};
use syncline_browser_tests::raw_stores::{self, cursor, records};
use syncline_browser_tests::store::TestStore;
use syncline_core::client::{StorageFailure, StorageKind, StoredReplica, StoredValue};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

struct Opened {
    name: String,
    store: TestStore,
    loaded: StoredReplica,
}

impl Opened {
    async fn new(what: &str) -> Self {
        Self::again(unique_name(what)).await
    }

    /// The former store of this name, if any, was replaced as by a tab that knows nothing of locks.
    async fn again(name: String) -> Self {
        let store = TestStore::new();
        let loaded = store.open_unlocked(&name).await.unwrap();
        Self { name, store, loaded }
    }

    async fn run(&self, kind: StorageKind) -> Result<StoredValue, StorageFailure> {
        self.store.run(kind).await
    }

    async fn enqueue(&self, records: &[&str]) -> Vec<u64> {
        let records = records.iter().map(|record| record.as_bytes().to_vec()).collect();
        match self.run(StorageKind::Enqueue { records, remove: Vec::new() }).await {
            Ok(StoredValue::Keys(keys)) => keys,
            other => panic!("{other:?}"),
        }
    }

    fn commit(&self, expect: Option<&str>, replica: &str, put: &[(u64, &str)]) -> StorageKind {
        StorageKind::Commit {
            fence: self.loaded.fence,
            expect: expect.map(|text| text.as_bytes().to_vec()),
            replica: replica.as_bytes().to_vec(),
            put: put.iter().map(|(key, text)| (*key, text.as_bytes().to_vec())).collect(),
            delete: Vec::new(),
            remove_queue: Vec::new(),
        }
    }

    async fn texts(&self, store: &str) -> Vec<String> {
        records(&self.name, store).await.iter().map(raw_stores::Record::text).collect()
    }
}

#[wasm_bindgen_test]
async fn the_queue_keeps_the_order_of_its_keys() {
    let opened = Opened::new("order").await;
    let first = opened.enqueue(&["a", "b"]).await;
    let second = opened.enqueue(&["c"]).await;
    assert!(first[0] < first[1] && first[1] < second[0], "{first:?} {second:?}");
    assert_eq!(opened.texts("pendingMutations").await, ["a", "b", "c"]);
    let loaded = Opened::again(opened.name.clone()).await.loaded;
    assert_eq!(loaded.queue, [(first[0], b"a".to_vec()), (first[1], b"b".to_vec()), (second[0], b"c".to_vec())]);
}

#[wasm_bindgen_test]
async fn each_transaction_has_the_stores_and_the_durability_of_the_table() {
    let opened = Opened::new("durability").await;
    let log = eval(
        "globalThis.begun = []; globalThis.begin = IDBDatabase.prototype.transaction;
         IDBDatabase.prototype.transaction = function (stores, mode, options) {
           begun.push([...stores].join('+') + ' ' + mode + ' ' + options.durability);
           return begin.apply(this, arguments);
         }; begun",
    );
    let key = opened.enqueue(&["a"]).await[0];
    let fence = opened.loaded.fence;
    let bytes = || b"b".to_vec();
    let replica = r#"{"generation":1}"#;
    let requests = [
        StorageKind::UpdateQueue { fence, put: vec![(key, bytes())], remove: vec![] },
        opened.commit(None, replica, &[(1, "rows")]),
        StorageKind::Commit {
            fence,
            expect: Some(replica.into()),
            replica: replica.into(),
            put: Vec::new(),
            delete: Vec::new(),
            remove_queue: vec![key],
        },
        StorageKind::Compact { fence, generation: 1, put: vec![(2, bytes())], delete: vec![1] },
        StorageKind::DeleteGeneration { fence, first: 0, last: 9 },
        StorageKind::Quarantine { fence, key: 1 },
    ];
    for request in requests {
        opened.run(request.clone()).await.unwrap_or_else(|failure| panic!("{request:?}: {failure:?}"));
    }
    eval("IDBDatabase.prototype.transaction = begin");
    let begun: Vec<String> = js_sys::Array::from(&log).iter().filter_map(|line| line.as_string()).collect();
    assert_eq!(
        begun,
        [
            "pendingMutations readwrite strict",
            "pendingMutations+cursors readwrite strict",
            "entities+cursors readwrite relaxed",
            "entities+cursors+pendingMutations readwrite relaxed",
            "entities+cursors readwrite relaxed",
            "entities+cursors readwrite relaxed",
            "entities+cursors+journal readwrite relaxed",
        ]
    );
}

#[wasm_bindgen_test]
async fn a_commit_is_refused_whole_unless_the_replica_record_is_the_expected_one() {
    let opened = Opened::new("compare-and-set").await;
    let queued = opened.enqueue(&["mine"]).await;
    opened.run(opened.commit(None, "one", &[(1, "rows of one")])).await.unwrap();

    for expect in [None, Some("two"), Some("on"), Some("one ")] {
        let StorageKind::Commit { fence, expect, replica, put, .. } =
            opened.commit(expect, "three", &[(1, "wrong"), (2, "wrong")])
        else {
            unreachable!()
        };
        let request = StorageKind::Commit { fence, expect, replica, put, delete: vec![1], remove_queue: queued.clone() };
        assert_eq!(opened.run(request).await, Err(StorageFailure::Conflict));
    }
    assert_eq!(opened.texts("entities").await, ["rows of one"]);
    assert_eq!(opened.texts("pendingMutations").await, ["mine"]);

    opened.run(opened.commit(Some("one"), "two", &[(2, "rows of two")])).await.unwrap();
    // The same commit again: its first answer was lost with the connection, not its effect.
    assert_eq!(opened.run(opened.commit(Some("one"), "two", &[(2, "rows of two")])).await, Ok(StoredValue::Done));
    assert_eq!(opened.texts("entities").await, ["rows of one", "rows of two"]);
}

#[wasm_bindgen_test]
async fn a_former_leader_changes_nothing() {
    let former = Opened::new("fence").await;
    let key = former.enqueue(&["mine"]).await[0];
    former.run(former.commit(None, r#"{"generation":1}"#, &[(1, "rows")])).await.unwrap();
    let leader = Opened::again(former.name.clone()).await;
    assert!(leader.loaded.fence > former.loaded.fence);
    assert_eq!(cursor(&leader.name, "fence").await.as_f64(), Some(2.0));

    let fence = former.loaded.fence;
    let requests = [
        StorageKind::UpdateQueue { fence, put: vec![], remove: vec![key] },
        former.commit(Some(r#"{"generation":1}"#), "other", &[(2, "wrong")]),
        StorageKind::Compact { fence, generation: 1, put: vec![], delete: vec![1] },
        StorageKind::DeleteGeneration { fence, first: 0, last: 9 },
        StorageKind::Quarantine { fence, key: 1 },
    ];
    for request in requests {
        assert_eq!(former.run(request).await, Err(StorageFailure::Conflict));
    }
    assert_eq!(leader.texts("entities").await, ["rows"]);
    assert_eq!(leader.texts("pendingMutations").await, ["mine"]);
    assert!(leader.texts("journal").await.is_empty());
}

#[wasm_bindgen_test]
async fn a_record_that_somebody_removed_does_not_come_back() {
    let opened = Opened::new("update-queue").await;
    let keys = opened.enqueue(&["a", "b", "c"]).await;
    let fence = opened.loaded.fence;
    opened.run(StorageKind::UpdateQueue { fence, put: vec![], remove: vec![keys[1]] }).await.unwrap();
    let put = keys.iter().map(|key| (*key, b"sent".to_vec())).collect();
    let there = opened.run(StorageKind::UpdateQueue { fence, put, remove: vec![] }).await;
    assert_eq!(there, Ok(StoredValue::Keys(vec![keys[0], keys[2]])));
    assert_eq!(opened.texts("pendingMutations").await, ["sent", "sent"]);
    let nothing = StorageKind::UpdateQueue { fence, put: vec![], remove: vec![] };
    assert_eq!(opened.run(nothing).await, Ok(StoredValue::Keys(vec![])));
}

#[wasm_bindgen_test]
async fn compaction_needs_the_generation_it_was_made_for() {
    let opened = Opened::new("compaction").await;
    opened.run(opened.commit(None, r#"{"generation":1}"#, &[(1, "a"), (2, "b")])).await.unwrap();
    let fence = opened.loaded.fence;
    let merge = |generation| StorageKind::Compact { fence, generation, put: vec![(2, b"ab".to_vec())], delete: vec![1] };
    assert_eq!(opened.run(merge(2)).await, Err(StorageFailure::Conflict));
    assert_eq!(opened.texts("entities").await, ["a", "b"]);
    assert_eq!(opened.run(merge(1)).await, Ok(StoredValue::Done));
    assert_eq!(opened.texts("entities").await, ["ab"]);
}

#[wasm_bindgen_test]
async fn a_generation_is_deleted_by_its_range_and_a_bad_record_set_aside() {
    let opened = Opened::new("ranges").await;
    let second = 1 << 32;
    opened.run(opened.commit(None, "{}", &[(0, "x"), (7, "y"), (second, "z"), (second + 1, "bad")])).await.unwrap();
    let fence = opened.loaded.fence;
    opened.run(StorageKind::DeleteGeneration { fence, first: 0, last: second - 1 }).await.unwrap();
    opened.run(StorageKind::Quarantine { fence, key: second + 1 }).await.unwrap();
    assert_eq!(opened.texts("entities").await, ["z"]);
    assert_eq!(opened.texts("journal").await, ["bad"]);
}

#[wasm_bindgen_test]
async fn a_newer_database_is_left_alone() {
    let name = unique_name("newer");
    eval_async(&format!(
        "new Promise((resolve, reject) => {{ const request = indexedDB.open('{name}', 2);
         request.onerror = reject; request.onsuccess = () => {{ request.result.close(); resolve(); }} }})"
    ))
    .await;
    assert_eq!(TestStore::new().open(&name).await.unwrap_err(), StorageFailure::TooNew);
}

#[wasm_bindgen_test]
async fn a_connection_makes_way_for_an_upgrade_and_says_so() {
    let name = unique_name("versionchange");
    let store = TestStore::new();
    store.open(&name).await.unwrap();
    eval_async(&format!(
        "new Promise((resolve, reject) => {{ const request = indexedDB.deleteDatabase('{name}');
         request.onerror = request.onblocked = reject; request.onsuccess = () => resolve() }})"
    ))
    .await;
    let reason = "another tab upgrades or deletes the database; reload this one";
    assert_eq!(store.lost().await, StorageFailure::Unavailable(reason.to_owned()));
    let failure = store.run(StorageKind::Enqueue { records: vec![vec![1]], remove: Vec::new() }).await.unwrap_err();
    assert!(matches!(failure, StorageFailure::Unavailable(_)), "{failure:?}");
}

#[wasm_bindgen_test]
async fn the_quota_shows_at_the_end_of_the_transaction() {
    let opened = Opened::new("quota").await;
    eval(
        "globalThis.put = IDBObjectStore.prototype.add;
         IDBObjectStore.prototype.add = function () { throw new DOMException('no room', 'QuotaExceededError') }",
    );
    let result = opened.run(StorageKind::Enqueue { records: vec![vec![1]], remove: Vec::new() }).await;
    eval("IDBObjectStore.prototype.add = put");
    assert_eq!(result, Err(StorageFailure::Full));
    let broken = JsValue::from_str("not bytes");
    raw_stores::put(&opened.name, "entities", &5.into(), &broken).await;
    let loaded = Opened::again(opened.name.clone()).await.loaded;
    assert_eq!(loaded.records, [(5, Vec::new())]);
}

#[wasm_bindgen_test]
async fn stores_that_were_emptied_are_not_another_tabs_doing() {
    let opened = Opened::new("cleared").await;
    eval_async(&format!(
        "new Promise((resolve, reject) => {{ const request = indexedDB.open('{}', 1);
         request.onsuccess = () => {{ const tx = request.result.transaction(['cursors'], 'readwrite');
           tx.objectStore('cursors').clear(); tx.onabort = reject;
           tx.oncomplete = () => {{ request.result.close(); resolve(); }} }} }})",
        opened.name
    ))
    .await;
    let cleared = Err(StorageFailure::Unavailable("site data was cleared".to_owned()));
    assert_eq!(opened.run(opened.commit(None, "one", &[(1, "rows")])).await, cleared);
    assert!(opened.texts("entities").await.is_empty());
}

/// Keeps a transaction of somebody else open over the queue until `letGo()`: all others over it wait.
async fn hold_queue(name: &str) {
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

#[wasm_bindgen_test]
async fn a_transaction_that_hangs_is_given_up_and_leaves_nothing() {
    let name = unique_name("hangs");
    let store = TestStore::with_limit(100);
    store.open(&name).await.unwrap();
    hold_queue(&name).await;
    let result = store.run(StorageKind::Enqueue { records: vec![vec![1]], remove: Vec::new() }).await;
    assert_eq!(result, Err(StorageFailure::Unavailable("a transaction took longer than 0.1 s".to_owned())));
    eval("letGo()");
    eval_async("gone").await;
    assert!(records(&name, "pendingMutations").await.is_empty());
}

#[wasm_bindgen_test]
async fn a_commit_under_way_at_the_limit_is_not_reported_as_failed() {
    let name = unique_name("late");
    let store = TestStore::with_limit(500);
    store.open(&name).await.unwrap();
    hold_queue(&name).await;
    // What the browser says when it is too late to abort.
    eval(
        "globalThis.abort = IDBTransaction.prototype.abort;
         IDBTransaction.prototype.abort = function () { letGo(); throw new DOMException('committing', 'InvalidStateError') }",
    );
    let result = store.run(StorageKind::Enqueue { records: vec![b"late".to_vec()], remove: Vec::new() }).await;
    eval("IDBTransaction.prototype.abort = abort");
    assert_eq!(result, Ok(StoredValue::Keys(vec![1])));
}

#[wasm_bindgen_test]
async fn whatever_arrives_while_loading_begins_the_limit_anew() {
    let opened = Opened::new("slow").await;
    opened.enqueue(&["record"; 40]).await;
    let timers = replace_global("setTimeout", "(() => { globalThis.armed = (globalThis.armed ?? 0) + 1; return 0 })");
    let again = TestStore::new();
    let loaded = again.open_unlocked(&opened.name).await;
    drop(timers);
    assert_eq!(loaded.unwrap().queue.len(), 40);
    // One to open and one to begin with; then the fence, the replica record, two lists of keys, and three batches.
    let armed = eval("armed").as_f64().unwrap();
    assert!(armed >= 9.0, "{armed}");
}

#[wasm_bindgen_test]
async fn a_connection_the_browser_closed_is_opened_again_and_the_request_repeated() {
    let opened = Opened::new("reopened").await;
    eval(
        "globalThis.begin = IDBDatabase.prototype.transaction;
         IDBDatabase.prototype.transaction = function () {
           IDBDatabase.prototype.transaction = begin;
           throw new DOMException('closed', 'InvalidStateError') }",
    );
    let both = [b"a", b"b"]
        .map(|record| opened.store.begin(StorageKind::Enqueue { records: vec![record.to_vec()], remove: Vec::new() }));
    for id in both {
        assert!(opened.store.answer(id).await.is_ok());
    }
    assert_eq!(opened.texts("pendingMutations").await.len(), 2);
}
