//! The application's backend decides about writes before they are committed.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use syncline_core::client::Event;
use syncline_protocol::{OutcomeStatus, ServerMessage};

use crate::app_backend::{AppBackend, Call, Reply};
use crate::engine::Engine;
use crate::http_client::Http;
use crate::socket_client::{Event as SocketEvent, Socket};
use crate::test_server::{TestServer, push_of, transaction};

const NOTES: &str = r#"
[hooks]
before_write = "BACKEND/decide"
entities = ["notes"]
timeout_ms = 9000

[entities.notes.fields]
text = "string"
author_id = { type = "string", stamp = "user" }
words = { type = "int", default = 0 }
[entities.notes.policies]
read = "signed-in"
insert = "author_id = user"
update = "author_id = user"
delete = "author_id = user"

[entities.others.fields]
a = "string"
[entities.others.policies]
read = "public"
insert = "public"
"#;

/// A backend's rules: no spam, no shouting, and the words are counted.
fn rules(call: &Call) -> Reply {
    let changes = call.body["changes"].as_array().unwrap();
    let mut set = Vec::new();
    for (index, change) in changes.iter().enumerate().filter(|(_, change)| change["kind"] != "delete") {
        let Some(text) = change["after"]["text"].as_str() else { continue };
        if text.contains("spam") {
            return Reply::Json(200, json!({"accept": false, "code": "SPAM", "message": "nobody wants this"}));
        }
        let fields = json!({"text": text.to_lowercase(), "words": text.split(' ').count()});
        set.push(json!({"change": index, "fields": fields}));
    }
    Reply::Json(200, json!({"accept": true, "set": set}))
}

fn insert(id: &str, text: &str) -> Value {
    json!({"entity": "notes", "row_id": id, "kind": "insert", "data": {"text": text}})
}

async fn push(http: &Http, user: &str, transactions: &[Value]) -> Vec<Value> {
    let answer = http.post("/api/sync/push", &push_of(Some(user), None, transactions)).await.ok();
    answer["results"].as_array().unwrap().clone()
}

