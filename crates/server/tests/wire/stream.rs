//! Frames: complete, in order, without gaps, whoever writes and however slowly somebody reads.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use syncline_protocol::{OutcomeStatus, ServerMessage, limits};

use crate::pull::pull_all;
use crate::socket_client::{Event, Socket};
use crate::test_server::{CHAT, TestServer, push_of, todo, transaction};

fn socket_push(user: &str, transactions: &[Value]) -> Value {
    let mut push = push_of(Some(user), None, transactions);
    push["type"] = json!("push");
    push
}

#[tokio::test]
async fn a_push_is_answered_and_its_changes_come_in_the_stream() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    let mut socket = Socket::streaming(server.address, alice.token.as_deref(), Some("alice"), &cursor).await;
    let write = todo("t1", "milk");
    let start = Instant::now();
    socket.send(&socket_push("alice", std::slice::from_ref(&write))).await;
    let (mut outcome, mut frame) = (None, None);
    while outcome.is_none() || frame.is_none() {
        match socket.next().await {
            Event::Message(ServerMessage::Outcomes(answer)) => outcome = Some(answer),
            Event::Message(ServerMessage::Frame(page)) => frame = Some(page),
            other @ (Event::Message(_) | Event::Close { .. }) => panic!("{other:?}"),
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "both come by themselves, not with a heartbeat");
    let (outcome, frame) = (outcome.unwrap(), frame.unwrap());
    assert_eq!((outcome.id, outcome.results[0].status), (1, OutcomeStatus::Applied));
    assert_eq!((frame.from, frame.to, frame.changes[0].row_id.as_str()), (0, 1, "t1"));
    assert_eq!(json!(frame.transactions[0].op_id), write["op_id"]);

    socket.send(&socket_push("bob", &[todo("t2", "x")])).await;
    assert_eq!(socket.closed().await.0, 4409);
    alice.get("/api/entities/Todo/t2").await.refused(404, "ROW_NOT_FOUND");
}

#[tokio::test]
async fn a_socket_resumes_where_the_last_one_ended() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    let token = alice.token.as_deref();
    let mut first = Socket::streaming(server.address, token, Some("alice"), &cursor).await;
    alice.post("/api/sync/push", &push_of(Some("alice"), None, &[todo("t1", "x")])).await.ok();
    let frame = first.frame().await;
    drop(first);
    alice.post("/api/sync/push", &push_of(Some("alice"), None, &[todo("t2", "x"), todo("t3", "x")])).await.ok();
    let mut second = Socket::streaming(server.address, token, Some("alice"), &frame.cursor.token).await;
    let next = second.frame().await;
    assert_eq!((next.from, next.changes[0].row_id.as_str()), (frame.to, "t2"));

    let (mut third, _) = Socket::connect(server.address, token, Some("alice"), None).await;
    third.send(&json!({"type": "resume", "cursor": next.cursor.token})).await;
    alice.post("/api/sync/push", &push_of(Some("alice"), None, &[todo("t4", "x")])).await.ok();
    let resumed = third.frame().await;
    assert_eq!(resumed.from, next.to);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_make_no_gaps() {
    const WRITERS: usize = 4;
    const WRITES: usize = 60;
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    let mut socket = Socket::streaming(server.address, alice.token.as_deref(), Some("alice"), &cursor).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let http = alice.clone();
            tokio::spawn(async move {
                for n in 0..WRITES {
                    // Transactions of two: a frame must not end between their changes.
                    let write = transaction([
                        json!({"entity": "Todo", "row_id": format!("{writer}-{n}-a"), "kind": "insert", "data": {}}),
                        json!({"entity": "Todo", "row_id": format!("{writer}-{n}-b"), "kind": "insert", "data": {}}),
                    ]);
                    http.post("/api/sync/push", &push_of(Some("alice"), None, &[write])).await.ok();
                }
            })
        })
        .collect();
    let last = u64::try_from(WRITERS * WRITES * 2).unwrap();
    let (mut at, mut seqs) = (0, Vec::new());
    while at < last {
        let frame = socket.frame().await;
        assert_eq!(frame.from, at, "a frame begins where the one before it ended");
        assert!(frame.to.is_multiple_of(2), "a frame ends at the end of a transaction");
        seqs.extend(frame.changes.iter().map(|change| change.seq));
        at = frame.to;
    }
    assert_eq!(seqs, (1..=last).collect::<Vec<u64>>());
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_dropped_and_resumes() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    let token = alice.token.as_deref();
    let mut slow = Socket::streaming(server.address, token, Some("alice"), &cursor).await;
    // More than the buffers of both kernels hold.
    let body = "x".repeat(900_000);
    let rows = 40_u64;
    for n in 0..rows {
        alice.post("/api/entities/Todo", &json!({"id": format!("t{n}"), "body": body})).await.ok();
    }
    server.wait_for_sockets(0).await;
    let (mut at, mut token_at) = (0, cursor);
    while let Some(frame) = slow.frame_until_end().await {
        assert_eq!(frame.from, at);
        (at, token_at) = (frame.to, frame.cursor.token);
    }
    assert!(at < rows, "the server gave up before everything was sent");
    let mut again = Socket::streaming(server.address, token, Some("alice"), &token_at).await;
    while at < rows {
        let frame = again.frame().await;
        assert_eq!(frame.from, at);
        at = frame.to;
    }
}

