//! The log: cursors, marks, floors, snapshots, memberships, columns.

use serde_json::{Value, json};
use syncline_protocol::{ChangeKind, EntityName, Page, RawJson, RowId, Timestamp, parse_row};
use syncline_server::manifest::Manifest;
use syncline_server::store::{LogRetention, PageLimits, ReadError, Reader, Store, StoreError, StoreOptions};

use crate::history::MANIFEST;
use crate::replica::Replica;
use crate::support::{TestStore, delete, insert, reader, update};

async fn pull(test: &TestStore, user: &str, cursor: Option<&str>) -> Page {
    test.store.pull(&reader(user), cursor, PageLimits::default()).await.unwrap()
}

fn kinds(page: &Page) -> Vec<(&str, &str)> {
    page.changes.iter().map(|change| (change.kind.as_str(), change.row_id.as_str())).collect()
}

#[tokio::test]
async fn pages_carry_transactions_columns_and_seqs() {
    let test = TestStore::open("");
    let start = pull(&test, "alice", None).await;
    assert_eq!((start.from, start.to, start.has_more), (0, 0, false));
    test.applied("alice", 1, json!([insert("T", "r", json!({"a": 1, "b": 2})), insert("T", "s", json!({}))])).await;
    test.applied("bob", 2, json!([update("T", "r", json!({"b": 3}))])).await;
    test.applied("bob", 3, json!([delete("T", "s")])).await;
    let page = pull(&test, "alice", Some(&start.cursor.token)).await;
    assert_eq!((page.from, page.to, page.has_more), (0, 4, false));
    assert_eq!(kinds(&page), [("insert", "r"), ("insert", "s"), ("update", "r"), ("delete", "s")]);
    let updated = &page.changes[2];
    assert_eq!(updated.data.as_ref().unwrap().get(), r#"{"a":1,"b":3}"#);
    assert_eq!(updated.columns.as_ref().map(RawJson::get), Some(r#"["b"]"#));
    assert_eq!(updated.column_seqs.as_ref().map(RawJson::get), Some(r#"{"a":1}"#));
    let ranges: Vec<_> = page.transactions.iter().map(|info| (info.first_seq, info.last_seq, info.user_id.as_deref())).collect();
    assert_eq!(ranges, [(1, 2, Some("alice")), (3, 3, Some("bob")), (4, 4, Some("bob"))]);
    assert!(page.checksum_matches());
    let tail = pull(&test, "alice", Some(&page.cursor.token)).await;
    assert_eq!((tail.from, tail.to, tail.changes.len()), (4, 4, 0));
}

#[tokio::test]
async fn a_page_ends_at_the_end_of_a_transaction() {
    let test = TestStore::open("");
    let cursor = pull(&test, "a", None).await.cursor.token;
    let rows = |from: u64| (from..from + 5).map(|id| insert("T", &id.to_string(), json!({}))).collect::<Vec<_>>();
    test.applied("a", 1, json!(rows(0))).await;
    test.applied("a", 2, json!(rows(5))).await;
    let limits = PageLimits { changes: 2, ..PageLimits::default() };
    let page = test.store.pull(&reader("a"), Some(&cursor), limits).await.unwrap();
    assert_eq!((page.to, page.changes.len(), page.has_more), (5, 5, true));
    let page = test.store.pull(&reader("a"), Some(&page.cursor.token), limits).await.unwrap();
    assert_eq!((page.from, page.to, page.has_more), (5, 10, false));
}

#[tokio::test]
async fn tenants_have_logs_and_rows_of_their_own() {
    let test = TestStore::open("");
    test.applied("alice", 1, json!([insert("T", "r", json!({"a": 1}))])).await;
    let elsewhere = Reader { tenant_id: Some("org".to_owned()), ..reader("alice") };
    let page = test.store.pull(&elsewhere, None, PageLimits::default()).await.unwrap();
    assert_eq!((page.to, page.changes.len()), (0, 0));
    let own = pull(&test, "alice", None).await;
    let refused = test.store.pull(&elsewhere, Some(&own.cursor.token), PageLimits::default()).await;
    assert!(matches!(refused, Err(ReadError::Resync { oldest_seq: 1 })));
    let other_user = test.store.pull(&reader("bob"), Some(&own.cursor.token), PageLimits::default()).await;
    assert!(matches!(other_user, Err(ReadError::Resync { .. })), "a cursor is of one user's view");
}

#[tokio::test]
async fn a_cursor_below_the_floor_resyncs_and_one_at_it_does_not() {
    let test = TestStore::open("");
    let old = pull(&test, "a", None).await.cursor.token;
    test.applied("a", 1, json!([insert("T", "1", json!({})), insert("T", "2", json!({}))])).await;
    let at_two = pull(&test, "a", Some(&old)).await.cursor.token;
    test.applied("a", 2, json!([insert("T", "3", json!({})), insert("T", "4", json!({}))])).await;
    assert_eq!(test.store.truncate_log(None, 4).await.unwrap(), 2, "transactions are dropped whole");
    let refused = test.store.pull(&reader("a"), Some(&old), PageLimits::default()).await;
    assert!(matches!(refused, Err(ReadError::Resync { oldest_seq: 3 })));
    assert_eq!(kinds(&pull(&test, "a", Some(&at_two)).await), [("insert", "3"), ("insert", "4")]);
    assert_eq!(pull(&test, "a", None).await.changes.len(), 4, "a snapshot needs no log");
    assert_eq!(test.store.truncate_log(None, 100).await.unwrap(), 4);
    let test = test.reopen("").await;
    let pylon = test.store.pull_since(&reader("a"), 0).await.unwrap();
    assert_eq!((pylon.changes.len(), pylon.cursor.last_seq, pylon.has_more), (4, 4, false));
    assert!(matches!(test.store.pull_since(&reader("a"), 1).await, Err(ReadError::Resync { .. })));
    assert!(matches!(test.store.pull_since(&reader("a"), 9).await, Err(ReadError::Resync { .. })));
}

#[tokio::test]
async fn the_log_is_kept_for_days_or_for_changes() {
    let retention = |keep_days: Option<u32>, keep_changes: Option<u64>| LogRetention {
        keep_days: keep_days.map(|days| days.try_into().unwrap()),
        keep_changes: keep_changes.map(|changes| changes.try_into().unwrap()),
    };
    let now = || {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(u64::try_from(since_1970.as_millis()).unwrap())
    };
    let days = |days: u64| days * 86_400_000;
    let test = TestStore::open("");
    let start = pull(&test, "a", None).await.cursor.token;
    for op in 0..10 {
        let rows = [insert("T", &format!("{op}a"), json!({})), insert("T", &format!("{op}b"), json!({}))];
        test.applied("a", op + 1, json!(rows)).await;
    }
    let trim = async |retention, at| test.store.trim_log(retention, at).await.unwrap();
    assert_eq!(trim(LogRetention::default(), now().plus_ms(days(1_000))).await, 0, "without a bound all is kept");
    assert_eq!(trim(retention(Some(30), None), now().plus_ms(days(29))).await, 0);
    assert_eq!(trim(retention(Some(30), Some(20)), now()).await, 0);
    assert!(test.store.check_cursor(&reader("a"), &start).await.is_ok());
    assert_eq!(trim(retention(Some(30), Some(7)), now()).await, 12, "a transaction is kept whole");
    assert_eq!(trim(retention(Some(30), Some(7)), now()).await, 0);
    let refused = test.store.check_cursor(&reader("a"), &start).await;
    assert!(matches!(refused, Err(ReadError::Resync { oldest_seq: 13 })));
    let at_head = pull(&test, "a", None).await.cursor.token;
    assert_eq!(trim(retention(Some(30), None), now().plus_ms(days(31))).await, 8);
    let test = test.reopen("").await;
    assert_eq!(kinds(&pull(&test, "a", Some(&at_head)).await).len(), 0, "who has everything goes on");
    test.applied("a", 20, json!([insert("T", "later", json!({}))])).await;
    assert_eq!(kinds(&pull(&test, "a", Some(&at_head)).await), [("insert", "later")]);
}

#[tokio::test]
async fn a_restored_backup_is_recognised_by_its_marks() {
    let test = TestStore::open("");
    test.applied("a", 1, json!([insert("T", "1", json!({}))])).await;
    let common = pull(&test, "a", None).await.cursor.token;
    test.store.shutdown().await;
    let backup = test.folder.path().join("backup.db");
    std::fs::copy(test.folder.path().join("test.db"), &backup).unwrap();
    let test = test.reopen("").await;
    test.applied("a", 2, json!([insert("T", "2", json!({}))])).await;
    let lost = pull(&test, "a", Some(&common)).await.cursor.token;
    let restored = Store::open(&backup, syncline_core::server::Schema::open(), StoreOptions::default()).unwrap();
    let restored = TestStore { folder: test.folder, store: restored };
    assert!(restored.store.check_cursor(&reader("a"), &common).await.is_ok());
    assert!(matches!(restored.store.check_cursor(&reader("a"), &lost).await, Err(ReadError::Resync { .. })));
    restored.applied("a", 3, json!([insert("T", "3", json!({}))])).await;
    assert!(matches!(restored.store.check_cursor(&reader("a"), &lost).await, Err(ReadError::Resync { .. })));
}

#[tokio::test]
async fn changed_policies_start_every_reader_afresh() {
    let manifest = |read: &str| {
        format!("[entities.T]\nfields = {{ o = \"string\" }}\npolicies = {{ read = \"{read}\", insert = \"public\" }}")
    };
    let test = TestStore::open(&manifest("o = user"));
    test.applied("a", 1, json!([insert("T", "1", json!({"o": "b"}))])).await;
    let page = pull(&test, "a", None).await;
    assert_eq!(page.changes.len(), 0);
    let test = test.reopen(&manifest("o = user")).await;
    assert!(test.store.check_cursor(&reader("a"), &page.cursor.token).await.is_ok());
    let test = test.reopen(&manifest("public")).await;
    assert!(test.store.check_cursor(&reader("a"), &page.cursor.token).await.is_err());
    assert_eq!(pull(&test, "a", None).await.changes.len(), 1);
    let test = test.reopen(&manifest("o = user")).await;
    assert!(test.store.check_cursor(&reader("a"), &page.cursor.token).await.is_err(), "the log in between is of other policies");
}

#[tokio::test]
async fn an_invited_user_gets_the_old_rows_and_a_removed_one_loses_them() {
    let test = TestStore::open(MANIFEST);
    let founded = json!([
        insert("channels", "c", json!({"name": "c", "owner": "alice"})),
        insert("members", "ma", json!({"channel": "c", "member": "alice"})),
        insert("messages", "m1", json!({"channel": "c", "author": "alice", "body": "hi"})),
    ]);
    test.applied("alice", 1, founded).await;
    let start = pull(&test, "bob", None).await;
    assert_eq!(start.changes.len(), 0);
    let invited = test.applied("alice", 2, json!([insert("members", "mb", json!({"channel": "c", "member": "bob"}))])).await;
    let page = pull(&test, "bob", Some(&start.cursor.token)).await;
    assert_eq!(kinds(&page), [("insert", "mb"), ("enter", "c"), ("enter", "ma"), ("enter", "m1")]);
    assert_eq!((page.to, page.consistent_at), (invited, None));
    assert_eq!(page.changes[3].seq, 3, "an entering row keeps its own seq");
    let removed = test.applied("alice", 3, json!([delete("members", "mb")])).await;
    let page = pull(&test, "bob", Some(&page.cursor.token)).await;
    assert_eq!(kinds(&page), [("delete", "mb"), ("leave", "c"), ("leave", "ma"), ("leave", "m1")]);
    assert!(page.changes.iter().all(|change| change.seq == removed));
    let alice = pull(&test, "alice", None).await;
    assert_eq!(alice.changes.len(), 3);
}

#[tokio::test]
async fn rows_visible_for_another_reason_do_not_leave() {
    let test = TestStore::open(MANIFEST);
    test.applied("bob", 1, json!([insert("members", "m1", json!({"channel": "c", "member": "bob"}))])).await;
    test.applied("bob", 2, json!([insert("members", "m2", json!({"channel": "c", "member": "bob"}))])).await;
    test.applied("bob", 3, json!([insert("messages", "own", json!({"channel": "c", "author": "bob", "body": ""}))])).await;
    test.applied("bob", 4, json!([insert("messages", "other", json!({"channel": "c", "author": "eve", "body": ""}))])).await;
    let start = pull(&test, "bob", None).await;
    test.applied("bob", 5, json!([delete("members", "m1")])).await;
    let page = pull(&test, "bob", Some(&start.cursor.token)).await;
    assert_eq!(kinds(&page), [("delete", "m1")], "a second membership of the same channel still holds");
    test.applied("bob", 6, json!([delete("members", "m2")])).await;
    let page = pull(&test, "bob", Some(&page.cursor.token)).await;
    assert_eq!(kinds(&page), [("delete", "m2"), ("leave", "other")]);
}

#[tokio::test]
async fn a_reader_far_behind_a_membership_takes_a_snapshot() {
    let test = TestStore::open(MANIFEST);
    test.applied("a", 1, json!([insert("messages", "m", json!({"channel": "c", "author": "a", "body": ""}))])).await;
    let member = pull(&test, "bob", None).await.cursor.token;
    let stranger = pull(&test, "carol", None).await.cursor.token;
    test.applied("a", 2, json!([insert("members", "mb", json!({"channel": "c", "member": "bob"}))])).await;
    let entity = EntityName::parse("audit").unwrap();
    let imported = test.store.import::<_, StoreError, _>(&entity, None, |rows| {
        for number in 0..50_000 {
            let id = RowId::parse(number.to_string()).unwrap();
            rows.put(&id, &parse_row(r#"{"what":"x"}"#).unwrap()).unwrap();
        }
        Ok(())
    });
    imported.await.unwrap();
    let refused = test.store.pull(&reader("bob"), Some(&member), PageLimits::default()).await;
    assert!(matches!(refused, Err(ReadError::Resync { .. })));
    assert_eq!(pull(&test, "bob", None).await.changes.len(), 2);
    let page = pull(&test, "carol", Some(&stranger)).await;
    assert_eq!((page.changes.len(), page.has_more), (0, true), "a page looks at a bounded piece of the log");
    assert!(page.to > 20_000);
}

#[tokio::test]
async fn memberships_of_the_same_transaction_count() {
    let manifest = MANIFEST.replace("[entities.messages.policies]", "[entities.messages.policies]\n#").replace(
        "#\nread = \"author = user or channel in members where member = user\"\ninsert = \"signed-in\"",
        "read = \"channel in members where member = user\"\ninsert = \"channel in members where member = user\"",
    );
    let test = TestStore::open(&manifest);
    let message = |id: &str| insert("messages", id, json!({"channel": "c", "author": "a", "body": ""}));
    let refused = test.write("a", 1, json!([message("m0")])).await;
    assert_eq!(crate::support::code(&refused), "POLICY_DENIED");
    test.applied("a", 2, json!([insert("members", "m", json!({"channel": "c", "member": "a"})), message("m1")])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_taken_while_others_write_ends_consistent() {
    let test = TestStore::open("");
    let rows: Vec<Value> = (0..300).map(|id| insert("T", &format!("{id:04}"), json!({"n": id}))).collect();
    test.applied("a", 1, json!(rows)).await;
    let mut replica = Replica::default();
    let limits = PageLimits { changes: 40, ..PageLimits::default() };
    let mut op = 10;
    while replica.token.is_none() || replica.has_more || replica.snapshot_running {
        let page = test.store.pull(&reader("a"), replica.token.as_deref(), limits).await.unwrap();
        let snapshot = page.snapshot.is_some();
        replica.apply(&page);
        if snapshot {
            let id = format!("{:04}", op * 7 % 300);
            test.write("a", op, json!([delete("T", &id)])).await;
            test.write("a", op + 1, json!([update("T", &format!("{:04}", op * 11 % 300), json!({"n": "new"}))])).await;
            test.write("a", op + 2, json!([insert("T", &format!("0{op}x"), json!({}))])).await;
            op += 3;
        }
    }
    assert!(replica.is_settled() && replica.hold_until > 300);
    let fresh = pull(&test, "a", None).await;
    let mut expected = Replica::default();
    expected.apply(&fresh);
    assert_eq!(replica.rows, expected.rows);
    assert!(fresh.changes.iter().all(|change| change.kind == ChangeKind::Enter));
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Store::open(&path, Manifest::parse("").unwrap().schema, StoreOptions::default()).unwrap_err();
    assert!(error.to_string().contains("format 99"), "{error}");
}

/// Follows `bob` from a cursor to the head by the protocol's rules; returns the replica, how often it had to start again,
/// and the largest page it met.
async fn follow(test: &TestStore, cursor: Option<String>) -> (Replica, usize, usize) {
    let (mut replica, mut resyncs, mut largest) = (Replica::default(), 0, 0);
    let mut cursor = cursor;
    loop {
        let page = match test.store.pull(&reader("bob"), cursor.as_deref(), PageLimits::default()).await {
            Ok(page) => page,
            Err(ReadError::Resync { .. }) => {
                resyncs += 1;
                assert!(resyncs < 5, "a resync leads to the present");
                cursor = None;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        largest = largest.max(page.changes.len());
        if page.snapshot.is_none() && replica.token.is_none() {
            replica.seq = page.from;
        }
        replica.apply(&page);
        cursor.clone_from(&replica.token);
        if !page.has_more {
            return (replica, resyncs, largest);
        }
    }
}

#[tokio::test]
async fn two_hundred_thousand_rows_that_enter_at_once_come_in_pages() {
    const ROWS: usize = 200_000;
    let test = TestStore::open(MANIFEST);
    let entity = EntityName::parse("messages").unwrap();
    let imported = test.store.import::<_, StoreError, _>(&entity, None, |rows| {
        for number in 0..ROWS {
            let id = RowId::parse(number.to_string()).unwrap();
            let channel = if number < 9_000 { "small" } else { "large" };
            let row = format!(r#"{{"channel":"{channel}","author":"alice","body":"x"}}"#);
            rows.put(&id, &parse_row(&row).unwrap()).unwrap();
        }
        Ok(())
    });
    imported.await.unwrap();
    let start = pull(&test, "bob", None).await.cursor.token;
    let member = |id: &str, channel: &str| insert("members", id, json!({"channel": channel, "member": "bob"}));
    test.applied("alice", 1, json!([member("m1", "small")])).await;
    let (joined, resyncs, largest) = follow(&test, Some(start)).await;
    assert_eq!((joined.rows.len(), resyncs, largest), (9_001, 0, 9_001), "what a transaction may hold enters in one page");
    test.applied("alice", 2, json!([member("m2", "large")])).await;
    let (joined, resyncs, largest) = follow(&test, joined.token).await;
    assert_eq!((joined.rows.len(), resyncs), (ROWS + 2, 1), "more than that comes as a snapshot");
    assert!(largest <= 5_000, "{largest}");
    test.applied("bob", 3, json!([delete("members", "m2")])).await;
    let (left, resyncs, _) = follow(&test, joined.token).await;
    assert_eq!((left.rows.len(), resyncs), (9_001, 1));
    let pylon = test.store.pull_since(&reader("bob"), 0).await.unwrap();
    assert_eq!((pylon.changes.len(), pylon.has_more), (9_001, false), "zero always works");
}
