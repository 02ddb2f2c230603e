//! Reading the log and the rows: snapshots, cursors, and cursors that are of no use.

use serde_json::{Value, json};
use syncline_core::server::Schema;
use syncline_protocol::{Page, RawJson, ResumeMode, ServerMessage};
use syncline_server::ServerOptions;
use syncline_server::store::{LogRetention, PageLimits, Reader, Store, StoreOptions, Writer};

use crate::http_client::Http;
use crate::socket_client::{Event, PATIENCE, Socket};
use crate::test_server::{TestServer, client_id, loopback, push_of, todo};

/// Pulls to the end and checks on the way that the pages fit together.
pub(crate) async fn pull_all(http: &Http, user: &str, mut cursor: Option<String>) -> (Vec<Page>, String) {
    let mut pages: Vec<Page> = Vec::new();
    loop {
        let parameter = cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let answer = http.get(&format!("/api/sync/pull?user_id={user}{parameter}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = Page::parse(&answer.text()).unwrap();
        assert!(page.checksum_matches());
        if let Some(before) = pages.last() {
            assert!(page.from == before.to, "{} follows {}", page.from, before.to);
        }
        let (more, token) = (page.has_more, page.cursor.token.clone());
        pages.push(page);
        if !more {
            return (pages, token);
        }
        cursor = Some(token);
    }
}

async fn fill(http: &Http, rows: std::ops::Range<u32>) {
    let writes: Vec<Value> = rows.map(|n| todo(&format!("t{n:05}"), "x")).collect();
    for batch in writes.chunks(50) {
        http.post("/api/sync/push", &push_of(Some("alice"), None, batch)).await.ok();
    }
}

#[tokio::test]
async fn a_replica_starts_with_a_snapshot_and_goes_on_from_its_cursor() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    fill(&alice, 0..60).await;
    let (pages, cursor) = pull_all(&alice, "alice", None).await;
    let first = pages.first().unwrap().snapshot.unwrap();
    let last = pages.iter().filter_map(|page| page.snapshot).next_back().unwrap();
    assert!(first.start && last.end);
    let ids: Vec<&str> = pages.iter().flat_map(|page| &page.changes).map(|change| change.row_id.as_str()).collect();
    assert_eq!(ids.len(), 60);
    assert!(ids.is_sorted());

    fill(&alice, 60..70).await;
    let (pages, end) = pull_all(&alice, "alice", Some(cursor.clone())).await;
    let seqs: Vec<u64> = pages.iter().flat_map(|page| &page.changes).map(|change| change.seq).collect();
    assert_eq!(seqs, (61..=70).collect::<Vec<u64>>());
    assert!(pages.iter().all(|page| page.snapshot.is_none()));
    let (pages, _) = pull_all(&alice, "alice", Some(end)).await;
    assert!(pages.iter().all(|page| page.changes.is_empty()), "nothing is new");
}

#[tokio::test]
async fn a_large_pull_comes_in_pages() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    // Pages end at the transaction that reaches 5,000 changes.
    for batch in 0..13 {
        let rows =
            (0..1_000).map(|n| json!({"entity": "Todo", "row_id": format!("r{batch}-{n}"), "kind": "insert", "data": {"n": n}}));
        let mut write = todo("x", "x");
        write["changes"] = rows.collect();
        alice.post("/api/sync/push", &push_of(Some("alice"), None, &[write])).await.ok();
    }
    let (pages, cursor) = pull_all(&alice, "alice", None).await;
    assert!(pages.len() >= 3);
    assert_eq!(pages.iter().map(|page| page.changes.len()).sum::<usize>(), 13_000);
    let welcome = alice.post("/api/sync/hello", &hello(Some("alice"), Some(&cursor))).await.ok();
    assert_eq!((&welcome["resume"], &welcome["head"]), (&json!("stream"), &json!(13_000)));
}

fn hello(user: Option<&str>, cursor: Option<&str>) -> Value {
    json!({"protocol": 1, "client_id": client_id(), "identity": {"user_id": user, "tenant_id": null}, "cursor": cursor})
}

#[tokio::test]
async fn hello_says_how_to_go_on() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    fill(&alice, 0..1).await;
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    let fresh = alice.post("/api/sync/hello", &hello(Some("alice"), None)).await.ok();
    assert_eq!((&fresh["resume"], &fresh["head"], &fresh["identity"]["user_id"]), (&json!("pull"), &json!(1), &json!("alice")));
    assert_eq!(fresh["epoch"].as_str().unwrap().len(), 16);
    let near = alice.post("/api/sync/hello", &hello(Some("alice"), Some(&cursor))).await.ok();
    assert_eq!(near["resume"], "stream");
    let lost = alice.post("/api/sync/hello", &hello(Some("alice"), Some("AAAA"))).await.ok();
    assert_eq!(lost["resume"], "resync");
    for batch in 1..26 {
        fill(&alice, batch * 50..batch * 50 + 50).await;
    }
    let far = alice.post("/api/sync/hello", &hello(Some("alice"), Some(&cursor))).await.ok();
    assert_eq!(far["resume"], "pull");

    alice.post("/api/sync/hello", &hello(Some("bob"), None)).await.refused(409, "IDENTITY_CHANGED");
    let mut newer = hello(Some("alice"), None);
    newer["protocol"] = json!(2);
    alice.post("/api/sync/hello", &newer).await.refused(400, "PROTOCOL_MISMATCH");
}

