//! Who may have a session, and what a token is worth.

use std::time::Duration;

use serde_json::json;
use syncline_server::store::SessionKind;

use crate::http_client::Http;
use crate::test_server::{CHAT, TestServer};

#[tokio::test]
async fn dev_gives_sessions_for_the_asking() {
    let server = TestServer::dev().await;
    let mut http = server.anonymous();
    let answer = http.post("/api/auth/session", &json!({"user_id": "alice"})).await;
    assert_eq!(answer.status, 201);
    let session = answer.ok();
    assert_eq!(session["user_id"], "alice");
    assert_eq!(http.get("/api/auth/me").await.ok(), json!({"user_id": null, "tenant_id": null, "is_admin": false, "roles": []}));
    http.token = session["token"].as_str().map(str::to_owned);
    assert_eq!(
        http.get("/api/auth/me").await.ok(),
        json!({"user_id": "alice", "tenant_id": null, "is_admin": false, "roles": []})
    );

    let guest = http.call("POST", "/api/auth/guest", &[], "").await.ok();
    assert_eq!(guest["guest"], true);
    assert!(guest["user_id"].as_str().unwrap().starts_with("guest_"));

    http.post("/api/auth/session", &json!({})).await.refused(400, "MISSING_USER_ID");
    http.post("/api/auth/session", &json!({"user_id": ""})).await.refused(400, "MISSING_USER_ID");
    http.post("/api/auth/session", &json!({"user_id": "a\nb"})).await.refused(400, "INVALID_VALUE");
}

#[tokio::test]
async fn serve_gives_none() {
    let server = TestServer::serve(CHAT).await;
    let http = server.anonymous();
    http.post("/api/auth/session", &json!({"user_id": "alice"})).await.refused(403, "FORBIDDEN");
    http.call("POST", "/api/auth/guest", &[], "").await.refused(403, "FORBIDDEN");
    let alice = server.sign_in("alice").await;
    alice.post("/api/auth/select-org", &json!({"orgId": "o1"})).await.refused(403, "NOT_A_MEMBER");
    assert_eq!(alice.post("/api/auth/select-org", &json!({"orgId": null})).await.ok(), json!({"tenantId": null}));
}

#[tokio::test]
async fn a_session_ends() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    assert_eq!(alice.call("DELETE", "/api/auth/session", &[], "").await.ok(), json!({"revoked": true}));
    alice.get("/api/auth/me").await.refused(401, "TOKEN_EXPIRED");
    server.anonymous().call("DELETE", "/api/auth/session", &[], "").await.refused(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn tokens_that_are_no_session_are_refused_everywhere() {
    let server = TestServer::dev().await;
    let expired = server.store.create_session("alice", SessionKind::Issued, Duration::ZERO).await.unwrap();
    let cases = [
        (expired, 401, "TOKEN_EXPIRED"),
        ("syncline_0000".to_owned(), 401, "UNAUTHENTICATED"),
        ("a(b)=/c%d".to_owned(), 401, "UNAUTHENTICATED"),
        ("x".repeat(5_000), 400, "TOKEN_TOO_LONG"),
    ];
    for (token, status, code) in cases {
        let http = Http::new(server.address, Some(token));
        http.get("/api/auth/me").await.refused(status, code);
        http.get("/api/sync/pull").await.refused(status, code);
        http.get("/api/sync/pull?since=0").await.refused(status, code);
        http.post("/api/sync/push", &json!({"changes": []})).await.refused(status, code);
        http.get("/api/entities/Todo").await.refused(status, code);
        http.post("/api/query/Todo", &json!({})).await.refused(status, code);
    }
    let basic = [("authorization", "Basic YTpi")];
    server.anonymous().call("GET", "/api/auth/me", &basic, "").await.refused(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_tenant_is_a_world_of_its_own() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    alice.post("/api/entities/Todo", &json!({"id": "home", "title": "at home"})).await.ok();
    assert_eq!(alice.post("/api/auth/select-org", &json!({"orgId": "acme"})).await.ok(), json!({"tenantId": "acme"}));
    assert_eq!(alice.get("/api/auth/me").await.ok()["tenant_id"], "acme");
    alice.get("/api/entities/Todo/home").await.refused(404, "ROW_NOT_FOUND");
    alice.get("/api/sync/pull?user_id=alice").await.refused(409, "IDENTITY_CHANGED");
    let page = alice.get("/api/sync/pull?user_id=alice&tenant_id=acme").await.ok();
    assert_eq!(page["changes"], json!([]));
    alice.post("/api/auth/select-org", &json!({})).await.refused(400, "MISSING_ORG_ID");
    server.anonymous().post("/api/auth/select-org", &json!({"orgId": "acme"})).await.refused(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn serve_limits_how_often_one_session_calls() {
    let manifest =
        format!("{CHAT}\n[entities.x.fields]\na = \"string\"\n").replace("[server]", "[server]\nrequests_per_minute = 10");
    let server = TestServer::serve(&manifest).await;
    let alice = server.sign_in("alice").await;
    for _ in 0..10 {
        alice.get("/api/auth/me").await.ok();
    }
    let refused = alice.get("/api/auth/me").await;
    let seconds = refused.header("retry-after").unwrap().to_owned();
    let body = refused.refused(429, "RATE_LIMITED");
    assert_eq!(body["error"]["retry_after_secs"].to_string(), seconds);
    server.sign_in("bob").await.get("/api/auth/me").await.ok();
}
