//! Organisations: who may select one, what is stamped on rows, and that a member who is removed loses it at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use syncline_server::jwt::{AuthTable, ClaimsTable, JwtVerifier};
use syncline_server::manifest::Manifest;
use syncline_server::store::{SessionKind, StoreError, Writer};
use syncline_server::{Mode, ServerOptions};

use crate::http_client::Http;
use crate::socket_client::{Event, Socket, hello};
use crate::test_server::{TestServer, loopback, push_of, transaction};

const ORGANISATIONS: &str = r#"
[tenants]
entity = "members"
tenant_field = "org_id"
user_field = "user_id"

[entities.orgs.fields]
name = "string"
owner_id = { type = "string", stamp = "user" }
[entities.orgs.policies]
read = "owner_id = user or id in members.org_id where user_id = user"
insert = "signed-in"

[entities.members.fields]
org_id = "string"
user_id = "string"
[entities.members.policies]
read = "user_id = user or org_id in orgs.id where owner_id = user"
insert = "org_id in orgs.id where owner_id = user"
update = "org_id in orgs.id where owner_id = user"
delete = "org_id in orgs.id where owner_id = user"

[entities.notes.fields]
org_id = { type = "string", stamp = "tenant", optional = true }
author_id = { type = "string", stamp = "user" }
text = "string"
[entities.notes.policies]
read = "signed-in"
insert = "author_id = user"
update = "signed-in"
delete = "author_id = user"
"#;

/// Alice founds `acme` and makes `members` its members.
async fn founded(server: &TestServer, members: &[&str]) -> Http {
    let alice = server.sign_in("alice").await;
    alice.post("/api/entities/orgs", &json!({"id": "acme", "name": "Acme"})).await.ok();
    for member in members {
        alice.post("/api/entities/members", &json!({"id": member, "org_id": "acme", "user_id": member})).await.ok();
    }
    alice
}

async fn select(http: &Http, org: &Value) -> Value {
    http.post("/api/auth/select-org", &json!({"orgId": org})).await.ok()
}

fn push_in(user: &str, tenant: &str, changes: impl Into<Vec<Value>>) -> Value {
    let mut push = push_of(Some(user), None, &[transaction(changes)]);
    push["identity"]["tenant_id"] = json!(tenant);
    push
}

fn note(kind: &str, id: &str, data: &Value) -> Value {
    json!({"entity": "notes", "row_id": id, "kind": kind, "data": data})
}

#[tokio::test]
async fn members_select_their_organisation_and_nobody_else_does() {
    let server = TestServer::serve(ORGANISATIONS).await;
    let _owner = founded(&server, &["bob"]).await;
    let (bob, carol) = (server.sign_in("bob").await, server.sign_in("carol").await);
    assert_eq!(select(&bob, &json!("acme")).await, json!({"tenantId": "acme"}));
    assert_eq!(bob.get("/api/auth/me").await.ok()["tenant_id"], "acme");
    bob.post("/api/auth/select-org", &json!({"orgId": "other"})).await.refused(403, "NOT_A_MEMBER");
    carol.post("/api/auth/select-org", &json!({"orgId": "acme"})).await.refused(403, "NOT_A_MEMBER");
    carol.post("/api/entities/members", &json!({"org_id": "acme", "user_id": "carol"})).await.refused(403, "POLICY_DENIED");
    assert_eq!(carol.get("/api/auth/me").await.ok()["tenant_id"], Value::Null);

    // Within an organisation the row would look like a membership and be none.
    let inside = bob.post("/api/entities/members", &json!({"org_id": "acme", "user_id": "carol"})).await;
    let inside = inside.refused(403, "POLICY_DENIED");
    assert!(inside["error"]["message"].as_str().unwrap().contains("select none first"), "{inside}");
    assert_eq!(select(&bob, &Value::Null).await, json!({"tenantId": null}));
}

