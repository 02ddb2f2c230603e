//! The same bad input by every way in: each has its code, nothing is stored, and what comes after works.

use std::time::Duration;

use serde_json::{Value, json};
use syncline_protocol::{ServerMessage, limits};
use syncline_server::store::SessionKind;
use tokio_tungstenite::tungstenite::Message;

use crate::http_client::Http;
use crate::socket_client::{Event, Socket};
use crate::test_server::{TestServer, push_of, todo, transaction};

const NOTES: &str = r#"
[entities.Todo.fields]
title = "string"
count = { type = "int", optional = true }
[entities.Todo.policies]
read = "public"
insert = "signed-in"
update = "signed-in"
delete = "signed-in"
"#;

fn insert(entity: &str, data: &Value) -> Value {
    json!({"entity": entity, "row_id": "bad", "kind": "insert", "data": data})
}

/// What became of the first transaction: status and code.
fn outcome(answer: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&answer["results"][0]["status"]), text(&answer["results"][0]["error"]["code"]))
}

async fn by_http(http: &Http, write: Value) -> (String, String) {
    outcome(&http.post("/api/sync/push", &push_of(Some("alice"), None, &[write])).await.ok())
}

async fn by_socket(socket: &mut Socket, write: Value) -> (String, String) {
    let mut push = push_of(Some("alice"), None, &[write]);
    push["type"] = json!("push");
    socket.send(&push).await;
    loop {
        match socket.next().await {
            Event::Message(ServerMessage::Outcomes(answer)) => return outcome(&serde_json::to_value(answer).unwrap()),
            Event::Message(_) => {}
            Event::Close { code, reason } => panic!("closed with {code} {reason}"),
        }
    }
}

#[tokio::test]
async fn a_bad_write_has_its_code_by_every_way() {
    let server = TestServer::serve(NOTES).await;
    let alice = server.sign_in("alice").await;
    let (mut socket, _) = Socket::connect(server.address, alice.token.as_deref(), Some("alice"), None).await;
    let row = |data: Value| insert("Todo", &data);
    let long = "x".repeat(limits::ROW_BYTES_MAX);
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!([deep]);
    }
    // What the data decide is an outcome; what is no intent at all is not evaluated.
    let cases = [
        (insert("Nothing", &json!({"title": "x"})), "rejected", 400, "ENTITY_NOT_FOUND"),
        (row(json!({"title": "x", "colour": "red"})), "rejected", 400, "UNKNOWN_FIELD"),
        (row(json!({"title": 7})), "rejected", 400, "TYPE_MISMATCH"),
        (row(json!({"title": "x", "count": 1.5})), "rejected", 400, "TYPE_MISMATCH"),
        (row(json!({"title": null})), "rejected", 400, "MISSING_FIELD"),
        (row(json!({"title": long})), "not_evaluated", 413, "ROW_TOO_LARGE"),
        (row(json!({"title": deep})), "not_evaluated", 400, "VALUE_TOO_DEEP"),
        (row(json!({"title": "\u{0}"})), "not_evaluated", 400, "INVALID_TEXT"),
        (row(json!({"title": "x", "count": 9_007_199_254_740_993_i64})), "not_evaluated", 400, "VALUE_OUT_OF_RANGE"),
        (row(json!({"title": "x", "constructor": 1})), "not_evaluated", 400, "RESERVED_KEY"),
    ];
    for (change, status, http_status, code) in cases {
        let expected = (status.to_owned(), code.to_owned());
        let what = format!("{code} {:.100}", change.to_string());
        assert_eq!(by_http(&alice, transaction([change.clone()])).await, expected, "{what}");
        assert_eq!(by_socket(&mut socket, transaction([change.clone()])).await, expected, "{what}");
        let (entity, mut data) = (change["entity"].as_str().unwrap(), change["data"].clone());
        data["id"] = json!("bad");
        alice.post(&format!("/api/entities/{entity}"), &data).await.refused(http_status, code);
        let pylon = alice.post("/api/sync/push", &json!({"changes": [change]})).await.ok();
        assert_eq!(outcome(&pylon), expected, "{what}");
    }
    alice.get("/api/entities/Todo/bad").await.refused(404, "ROW_NOT_FOUND");
    assert_eq!(by_http(&alice, todo("a", "x")).await.0, "applied");
    assert_eq!(by_socket(&mut socket, todo("b", "x")).await.0, "applied");
    alice.post("/api/entities/Todo", &json!({"id": "c", "title": "x"})).await.ok();
    assert_eq!(server.store.head(None), 3, "nothing else was stored");
}

