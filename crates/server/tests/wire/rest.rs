//! Rows over REST, and the errors that every route shares.

use serde_json::{Value, json};

use crate::test_server::TestServer;

#[tokio::test]
async fn a_row_lives_and_dies() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let created = alice.post("/api/entities/Todo", &json!({"id": "t1", "title": "milk", "done": false})).await;
    assert_eq!((created.status.as_u16(), created.json()), (201, json!({"id": "t1"})));
    assert_eq!(alice.get("/api/entities/Todo/t1").await.ok(), json!({"id": "t1", "title": "milk", "done": false}));
    let patch = r#"{"done":true}"#;
    assert_eq!(alice.call("PATCH", "/api/entities/Todo/t1", &[], patch).await.ok(), json!({"updated": true}));
    let minted = alice.post("/api/entities/Todo", &json!({"title": "bread"})).await.ok()["id"].clone();
    let list = alice.get("/api/entities/Todo?limit=10").await.ok();
    assert_eq!((&list["count"], &list["offset"], &list["limit"]), (&json!(2), &json!(0), &json!(10)));
    let mut ids: Vec<Value> = list["data"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
    ids.sort_by_key(Value::to_string);
    assert_eq!(ids, [minted, json!("t1")]);
    assert_eq!(alice.call("DELETE", "/api/entities/Todo/t1", &[], "").await.ok(), json!({"deleted": true}));
    alice.get("/api/entities/Todo/t1").await.refused(404, "ROW_NOT_FOUND");
    alice.call("PATCH", "/api/entities/Todo/t1", &[], patch).await.refused(404, "ROW_NOT_FOUND");
    alice.call("DELETE", "/api/entities/Todo/t1", &[], "").await.refused(404, "ROW_NOT_FOUND");
}

#[tokio::test]
async fn an_idempotency_key_makes_a_write_repeatable() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    for key in ["00112233445566778899aabbccddeeff", "order 17"] {
        let headers = [("idempotency-key", key)];
        let body = json!({"title": "once"}).to_string();
        let first = alice.call("POST", "/api/entities/Todo", &headers, body.clone()).await.ok();
        let again = alice.call("POST", "/api/entities/Todo", &headers, body).await.ok();
        assert_eq!(first, again);
        alice.call("POST", "/api/entities/Todo", &headers, r#"{"title":"twice"}"#).await.refused(409, "OP_ID_REUSED");
    }
    assert_eq!(alice.get("/api/entities/Todo").await.ok()["count"], 2);
    let bob = server.sign_in("bob").await;
    bob.call("POST", "/api/entities/Todo", &[("idempotency-key", "order 17")], r#"{"title":"mine"}"#).await.ok();
}

#[tokio::test]
async fn a_query_filters_orders_and_cuts() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    for (id, rank) in [("a", 3), ("b", 1), ("c", 2), ("d", 2)] {
        alice.post("/api/entities/Todo", &json!({"id": id, "rank": rank})).await.ok();
    }
    let cases = [
        (json!({"rank": 2}), json!(["c", "d"])),
        (json!({"rank": {"$gte": 2}, "$order": {"rank": "desc"}}), json!(["a", "c", "d"])),
        (json!({"id": {"$in": ["a", "d", "x"]}}), json!(["a", "d"])),
        (json!({"$order": {"rank": "asc"}, "$limit": 2, "$offset": 1}), json!(["c", "d"])),
    ];
    for (filter, expected) in cases {
        let rows = alice.post("/api/query/Todo", &filter).await.ok();
        let ids: Vec<Value> = rows.as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
        assert_eq!(Value::from(ids), expected, "{filter}");
    }
    alice.post("/api/query/Todo", &json!({"rank": {"$almost": 2}})).await.refused(400, "INVALID_QUERY");
}

#[tokio::test]
async fn every_error_is_json_with_a_code() {
    let server = TestServer::dev().await;
    let http = server.anonymous();
    http.get("/api/nothing").await.refused(404, "NOT_FOUND");
    http.get("/nothing").await.refused(404, "NOT_FOUND");
    http.call("PUT", "/api/entities/Todo/t1", &[], "{}").await.refused(405, "METHOD_NOT_ALLOWED");
    http.get("/api/sync/push").await.refused(405, "METHOD_NOT_ALLOWED");
    for path in ["/api/sync/push", "/api/sync/hello", "/api/auth/session", "/api/query/Todo", "/api/entities/Todo"] {
        http.call("POST", path, &[], "{not json").await.refused(400, "INVALID_JSON");
        let code = if path == "/api/query/Todo" { "INVALID_QUERY" } else { "INVALID_JSON" };
        http.call("POST", path, &[], "[1]").await.refused(400, code);
    }
    http.post("/api/entities/Todo", &json!({"id": "a/b"})).await.refused(400, "INVALID_ROW_ID");
    http.post("/api/entities/Todo", &json!({"id": 7})).await.refused(400, "INVALID_ROW_ID");
    http.get("/api/entities/Todo/a%20b").await.refused(400, "INVALID_ROW_ID");
    http.get("/api/entities/$x").await.refused(400, "INVALID_NAME");
    http.get("/api/entities/Todo?limit=many").await.refused(400, "INVALID_QUERY");
    http.post("/api/entities/Todo", &json!({"constructor": 1})).await.refused(400, "RESERVED_KEY");
    http.get("/api/sync/ws").await.refused(400, "PROTOCOL_MISMATCH");
    let huge = "x".repeat(syncline_protocol::limits::BODY_BYTES_MAX + 1);
    http.call("POST", "/api/sync/push", &[], huge).await.refused(413, "PAYLOAD_TOO_LARGE");
}

#[tokio::test]
async fn health_says_how_long_the_server_is_up() {
    let server = TestServer::dev().await;
    let health = server.anonymous().get("/health").await.ok();
    assert_eq!(health["status"], "ok");
    assert!(health["version"].is_string() && health["uptime_secs"].is_u64());
    server.stop().await;
}
