//! The engine in a page without a server: what it keeps, what it waits for, and what it says when storage fails.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "whatever is not as expected makes the test fail")]

use serde_json::{Value, json};
use syncline_browser_tests::engine::{TestEngine, anonymous_database};
use syncline_browser_tests::page::{eval, eval_async, fetches, hang_fetches_of, replace_global, unique_name};
use syncline_browser_tests::raw_stores::{bytes as raw_bytes, delete, exists, put, records, restore};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

fn none() -> Value {
    json!({})
}

#[wasm_bindgen_test]
async fn writes_without_a_network_survive_a_reload_in_their_order() {
    let app = unique_name("reload");
    let first = TestEngine::open(&app, &none()).await;
    assert_eq!(first.status()["storage"], json!({ "kind": "indexeddb" }));
    let id = first.insert("Todo", &json!({ "title": "one" })).await;
    first.insert("Todo", &json!({ "title": "two" })).await;
    let (op_id, _) =
        first.mutate(&json!([{ "entity": "Todo", "row_id": id, "kind": "update", "data": { "title": "one, changed" } }]));
    first.durable(&op_id).await;
    let (rows, queue) = (first.rows("Todo"), op_ids(&first));
    first.stop().await;

    let second = TestEngine::open(&app, &none()).await;
    assert_eq!(second.rows("Todo"), rows);
    assert_eq!(op_ids(&second), queue);
    assert_eq!(second.status()["pending"], 3);
    assert_eq!(records(&anonymous_database(&app), "pendingMutations").await.len(), 3);
}

#[wasm_bindgen_test]
async fn what_was_reported_as_durable_needs_no_goodbye() {
    let app = unique_name("dropped");
    let first = TestEngine::open(&app, &none()).await;
    first.insert("Todo", &json!({ "title": "kept" })).await;
    drop(first);
    let second = TestEngine::open(&app, &none()).await;
    assert_eq!(second.column("Todo", "title"), ["kept"]);
}

#[wasm_bindgen_test]
async fn many_writes_of_one_task_are_durable_together_and_in_order() {
    let app = unique_name("burst");
    let engine = TestEngine::open(&app, &none()).await;
    let written: Vec<_> =
        (0..400).map(|n| engine.mutate(&json!([{ "entity": "Todo", "kind": "insert", "data": { "n": n } }]))).collect();
    assert_eq!(engine.rows("Todo").len(), 400, "shown before anything is stored");
    for (op_id, _) in &written {
        engine.durable(op_id).await;
    }
    let stored = records(&anonymous_database(&app), "pendingMutations").await;
    assert_eq!(stored.len(), 400);
    for (record, (op_id, _)) in stored.iter().zip(&written) {
        assert!(record.text().contains(op_id), "{} is not {op_id}", record.text());
    }
}

