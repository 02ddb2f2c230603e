//! Files of rows, whole or not at all.

use std::path::PathBuf;

use serde_json::{Value, json};
use syncline_protocol::EntityName;
use syncline_server::import::{ImportError, ImportReport, Progress, import};
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
    import(&test.store, path, &EntityName::parse("flights").unwrap(), None, Progress::default()).await
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
        (
            "delay,origin\n1,SFO".to_owned(),
            "neither a JSON array of objects nor one JSON object a line; CSV is told by the ending",
        ),
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
    let error = import(&tool, &path, &entity, None, Progress::default()).await.unwrap_err();
    assert!(error.to_string().contains("--manifest"), "{error}");
    let cursor = test.store.pull(&reader("a"), None, PageLimits::default()).await.unwrap().cursor.token;
    let tool = Store::open(&database, Manifest::parse(TYPED).unwrap().schema, options()).unwrap();
    import(&tool, &path, &entity, None, Progress::default()).await.unwrap();
    let page = test.store.pull(&reader("a"), Some(&cursor), PageLimits::default()).await.unwrap();
    assert_eq!((page.changes.len(), test.store.head(None)), (1, 1), "a running server sees what a tool wrote");
}

#[tokio::test]
async fn csv_is_typed_by_the_manifest() {
    let test = TestStore::open(TYPED);
    let contents = "\u{feff}id,delay,origin,seen\r\n\"a\",-3,\"San \"\"Fran\"\",\ncisco\",TRUE\r\n,7,00501,false\r\n";
    let progress = Progress::default();
    let path = file(&test, "flights.CSV", contents);
    let report = import(&test.store, &path, &EntityName::parse("flights").unwrap(), None, progress.clone()).await.unwrap();
    assert_eq!((counts(report), progress.rows(), progress.percent()), ([2, 0, 0, 0], 2, Some(100)));
    let rows = rows(&test).await;
    assert_eq!(rows[0], json!({"id": "a", "delay": -3, "origin": "San \"Fran\",\ncisco", "seen": true}));
    assert!(rows[1]["id"].as_str().unwrap().ends_with("-00000004"), "the number of its line: {}", rows[1]["id"]);
    assert_eq!(rows[1]["origin"], "00501");
    assert_eq!(counts(run(&test, &path).await.unwrap()), [0, 0, 2, 0]);
}

#[tokio::test]
async fn undeclared_csv_stays_text() {
    let test = TestStore::open("");
    let path = file(&test, "zipcodes.csv", "zip_code,latitude,city name\n00501,40.922326,Holtsville\n00544,,\n");
    assert_eq!(counts(run(&test, &path).await.unwrap()), [2, 0, 0, 0]);
    let rows = rows(&test).await;
    assert_eq!((&rows[0]["zip_code"], &rows[0]["latitude"]), (&json!("00501"), &json!("40.922326")));
    assert_eq!((&rows[1]["city name"], &rows[1]["latitude"]), (&json!(""), &json!("")));
    let tabs = file(&test, "a.tsv", "id\tb\nx\t1,2\n");
    assert_eq!(counts(run(&test, &tabs).await.unwrap()), [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_bad_line_of_csv_is_named_and_keeps_the_file_out() {
    let test = TestStore::open(TYPED);
    let many = "1,SFO\n".repeat(1_500);
    let cases = [
        (format!("delay,origin\n{many}1.5,SFO\n"), "line 1502: TYPE_MISMATCH: delay is no int"),
        (format!("delay,origin\n{many}1\n"), "line 1502: the first line names 2 fields, this one has 1"),
        ("delay,origin\r\n1,\"a\nb\"\r\nx,SFO\r\n".to_owned(), "line 4: TYPE_MISMATCH"),
        ("delay,origin\n\n1,a\n\nx,SFO\n".to_owned(), "line 5: TYPE_MISMATCH"),
        ("delay,origin\n1,a\nx,SFO".to_owned(), "line 3: TYPE_MISMATCH"),
        ("delay,origin\r\n1,a\r\nx,SFO".to_owned(), "line 3: TYPE_MISMATCH"),
        ("delay,origin,gate\n1,SFO,B2\n".to_owned(), "line 2: UNKNOWN_FIELD: gate"),
        ("delay,origin\n,SFO\n".to_owned(), "line 2: MISSING_FIELD"),
        ("delay,delay\n".to_owned(), "line 1: two columns are called \"delay\""),
        ("delay,\n".to_owned(), "line 1: column 2 has no name"),
        (format!("delay,origin\n1,\"{}", "x".repeat(3_000_000)), "line 2: a row takes more than"),
    ];
    for (text, expected) in cases {
        let error = run(&test, &file(&test, "bad.csv", &text)).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("nothing was imported"), "{error} for {expected}");
    }
    let path = test.folder.path().join("latin.csv");
    std::fs::write(&path, b"delay,origin\n1,M\xfcnchen\n").unwrap();
    let error = run(&test, &path).await.unwrap_err().to_string();
    assert!(error.contains("line 2: field 2 is not UTF-8"), "{error}");
    assert_eq!(test.store.head(None), 0);
}
