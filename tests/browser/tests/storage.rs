//! The transactions of `docs/storage.md`, each against a real database that is read back by a stranger.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "whatever is not as expected makes the test fail")]

use syncline_browser_tests::page::{eval, eval_async, replace_global, tasks, uncaught, unique_name, watch_for_uncaught};
use syncline_browser_tests::raw_stores::{self, cursor, delete, exists, hold_queue, let_go, records};
use syncline_browser_tests::store::TestStore;
use syncline_core::client::{Former, StorageFailure, StorageKind, StoredReplica, StoredValue};
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
        match self.run(StorageKind::Enqueue { records, formers: Vec::new() }).await {
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
            remove_queue: vec![(key, 1)],
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
        let request = StorageKind::Commit { fence, expect, replica, put, delete: vec![1], remove_queue: vec![(queued[0], 1)] };
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
async fn records_are_folded_all_of_them_or_none() {
    let opened = Opened::new("fold-queue").await;
    let keys = opened.enqueue(&["a", "b", "c", "d"]).await;
    let fence = opened.loaded.fence;
    let fold = |first: usize, gone: usize| StorageKind::FoldQueue {
        fence,
        put: vec![(keys[first], b"folded".to_vec())],
        remove: vec![keys[gone]],
    };
    assert_eq!(opened.run(fold(0, 1)).await, Ok(StoredValue::Keys(vec![keys[0], keys[1]])));
    assert_eq!(opened.texts("pendingMutations").await, ["folded", "c", "d"]);
    assert_eq!(opened.run(fold(2, 1)).await, Ok(StoredValue::Keys(vec![])), "one of them is gone");
    assert_eq!(opened.texts("pendingMutations").await, ["folded", "c", "d"]);
    let nothing = StorageKind::FoldQueue { fence, put: vec![], remove: vec![keys[2], keys[3]] };
    assert_eq!(opened.run(nothing).await, Ok(StoredValue::Keys(vec![keys[2], keys[3]])));
    assert_eq!(opened.texts("pendingMutations").await, ["folded"]);
    let stale = StorageKind::FoldQueue { fence: fence + 1, put: vec![], remove: vec![keys[0]] };
    assert_eq!(opened.run(stale).await, Err(StorageFailure::Conflict));
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
    delete(&name).await;
    assert_eq!(store.lost().await, StorageFailure::Outdated);
    let failure = store.run(StorageKind::Enqueue { records: vec![vec![1]], formers: Vec::new() }).await.unwrap_err();
    assert!(matches!(failure, StorageFailure::Unavailable(_)), "{failure:?}");
}

#[wasm_bindgen_test]
async fn the_quota_shows_at_the_end_of_the_transaction() {
    let opened = Opened::new("quota").await;
    let first = opened.enqueue(&["acknowledged"]).await;
    // As when the browser counts the bytes: every request succeeded, and the transaction is aborted all the same.
    eval(
        "globalThis.add = IDBObjectStore.prototype.add;
         IDBObjectStore.prototype.add = function () {
           const request = add.apply(this, arguments);
           const error = new DOMException('no room', 'QuotaExceededError');
           Object.defineProperty(this.transaction, 'error', { value: error });
           request.addEventListener('success', () => this.transaction.abort());
           return request }",
    );
    let result = opened
        .run(StorageKind::Enqueue { records: vec![vec![1]], formers: vec![Former { number: 0, key: first[0], expect: None }] })
        .await;
    eval("IDBObjectStore.prototype.add = add");
    assert_eq!(result, Err(StorageFailure::Full));
    assert_eq!(opened.texts("pendingMutations").await, ["acknowledged"]);
    let next = opened.enqueue(&["with room again"]).await;
    assert!(next > first);
    assert_eq!(opened.texts("pendingMutations").await, ["acknowledged", "with room again"]);
}

#[wasm_bindgen_test]
async fn a_disk_too_full_for_a_leader_is_read_all_the_same() {
    let opened = Opened::new("brim-full").await;
    let key = opened.enqueue(&["mine"]).await[0];
    opened.run(opened.commit(None, "replica", &[(1, "rows")])).await.unwrap();
    eval(
        "globalThis.put = IDBObjectStore.prototype.put;
         IDBObjectStore.prototype.put = function () { throw new DOMException('no room', 'QuotaExceededError') }",
    );
    let store = TestStore::new();
    let loaded = store.open_unlocked(&opened.name).await.unwrap();
    eval("IDBObjectStore.prototype.put = put");
    assert_eq!(loaded.queue, [(key, b"mine".to_vec())]);
    assert_eq!(loaded.records, [(1, b"rows".to_vec())]);
    assert_eq!(loaded.replica.as_deref(), Some(b"replica".as_slice()));
    assert_eq!(store.lost().await, StorageFailure::Full);
    assert_eq!(cursor(&opened.name, "fence").await.as_f64(), Some(1.0), "who led leads on");
}

#[wasm_bindgen_test]
async fn a_value_that_is_no_bytes_is_an_empty_record() {
    let opened = Opened::new("no-bytes").await;
    raw_stores::put(&opened.name, "entities", &5.into(), &JsValue::from_str("not bytes")).await;
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

#[wasm_bindgen_test]
async fn a_transaction_that_hangs_is_given_up_and_leaves_nothing() {
    let name = unique_name("hangs");
    let store = TestStore::with_limit(500);
    store.open(&name).await.unwrap();
    hold_queue(&name).await;
    let result = store.run(StorageKind::Enqueue { records: vec![vec![1]], formers: Vec::new() }).await;
    assert_eq!(result, Err(StorageFailure::Unavailable("a transaction took longer than 0.5 s".to_owned())));
    let_go().await;
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
    let result = store.run(StorageKind::Enqueue { records: vec![b"late".to_vec()], formers: Vec::new() }).await;
    eval("IDBTransaction.prototype.abort = abort");
    assert_eq!(result, Ok(StoredValue::Keys(vec![1])));
}

/// Lets parts of the limit pass whenever the browser answers a request that reads.
async fn load_with_parts_between(parts: u32) -> Result<StoredReplica, StorageFailure> {
    let opened = Opened::new("slow").await;
    opened.enqueue(&["record"; 40]).await;
    let timers = replace_global("setInterval", "((part) => { globalThis.part = part; return 0 })");
    eval(&format!(
        "globalThis.reads = ['get', 'getAll', 'getAllKeys'].map((name) => [name, IDBObjectStore.prototype[name]]);
         for (const [name, read] of reads) IDBObjectStore.prototype[name] = function () {{
           const request = read.apply(this, arguments);
           request.addEventListener('success', () => {{ for (let passed = 0; passed < {parts}; passed += 1) part() }});
           return request }}"
    ));
    let loaded = TestStore::new().open_unlocked(&opened.name).await;
    eval("for (const [name, read] of reads) IDBObjectStore.prototype[name] = read");
    drop(timers);
    loaded
}

#[wasm_bindgen_test]
async fn a_slow_device_may_take_its_time_as_long_as_it_answers() {
    assert_eq!(load_with_parts_between(4).await.unwrap().queue.len(), 40);
    let late = "a transaction took longer than 5 s".to_owned();
    assert_eq!(load_with_parts_between(5).await.unwrap_err(), StorageFailure::Unavailable(late));
}

#[wasm_bindgen_test]
async fn a_task_that_kept_the_page_busy_past_the_limit_does_not_count_against_storage() {
    for count in [1, 3, 5] {
        let store = TestStore::with_limit(1_000);
        store.begin_open(&unique_name("busy"));
        tasks(count).await;
        eval("for (const end = performance.now() + 1300; performance.now() < end; );");
        assert!(store.opened().await.is_ok(), "after {count} tasks");
    }
}

#[wasm_bindgen_test]
async fn a_connection_the_browser_closed_is_opened_again_and_the_request_repeated() {
    let opened = Opened::new("reopened").await;
    eval(
        "globalThis.begin = IDBDatabase.prototype.transaction;
         IDBDatabase.prototype.transaction = function () {
           IDBDatabase.prototype.transaction = begin;
           this.close();
           throw new DOMException('closed', 'InvalidStateError') }",
    );
    let both = [b"a", b"b"]
        .map(|record| opened.store.begin(StorageKind::Enqueue { records: vec![record.to_vec()], formers: Vec::new() }));
    for id in both {
        assert!(opened.store.answer(id).await.is_ok());
    }
    assert_eq!(opened.texts("pendingMutations").await.len(), 2);
    // Both share one connection: a second one would stand in the way.
    delete(&opened.name).await;
}

#[wasm_bindgen_test]
async fn a_database_that_opens_after_it_was_given_up_is_closed() {
    let name = unique_name("too-late");
    // Somebody holds a connection while the database is to be deleted: until it is, nobody opens it.
    eval_async(&format!(
        "new Promise((resolve) => {{
           globalThis.held = indexedDB.open('{name}', 1);
           held.onsuccess = () => {{ indexedDB.deleteDatabase('{name}').onblocked = resolve }} }})"
    ))
    .await;
    let failure = TestStore::with_limit(300).open(&name).await.unwrap_err();
    assert_eq!(failure, StorageFailure::Unavailable("opening the database took longer than 0.3 s".to_owned()));
    eval("held.result.close()");
    delete(&name).await;
}

