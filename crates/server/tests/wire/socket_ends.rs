//! How a socket begins and all the ways it ends.

use std::time::Duration;

use serde_json::json;
use syncline_protocol::{ResumeMode, ServerMessage, limits};
use syncline_server::store::SessionKind;
use tokio_tungstenite::tungstenite::Message;

use crate::pull::pull_all;
use crate::socket_client::{Event, Socket, hello};
use crate::test_server::{TestServer, client_id, push_of, todo};

#[tokio::test]
async fn the_token_travels_as_a_subprotocol_and_is_never_echoed() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let token = alice.token.clone();
    let (socket, welcome) = Socket::connect(server.address, token.as_deref(), Some("alice"), None).await;
    assert_eq!(socket.subprotocol.as_deref(), Some("syncline.1"));
    assert_eq!((welcome.resume, welcome.identity.user_id.as_deref()), (ResumeMode::Pull, Some("alice")));
    let bearer = format!("Bearer {}", token.unwrap());
    let mut by_header = Socket::offer(server.address, "syncline.1", &[("authorization", &bearer)]).await.unwrap();
    by_header.send(&hello(Some("alice"), None)).await;
    assert!(matches!(by_header.next().await, Event::Message(ServerMessage::Welcome(_))));
    let (_, anonymous) = Socket::connect(server.address, None, None, None).await;
    assert_eq!(anonymous.identity.user_id, None);
}

#[tokio::test]
async fn a_bad_handshake_is_told_by_a_close_code() {
    let server = TestServer::dev().await;
    let expired = server.store.create_session("alice", SessionKind::Issued, Duration::ZERO).await.unwrap();
    let cases = [
        ("syncline.1, bearer.unknown".to_owned(), 4401, "UNAUTHENTICATED"),
        ("bearer.a%28b%29%3D%2F, syncline.1".to_owned(), 4401, "UNAUTHENTICATED"),
        ("syncline.1, bearer.%zz".to_owned(), 4401, "UNAUTHENTICATED"),
        (format!("syncline.1, bearer.{expired}"), 4401, "TOKEN_EXPIRED"),
        (String::new(), 4426, "PROTOCOL_MISMATCH"),
    ];
    for (subprotocols, code, reason) in cases {
        let mut socket = Socket::offer(server.address, &subprotocols, &[]).await.unwrap();
        assert_eq!(socket.closed().await, (code, reason.to_owned()), "{subprotocols}");
    }
    let bearer_alone = Socket::offer(server.address, "bearer.unknown", &[]).await;
    assert!(bearer_alone.is_err(), "nothing is selected, so a strict client gives up");
}

