//! The awkward rows of two public files (`movies.json` and `zipcodes.csv` of the npm package vega-datasets, BSD-3-Clause): titles
//! that are numbers or missing, blanks in column names, letters that went wrong long ago, postal codes that begin with 0.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use syncline_protocol::EntityName;
use syncline_server::export::{ExportFormat, export};
use syncline_server::import::{Progress, import};

use crate::support::{TestStore, reader};

const MOVIES: &str = include_str!("fixtures/movies.json");
const ZIP_CODES: &str = include_str!("fixtures/zipcodes.csv");
/// Also served to the browser of `tests/import`, with the whole files.
const DECLARED: &str = include_str!("fixtures/untidy.toml");

fn movies() -> Vec<Value> {
    serde_json::from_str(MOVIES).unwrap()
}

/// The rows of CSV that quotes nothing, without their ids.
fn cells(text: &str) -> Vec<Value> {
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let row = |cells: Vec<&str>| {
        let fields = names.iter().zip(cells).filter(|(name, _)| **name != "id");
        fields.map(|(name, cell)| ((*name).to_owned(), Value::from(cell))).collect()
    };
    lines.map(|cells| Value::Object(row(cells))).collect()
}

/// The rows of the file with numbers where the manifest has numbers.
fn typed_zip_codes() -> Vec<Value> {
    let mut rows = cells(ZIP_CODES);
    for row in &mut rows {
        for name in ["latitude", "longitude"] {
            row[name] = serde_json::from_str(row[name].as_str().unwrap()).unwrap();
        }
    }
    rows
}

async fn import_text(test: &TestStore, entity: &str, file: &str, contents: &str) {
    let path = test.folder.path().join(file);
    std::fs::write(&path, contents).unwrap();
    import(&test.store, &path, &EntityName::parse(entity).unwrap(), None, Progress::default()).await.unwrap();
}

/// All rows of an entity without their ids, in the order of the file they came from.
async fn rows(test: &TestStore, entity: &str) -> Vec<Value> {
    let list = test.store.list(&reader(""), &EntityName::parse(entity).unwrap(), None, 0).await.unwrap();
    let row = |text: &str| {
        let mut row: Value = serde_json::from_str(text).unwrap();
        row.as_object_mut().unwrap().remove("id");
        row
    };
    list.rows.iter().map(|text| row(text.get())).collect()
}

/// Takes an export that is written on another thread.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn exported(test: &TestStore, entity: &str, format: ExportFormat) -> String {
    let to = Collected::default();
    export(&test.store, &EntityName::parse(entity).unwrap(), None, format, to.clone()).await.unwrap();
    let bytes = to.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn untidy_rows_come_out_as_they_went_in() {
    assert!(movies().iter().any(|row| row["Title"].is_i64()) && movies().iter().any(|row| row["Title"].is_null()));
    for (manifest, zip_codes) in [("", cells(ZIP_CODES)), (DECLARED, typed_zip_codes())] {
        let test = TestStore::open(manifest);
        import_text(&test, "Movie", "movies.json", MOVIES).await;
        import_text(&test, "ZipCode", "zipcodes.csv", ZIP_CODES).await;
        assert_eq!(rows(&test, "Movie").await, movies());
        assert_eq!(rows(&test, "ZipCode").await, zip_codes);
        assert_eq!(zip_codes[0]["zip_code"], "00501");
        let table = exported(&test, "ZipCode", ExportFormat::Csv).await;
        assert_eq!(cells(&table), cells(ZIP_CODES), "the cells are the file's, to the last zero");

        let copy = TestStore::open(manifest);
        import_text(&copy, "Movie", "copy.ndjson", &exported(&test, "Movie", ExportFormat::Ndjson).await).await;
        import_text(&copy, "ZipCode", "copy.csv", &table).await;
        assert_eq!(rows(&copy, "Movie").await, movies());
        assert_eq!(rows(&copy, "ZipCode").await, zip_codes);
    }
    let (test, copy) = (TestStore::open(DECLARED), TestStore::open(DECLARED));
    import_text(&test, "Movie", "movies.json", MOVIES).await;
    import_text(&copy, "Movie", "movies.csv", &exported(&test, "Movie", ExportFormat::Csv).await).await;
    assert_eq!(rows(&copy, "Movie").await, movies(), "what is declared is the same in CSV, too");
}