#[tokio::test]
async fn a_cursor_of_no_use_asks_for_a_resync() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    fill(&alice, 0..10).await;
    let (_, cursor) = pull_all(&alice, "alice", None).await;
    fill(&alice, 10..20).await;
    let (_, newer) = pull_all(&alice, "alice", None).await;
    let floor = server.store.truncate_log(None, 15).await.unwrap();
    assert!((10..15).contains(&floor));
    let gone = alice.get(&format!("/api/sync/pull?user_id=alice&cursor={cursor}")).await.refused(410, "RESYNC_REQUIRED");
    assert_eq!(gone["error"]["oldest_seq"], floor + 1);
    alice.get(&format!("/api/sync/pull?user_id=alice&cursor={newer}")).await.ok();
    for garbage in ["x", "AAAA", "%00", &"A".repeat(3_000)] {
        alice.get(&format!("/api/sync/pull?user_id=alice&cursor={garbage}")).await.refused(410, "RESYNC_REQUIRED");
    }
    alice.get("/api/sync/pull?since=3").await.refused(410, "RESYNC_REQUIRED");

    let other = TestServer::dev().await;
    let elsewhere = other.sign_in("alice").await;
    elsewhere.get(&format!("/api/sync/pull?user_id=alice&cursor={newer}")).await.refused(410, "RESYNC_REQUIRED");
    let bob = server.sign_in("bob").await;
    bob.get(&format!("/api/sync/pull?user_id=bob&cursor={newer}")).await.refused(410, "RESYNC_REQUIRED");
}

#[tokio::test]
async fn a_pull_states_who_it_is_for() {
    let server = TestServer::dev().await;
    let alice = server.sign_in("alice").await;
    for query in ["", "?user_id=bob", "?user_id=alice&tenant_id=acme"] {
        alice.get(&format!("/api/sync/pull{query}")).await.refused(409, "IDENTITY_CHANGED");
    }
    alice.get("/api/sync/pull?user_id=alice&tenant_id=").await.ok();
    server.anonymous().get("/api/sync/pull").await.ok();
}

#[tokio::test]
async fn serve_compresses_for_those_who_ask() {
    let manifest =
        "[entities.Todo.fields]\ntitle = \"string\"\n[entities.Todo.policies]\nread = \"public\"\ninsert = \"public\"\n";
    let server = TestServer::serve(manifest).await;
    let alice = server.sign_in("alice").await;
    fill(&alice, 0..50).await;
    let plain = alice.get("/api/sync/pull?user_id=alice").await;
    assert_eq!(plain.header("content-encoding"), None);
    let smaller = alice.call("GET", "/api/sync/pull?user_id=alice", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(smaller.header("content-encoding"), Some("gzip"));
    assert!(smaller.body.len() * 4 < plain.body.len(), "{} of {}", smaller.body.len(), plain.body.len());
}

#[tokio::test]
async fn a_server_cuts_its_log_in_the_background_and_says_so_to_whoever_is_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("test.db"), Schema::open(), StoreOptions::default()).unwrap();
    let start = store.pull(&Reader::default(), None, PageLimits::default()).await.unwrap().cursor.token;
    for n in 0..30 {
        let intent = serde_json::value::to_raw_value(&todo(&format!("t{n}"), "x")).unwrap();
        store.push(Writer::default(), vec![RawJson::from(intent)], Vec::new()).await.unwrap();
    }
    let options = ServerOptions {
        log: LogRetention { keep_changes: Some(10.try_into().unwrap()), keep_days: None },
        ..ServerOptions::dev(loopback())
    };
    let server = TestServer::with_store(options, store, folder).await;
    let http = server.anonymous();
    let path = format!("/api/sync/pull?cursor={start}");
    let cut = async {
        // The work goes on beside the server's other tasks; each call lets it.
        loop {
            let answer = http.get(&path).await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let gone = tokio::time::timeout(PATIENCE, cut).await.unwrap().refused(410, "RESYNC_REQUIRED");
    assert_eq!(gone["error"]["oldest_seq"], 21);
    let (mut socket, welcome) = Socket::connect(server.address, None, None, Some(&start)).await;
    assert_eq!(welcome.resume, ResumeMode::Resync);
    socket.send(&json!({"type": "resume", "cursor": start})).await;
    let Event::Message(ServerMessage::Resync { error }) = socket.next().await else { panic!("no resync") };
    assert_eq!(error.oldest_seq, Some(21));
    let (pages, cursor) = pull_all(&http, "", None).await;
    assert_eq!(pages.iter().map(|page| page.changes.len()).sum::<usize>(), 30, "the rows are all there");
    http.get(&format!("/api/sync/pull?cursor={cursor}")).await.ok();
}
