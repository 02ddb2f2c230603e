//! Files of rows, whole or not at all.

use std::path::PathBuf;

use serde_json::{Value, json};
use syncline_protocol::EntityName;
use syncline_server::import::{ImportError, ImportReport, import};
use syncline_server::manifest::Manifest;
use syncline_server::store::{PageLimits, PolicyUse, Store, StoreOptions};

use crate::support::{TestStore, delete, insert, reader};

const TYPED: &str = r#"
[entities.flights]
fields = { delay = "int", origin = "string", seen = { type = "bool", default = false } }
policies = { read = "public", delete = "public" }
"#;

fn file(test: &TestStore, name: &str, contents: &str) -> PathBuf {
    let path = test.folder.path().join(name);
    std::fs::write(&path, contents).unwrap();
    path
}

async fn run(test: &TestStore, path: &std::path::Path) -> Result<ImportReport, ImportError> {
    import(&test.store, path, &EntityName::parse("flights").unwrap(), None).await
}

async fn rows(test: &TestStore) -> Vec<Value> {
    let list = test.store.list(&reader(""), &EntityName::parse("flights").unwrap(), None, 0).await.unwrap();
    list.rows.iter().map(|row| serde_json::from_str(row.get()).unwrap()).collect()
}

fn counts(report: ImportReport) -> [u64; 4] {
    [report.inserted, report.updated, report.unchanged, report.deleted]
}

#[tokio::test]
async fn a_second_import_of_the_same_file_changes_nothing() {
    let test = TestStore::open("");
    let repeated = vec![json!({"delay": 1.0, "time": 0.5, "origin": "SFO"}); 2_500];
    let path = file(&test, "flights.json", &serde_json::to_string_pretty(&repeated).unwrap());
    assert_eq!(counts(run(&test, &path).await.unwrap()), [2_500, 0, 0, 0]);
    assert_eq!(test.store.head(None), 2_500);
    assert_eq!(counts(run(&test, &path).await.unwrap()), [0, 0, 2_500, 0]);
    assert_eq!(test.store.head(None), 2_500);
    let page = test.store.pull_since(&reader("a"), 0).await.unwrap();
    assert_eq!(page.cursor.last_seq, 1_000, "a replication transaction has 1,000 rows");
    let mut changed = repeated;
    changed[7] = json!({"delay": 2, "time": 0.5, "origin": "SFO"});
    let path = file(&test, "flights.json", &serde_json::to_string(&changed).unwrap());
    assert_eq!(counts(run(&test, &path).await.unwrap()), [0, 1, 2_499, 0]);
}

#[tokio::test]
async fn lines_and_given_ids_are_taken() {
    let test = TestStore::open("");
    let path = file(&test, "a.ndjson", "\u{feff}{\"id\":7,\"delay\":1}\n\n{\"id\":\"x\",\"delay\":2}\r\n{\"delay\":3}");
    assert_eq!(counts(run(&test, &path).await.unwrap()), [3, 0, 0, 0]);
    let rows = rows(&test).await;
    assert_eq!(rows[0], json!({"id": "7", "delay": 1}));
    assert_eq!(rows[2], json!({"id": "x", "delay": 2}));
    let made = rows[1]["id"].as_str().unwrap();
    assert!(made.starts_with("import-") && made.ends_with("-00000004"), "{made}");
    let empty = file(&test, "empty.json", " \n");
    assert_eq!(counts(run(&test, &empty).await.unwrap()), [0, 0, 0, 0]);
}

#[tokio::test]
async fn one_bad_row_keeps_the_whole_file_out() {
    let test = TestStore::open(TYPED);
    let good = r#"{"delay":1,"origin":"SFO"}"#;
    let many = vec![good; 1_500].join(",");
    let cases = [
        (format!("[{many},{{\"delay\":1.5,\"origin\":\"a\"}}]"), "row at index 1500: TYPE_MISMATCH"),
        (format!("[{many},{{\"delay\":1}}]"), "row at index 1500: MISSING_FIELD"),
        (format!("[{many},{{\"id\":\"a b\",\"delay\":1,\"origin\":\"\"}}]"), "INVALID_ROW_ID"),
        (format!("[{many},{{\"delay\":1"), "row at index 1500: EOF"),
        (format!("[{many}] trailing"), "trailing characters"),
        (format!("[{good},7]"), "row at index 1: INVALID_JSON"),
        (format!("{good}\n{{\"delay\":true,\"origin\":\"a\"}}"), "line 2: TYPE_MISMATCH"),
        (format!("{good}\n{{\"delay\""), "line 2: INVALID_JSON"),
        ("delay,origin\n1,SFO".to_owned(), "neither a JSON array"),
        (format!("[{good},{{\"origin\":\"{}\"}}]", "x".repeat(3_000_000)), "a row takes more than"),
    ];
    for (text, expected) in cases {
        let error = run(&test, &file(&test, "bad.json", &text)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error} for {expected}");
    }
    assert_eq!((test.store.head(None), rows(&test).await.len()), (0, 0));
    assert!(matches!(run(&test, &test.folder.path().join("missing")).await, Err(ImportError::Read { .. })));
    let path = file(&test, "good.json", &format!("[{good}]"));
    assert_eq!(counts(run(&test, &path).await.unwrap()), [1, 0, 0, 0]);
    assert_eq!(rows(&test).await[0]["seen"], json!(false));
}

#[tokio::test]
async fn deleted_rows_stay_deleted() {
    let test = TestStore::open("");
    let path = file(&test, "a.json", r#"[{"id":"r","delay":1}]"#);
    run(&test, &path).await.unwrap();
    test.applied("a", 1, json!([delete("flights", "r")])).await;
    assert_eq!(counts(run(&test, &path).await.unwrap()), [0, 0, 0, 1]);
    test.applied("a", 2, json!([insert("flights", "s", json!({}))])).await;
}

#[tokio::test]
async fn an_import_needs_the_manifest_the_database_is_served_with() {
    let test = TestStore::open(TYPED);
    let path = file(&test, "a.json", r#"[{"delay":1,"origin":"SFO"}]"#);
    let options = || StoreOptions { policies: PolicyUse::Keep, ..StoreOptions::default() };
    let database = test.folder.path().join("test.db");
    let tool = Store::open(&database, syncline_core::server::Schema::open(), options()).unwrap();
    let entity = EntityName::parse("flights").unwrap();
    let error = import(&tool, &path, &entity, None).await.unwrap_err();
    assert!(error.to_string().contains("--manifest"), "{error}");
    let cursor = test.store.pull(&reader("a"), None, PageLimits::default()).await.unwrap().cursor.token;
    let tool = Store::open(&database, Manifest::parse(TYPED).unwrap().schema, options()).unwrap();
    import(&tool, &path, &entity, None).await.unwrap();
    let page = test.store.pull(&reader("a"), Some(&cursor), PageLimits::default()).await.unwrap();
    assert_eq!((page.changes.len(), test.store.head(None)), (1, 1), "a running server sees what a tool wrote");
}
