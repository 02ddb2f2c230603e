//! Engines against a real server, whose address is in `SYNCLINE_TEST_SERVER` when the tests are compiled.
#![cfg(target_arch = "wasm32")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "whatever is not as expected makes the test fail"
)]

use serde_json::{Value, json};
use syncline_browser_tests::engine::{TestEngine, database_of};
use syncline_browser_tests::page::{eval, eval_async, fetches, hang_fetches_of, unique_name};
use syncline_browser_tests::raw_stores::{self, cursor, records};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

fn server() -> &'static str {
    let Some(url) = option_env!("SYNCLINE_TEST_SERVER") else {
        panic!("these tests need a server: run `cargo xtask test browser-chromium`, which starts one and says where it is");
    };
    url
}

/// A user of this test alone, with rows of an entity of this test alone.
struct User {
    app: String,
    name: String,
    token: String,
}

impl User {
    async fn new(name: &str) -> Self {
        let name = unique_name(name);
        let url = server();
        let token = eval_async(&format!(
            "fetch('{url}/api/auth/session', {{ method: 'POST', headers: {{ 'content-type': 'application/json' }},
               body: JSON.stringify({{ user_id: '{name}' }}) }}).then((answer) => answer.json()).then((body) => body.token)"
        ))
        .await;
        Self { app: unique_name("app"), name, token: token.as_string().unwrap() }
    }

    fn engine(&self, options: &Value) -> TestEngine {
        let mut all = json!({ "baseUrl": server(), "startPaused": false });
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let engine = TestEngine::new(&self.app, &all);
        engine.start(Some(&self.token));
        engine
    }

    async fn online(&self) -> TestEngine {
        let engine = self.engine(&json!({}));
        engine.status_that("live", |status| status["connection"]["state"] == "live").await;
        engine
    }

    /// As after a reload in a tunnel.
    async fn offline(&self) -> TestEngine {
        let engine = self.engine(&json!({ "startPaused": true }));
        engine.event("opened").await;
        engine
    }

    fn database(&self) -> String {
        database_of(&self.app, Some(&self.name))
    }
}

/// Waits until an entity has this many rows.
async fn rows_of(engine: &TestEngine, entity: &str, count: usize) -> Vec<Value> {
    while engine.rows(entity).len() != count {
        engine.event_that("changed", |event| event["type"] == "changed").await;
    }
    engine.rows(entity)
}

/// Field `n` of every change of an entity, in the order of the server's log.
async fn logged(token: &str, entity: &str) -> String {
    let url = server();
    let code = format!(
        "(async () => {{ const order = []; let since = 0; let more = true;
           while (more) {{
             const answer = await fetch(`{url}/api/sync/pull?since=${{since}}`, {{ headers: {{ authorization: 'Bearer {token}' }} }});
             const page = await answer.json();
             order.push(...page.changes.filter((change) => change.entity === '{entity}').map((change) => change.data.n));
             since = page.cursor.last_seq; more = page.has_more;
           }}
           return order.join(); }})()"
    );
    eval_async(&code).await.as_string().unwrap()
}

/// Waits until every write was answered and came back in the stream: an answer alone does not take it off the queue.
async fn settled(engine: &TestEngine) {
    while !engine.mutations().is_empty() {
        engine.event_that("any", |_| true).await;
    }
}

#[wasm_bindgen_test]
async fn engines_of_two_users_converge() {
    let entity = unique_name("Note").replace('.', "_");
    let (ada, bob) = (User::new("ada").await, User::new("bob").await);
    let (at_ada, at_bob) = (ada.online().await, bob.online().await);
    let id = at_ada.insert(&entity, &json!({ "text": "from ada", "n": 1 })).await;
    at_bob.insert(&entity, &json!({ "text": "from bob", "n": 1.5 })).await;
    rows_of(&at_ada, &entity, 2).await;
    rows_of(&at_bob, &entity, 2).await;
    at_bob.mutate(&json!([{ "entity": entity, "row_id": id, "kind": "update", "data": { "text": "from both" } }]));
    settled(&at_bob).await;
    settled(&at_ada).await;
    while at_ada.rows(&entity) != at_bob.rows(&entity) {
        at_ada.event_that("changed", |event| event["type"] == "changed").await;
    }
    assert!(at_ada.column(&entity, "text").contains(&"from both".to_owned()));
}

