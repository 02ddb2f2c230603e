//! Backups, exports and what a database says of itself.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use syncline_protocol::{EntityName, Timestamp};
use syncline_server::export::{ExportFormat, export};
use syncline_server::import::{Progress, import};
use syncline_server::manifest::Manifest;
use syncline_server::store::{
    BackupError, LockError, PageLimits, ReadError, ServerLock, SessionKind, Store, StoreOptions, backup, inspect, restore,
};

use crate::support::{TestStore, delete, insert, intent, raw, reader, update};

fn open(path: &Path) -> Store {
    Store::open(path, syncline_core::server::Schema::open(), StoreOptions::default()).unwrap()
}

async fn count(store: &Store) -> u64 {
    store.list(&reader("a"), &EntityName::parse("T").unwrap(), None, 0).await.unwrap().count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_others_write_is_of_one_moment() {
    let test = TestStore::open("");
    let db = test.folder.path().join("test.db");
    test.applied("a", 1, json!([insert("T", "first", json!({}))])).await;
    let store = test.store.clone();
    let writing = tokio::spawn(async move {
        for op in 2..300 {
            let rows = json!([insert("T", &format!("{op}a"), json!({})), insert("T", &format!("{op}b"), json!({}))]);
            let writer = syncline_server::store::Writer { reader: reader("a"), ..Default::default() };
            store.push(writer, raw(vec![intent(op, &rows)]), Vec::new()).await.unwrap();
        }
    });
    let mut heads = Vec::new();
    for number in 0..5 {
        let target = test.folder.path().join(format!("copy{number}.db"));
        backup(&db, &target).unwrap();
        assert!(matches!(backup(&db, &target), Err(BackupError::Exists(_))));
        let copy = open(&target);
        assert_eq!(count(&copy).await, copy.head(None), "rows and log are of one moment");
        assert_eq!(copy.epoch(), test.store.epoch());
        heads.push(copy.head(None));
    }
    writing.await.unwrap();
    assert!(heads.is_sorted() && heads[0] >= 1, "{heads:?}");
    let missing = backup(&test.folder.path().join("none.db"), &test.folder.path().join("x.db"));
    assert!(matches!(missing, Err(BackupError::Missing(_))));
    let left: Vec<_> = std::fs::read_dir(test.folder.path())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.contains("unfinished") || name.contains("none"))
        .collect();
    assert_eq!(left, [] as [String; 0]);
}

#[tokio::test]
async fn a_restored_database_is_another_one_to_every_replica() {
    let test = TestStore::open("");
    let db = test.folder.path().join("test.db");
    let saved = test.folder.path().join("saved.db");
    test.applied("a", 1, json!([insert("T", "1", json!({}))])).await;
    let common = test.store.pull(&reader("a"), None, PageLimits::default()).await.unwrap().cursor.token;
    backup(&db, &saved).unwrap();
    test.applied("a", 2, json!([insert("T", "2", json!({}))])).await;
    let epoch = test.store.epoch();
    test.store.shutdown().await;

    assert!(matches!(restore(&saved, &db, false), Err(BackupError::WouldReplace(_))));
    {
        let _server = ServerLock::take(&db).unwrap();
        assert!(matches!(restore(&saved, &db, true), Err(BackupError::Lock(LockError::Held { .. }))));
    }
    let bytes = std::fs::read(&saved).unwrap();
    let garbage = test.folder.path().join("garbage.db");
    for damaged in [&b"no database at all, but long enough to be looked at"[..], &[], &bytes[..bytes.len() / 2]] {
        std::fs::write(&garbage, damaged).unwrap();
        let refused = restore(&garbage, &db, true);
        assert!(matches!(refused, Err(BackupError::Damaged { .. } | BackupError::Store(_))), "{refused:?}");
    }
    let test = test.reopen("").await;
    assert_eq!((count(&test.store).await, test.store.epoch()), (2, epoch), "what is refused changes nothing");
    test.store.shutdown().await;

    restore(&saved, &db, true).unwrap();
    let test = test.reopen("").await;
    assert_eq!(count(&test.store).await, 1);
    assert_ne!(test.store.epoch(), epoch);
    let resumed = test.store.check_cursor(&reader("a"), &common).await;
    assert!(matches!(resumed, Err(ReadError::Resync { .. })), "also a cursor that the backup knows");
    test.applied("a", 3, json!([insert("T", "3", json!({}))])).await;
    let elsewhere = test.folder.path().join("new.db");
    restore(&saved, &elsewhere, false).unwrap();
    assert_eq!(count(&open(&elsewhere)).await, 1);
}