#[tokio::test]
async fn an_op_id_with_another_payload_is_refused_by_every_way() {
    let server = TestServer::serve(NOTES).await;
    let alice = server.sign_in("alice").await;
    let (mut socket, _) = Socket::connect(server.address, alice.token.as_deref(), Some("alice"), None).await;
    let first = todo("a", "first");
    let mut other = first.clone();
    other["changes"][0]["data"]["title"] = json!("second");
    assert_eq!(by_socket(&mut socket, first.clone()).await.0, "applied");
    let reused = ("rejected".to_owned(), "OP_ID_REUSED".to_owned());
    assert_eq!(by_http(&alice, other.clone()).await, reused);
    assert_eq!(by_socket(&mut socket, other).await, reused);
    let key = first["op_id"].as_str().unwrap();
    let rest = alice.call("POST", "/api/entities/Todo", &[("idempotency-key", key)], r#"{"title":"x"}"#).await;
    rest.refused(409, "OP_ID_REUSED");
    assert_eq!(alice.get("/api/entities/Todo").await.ok()["data"], json!([{"id": "a", "title": "first", "count": null}]));
    assert_eq!(by_http(&alice, first).await.0, "applied", "the first stands and is answered");
}

#[tokio::test]
async fn a_query_that_is_not_understood_says_so() {
    let server = TestServer::serve(NOTES).await;
    let alice = server.sign_in("alice").await;
    alice.post("/api/query/Nothing", &json!({})).await.refused(400, "ENTITY_NOT_FOUND");
    alice.get("/api/entities/Nothing").await.refused(400, "ENTITY_NOT_FOUND");
    for filter in [
        json!({"colour": "red"}),
        json!({"$order": {"colour": "asc"}}),
        json!({"$order": {"title": "up"}}),
        json!({"$limit": -1}),
        json!({"$limit": "many"}),
        json!({"title": {"$like": 7}}),
        json!({"$where": "1"}),
        json!("title"),
    ] {
        alice.post("/api/query/Todo", &filter).await.refused(400, "INVALID_QUERY");
    }
    alice.post("/api/query/Todo", &json!({"title": 7})).await.ok();
}

#[tokio::test]
async fn what_is_no_json_is_refused_by_every_way() {
    let server = TestServer::serve(NOTES).await;
    let alice = server.sign_in("alice").await;
    let broken = ["", "{", "<html>", "{\"changes\":", "nul", "\u{feff}{}", "{} {}", "\"\\ud800\""];
    for text in broken {
        for path in ["/api/sync/push", "/api/sync/hello", "/api/query/Todo", "/api/entities/Todo"] {
            alice.call("POST", path, &[], text).await.refused(400, "INVALID_JSON");
        }
        alice.call("PATCH", "/api/entities/Todo/a", &[], text).await.refused(400, "INVALID_JSON");
        let (mut socket, _) = Socket::connect(server.address, alice.token.as_deref(), Some("alice"), None).await;
        socket.send_raw(Message::text(text)).await;
        assert_eq!(socket.closed().await, (4400, "INVALID_JSON".to_owned()), "{text}");
    }
    alice.call("POST", "/api/sync/push", &[], vec![b'"', 0xff, b'"']).await.refused(400, "INVALID_JSON");
    assert_eq!(by_http(&alice, todo("a", "x")).await.0, "applied");
}

#[tokio::test]
async fn a_token_that_is_none_is_told_by_every_way() {
    let server = TestServer::serve(NOTES).await;
    let expired = server.store.create_session("alice", SessionKind::Issued, Duration::ZERO).await.unwrap();
    let cases = [
        (expired, "TOKEN_EXPIRED"),
        ("sl_unknown".to_owned(), "UNAUTHENTICATED"),
        ("a(b)=/c%d{}\"\\".to_owned(), "UNAUTHENTICATED"),
        ("..".to_owned(), "UNAUTHENTICATED"),
    ];
    for (token, code) in cases {
        let http = Http::new(server.address, Some(token.clone()));
        http.post("/api/sync/push", &push_of(Some("alice"), None, &[todo("a", "x")])).await.refused(401, code);
        http.post("/api/entities/Todo", &json!({"title": "x"})).await.refused(401, code);
        http.get("/api/entities/Todo").await.refused(401, code);
        http.post("/api/query/Todo", &json!({})).await.refused(401, code);
        http.get("/api/sync/pull?user_id=alice").await.refused(401, code);
        http.post("/api/fn/any", &json!({})).await.refused(401, code);
        let mut socket = Socket::open(server.address, Some(&token)).await;
        assert_eq!(socket.closed().await, (4401, code.to_owned()), "{token}");
    }
    // Without a token one is nobody: that is no error, and what nobody may do is.
    let nobody = server.anonymous();
    nobody.post("/api/sync/push", &push_of(Some("alice"), None, &[todo("a", "x")])).await.refused(409, "IDENTITY_CHANGED");
    let answer = nobody.post("/api/sync/push", &push_of(None, None, &[todo("a", "x")])).await.ok();
    assert_eq!(outcome(&answer), ("rejected".to_owned(), "POLICY_DENIED".to_owned()));
    nobody.post("/api/entities/Todo", &json!({"title": "x"})).await.refused(403, "POLICY_DENIED");
    assert_eq!(nobody.post("/api/query/Todo", &json!({})).await.ok(), json!([]));
    let latin = [("authorization", "Bearer t\u{f6}ken")];
    nobody.call("GET", "/api/entities/Todo", &latin, "").await.refused(401, "UNAUTHENTICATED");
}
