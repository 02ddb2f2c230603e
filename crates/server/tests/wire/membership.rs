//! Rows come and go with memberships, on the socket as in a pull.

use std::collections::BTreeSet;

use serde_json::json;
use syncline_protocol::{ChangeKind, Page};

use crate::http_client::Http;
use crate::pull::pull_all;
use crate::socket_client::Socket;
use crate::test_server::{CHAT, TestServer, push_of, transaction};

async fn channel_of_bob(bob: &Http) {
    let write = transaction([
        json!({"entity": "channels", "row_id": "c1", "kind": "insert", "data": {"name": "work"}}),
        json!({"entity": "channel_members", "row_id": "c1-bob", "kind": "insert", "data": {"channel_id": "c1", "member_id": "bob"}}),
        json!({"entity": "messages", "row_id": "m1", "kind": "insert", "data": {"channel_id": "c1", "author_id": "bob", "body": "first"}}),
    ]);
    let answer = bob.post("/api/sync/push", &push_of(Some("bob"), None, &[write])).await.ok();
    assert_eq!(answer["results"][0]["status"], "applied", "{answer}");
}

fn ids(pages: &[Page], kind: &ChangeKind) -> BTreeSet<String> {
    let changes = pages.iter().flat_map(|page| &page.changes).filter(|change| change.kind == *kind);
    changes.map(|change| change.row_id.as_str().to_owned()).collect()
}

fn set<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_invited_user_gets_the_old_rows_and_a_removed_one_loses_them() {
    let server = TestServer::dev_with(CHAT).await;
    let (alice, bob) = (server.sign_in("alice").await, server.sign_in("bob").await);
    channel_of_bob(&bob).await;
    let (pages, cursor) = pull_all(&alice, "alice", None).await;
    assert!(pages.iter().all(|page| page.changes.is_empty()));
    let mut socket = Socket::streaming(server.address, alice.token.as_deref(), Some("alice"), &cursor).await;

    bob.post("/api/entities/channel_members", &json!({"id": "c1-alice", "channel_id": "c1", "member_id": "alice"})).await.ok();
    let frame = socket.frame().await;
    let all = set(["c1", "c1-alice", "c1-bob", "m1"]);
    let seen: BTreeSet<String> = frame.changes.iter().map(|change| change.row_id.as_str().to_owned()).collect();
    assert_eq!(seen, all);
    assert!(frame.changes.iter().all(|change| change.data.is_some()), "an enter carries the full row");
    let (pulled, _) = pull_all(&alice, "alice", Some(cursor)).await;
    let pulled: BTreeSet<String> =
        pulled.iter().flat_map(|page| &page.changes).map(|change| change.row_id.as_str().to_owned()).collect();
    assert_eq!(pulled, all, "a pull says the same");

    bob.post("/api/entities/messages", &json!({"id": "m2", "channel_id": "c1", "author_id": "bob", "body": "second"})).await.ok();
    assert_eq!(ids(&[socket.frame().await], &ChangeKind::Insert), set(["m2"]));

    bob.call("DELETE", "/api/entities/channel_members/c1-alice", &[], "").await.ok();
    let frame = socket.frame().await;
    let gone: BTreeSet<String> = frame.changes.iter().map(|change| change.row_id.as_str().to_owned()).collect();
    assert_eq!(gone, set(["c1", "c1-alice", "c1-bob", "m1", "m2"]));
    assert!(frame.changes.iter().all(|change| change.data.is_none()), "nothing of a row that is gone");
    for path in ["channels/c1", "messages/m1", "channel_members/c1-bob"] {
        alice.get(&format!("/api/entities/{path}")).await.refused(404, "ROW_NOT_FOUND");
    }
    assert_eq!(alice.post("/api/query/messages", &json!({})).await.ok(), json!([]));
    let after = json!({"id": "m3", "channel_id": "c1", "author_id": "alice", "body": "no"});
    alice.post("/api/entities/messages", &after).await.refused(403, "POLICY_DENIED");
}