#[tokio::test]
async fn what_is_no_conversation_is_closed() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let token = alice.token.as_deref();
    let mut newer = hello(Some("alice"), None);
    newer["protocol"] = json!(2);
    let mut first = json!({"type": "push"});
    first.as_object_mut().unwrap().extend(push_of(Some("alice"), None, &[]).as_object().unwrap().clone());
    let cases = [
        (Message::text("{not json"), 4400, "INVALID_JSON"),
        (Message::text(r#"{"type":"dance"}"#), 4400, "INVALID_JSON"),
        (Message::text(r#"{"type":"heartbeat"}"#), 4400, "INVALID_JSON"),
        (Message::text(first.to_string()), 4400, "INVALID_JSON"),
        (Message::binary(vec![1, 2, 3]), 4400, "INVALID_JSON"),
        (Message::text(newer.to_string()), 4426, "PROTOCOL_MISMATCH"),
        (Message::text(hello(Some("bob"), None).to_string()), 4409, "IDENTITY_CHANGED"),
        (Message::text("x".repeat(limits::SOCKET_MESSAGE_BYTES_MAX + 1)), 4413, "PAYLOAD_TOO_LARGE"),
    ];
    for (message, code, reason) in cases {
        let mut socket = Socket::open(server.address, token).await;
        let text = message.to_string().chars().take(60).collect::<String>();
        socket.send_raw(message).await;
        assert_eq!(socket.closed().await, (code, reason.to_owned()), "{text}");
    }
    let (mut socket, _) = Socket::connect(server.address, token, Some("alice"), None).await;
    socket.send(&hello(Some("alice"), None)).await;
    assert_eq!(socket.closed().await.0, 4400, "hello comes once");
}

#[tokio::test]
async fn silence_after_the_handshake_is_closed() {
    let server = TestServer::dev().await;
    let mut socket = Socket::open(server.address, None).await;
    assert_eq!(socket.closed().await.0, 4408);
}

#[tokio::test]
async fn a_socket_ends_with_its_session() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let token = alice.token.as_deref();
    let (mut socket, _) = Socket::connect(server.address, token, Some("alice"), None).await;
    let (mut other, _) = Socket::connect(server.address, server.sign_in("bob").await.token.as_deref(), Some("bob"), None).await;
    alice.post("/api/auth/select-org", &json!({"orgId": "acme"})).await.ok();
    assert_eq!(socket.closed().await, (4409, "IDENTITY_CHANGED".to_owned()));

    let mut again = Socket::open(server.address, token).await;
    let mut in_acme = hello(Some("alice"), None);
    in_acme["identity"]["tenant_id"] = json!("acme");
    again.send(&in_acme).await;
    assert!(matches!(again.next().await, Event::Message(ServerMessage::Welcome(_))));
    alice.call("DELETE", "/api/auth/session", &[], "").await.ok();
    assert_eq!(again.closed().await, (4401, "TOKEN_EXPIRED".to_owned()));

    other.send(&json!({"type": "resume", "cursor": "AAAA"})).await;
    assert!(matches!(other.next().await, Event::Message(ServerMessage::Resync { .. })), "bob's socket is not concerned");
}

#[tokio::test]
async fn a_socket_ends_when_its_token_expires() {
    let server = TestServer::dev().await;
    let token = server.store.create_session("alice", SessionKind::Issued, Duration::from_secs(3)).await.unwrap();
    let (mut socket, _) = Socket::connect(server.address, Some(&token), Some("alice"), None).await;
    assert_eq!(socket.closed().await, (4401, "TOKEN_EXPIRED".to_owned()));
}

#[tokio::test]
async fn a_newer_leader_of_a_replica_ends_the_older() {
    let server = TestServer::dev().await;
    let replica = client_id();
    let greet = |fence: u64| {
        let mut hello = hello(None, None);
        hello["client_id"] = json!(replica);
        hello["fence"] = json!(fence);
        hello
    };
    let mut older = Socket::open(server.address, None).await;
    older.send(&greet(1)).await;
    assert!(matches!(older.next().await, Event::Message(ServerMessage::Welcome(_))));
    let mut newer = Socket::open(server.address, None).await;
    newer.send(&greet(2)).await;
    assert!(matches!(newer.next().await, Event::Message(ServerMessage::Welcome(_))));
    assert_eq!(older.closed().await.0, 4430);
    let mut late = Socket::open(server.address, None).await;
    late.send(&greet(1)).await;
    assert_eq!(late.closed().await.0, 4430);
}

#[tokio::test]
async fn too_many_messages_are_closed() {
    let server = TestServer::dev().await;
    let (mut socket, _) = Socket::connect(server.address, None, None, None).await;
    let mut sent = 0_u32;
    let heartbeat = Message::text(r#"{"type":"heartbeat"}"#);
    // The end may come while this is still sending; the count keeps a server without a limit from hanging the test.
    while sent < 20 * limits::SOCKET_MESSAGES_PER_SECOND && socket.try_send(heartbeat.clone()).await {
        sent += 1;
    }
    assert_eq!(socket.closed().await, (4429, "RATE_LIMITED".to_owned()));
}

/// What waits for a client that does not read is one frame and what the system buffers; it is not kept for it.
#[tokio::test]
async fn a_client_that_reads_nothing_is_left_and_keeps_nobody_waiting() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    let token = alice.token.as_deref();
    let mut deaf = Socket::streaming(server.address, token, Some("alice"), &cursor).await;
    let mut other = Socket::streaming(server.address, token, Some("alice"), &cursor).await;
    // More than all buffers between the two hold.
    let text = "x".repeat(900_000);
    for number in 1..=40_u64 {
        alice.post("/api/sync/push", &push_of(Some("alice"), None, &[todo(&format!("t{number}"), &text)])).await.ok();
        assert_eq!(other.frame().await.to, number);
    }
    server.wait_for_sockets(1).await;
    let mut last = 0;
    let mut token_of_last = cursor;
    while let Some(page) = deaf.frame_until_end().await {
        assert_eq!(page.from, last);
        (last, token_of_last) = (page.to, page.cursor.token);
    }
    assert!(last < 40, "the server has sent everything, so this test shows nothing");
    let (pages, _) = pull_all(&alice, "alice", Some(token_of_last)).await;
    assert_eq!(pages.iter().map(|page| page.changes.len() as u64).sum::<u64>(), 40 - last);
}

#[tokio::test]
async fn one_address_holds_a_bounded_number_of_sockets() {
    let server = TestServer::dev().await;
    let mut sockets = Vec::new();
    for _ in 0..limits::SOCKETS_PER_ADDRESS {
        sockets.push(Socket::connect(server.address, None, None, None).await);
    }
    let mut one_more = Socket::open(server.address, None).await;
    assert_eq!(one_more.closed().await, (4429, "TOO_MANY_CONNECTIONS".to_owned()));
}

#[tokio::test]
async fn a_server_that_ends_says_so_and_finishes_what_it_began() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    alice.post("/api/sync/push", &push_of(Some("alice"), None, &[todo("t1", "x")])).await.ok();
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    let mut socket = Socket::streaming(server.address, alice.token.as_deref(), Some("alice"), &cursor).await;
    server.stop().await;
    assert_eq!(socket.closed().await.0, 1012);
}
