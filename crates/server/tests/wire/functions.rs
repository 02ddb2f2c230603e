//! Functions of the application's own backend, called through the server.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use syncline_server::backend::{Backend, BackendTable, BackendTables, FunctionTable, HooksTable};

use crate::app_backend::{AppBackend, Reply};
use crate::test_server::TestServer;

const FUNCTIONS: &str =
    "[functions.invite]\nurl = \"BACKEND/invite?from=syncline\"\n[functions.slow]\nurl = \"BACKEND/slow\"\ntimeout_ms = 200\n";

#[tokio::test]
async fn a_call_carries_the_session_and_a_signature() {
    let backend = AppBackend::start(|call| Reply::Json(200, json!({"echo": call.body["args"]}))).await;
    let server = backend.serve(FUNCTIONS).await;
    let alice = server.sign_in("alice").await;
    alice.post("/api/auth/select-org", &json!({"orgId": "acme"})).await.ok();
    let args = json!({"email": "bob@example.com", "n": [1, null, "ü"]});
    assert_eq!(alice.post("/api/fn/invite", &args).await.ok(), json!({"echo": args}));
    assert_eq!(server.anonymous().post("/api/fn/invite", &Value::Null).await.ok(), json!({"echo": null}));
    let key = [("idempotency-key", "order 17")];
    for http in [&alice, &alice, &server.sign_in("bob").await] {
        http.call("POST", "/api/fn/invite", &key, "{}").await.ok();
    }
    let calls = backend.calls();
    assert_eq!(
        calls[0].body,
        json!({
            "type": "function", "function": "invite", "args": args, "idempotency_key": null,
            "session": {"user_id": "alice", "tenant_id": "acme", "roles": []},
        })
    );
    assert_eq!(calls[0].path, "/invite");
    assert_eq!(calls[1].body["session"], json!({"user_id": null, "tenant_id": null, "roles": []}));
    assert_eq!(calls[2].body["idempotency_key"], "order 17");
    assert_eq!(calls[2].id, calls[3].id, "the same call again is the same message");
    let ids: BTreeSet<_> = calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids.len(), 4, "all others differ: {ids:?}");
}