#[wasm_bindgen_test]
async fn a_discarded_write_is_gone_from_view_and_disk() {
    let app = unique_name("discard");
    let engine = TestEngine::open(&app, &none()).await;
    engine.insert("Todo", &json!({ "title": "wanted" })).await;
    let (op_id, _) = engine.mutate(&json!([{ "entity": "Todo", "kind": "insert", "data": { "title": "unwanted" } }]));
    engine.durable(&op_id).await;
    engine.remove(&op_id);
    assert_eq!(engine.column("Todo", "title"), ["wanted"]);
    engine.stop().await;
    let left = records(&anonymous_database(&app), "pendingMutations").await;
    assert_eq!((left.len(), left[1].text().as_str()), (2, r#"{"format":1,"state":"discarded"}"#));
}

#[wasm_bindgen_test]
async fn a_second_engine_follows_and_takes_over() {
    let app = unique_name("two-tabs");
    let first = TestEngine::open(&app, &none()).await;
    first.insert("Todo", &json!({ "title": "of the first" })).await;

    let second = TestEngine::open(&app, &none()).await;
    assert_eq!((&first.status()["leads"], &second.status()["leads"]), (&json!(true), &json!(false)));
    assert_eq!(second.status()["storage"]["kind"], "indexeddb");
    assert_eq!(second.column("Todo", "title"), ["of the first"]);
    second.insert("Todo", &json!({ "title": "of the second" })).await;
    first.status_that("of two writes", |status| status["pending"] == 2).await;
    assert_eq!(first.column("Todo", "title"), second.column("Todo", "title"));

    first.stop().await;
    second.status_that("of a leader", |status| status["leads"] == true).await;
    assert_eq!(second.column("Todo", "title").len(), 2);
    second.stop().await;
    let stored = records(&anonymous_database(&app), "pendingMutations").await;
    assert!(stored[0].text().contains("of the first") && stored[1].text().contains("of the second"));
}

#[wasm_bindgen_test]
async fn a_page_that_is_frozen_begins_no_transaction_before_it_runs_again() {
    let app = unique_name("frozen");
    let engine = TestEngine::open(&app, &none()).await;
    let count = "globalThis.begin = IDBDatabase.prototype.transaction;
         globalThis.begun = 0;
         IDBDatabase.prototype.transaction = function () { begun += 1; return begin.apply(this, arguments) };
         document.dispatchEvent(new Event('freeze'));
         Promise.resolve().then(() => {}).then(() => begun)";
    // What it began now would stay open, and keep out the tab that takes the lead.
    assert_eq!(eval_async(count).await, 0);
    assert_eq!(engine.status()["leads"], false);
    eval("document.dispatchEvent(new Event('resume'))");
    engine.status_that("of a leader", |status| status["leads"] == true).await;
    engine.insert("Todo", &json!({ "title": "later" })).await;
    assert_ne!(eval("begun"), 0);
    eval("IDBDatabase.prototype.transaction = begin");
}

#[wasm_bindgen_test]
async fn after_a_panic_another_engine_may_lead() {
    let app = unique_name("panic");
    let first = TestEngine::open(&app, &none()).await;
    first.insert("Todo", &json!({ "title": "of the first" })).await;
    syncline_web::report_panic("a test");
    assert_eq!(first.event("broke_down").await, json!({ "type": "broke_down", "message": "a test" }));
    let second = TestEngine::open(&app, &none()).await;
    assert_eq!(second.column("Todo", "title"), ["of the first"]);
    assert_eq!(second.status()["storage"]["kind"], "indexeddb");
}

#[wasm_bindgen_test]
async fn without_indexeddb_everything_stays_in_memory_and_the_status_says_so() {
    let missing = replace_global("indexedDB", "undefined");
    let engine = TestEngine::open(&unique_name("missing"), &none()).await;
    drop(missing);
    assert_eq!(engine.status()["storage"], json!({ "kind": "memory", "reason": "this browser has no IndexedDB here" }));
    engine.insert("Todo", &json!({ "title": "kept as long as the page" })).await;
    assert_eq!(engine.column("Todo", "title"), ["kept as long as the page"]);
}

#[wasm_bindgen_test]
async fn a_browser_that_refuses_to_open_is_no_obstacle() {
    let factory = replace_global("indexedDB", "{ open() { throw new DOMException('private', 'SecurityError') } }");
    let engine = TestEngine::open(&unique_name("refused"), &none()).await;
    drop(factory);
    assert_eq!(engine.status()["storage"], json!({ "kind": "memory", "reason": "SecurityError: private" }));

    // Some say so only later.
    let factory = replace_global(
        "indexedDB",
        "{ open() {
           const request = { error: new DOMException('private', 'InvalidStateError') };
           queueMicrotask(() => request.onerror());
           return request } }",
    );
    let engine = TestEngine::open(&unique_name("refused"), &none()).await;
    drop(factory);
    assert_eq!(engine.status()["storage"], json!({ "kind": "memory", "reason": "InvalidStateError: private" }));
}

#[wasm_bindgen_test]
async fn persist_false_leaves_no_trace() {
    let app = unique_name("memory");
    let engine = TestEngine::open(&app, &json!({ "persist": false })).await;
    assert_eq!(engine.status()["storage"]["kind"], "memory");
    engine.insert("Todo", &json!({ "title": "volatile" })).await;
    engine.stop().await;
    assert!(!exists(&app).await);
}

#[wasm_bindgen_test]
async fn a_database_taken_away_is_said_at_once_and_nothing_is_lost() {
    let app = unique_name("taken");
    let engine = TestEngine::open(&app, &none()).await;
    engine.insert("Todo", &json!({ "title": "before" })).await;
    delete(&anonymous_database(&app)).await;
    // A write that was taken now would be lost with this page, which has to be reloaded.
    assert_eq!(engine.event("problem").await["code"], "RELOAD_REQUIRED");
    assert_eq!(engine.status()["connection"]["state"], "incompatible");
    assert_eq!(engine.column("Todo", "title"), ["before"]);
    assert_eq!(engine.status()["pending"], 1);
}