fn outcomes(results: &[Value]) -> Vec<(&str, &str)> {
    results
        .iter()
        .map(|result| (result["status"].as_str().unwrap(), result["error"]["code"].as_str().unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn every_way_to_write_is_asked_about_and_may_be_changed_or_refused() {
    let backend = AppBackend::start(rules).await;
    let server = backend.serve(NOTES).await;
    let alice = server.sign_in("alice").await;
    let stored = |text: &str, words: u64| json!({"text": text, "author_id": "alice", "words": words});
    let row = async |id: &str| {
        let mut row = alice.get(&format!("/api/entities/notes/{id}")).await.ok();
        row.as_object_mut().unwrap().remove("id");
        row
    };

    let writes =
        [transaction([insert("p1", "Hello YOU")]), transaction([insert("p2", "spam")]), transaction([insert("p3", "C")])];
    let results = push(&alice, "alice", &writes).await;
    assert_eq!(outcomes(&results), [("applied", ""), ("rejected", "BACKEND_REFUSED"), ("applied", "")]);
    assert_eq!(results[1]["error"]["message"], "SPAM: nobody wants this");
    assert_eq!(row("p1").await, stored("hello you", 2));
    let again = push(&alice, "alice", &writes).await;
    assert!(again.iter().all(|result| result["replayed"] == true), "{again:?}");
    assert_eq!(outcomes(&again), outcomes(&results));
    assert_eq!(backend.calls().len(), 3, "what has an outcome is not asked about again");

    alice.post("/api/entities/notes", &json!({"id": "r1", "text": "A B"})).await.ok();
    assert_eq!(row("r1").await, stored("a b", 2));
    alice.call("PATCH", "/api/entities/notes/r1", &[], r#"{"text":"X Y Z"}"#).await.ok();
    assert_eq!(row("r1").await, stored("x y z", 3));
    let refused = alice.call("PATCH", "/api/entities/notes/r1", &[], r#"{"text":"more spam"}"#).await;
    refused.refused(422, "BACKEND_REFUSED");
    alice.post("/api/entities/notes", &json!({"text": "spam"})).await.refused(422, "BACKEND_REFUSED");
    let pylon = alice.post("/api/sync/push", &json!({"changes": [insert("y1", "Q"), insert("y2", "spam")]})).await.ok();
    assert_eq!((&pylon["applied"], &pylon["errors"]), (&json!(1), &json!(["insert notes: SPAM: nobody wants this"])));

    let (mut socket, _) = Socket::connect(server.address, alice.token.as_deref(), Some("alice"), None).await;
    let mut message =
        push_of(Some("alice"), None, &[transaction([insert("s1", "Via Socket")]), transaction([insert("s2", "spam")])]);
    message["type"] = json!("push");
    socket.send(&message).await;
    let SocketEvent::Message(ServerMessage::Outcomes(answer)) = socket.next().await else { panic!("no outcomes") };
    let statuses: Vec<_> = answer.results.iter().map(|result| result.status).collect();
    assert_eq!(statuses, [OutcomeStatus::Applied, OutcomeStatus::Rejected]);
    assert_eq!(row("s1").await, stored("via socket", 2));
    alice.call("DELETE", "/api/entities/notes/r1", &[], "").await.ok();

    let calls = backend.calls();
    let asked = json!({
        "type": "before_write", "op_id": writes[0]["op_id"], "client_id": calls[0].body["client_id"], "issued_at": 1,
        "session": {"user_id": "alice", "tenant_id": null, "roles": []},
        "changes": [{"entity": "notes", "row_id": "p1", "kind": "insert", "before": null, "after": stored("Hello YOU", 0)}],
    });
    assert_eq!(calls[0].body, asked);
    let last = &calls.last().unwrap().body["changes"][0];
    assert_eq!((&last["kind"], &last["before"], &last["after"]), (&json!("delete"), &stored("x y z", 3), &Value::Null));
}

#[tokio::test]
async fn it_is_asked_only_about_what_could_be_committed() {
    let backend = AppBackend::start(rules).await;
    let server = backend.serve(NOTES).await;
    let (alice, bob) = (server.sign_in("alice").await, server.sign_in("bob").await);
    push(&alice, "alice", &[transaction([insert("n1", "mine")])]).await;
    let denied = json!({"entity": "notes", "row_id": "n1", "kind": "update", "data": {"text": "yours"}});
    let other = json!({"entity": "others", "row_id": "o1", "kind": "insert", "data": {"a": "spam"}});
    let mistyped = json!({"entity": "notes", "row_id": "n2", "kind": "insert", "data": {"text": 7}});
    let results = push(&bob, "bob", &[transaction([denied]), transaction([other]), transaction([mistyped])]).await;
    assert_eq!(outcomes(&results), [("rejected", "POLICY_DENIED"), ("applied", ""), ("rejected", "TYPE_MISMATCH")]);
    assert_eq!(backend.calls().len(), 1);
    // One watched change is enough, and all of the transaction is shown.
    let both = transaction([
        json!({"entity": "others", "row_id": "o2", "kind": "insert", "data": {"a": "x"}}),
        insert("n3", "Two Words"),
        json!({"entity": "notes", "row_id": "n3", "kind": "update", "data": {"text": "And THREE words"}}),
    ]);
    assert_eq!(outcomes(&push(&bob, "bob", &[both]).await), [("applied", "")]);
    let asked = backend.calls()[1].body["changes"].clone();
    let kinds: Vec<_> = asked.as_array().unwrap().iter().map(|change| change["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["insert", "insert", "update"]);
    assert_eq!(asked[2]["before"]["text"], "Two Words");
    assert_eq!(bob.get("/api/entities/notes/n3").await.ok()["words"], 3);
}

#[tokio::test]
async fn what_it_sets_is_checked_like_what_a_client_writes() {
    let backend = AppBackend::start(rules).await;
    let server = backend.serve(NOTES).await;
    let alice = server.sign_in("alice").await;
    let cases = [
        (json!({"words": "two"}), "TYPE_MISMATCH"),
        (json!({"nothing": 1}), "UNKNOWN_FIELD"),
        (json!({"author_id": "bob"}), "POLICY_DENIED"),
        (json!({"text": null}), "MISSING_FIELD"),
    ];
    for (fields, code) in cases {
        backend.answer(move |_| Reply::Json(200, json!({"accept": true, "set": [{"change": 0, "fields": fields}]})));
        let results = push(&alice, "alice", &[transaction([insert("n1", "x")])]).await;
        assert_eq!(outcomes(&results), [("rejected", code)]);
        let message = results[0]["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("with what the application's backend set: "), "{message}");
    }
    alice.get("/api/entities/notes/n1").await.refused(404, "ROW_NOT_FOUND");
}

#[tokio::test]
async fn without_a_decision_nothing_is_lost_and_the_order_stays() {
    let backend = AppBackend::start(rules).await;
    let server = backend.serve(&NOTES.replace("9000", "150")).await;
    let alice = server.sign_in("alice").await;
    let writes = [
        transaction([json!({"entity": "others", "row_id": "o1", "kind": "insert", "data": {"a": "x"}})]),
        transaction([insert("n1", "One")]),
        transaction([json!({"entity": "others", "row_id": "o2", "kind": "insert", "data": {"a": "x"}})]),
        transaction([insert("n2", "Two")]),
    ];
    let undecided = [("applied", ""), ("retry", "BACKEND_FAILED"), ("not_evaluated", ""), ("not_evaluated", "")];
    let html = || Reply::Raw(200, Vec::new(), b"<html>".to_vec());
    let no_answers: [fn() -> Reply; 6] = [
        html,
        || Reply::Json(200, json!({"accept": "maybe"})),
        || Reply::Json(500, json!({})),
        || Reply::Json(403, json!({"error": {"code": "NO_LICENCE", "message": "pay first"}})),
        || Reply::Raw(302, vec![("location", "/elsewhere".to_owned())], Vec::new()),
        || Reply::Wait(json!({"accept": true})),
    ];
    for no_answer in no_answers {
        backend.answer(move |_| no_answer());
        assert_eq!(outcomes(&push(&alice, "alice", &writes).await), undecided);
        let rest = alice.post("/api/entities/notes", &json!({"text": "x"})).await;
        assert_eq!(rest.header("retry-after"), Some("1"));
        rest.refused(502, "BACKEND_FAILED");
    }
    let pylon = alice.post("/api/sync/push", &json!({"changes": [insert("y1", "a"), insert("y2", "b")]})).await.ok();
    assert_eq!((&pylon["applied"], pylon["errors"].as_array().unwrap().len()), (&json!(0), 2));

    let address = backend.kill().await;
    assert_eq!(outcomes(&push(&alice, "alice", &writes).await), undecided);
    assert_eq!(alice.post("/api/query/notes", &json!({})).await.ok(), json!([]));
    let backend = AppBackend::start_at(address, rules).await;
    let results = push(&alice, "alice", &writes).await;
    assert_eq!(outcomes(&results), [("applied", ""); 4]);
    let seqs: Vec<_> = results.iter().map(|result| result["last_seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4], "in the order they were written");
    assert_eq!(backend.calls().len(), 2);
}

#[tokio::test]
async fn a_decision_under_way_holds_nobody_up_and_is_about_the_row_as_it_is() {
    let backend = AppBackend::start(rules).await;
    let server = backend.serve(NOTES).await;
    let alice = server.sign_in("alice").await;
    push(&alice, "alice", &[transaction([insert("n1", "one")])]).await;
    let times = AtomicUsize::new(0);
    backend.answer(move |call| match times.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::Wait(json!({"accept": true, "set": [{"change": 0, "fields": {"words": 99}}]})),
        _ => rules(call),
    });
    let update = |fields: Value| transaction([json!({"entity": "notes", "row_id": "n1", "kind": "update", "data": fields})]);
    let slow = push_of(Some("alice"), None, &[update(json!({"text": "Slow"}))]);
    let same = alice.clone();
    let waiting = tokio::spawn(async move { same.post("/api/sync/push", &slow).await.ok() });
    backend.called(2).await;

    server.anonymous().post("/api/entities/others", &json!({"id": "o1", "a": "x"})).await.ok();
    let fast = push(&alice, "alice", &[update(json!({"text": "Fast Enough"}))]).await;
    assert_eq!(outcomes(&fast), [("applied", "")]);
    backend.open();
    let answer = waiting.await.unwrap();
    assert_eq!(answer["results"][0]["status"], "applied");
    assert_eq!(alice.get("/api/entities/notes/n1").await.ok()["words"], 1, "the late decision was about another row");
    let calls = backend.calls();
    let asked: Vec<_> = calls.iter().skip(1).map(|call| call.body["changes"][0]["before"]["text"].clone()).collect();
    assert_eq!(asked, ["one", "one", "fast enough"]);
}

#[tokio::test]
async fn the_same_transaction_sent_twice_at_once_has_one_outcome() {
    let backend = AppBackend::start(|_| Reply::Wait(json!({"accept": true}))).await;
    let server = backend.serve(NOTES).await;
    let alice = server.sign_in("alice").await;
    let message = push_of(Some("alice"), None, &[transaction([insert("n1", "x")])]);
    let send = || {
        let (alice, message) = (alice.clone(), message.clone());
        tokio::spawn(async move { alice.post("/api/sync/push", &message).await.ok()["results"][0].clone() })
    };
    let (one, other) = (send(), send());
    backend.called(2).await;
    backend.open();
    let (one, other) = (one.await.unwrap(), other.await.unwrap());
    assert_eq!((&one["last_seq"], &other["last_seq"]), (&json!(1), &json!(1)));
    assert_ne!(one["replayed"], other["replayed"], "{one} {other}");
}

#[tokio::test]
async fn an_engine_comes_to_show_what_was_stored_and_why_something_was_not() {
    let backend = AppBackend::start(rules).await;
    let server: TestServer = backend.serve(NOTES).await;
    let mut alice = Engine::start(&server, "alice").await;
    let mut bob = Engine::start(&server, "bob").await;
    let note = |id: &str, text: &str| json!([{"entity": "notes", "kind": "insert", "row_id": id, "data": {"text": text}}]);
    let address = backend.kill().await;
    alice.write(&note("n1", "Hello WORLD"));
    alice.write(&note("n2", "spam"));
    alice.write(&note("n3", "Bye"));
    let own = ["Hello WORLD", "spam", "Bye"];
    for (id, text) in ["n1", "n2", "n3"].iter().zip(own) {
        assert_eq!(alice.row("notes", id)["text"], text, "its own guess, at once");
    }
    alice.until(|alice| alice.events.iter().any(|event| matches!(event, Event::MutationSent { .. }))).await;

    let _backend = AppBackend::start_at(address, rules).await;
    alice.until(|alice| alice.row("notes", "n3")["author_id"] == "alice").await;
    let stored = json!({"text": "hello world", "author_id": "alice", "words": 2});
    for engine in [&mut alice, &mut bob] {
        engine.until(|engine| engine.row("notes", "n3")["text"] == "bye" && engine.row("notes", "n2").is_null()).await;
        let mut row = engine.row("notes", "n1");
        row.as_object_mut().unwrap().remove("id");
        assert_eq!(row, stored);
    }
    let failed = alice.events.iter().find_map(|event| {
        let Event::MutationFailed { error, .. } = event else { return None };
        Some((error.code.as_str(), error.message.as_str()))
    });
    assert_eq!(failed, Some(("BACKEND_REFUSED", "SPAM: nobody wants this")));
    assert_eq!(alice.mutations().as_array().unwrap().len(), 1, "the refused one waits for its user: {}", alice.mutations());
}