#[tokio::test]
async fn an_inspection_shows_what_there_is() {
    let test = TestStore::open("");
    let db = test.folder.path().join("test.db");
    test.applied("a", 1, json!([insert("T", "1", json!({})), insert("U", "1", json!({}))])).await;
    test.applied("a", 2, json!([delete("T", "1"), insert("T", "2", json!({}))])).await;
    test.write("a", 3, json!([update("T", "none", json!({}))])).await;
    test.store.truncate_log(None, 3).await.unwrap();
    let hour = std::time::Duration::from_hours(1);
    let token = test.store.create_session("a", SessionKind::Issued, hour).await.unwrap();
    test.store.create_session("b", SessionKind::Issued, hour).await.unwrap();
    test.store.revoke_session(&token).await.unwrap();
    let found = inspect(&db, Timestamp(0)).unwrap();
    assert_eq!(found.epoch, format!("{:016x}", test.store.epoch()));
    assert_eq!((found.server, found.file_bytes > 0), (None, true));
    assert_eq!(found.sessions, [("revoked".to_owned(), 1), ("valid".to_owned(), 1)].into());
    let tenant = &found.tenants[""];
    assert_eq!((tenant.head, tenant.floor, tenant.deleted_rows), (4, 2, 1));
    assert_eq!(tenant.rows, [("T".to_owned(), 1), ("U".to_owned(), 1)].into());
    assert_eq!(tenant.outcomes, [("applied".to_owned(), 2), ("rejected".to_owned(), 1)].into());
    assert!(tenant.oldest_outcome_at.is_some());
    let mut lock = ServerLock::take(&db).unwrap();
    lock.describe("http://127.0.0.1:4321, 3 sockets open").unwrap();
    let server = inspect(&db, Timestamp(0)).unwrap().server.unwrap();
    assert!(server.ends_with("3 sockets open"), "{server}");
    assert!(matches!(ServerLock::take(&db), Err(LockError::Held { holder }) if holder == server));
    drop(lock);
    assert_eq!(inspect(&db, Timestamp(0)).unwrap().server, None);
    let other = test.folder.path().join("other.db");
    std::fs::write(&other, "").unwrap();
    assert!(inspect(&other, Timestamp(0)).is_err());
}

/// Collects what an export writes.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Collected {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn exported(store: &Store, format: ExportFormat) -> String {
    let to = Collected::default();
    export(store, &EntityName::parse("movies").unwrap(), None, format, to.clone()).await.unwrap();
    let bytes = to.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

const MOVIES: &str = r#"
[entities.movies.fields]
Title = "json"
"Running Time min" = { type = "int", optional = true }
"US Gross" = { type = "float", optional = true }
zip = "string"
seen = "bool"
"#;

#[tokio::test]
async fn an_export_imports_as_the_same_rows() {
    let lines = [
        r#"{"id":"1","Running Time min":null,"Title":1776,"US Gross":0.1,"seen":true,"zip":"00501"}"#,
        r#"{"id":"2","Running Time min":142,"Title":"12 \"Angry\", Men\nand more","US Gross":null,"seen":false,"zip":""}"#,
        r#"{"id":"3","Running Time min":7,"Title":{"de":"Größe"},"US Gross":1e+21,"seen":false,"zip":" 1 "}"#,
    ];
    let rows = format!("{}\n", lines.join("\n"));
    let movies = EntityName::parse("movies").unwrap();
    let test = TestStore::open(MOVIES);
    let import_text = async |store: &Store, name: &str, contents: &str| {
        let path = test.folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        import(store, &path, &movies, None, Progress::default()).await.unwrap()
    };
    import_text(&test.store, "movies.ndjson", &rows).await;
    assert_eq!(exported(&test.store, ExportFormat::Ndjson).await, rows);
    let table = exported(&test.store, ExportFormat::Csv).await;
    assert!(table.starts_with("id,Running Time min,Title,US Gross,seen,zip\n1,,1776,0.1,true,00501\n"), "{table}");
    let copy = test.folder.path().join("copy.db");
    let schema = Manifest::parse(MOVIES).unwrap().schema;
    let copy = Store::open(&copy, schema, StoreOptions::default()).unwrap();
    assert_eq!(import_text(&copy, "table.csv", &table).await.inserted, 3);
    assert_eq!(exported(&copy, ExportFormat::Ndjson).await, rows, "CSV and back");
}