#[wasm_bindgen_test]
async fn a_write_whose_end_was_not_heard_is_stored_once() {
    let name = unique_name("unheard");
    let store = TestStore::with_limit(500);
    store.open(&name).await.unwrap();
    eval(
        "globalThis.oncomplete = Object.getOwnPropertyDescriptor(IDBTransaction.prototype, 'oncomplete');
         Object.defineProperty(IDBTransaction.prototype, 'oncomplete', { configurable: true, set() {
           Object.defineProperty(IDBTransaction.prototype, 'oncomplete', oncomplete) } })",
    );
    let records = [b"one", b"two"].map(|record| record.to_vec()).to_vec();
    let written = store.run(StorageKind::Enqueue { records, formers: Vec::new() }).await;
    assert_eq!(written, Ok(StoredValue::Keys(vec![1, 2])));
    // The same bytes once more, on purpose: they are no repetition.
    let again = store.run(StorageKind::Enqueue { records: vec![b"two".to_vec()], formers: Vec::new() }).await;
    assert_eq!(again, Ok(StoredValue::Keys(vec![3])));
}

#[wasm_bindgen_test]
async fn a_database_that_was_cleared_is_not_made_again() {
    let opened = Opened::new("evicted").await;
    opened.enqueue(&["a"]).await;
    // As when the user clears the site's data: the connection is closed from outside, without a word.
    eval(
        "globalThis.begin = IDBDatabase.prototype.transaction;
         IDBDatabase.prototype.transaction = function () {
           IDBDatabase.prototype.transaction = begin;
           this.onversionchange = null;
           this.close();
           indexedDB.deleteDatabase(this.name);
           throw new DOMException('closed', 'InvalidStateError') }",
    );
    let both = ["b", "c"].map(|record| {
        opened.store.begin(StorageKind::Enqueue { records: vec![record.as_bytes().to_vec()], formers: Vec::new() })
    });
    for id in both {
        let cleared = Err(StorageFailure::Unavailable("site data was cleared".to_owned()));
        assert_eq!(opened.store.answer(id).await, cleared);
    }
    assert!(!exists(&opened.name).await);
}