#[wasm_bindgen_test]
async fn a_full_disk_is_said_and_the_write_stays_queued() {
    let app = unique_name("full");
    let engine = TestEngine::open(&app, &none()).await;
    engine.insert("Todo", &json!({ "title": "before" })).await;
    eval(
        "globalThis.add = IDBObjectStore.prototype.add;
         IDBObjectStore.prototype.add = function () { throw new DOMException('no room', 'QuotaExceededError') }",
    );
    engine.mutate(&json!([{ "entity": "Todo", "kind": "insert", "data": { "title": "too much" } }]));
    let problem = engine.event("problem").await;
    eval("IDBObjectStore.prototype.add = add");
    assert_eq!(problem["code"], "STORAGE_FULL");
    assert_eq!(engine.status()["storage"]["kind"], "memory");
    let mut titles = engine.column("Todo", "title");
    titles.sort();
    assert_eq!(titles, ["before", "too much"]);
    assert_eq!(engine.mutations().len(), 2);
    engine.stop().await;

    // With room again it goes on from what was on disk.
    let again = TestEngine::open(&app, &none()).await;
    assert_eq!(again.status()["storage"]["kind"], "indexeddb");
    again.insert("Todo", &json!({ "title": "after" })).await;
    let mut titles = again.column("Todo", "title");
    titles.sort();
    assert_eq!(titles, ["after", "before"]);
}

#[wasm_bindgen_test]
async fn what_a_full_disk_holds_is_shown_and_kept() {
    let app = unique_name("brim-full");
    let first = TestEngine::open(&app, &none()).await;
    first.insert("Todo", &json!({ "title": "before" })).await;
    first.stop().await;
    eval(
        "globalThis.put = IDBObjectStore.prototype.put;
         IDBObjectStore.prototype.put = function () { throw new DOMException('no room', 'QuotaExceededError') }",
    );
    let full = TestEngine::new(&app, &none());
    full.start(None);
    let (early, _) = full.mutate(&json!([{ "entity": "Todo", "kind": "insert", "data": { "title": "early" } }]));
    assert_eq!(full.event("problem").await["code"], "STORAGE_FULL");
    full.durable(&early).await;
    eval("IDBObjectStore.prototype.put = put");
    let memory = json!({ "kind": "memory", "reason": "the browser's quota is used up" });
    assert_eq!(full.status()["storage"], memory);
    let mut titles = full.column("Todo", "title");
    titles.sort();
    assert_eq!(titles, ["before", "early"]);
    assert_eq!(full.status()["pending"], 2);
    full.stop().await;

    let again = TestEngine::open(&app, &none()).await;
    assert_eq!(again.status()["storage"]["kind"], "indexeddb");
    assert_eq!(again.column("Todo", "title"), ["before"]);
}

#[wasm_bindgen_test]
async fn a_newer_database_is_reported_and_left_alone() {
    let app = unique_name("newer");
    let name = anonymous_database(&app);
    let open = |version: u32| {
        format!(
            "new Promise((resolve, reject) => {{ const request = indexedDB.open('{name}', {version});
             request.onerror = reject; request.onsuccess = () => {{ request.result.close(); resolve(); }} }})"
        )
    };
    eval_async(&open(7)).await;
    let engine = TestEngine::new(&app, &none());
    engine.start(None);
    assert_eq!(engine.event("problem").await["code"], "STORAGE_TOO_NEW");
    assert_eq!(engine.status()["storage"]["kind"], "memory");
    eval_async(&open(7)).await;
}

#[wasm_bindgen_test]
async fn a_known_token_opens_its_identity_and_an_unknown_one_shows_nothing() {
    let app = unique_name("tokens");
    let map = json!([{ "token_hash": syncline_web::token_hash("known").as_string(), "identity": { "user_id": "ada", "tenant_id": null } }]);
    eval(&format!("localStorage.setItem('syncline_{app}_identities', {})", Value::from(map.to_string())));
    let known = TestEngine::new(&app, &none());
    known.start(Some("known"));
    assert_eq!(known.event("opened").await["identity"]["user_id"], "ada");

    let unknown = TestEngine::new(&app, &none());
    unknown.start(Some("unknown"));
    assert_eq!(unknown.status()["identity"], Value::Null);
    assert_eq!(unknown.status()["storage"]["kind"], "opening");
    eval(&format!("localStorage.removeItem('syncline_{app}_identities')"));
}