#[wasm_bindgen_test]
async fn what_was_written_offline_arrives_once_and_in_order() {
    let entity = unique_name("Message").replace('.', "_");
    let ada = User::new("ada").await;
    let first = ada.online().await;
    first.insert(&entity, &json!({ "n": 0 })).await;
    settled(&first).await;
    first.pause();
    for n in 1..20 {
        first.insert(&entity, &json!({ "n": n })).await;
    }
    first.stop().await;

    let again = ada.offline().await;
    assert_eq!(again.status()["pending"], 19);
    assert_eq!(again.rows(&entity).len(), 20);
    again.resume();
    settled(&again).await;
    assert_eq!(again.rows(&entity).len(), 20);

    let bob = User::new("bob").await.online().await;
    let rows = rows_of(&bob, &entity, 20).await;
    assert_eq!(again.rows(&entity), rows);
    assert_eq!(logged(&ada.token, &entity).await, (0..20).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
}

#[wasm_bindgen_test]
async fn rows_and_cursor_are_there_after_a_reload_without_a_network() {
    let entity = unique_name("Row").replace('.', "_");
    let ada = User::new("ada").await;
    let first = ada.online().await;
    for n in 0..5 {
        first.insert(&entity, &json!({ "n": n, "tags": ["a", { "b": null }], "ok": true, "x": 0.1 })).await;
    }
    settled(&first).await;
    let (rows, seq) = (first.rows(&entity), first.status()["seq"].clone());
    first.stop().await;
    assert!(records(&ada.database(), "pendingMutations").await.is_empty(), "confirmed writes left the queue");

    let second = ada.offline().await;
    assert_eq!(second.rows(&entity), rows);
    assert_eq!(second.status()["seq"], seq);
    assert_eq!(second.status()["synced"], true);
    assert_eq!(second.status()["storage"]["kind"], "indexeddb");
}

#[wasm_bindgen_test]
async fn a_damaged_segment_is_set_aside_fetched_again_and_the_queue_kept() {
    let entity = unique_name("Row").replace('.', "_");
    let ada = User::new("ada").await;
    let first = ada.online().await;
    first.insert(&entity, &json!({ "n": 1 })).await;
    settled(&first).await;
    first.pause();
    first.insert(&entity, &json!({ "n": 2 })).await;
    first.stop().await;
    let stored = records(&ada.database(), "entities").await;
    let damaged = stored.last().unwrap();
    let mut bytes = damaged.bytes();
    *bytes.last_mut().unwrap() ^= 0x40;
    raw_stores::put(&ada.database(), "entities", &damaged.key, &raw_stores::bytes(&bytes)).await;

    let second = ada.offline().await;
    assert!(second.heard_problem("STORAGE_CORRUPT"));
    assert_eq!(second.status()["pending"], 1);
    second.resume();
    settled(&second).await;
    assert_eq!(rows_of(&second, &entity, 2).await.len(), 2);
    second.stop().await;
    let journal = records(&ada.database(), "journal").await;
    assert_eq!(journal[0].bytes(), bytes, "kept for whoever wants to know why");
}

#[wasm_bindgen_test]
async fn a_resync_fetches_what_the_copy_lacks_and_sends_what_waits() {
    let entity = unique_name("Row").replace('.', "_");
    let ada = User::new("ada").await;
    let first = ada.online().await;
    for n in 0..3 {
        first.insert(&entity, &json!({ "n": n })).await;
    }
    settled(&first).await;
    first.pause();
    first.insert(&entity, &json!({ "n": 3 })).await;
    first.resync();
    assert_eq!((first.rows(&entity).len(), &first.status()["synced"]), (4, &json!(false)));
    first.stop().await;

    // Whatever was lost from the disk: the application has its doubts.
    raw_stores::clear(&ada.database(), "entities").await;
    let second = ada.offline().await;
    assert_eq!(second.rows(&entity).len(), 1);
    second.resume();
    second.event("synced").await;
    settled(&second).await;
    assert_eq!(rows_of(&second, &entity, 4).await.len(), 4);
    second.pull();
    second.event("synced").await;
    assert_eq!(second.status()["pending"], 0);
}

#[wasm_bindgen_test]
async fn an_unknown_token_is_resolved_and_remembered_by_its_hash() {
    let ada = User::new("ada").await;
    let first = ada.online().await;
    assert_eq!(first.status()["identity"]["user_id"], ada.name.as_str());
    let map = eval(&format!("localStorage.getItem('syncline_{}_identities')", ada.app)).as_string().unwrap();
    let hash = syncline_web::token_hash(&ada.token).as_string().unwrap();
    assert!(map.contains(&hash) && !map.contains(&ada.token), "{map}");
    assert!(cursor(&ada.database(), "identity").await.as_string().unwrap().contains(&ada.name));
    first.stop().await;
}

#[wasm_bindgen_test]
async fn a_token_the_server_does_not_know_asks_for_another_once() {
    let mut ada = User::new("ada").await;
    let good = std::mem::replace(&mut ada.token, "nobody's".to_owned());
    let engine = ada.engine(&json!({}));
    assert_eq!(engine.event("token_needed").await["code"], "UNAUTHENTICATED");
    engine.set_token(Some(&good));
    engine.status_that("live", |status| status["connection"]["state"] == "live").await;
}

#[wasm_bindgen_test]
async fn a_pull_ends_with_its_connection() {
    let ada = User::new("ada").await;
    let hanging = hang_fetches_of("/api/sync/pull");
    let engine = ada.engine(&json!({}));
    eval_async("hung.first").await;
    assert_eq!(fetches(), "1 made, 0 aborted");
    engine.pause();
    assert_eq!(fetches(), "1 made, 1 aborted");
    drop(hanging);
    engine.resume();
    engine.status_that("live", |status| status["connection"]["state"] == "live").await;
}
