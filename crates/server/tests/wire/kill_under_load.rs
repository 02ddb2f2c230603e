//! The program is killed while several clients insert, update and delete: everything acknowledged is there, everything once, and
//! the file is sound.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::history::{Random, soak};
use crate::http_client::Http;
use crate::kill::Program;
use crate::socket_client::PATIENCE;
use crate::test_server::{push_of, transaction};

const WRITERS: usize = 4;
const BATCH_MAX: usize = 5;
/// A row that all of them change.
const SHARED: &str = "shared";

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_survives_a_kill_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("killed.db");
    let first = Program::start(&db);
    let reader = first.session("reader").await;
    let shared = transaction([json!({"entity": "Todo", "row_id": SHARED, "kind": "insert", "data": {"by": ""}})]);
    reader.post("/api/sync/push", &push_of(Some("reader"), None, &[shared])).await.ok();
    let (mut cursor, _) = read_on(&reader, None).await;
    drop(first);
    let mut acknowledged_in_all = 0;
    for round in 0..3 * soak() {
        let (writers, acknowledged) = write_until_killed(&db, round).await;
        acknowledged_in_all += acknowledged;

        let again = Program::start(&db);
        let mut op_ids = Vec::new();
        for writer in writers {
            op_ids.extend(writer.check(&again).await);
        }
        let reader = Http::new(again.address, reader.token.clone());
        let (next, mut logged) = read_on(&reader, Some(&cursor)).await;
        cursor = next;
        op_ids.sort();
        logged.sort();
        assert_eq!(logged, op_ids, "round {round}: the log holds each transaction once and no other");
        check_file(&db);
    }
    println!("{} kills, {acknowledged_in_all} transactions acknowledged", 3 * soak());
}

/// Starts the program and the writers, and kills it when enough was acknowledged.
async fn write_until_killed(db: &Path, round: u64) -> (Vec<Writer>, u64) {
    let mut program = Program::start(db);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut running: Vec<JoinHandle<Writer>> = Vec::new();
    for number in 0..WRITERS {
        let user = format!("user{round}-{number}");
        let http = program.session(&user).await;
        let random = Random(round * WRITERS as u64 + number as u64);
        let writer = Writer { http, user, random, sent: Vec::new(), acknowledged: 0, rows: BTreeMap::new(), inserted: 0 };
        running.push(tokio::spawn(writer.write(acknowledged.clone())));
    }
    let wanted = 40 + 61 * (round % 9);
    let enough = async {
        while acknowledged.load(Ordering::Relaxed) < wanted {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, enough).await.unwrap();
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    let mut writers = Vec::new();
    for writer in running {
        writers.push(timeout(PATIENCE, writer).await.unwrap().unwrap());
    }
    (writers, acknowledged.load(Ordering::Relaxed))
}

/// A client that knows what its rows must be.
struct Writer {
    http: Http,
    user: String,
    random: Random,
    /// Its transactions in order; the last batch may have been lost with the server.
    sent: Vec<Value>,
    acknowledged: usize,
    /// The `n` of each of its rows, after all that was sent.
    rows: BTreeMap<String, u64>,
    inserted: u64,
}

impl Writer {
    async fn write(mut self, acknowledged: Arc<AtomicU64>) -> Self {
        loop {
            let batch: Vec<Value> = (0..=self.random.below(BATCH_MAX)).map(|_| self.next()).collect();
            self.sent.extend_from_slice(&batch);
            let call = self.http.try_post("/api/sync/push", &push_of(Some(&self.user), None, &batch)).await;
            let Some(answer) = call else { return self };
            for result in answer["results"].as_array().unwrap() {
                assert_eq!(result["status"], "applied", "{answer}");
            }
            self.acknowledged = self.sent.len();
            acknowledged.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
    }

    fn next(&mut self) -> Value {
        let ids: Vec<String> = self.rows.keys().cloned().collect();
        match self.random.below(10) {
            0..4 => transaction([self.insert()]),
            4..7 if !ids.is_empty() => {
                let id = self.random.pick(&ids).clone();
                let n = self.rows[&id] + 1;
                self.rows.insert(id.clone(), n);
                transaction([json!({"entity": "Todo", "row_id": id, "kind": "update", "data": {"n": n}})])
            }
            7..9 if !ids.is_empty() => {
                let id = self.random.pick(&ids).clone();
                self.rows.remove(&id);
                transaction([json!({"entity": "Todo", "row_id": id, "kind": "delete"})])
            }
            _ => {
                let by = format!("{}:{}", self.user, self.inserted);
                let shared = json!({"entity": "Todo", "row_id": SHARED, "kind": "update", "data": {"by": by}});
                transaction([self.insert(), self.insert(), shared])
            }
        }
    }

    fn insert(&mut self) -> Value {
        self.inserted += 1;
        let id = format!("{}-{}", self.user, self.inserted);
        self.rows.insert(id.clone(), 0);
        json!({"entity": "Todo", "row_id": id, "kind": "insert", "data": {"n": 0, "owner": self.user}})
    }

    /// Sends everything again, as a client does that heard no answer: each has its effect once. Gives the op_ids.
    async fn check(self, again: &Program) -> Vec<String> {
        let Self { http, user, sent, acknowledged, rows, .. } = self;
        let http = Http::new(again.address, http.token);
        let mut replays = Vec::new();
        for batch in sent.chunks(50) {
            let answer = http.post("/api/sync/push", &push_of(Some(&user), None, batch)).await.ok();
            replays.extend(answer["results"].as_array().unwrap().clone());
        }
        for (n, result) in replays.iter().enumerate() {
            assert_eq!(result["status"], "applied", "{user}-{n}: {result}");
            assert!(n >= acknowledged || result["replayed"] == true, "{user}-{n} was acknowledged and then forgotten");
        }
        let found = http.post("/api/query/Todo", &json!({"owner": user})).await.ok();
        let found: BTreeMap<String, u64> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["id"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap()))
            .collect();
        assert_eq!(found, rows, "the rows of {user}");
        sent.iter().map(|transaction| transaction["op_id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Reads the log from a cursor on, or everything as it is now without one; gives the next cursor and each transaction's op_id.
async fn read_on(http: &Http, cursor: Option<&str>) -> (String, Vec<String>) {
    let mut cursor = cursor.map(str::to_owned);
    let mut op_ids = Vec::new();
    let mut to = None;
    loop {
        let parameter = cursor.as_ref().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = http.get(&format!("/api/sync/pull?user_id=reader{parameter}")).await.ok();
        assert!(to.as_ref().is_none_or(|to| page["from"] == *to), "the log has no gaps: {to:?}, then {}", page["from"]);
        to = Some(page["to"].clone());
        for transaction in page["transactions"].as_array().unwrap() {
            let range = [&transaction["first_seq"], &transaction["last_seq"]].map(|seq| seq.as_u64().unwrap());
            let changes = page["changes"].as_array().unwrap();
            let inside = |change: &&Value| (range[0]..=range[1]).contains(&change["seq"].as_u64().unwrap());
            let count = changes.iter().filter(inside).count() as u64;
            assert_eq!(count, range[1] - range[0] + 1, "all of a transaction or nothing: {transaction}");
            op_ids.push(transaction["op_id"].as_str().unwrap().to_owned());
        }
        let next = page["cursor"]["token"].as_str().unwrap().to_owned();
        if page["has_more"] == false {
            return (next, op_ids);
        }
        cursor = Some(next);
    }
}

fn check_file(db: &Path) {
    let connection = rusqlite::Connection::open(db).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let broken = connection.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap();
    assert!(!broken, "a reference leads nowhere");
}