#[wasm_bindgen_test]
async fn a_question_whose_token_it_is_that_was_given_up_is_aborted() {
    let hanging = hang_fetches_of("/api/auth/me");
    let engine = TestEngine::new(&unique_name("asks"), &json!({ "startPaused": false }));
    engine.start(Some("unknown"));
    assert_eq!(fetches(), "1 made, 0 aborted");
    engine.set_token(Some("another"));
    assert_eq!(fetches(), "2 made, 1 aborted");
    engine.stop().await;
    assert_eq!(fetches(), "2 made, 2 aborted");
    drop(hanging);
}

#[wasm_bindgen_test]
async fn an_answer_about_a_former_token_is_not_taken_for_the_present_one() {
    let hanging = hang_fetches_of("/api/auth/me");
    let engine = TestEngine::new(&unique_name("former"), &json!({ "startPaused": false }));
    engine.start(Some("former"));
    engine.pause();
    engine.set_token(Some("present"));
    assert_eq!(fetches(), "1 made, 1 aborted", "the question is asked again when there is a network again");
    engine.resume();
    assert_eq!(fetches(), "2 made, 1 aborted");
    drop(hanging);
}

#[wasm_bindgen_test]
async fn a_socket_that_the_page_may_not_open_is_said_and_tried_again() {
    let refusing = replace_global("WebSocket", "class { constructor() { throw new DOMException('policy', 'SecurityError') } }");
    let engine = TestEngine::open(&unique_name("policy"), &json!({ "startPaused": false })).await;
    engine.status_that("waiting", |status| status["connection"]["state"] == "waiting").await;
    assert!(engine.heard_problem("NETWORK_UNAVAILABLE"));
    drop(refusing);
}

#[wasm_bindgen_test]
async fn a_database_of_version_1_opens() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/v1.json")).unwrap();
    let app = unique_name("v1");
    restore(&anonymous_database(&app), &fixture).await;
    let engine = TestEngine::open(&app, &none()).await;
    assert_eq!(engine.status()["storage"]["kind"], "indexeddb");
    assert_eq!(engine.status()["pending"], fixture["pending"]);
    for (entity, rows) in fixture["rows"].as_object().unwrap() {
        assert_eq!(json!(engine.rows(entity)), *rows);
    }
    // What is written next comes after what the older version left.
    engine.insert("Todo", &json!({ "title": "new" })).await;
    assert_eq!(engine.mutations().len(), 3);
}

#[wasm_bindgen_test]
async fn every_damaged_byte_of_a_segment_is_noticed_and_the_queue_kept() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/v1.json")).unwrap();
    for at in [0, 4, 9, 32, 60] {
        let app = unique_name("damaged");
        let name = anonymous_database(&app);
        restore(&name, &fixture).await;
        let record = records(&name, "entities").await.remove(0);
        let mut bytes = record.bytes();
        bytes[at] ^= 1;
        put(&name, "entities", &record.key, &raw_bytes(&bytes)).await;
        let engine = TestEngine::open(&app, &none()).await;
        assert!(engine.heard_problem("STORAGE_CORRUPT") || engine.heard_problem("STORAGE_TOO_NEW"), "byte {at}");
        engine.stop().await;
        assert_eq!(records(&name, "pendingMutations").await.len(), 2, "byte {at}");
    }
}

#[wasm_bindgen_test]
async fn refused_calls_carry_their_code() {
    let engine = TestEngine::open(&unique_name("codes"), &none()).await;
    let cases = [
        (json!([]), "TRANSACTION_TOO_LARGE"),
        (json!([{ "entity": "Todo", "row_id": "r", "kind": "merge", "data": {} }]), "UNKNOWN_KIND"),
        (json!([{ "entity": "$x", "kind": "insert", "data": {} }]), "INVALID_NAME"),
        (json!([{ "entity": "Todo", "row_id": "a b", "kind": "insert", "data": {} }]), "INVALID_ROW_ID"),
        (json!([{ "entity": "Todo", "row_id": "none", "kind": "delete" }]), "ROW_NOT_FOUND"),
        (json!([{ "entity": "Todo", "kind": "insert", "data": { "n": 9_007_199_254_740_993_u64 } }]), "VALUE_OUT_OF_RANGE"),
        (json!({ "entity": "Todo" }), "INVALID_JSON"),
    ];
    for (changes, code) in cases {
        assert_eq!(engine.try_mutate(&changes).unwrap_err(), code, "{changes}");
    }
}

fn op_ids(engine: &TestEngine) -> Vec<Value> {
    engine.mutations().iter().map(|mutation| mutation["op_id"].clone()).collect()
}