#[tokio::test]
async fn rows_carry_their_writer_and_organisation_whatever_a_client_says() {
    let server = TestServer::serve(ORGANISATIONS).await;
    founded(&server, &["bob"]).await;
    let bob = server.sign_in("bob").await;
    select(&bob, &json!("acme")).await;
    let stamped = json!({"org_id": "acme", "author_id": "bob", "text": "x"});
    let row = async |id: &str| {
        let mut row = bob.get(&format!("/api/entities/notes/{id}")).await.ok();
        row.as_object_mut().unwrap().remove("id");
        row
    };
    let pushed = async |change: Value| {
        let answer = bob.post("/api/sync/push", &push_in("bob", "acme", [change])).await.ok();
        let result = &answer["results"][0];
        (result["status"].as_str().unwrap().to_owned(), result["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let applied = ("applied".to_owned(), String::new());
    let denied = ("rejected".to_owned(), "POLICY_DENIED".to_owned());

    assert_eq!(pushed(note("insert", "p1", &json!({"text": "x"}))).await, applied);
    assert_eq!(pushed(note("insert", "p2", &stamped)).await, applied);
    bob.post("/api/entities/notes", &json!({"id": "r1", "text": "x"})).await.ok();
    bob.post("/api/entities/notes", &json!({"id": "r2", "text": "x", "author_id": null, "org_id": "acme"})).await.ok();
    bob.post("/api/sync/push", &json!({"changes": [note("insert", "y1", &json!({"text": "x"}))]})).await.ok();
    for id in ["p1", "p2", "r1", "r2", "y1"] {
        assert_eq!(row(id).await, stamped, "{id}");
    }

    for claim in [json!({"author_id": "alice"}), json!({"org_id": "other"}), json!({"author_id": 7})] {
        let mut data = claim.clone();
        data["text"] = json!("x");
        assert_eq!(pushed(note("insert", "p3", &data)).await, denied, "{data}");
        bob.post("/api/entities/notes", &data).await.refused(403, "POLICY_DENIED");
        assert_eq!(pushed(note("update", "p1", &claim)).await.0, "rejected", "{claim}");
        let patched = bob.call("PATCH", "/api/entities/notes/r1", &[], claim.to_string()).await;
        assert!(patched.status.is_client_error(), "{claim}");
    }
    assert_eq!(pushed(note("update", "p1", &json!({"author_id": "alice"}))).await, denied);
    assert_eq!(pushed(note("update", "p1", &json!({"org_id": null}))).await, denied);
    assert_eq!(pushed(note("update", "p1", &json!({"author_id": "bob", "text": "y"}))).await, applied);
    assert_eq!(row("p1").await, json!({"org_id": "acme", "author_id": "bob", "text": "y"}));

    select(&bob, &Value::Null).await;
    bob.post("/api/entities/notes", &json!({"id": "own", "text": "x"})).await.ok();
    assert_eq!(row("own").await, json!({"org_id": null, "author_id": "bob", "text": "x"}));
    bob.post("/api/entities/notes", &json!({"text": "x", "org_id": "acme"})).await.refused(403, "POLICY_DENIED");
    let nobody = server.anonymous();
    nobody.post("/api/entities/notes", &json!({"text": "x"})).await.refused(400, "MISSING_FIELD");
    nobody.post("/api/entities/notes", &json!({"text": "x", "author_id": "bob"})).await.refused(403, "POLICY_DENIED");
}

#[tokio::test]
async fn a_removed_member_loses_the_organisation_at_once() {
    let server = TestServer::serve(ORGANISATIONS).await;
    let alice = founded(&server, &["bob", "carol"]).await;
    alice.post("/api/entities/members", &json!({"id": "bob2", "org_id": "acme", "user_id": "bob"})).await.ok();
    let (bob, carol) = (server.sign_in("bob").await, server.sign_in("carol").await);
    for member in [&bob, &carol] {
        select(member, &json!("acme")).await;
    }
    bob.post("/api/sync/push", &push_in("bob", "acme", [note("insert", "n1", &json!({"text": "x"}))])).await.ok();
    let mut socket = socket_in_acme(&server, &bob, "bob").await;

    alice.call("DELETE", "/api/entities/members/bob2", &[], "").await.ok();
    assert_eq!(bob.get("/api/auth/me").await.ok()["tenant_id"], "acme", "another row says so still");
    alice.call("DELETE", "/api/entities/members/bob", &[], "").await.ok();
    assert_eq!(socket.closed().await, (4409, "IDENTITY_CHANGED".to_owned()));
    assert_eq!(bob.get("/api/auth/me").await.ok()["tenant_id"], Value::Null);
    bob.get("/api/entities/notes/n1").await.refused(404, "ROW_NOT_FOUND");
    bob.get("/api/sync/pull?user_id=bob&tenant_id=acme").await.refused(409, "IDENTITY_CHANGED");
    let late = push_in("bob", "acme", [note("insert", "n2", &json!({"text": "x"}))]);
    bob.post("/api/sync/push", &late).await.refused(409, "IDENTITY_CHANGED");
    bob.post("/api/auth/select-org", &json!({"orgId": "acme"})).await.refused(403, "NOT_A_MEMBER");
    assert_eq!(carol.get("/api/auth/me").await.ok()["tenant_id"], "acme");

    // A session that was looked up before does not write after.
    let reader = syncline_server::store::Reader {
        user_id: Some("bob".to_owned()),
        tenant_id: Some("acme".to_owned()),
        ..syncline_server::store::Reader::default()
    };
    let refused = server.store.push(Writer { reader, ..Writer::default() }, Vec::new(), Vec::new()).await;
    assert_eq!(refused.unwrap_err().to_string(), "the user is no member of this organisation any more");

    alice.post("/api/entities/members", &json!({"id": "bob3", "org_id": "acme", "user_id": "bob"})).await.ok();
    assert_eq!(bob.get("/api/auth/me").await.ok()["tenant_id"], Value::Null, "it is selected again, not given back");
    select(&bob, &json!("acme")).await;
    let mut socket = socket_in_acme(&server, &bob, "bob").await;
    alice.call("PATCH", "/api/entities/members/bob3", &[], r#"{"user_id":"dave"}"#).await.ok();
    assert_eq!(socket.closed().await, (4409, "IDENTITY_CHANGED".to_owned()), "a changed row ends a membership too");
}

async fn socket_in_acme(server: &TestServer, http: &Http, user: &str) -> Socket {
    let mut socket = Socket::open(server.address, http.token.as_deref()).await;
    let mut hello = hello(Some(user), None);
    hello["identity"]["tenant_id"] = json!("acme");
    socket.send(&hello).await;
    assert!(matches!(socket.next().await, Event::Message(_)));
    socket
}

#[tokio::test]
async fn an_issued_token_names_no_organisation_its_user_is_not_in() -> Result<(), StoreError> {
    const SECRET: &str = "a secret of thirty-two bytes, or a few more";
    let table = AuthTable {
        secret_env: Some("SECRET".to_owned()),
        claims: ClaimsTable { tenant: Some("org".to_owned()), ..ClaimsTable::default() },
        ..AuthTable::default()
    };
    let jwt = JwtVerifier::load(&table, Path::new(""), |_| Some(SECRET.to_owned())).unwrap();
    let options = ServerOptions { mode: Mode::Serve, jwt: Some(Arc::new(jwt)), ..ServerOptions::dev(loopback()) };
    let server = TestServer::start(options, Manifest::parse(ORGANISATIONS).unwrap().schema).await;
    let alice = founded(&server, &["bob"]).await;
    let signed = |user: &str| {
        let claims = json!({"sub": user, "org": "acme", "exp": 4_000_000_000_u64});
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        Http::new(server.address, Some(token))
    };
    let issued = async |user: &str| {
        let token = server.store.create_session(user, SessionKind::Issued, Duration::from_hours(1)).await?;
        server.store.select_tenant(&token, Some("acme")).await?;
        Ok::<_, StoreError>(Http::new(server.address, Some(token)))
    };
    for (user, tenant) in [("bob", json!("acme")), ("carol", Value::Null)] {
        for http in [signed(user), issued(user).await?] {
            assert_eq!(http.get("/api/auth/me").await.ok()["tenant_id"], tenant, "{user}");
        }
    }
    let bob = signed("bob");
    let mut socket = socket_in_acme(&server, &bob, "bob").await;
    alice.call("DELETE", "/api/entities/members/bob", &[], "").await.ok();
    assert_eq!(socket.closed().await, (4409, "IDENTITY_CHANGED".to_owned()));
    assert_eq!(bob.get("/api/auth/me").await.ok()["tenant_id"], Value::Null);
    Ok(())
}