/// What the caller is told, and what the backend does for it.
type Failing = (&'static str, Box<dyn Fn() -> Reply + Send + Sync>);

#[tokio::test]
async fn whatever_a_backend_does_the_caller_gets_a_code() {
    let backend = AppBackend::start(|_| Reply::Json(200, json!({}))).await;
    let server = backend.serve(FUNCTIONS).await;
    let alice = server.sign_in("alice").await;
    let error = |code: &str, message: &str| json!({"error": {"code": code, "message": message}});
    let raw = |status, body: &str| Reply::Raw(status, Vec::new(), body.as_bytes().to_vec());
    let refused = [(400, "QUOTA"), (401, "who.are-you"), (403, "NO_SEAT"), (422, "x")];
    for (status, code) in refused {
        backend.answer(move |_| Reply::Json(status, error(code, "no seat is left")));
        let answer = alice.post("/api/fn/invite", &json!({})).await.refused(422, "BACKEND_REFUSED");
        assert_eq!(answer["error"]["message"], format!("{code}: no seat is left"));
    }
    let moved = || Reply::Raw(302, vec![("location", "http://127.0.0.1:1/".to_owned())], Vec::new());
    let failures: [Failing; 8] = [
        ("answered 500", Box::new(move || raw(500, "oh"))),
        ("answered 503", Box::new(move || Reply::Json(503, error("DOWN", "for maintenance")))),
        ("answered 404", Box::new(move || raw(404, "<html>"))),
        ("answered 400", Box::new(move || Reply::Json(400, error("not a code", "x")))),
        ("redirects are not followed", Box::new(moved)),
        ("no JSON", Box::new(move || raw(200, "<html>"))),
        ("no JSON", Box::new(move || raw(200, "{} {}"))),
        ("too many bytes", Box::new(|| Reply::Json(200, json!("x".repeat(2_000_000))))),
    ];
    for (expected, reply) in failures {
        let before = backend.calls().len();
        backend.answer(move |_| reply());
        let answer = alice.post("/api/fn/invite", &json!({})).await.refused(502, "BACKEND_FAILED");
        let message = answer["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(expected) && !message.contains("127.0.0.1"), "{message} for {expected}");
        assert_eq!(backend.calls().len(), before + 1, "a call that failed is not repeated: {expected}");
    }
    backend.answer(move |_| raw(204, ""));
    assert_eq!(alice.post("/api/fn/invite", &json!({})).await.ok(), Value::Null);

    backend.answer(|_| Reply::Wait(json!(1)));
    let late = alice.post("/api/fn/slow", &json!({})).await.refused(502, "BACKEND_FAILED");
    assert_eq!(late["error"]["message"], "the application's backend did not answer within 200 ms");

    alice.post("/api/fn/nothing", &json!({})).await.refused(404, "NOT_FOUND");
    alice.get("/api/fn/invite").await.refused(405, "METHOD_NOT_ALLOWED");
    alice.call("POST", "/api/fn/invite", &[], "{not json").await.refused(400, "INVALID_JSON");
    alice.post("/api/fn/invite", &json!("x".repeat(1_100_000))).await.refused(413, "PAYLOAD_TOO_LARGE");
    TestServer::dev().await.anonymous().post("/api/fn/invite", &json!({})).await.refused(404, "NOT_FOUND");

    backend.kill().await;
    let gone = alice.post("/api/fn/invite", &json!({})).await.refused(502, "BACKEND_FAILED");
    assert_eq!(gone["error"]["message"], "the application's backend could not be reached");
}

#[test]
fn tables_that_cannot_work_say_why() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let file = Some(BackendTable { secret_file: Some("secret".into()), secret_env: None });
    let function = |name: &str, url: &str, timeout_ms| {
        std::iter::once((name.to_owned(), FunctionTable { url: url.to_owned(), timeout_ms })).collect()
    };
    let good = || function("f", "https://app.example/f", None);
    let env = |name: &str| Some(BackendTable { secret_env: Some(name.to_owned()), secret_file: None });
    let both = Some(BackendTable { secret_env: Some("A".to_owned()), secret_file: Some("secret".into()) });
    let missing = Some(BackendTable { secret_file: Some("missing".into()), secret_env: None });
    let cases = [
        (None, good(), "one of secret_env and secret_file"),
        (both, good(), "one of secret_env and secret_file"),
        (missing, good(), "cannot read"),
        (env("UNSET"), good(), "no environment variable UNSET"),
        (env("SHORT"), good(), "base64 of 24 to 64 bytes"),
        (file.clone(), function("a/b", "https://app.example", None), "functions.\"a/b\": a name has"),
        (file.clone(), function("f", "app.example/f", None), "functions.f.url: \"app.example/f\" is no address"),
        (file.clone(), function("f", "ftp://app.example/f", None), "is no address"),
        (file.clone(), function("f", "https://user:pass@app.example/f", None), "is no address"),
        (file.clone(), function("f", "https://app.example/f", Some(0)), "functions.f.timeout_ms"),
        (file.clone(), function("f", "https://app.example/f", Some(60_001)), "1 to 60000 milliseconds"),
    ];
    let variable = |name: &str| (name == "SHORT").then(|| "whsec_c2hvcnQ=".to_owned());
    for (backend, functions, expected) in cases {
        let tables = BackendTables { backend, functions, hooks: None };
        let error = Backend::load(&tables, folder.path(), variable).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} for {expected}");
    }
    let hooks = |before_write: &str, timeout_ms| {
        let hooks = Some(HooksTable { before_write: before_write.to_owned(), entities: None, timeout_ms });
        BackendTables { backend: file.clone(), functions: BTreeMap::new(), hooks }
    };
    for (tables, expected) in [
        (hooks("/decide", None), "hooks.before_write: \"/decide\" is no address"),
        (hooks("https://app.example/decide", Some(10_001)), "hooks.timeout_ms: a timeout has 1 to 10000"),
        (BackendTables { backend: None, ..hooks("https://app.example/decide", None) }, "one of secret_env and secret_file"),
    ] {
        let error = Backend::load(&tables, folder.path(), variable).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} for {expected}");
    }
    let plain = BackendTables { backend: file, functions: function("f", "http://localhost:3000/f", Some(60_000)), hooks: None };
    assert!(Backend::load(&plain, folder.path(), variable).unwrap().is_some());
    assert!(Backend::load(&BackendTables::default(), folder.path(), variable).unwrap().is_none());
}
