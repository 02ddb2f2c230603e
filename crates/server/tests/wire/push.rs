//! Writes: outcomes, replays, identity, and both shapes of a push.

use serde_json::{Value, json};
use syncline_protocol::limits;

use crate::http_client::Http;
use crate::test_server::{TestServer, op_id, push_of, todo, transaction};

async fn push(http: &Http, user: Option<&str>, transactions: &[Value]) -> Value {
    http.post("/api/sync/push", &push_of(user, None, transactions)).await.ok()
}

fn statuses(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().unwrap().iter().map(|result| result["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_replay_is_answered_from_the_stored_outcome() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let write = todo("t1", "milk");
    let first = push(&alice, Some("alice"), std::slice::from_ref(&write)).await;
    assert_eq!(statuses(&first), ["applied"]);
    assert_eq!((&first["results"][0]["first_seq"], &first["results"][0]["replayed"]), (&json!(1), &json!(false)));
    let again = push(&alice, Some("alice"), std::slice::from_ref(&write)).await;
    assert_eq!((&again["results"][0]["first_seq"], &again["results"][0]["replayed"]), (&json!(1), &json!(true)));

    let mut other = write.clone();
    other["changes"][0]["data"]["title"] = json!("honey");
    let reused = push(&alice, Some("alice"), &[other]).await;
    assert_eq!((statuses(&reused), &reused["results"][0]["error"]["code"]), (vec!["rejected"], &json!("OP_ID_REUSED")));
    let still = push(&alice, Some("alice"), &[write]).await;
    assert_eq!(statuses(&still), ["applied"], "the stored outcome is left alone");
    assert_eq!(alice.get("/api/entities/Todo/t1").await.ok()["title"], "milk");
}

#[tokio::test]
async fn each_transaction_has_its_own_outcome() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let refused = transaction([
        json!({"entity": "Todo", "row_id": "half", "kind": "insert", "data": {}}),
        json!({"entity": "Todo", "row_id": "missing", "kind": "update", "data": {"a": 1}}),
    ]);
    let mut dependent = todo("dependent", "x");
    dependent["after"] = json!([refused["op_id"]]);
    let unknown = transaction([json!({"entity": "Todo", "row_id": "t", "kind": "teleport", "data": {}})]);
    let answer =
        push(&alice, Some("alice"), &[todo("a", "x"), refused, dependent, unknown, todo("a", "y"), todo("b", "z")]).await;
    assert_eq!(statuses(&answer), ["applied", "rejected", "not_evaluated", "not_evaluated", "rejected", "applied"]);
    let codes: Vec<&str> =
        answer["results"].as_array().unwrap().iter().filter_map(|result| result["error"]["code"].as_str()).collect();
    assert_eq!(codes, ["ROW_NOT_FOUND", "DEPENDENCY_FAILED", "UNKNOWN_KIND", "ROW_EXISTS"]);
    alice.get("/api/entities/Todo/half").await.refused(404, "ROW_NOT_FOUND");
}

#[tokio::test]
async fn nothing_is_evaluated_for_somebody_else() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    for claimed in [None, Some("bob")] {
        alice.post("/api/sync/push", &push_of(claimed, None, &[todo("t1", "x")])).await.refused(409, "IDENTITY_CHANGED");
    }
    server
        .anonymous()
        .post("/api/sync/push", &push_of(Some("alice"), None, &[todo("t1", "x")]))
        .await
        .refused(409, "IDENTITY_CHANGED");
    assert_eq!(alice.get("/api/entities/Todo").await.ok()["count"], 0);
}

#[tokio::test]
async fn a_push_is_bounded() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let many: Vec<Value> = (0..=limits::PUSH_TRANSACTIONS_MAX).map(|n| todo(&format!("t{n}"), "x")).collect();
    alice.post("/api/sync/push", &push_of(Some("alice"), None, &many)).await.refused(413, "PAYLOAD_TOO_LARGE");
    let mut malformed = todo("t1", "x");
    malformed["op_id"] = json!("nope");
    let answer = push(&alice, Some("alice"), &[malformed, todo("t2", "y")]).await;
    assert_eq!(statuses(&answer), ["not_evaluated", "applied"], "what is no intent is answered in its place");
    assert_eq!(answer["results"][0]["error"]["code"], "INVALID_JSON");
}

#[tokio::test]
async fn the_answer_carries_the_callers_own_changes() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    push(&alice, Some("alice"), &[todo("t1", "before")]).await;
    let cursor = alice.get("/api/sync/pull?user_id=alice").await.ok()["cursor"]["token"].as_str().unwrap().to_owned();
    let write = todo("t2", "mine");
    let answer = alice.post("/api/sync/push", &push_of(Some("alice"), Some(&cursor), std::slice::from_ref(&write))).await.ok();
    let frame = &answer["frame"];
    assert_eq!((&frame["from"], &frame["to"]), (&json!(1), &json!(2)));
    assert_eq!(frame["changes"][0]["row_id"], "t2");
    assert_eq!(frame["transactions"][0]["op_id"], write["op_id"]);
}

#[tokio::test]
async fn a_lower_fence_is_refused() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let mut newer = push_of(Some("alice"), None, &[todo("t1", "x")]);
    newer["fence"] = json!(2);
    let mut older = newer.clone();
    older["fence"] = json!(1);
    older["transactions"] = json!([todo("t2", "x")]);
    alice.post("/api/sync/push", &newer).await.ok();
    alice.post("/api/sync/push", &older).await.refused(403, "FORBIDDEN");
    alice.get("/api/entities/Todo/t2").await.refused(404, "ROW_NOT_FOUND");

    // Everybody learns the client_id of a replica from its transactions; that must be of no use to them.
    let mut thief = newer.clone();
    thief["fence"] = json!(1_000_000);
    thief["identity"]["user_id"] = json!("bob");
    thief["transactions"] = json!([todo("t3", "x")]);
    server.sign_in("bob").await.post("/api/sync/push", &thief).await.ok();
    newer["transactions"] = json!([todo("t4", "x")]);
    alice.post("/api/sync/push", &newer).await.ok();
}

#[tokio::test]
async fn pylons_shape_is_understood() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let op = op_id();
    let changes = json!({"changes": [
        {"entity": "Todo", "row_id": "p1", "kind": "insert", "data": {"title": "one"}, "op_id": op},
        {"entity": "Todo", "row_id": "p1", "kind": "update", "data": {"title": "two"}, "op_id": "any text"},
        {"entity": "Todo", "row_id": "gone", "kind": "delete"},
    ], "client_id": "whatever"});
    let answer = alice.post("/api/sync/push", &changes).await.ok();
    assert_eq!((&answer["applied"], &answer["deduped"], &answer["cursor"]["last_seq"]), (&json!(2), &json!(0), &json!(2)));
    assert!(answer["errors"][0].as_str().unwrap().starts_with("delete Todo/gone: "));
    assert_eq!(answer["results"][0]["op_id"], json!(op));
    let again = alice.post("/api/sync/push", &changes).await.ok();
    assert_eq!((&again["applied"], &again["deduped"]), (&json!(0), &json!(2)));

    let pulled = alice.get("/api/sync/pull?since=0").await.ok();
    let kinds: Vec<&str> = pulled["changes"].as_array().unwrap().iter().map(|change| change["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["insert", "update"]);
    assert_eq!(pulled["changes"][1]["data"], json!({"title": "two"}));
    assert!(pulled["changes"][0]["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&pulled["cursor"]["last_seq"], &pulled["has_more"]), (&json!(2), &json!(false)));
    assert_eq!(alice.get("/api/sync/pull?since=garbage").await.ok(), pulled);
}