#[tokio::test]
async fn reading_goes_on_while_a_write_is_pending() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    let mut socket = Socket::streaming(server.address, alice.token.as_deref(), Some("alice"), &cursor).await;
    let body = "x".repeat(900_000);
    for n in 0..12 {
        alice.post("/api/entities/Todo", &json!({"id": format!("big{n}"), "body": body})).await.ok();
    }
    // Nothing has been read yet, so frames wait to be written; this push has to be evaluated all the same.
    socket.send(&socket_push("alice", &[todo("mine", "x")])).await;
    let heads = server.store.watch_head(None);
    let mut heads = heads;
    tokio::time::timeout(Duration::from_secs(8), heads.wait_for(|head| *head >= 13)).await.unwrap().unwrap();
    assert_eq!(alice.get("/api/entities/Todo/mine").await.ok()["title"], "x");
}

#[tokio::test]
async fn a_heartbeat_moves_the_cursor_of_a_reader_who_sees_little() {
    let server = TestServer::dev_with(CHAT).await;
    let alice = server.sign_in("alice").await;
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    let mut socket = Socket::streaming(server.address, alice.token.as_deref(), Some("alice"), &cursor).await;
    let bob = server.sign_in("bob").await;
    for n in 0..3 {
        bob.post("/api/entities/channels", &json!({"id": format!("c{n}"), "name": "not alice's"})).await.ok();
    }
    let start = Instant::now();
    let frame = socket.frame().await;
    assert!(frame.changes.is_empty());
    assert_eq!((frame.from, frame.to), (0, 3));
    assert!(start.elapsed() <= Duration::from_millis(limits::HEARTBEAT_MS + 5_000));
    bob.post("/api/entities/channel_members", &json!({"id": "m", "channel_id": "c1", "member_id": "alice"})).await.ok();
    let next = socket.frame().await;
    assert_eq!(next.from, 3);
    assert!(next.changes.iter().any(|change| change.row_id.as_str() == "c1"));
}

#[tokio::test]
async fn a_write_its_writer_may_not_see_is_passed_at_once() {
    let server = TestServer::dev_with(CHAT).await;
    let alice = server.sign_in("alice").await;
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    let mut socket = Socket::streaming(server.address, alice.token.as_deref(), Some("alice"), &cursor).await;
    let write = transaction([json!({"entity": "channels", "row_id": "c1", "kind": "insert", "data": {"name": "others'"}})]);
    let start = Instant::now();
    socket.send(&socket_push("alice", &[write])).await;
    let mut passed = 0;
    while passed < 1 {
        match socket.next().await {
            Event::Message(ServerMessage::Frame(page)) => passed = page.to,
            Event::Message(ServerMessage::Outcomes(answer)) => assert_eq!(answer.results[0].status, OutcomeStatus::Applied),
            other @ (Event::Message(_) | Event::Close { .. }) => panic!("{other:?}"),
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "not with a heartbeat");
}