#[wasm_bindgen_test]
async fn an_upgrade_that_fails_leaves_no_half_of_a_database() {
    let name = unique_name("half");
    eval(
        "globalThis.make = IDBDatabase.prototype.createObjectStore;
         IDBDatabase.prototype.createObjectStore = function (store) {
           if (store === 'journal') throw new DOMException('broken', 'UnknownError');
           return make.apply(this, arguments) }",
    );
    let failure = TestStore::new().open(&name).await.unwrap_err();
    eval("IDBDatabase.prototype.createObjectStore = make");
    assert_eq!(failure, StorageFailure::Unavailable("UnknownError: broken".to_owned()));
    let store = TestStore::new();
    assert_eq!(store.open(&name).await.unwrap().fence, 1);
    assert!(store.run(StorageKind::Quarantine { fence: 1, key: 1 }).await.is_ok());
}

#[wasm_bindgen_test]
async fn a_lock_that_was_stolen_leaves_the_former_leader_to_the_fence() {
    watch_for_uncaught();
    let name = unique_name("stolen");
    let former = TestStore::new();
    let fence = former.open(&name).await.unwrap().fence;
    eval_async(&format!("navigator.locks.request('{name}', {{ steal: true }}, () => {{}})")).await;
    former.lost_the_lead().await;
    // The thief has let it go, so it comes back to who stands in line for it, with another fence.
    let again = former.opened().await.unwrap();
    assert!(again.leads && again.fence == fence + 1);
    let tidy = StorageKind::DeleteGeneration { fence, first: 1, last: 2 };
    assert_eq!(former.run(tidy).await, Err(StorageFailure::Conflict), "the former lead is over");
    assert_eq!(uncaught().await, "");
}

#[wasm_bindgen_test]
async fn who_gives_up_waiting_stands_in_nobodys_way() {
    let name = unique_name("impatient");
    let leader = TestStore::new();
    leader.open(&name).await.unwrap();
    let impatient = TestStore::new();
    assert!(!impatient.open(&name).await.unwrap().leads);
    drop(impatient);
    let waiting = format!("navigator.locks.query().then(({{ pending }}) => pending.some((lock) => lock.name === '{name}'))");
    assert!(!eval_async(&waiting).await.is_truthy());
    drop(leader);
    let next = TestStore::new();
    let mut loaded = next.open(&name).await.unwrap();
    if !loaded.leads {
        // The browser had yet to take back the lock of the one that ended.
        loaded = next.opened().await.unwrap();
    }
    assert_eq!(loaded.fence, 2);
}
