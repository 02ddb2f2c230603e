//! The real program as a process: how it starts, ends and explains itself.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http_client::Http;

pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Runs it for development on a database.
    pub(crate) fn start(db: &Path) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_syncline")).args(["dev", "--db"]).arg(db))
    }

    /// Runs the program on a free port and waits until it listens.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = command.args(["--addr", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("listening on http://")?.parse().ok()).unwrap();
        // Read on, or the program blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub(crate) async fn session(&self, user: &str) -> Http {
        let mut http = Http::new(self.address, None);
        let session = http.post("/api/auth/session", &json!({"user_id": user})).await.ok();
        http.token = session["token"].as_str().map(str::to_owned);
        http
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_program_ends_in_order_and_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("one.db");
    let mut program = Program::start(&db);
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_syncline")).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let in_use = program.address.to_string();
    let other = folder.path().join("other.db");
    let (code, _, text) = run(&["dev", "--db", other.to_str().unwrap(), "--addr", &in_use]);
    assert_eq!(code, Some(2));
    assert!(text.contains(&format!("cannot listen on {in_use}")), "{text}");
    let (code, _, text) = run(&["dev", "--addr", "0.0.0.0:0", "--db", other.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(text.contains("listens on this machine only"), "{text}");
    let (code, _, text) = run(&["dev", "--db", "/nowhere/at/all.db", "--addr", "127.0.0.1:0"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("cannot open the database /nowhere/at/all.db"), "{text}");
    let manifest = folder.path().join("bad.toml");
    std::fs::write(&manifest, "[entities.a.fields]\nx = \"colour\"\n").unwrap();
    let (code, _, text) = run(&["serve", "--manifest", manifest.to_str().unwrap(), "--db", other.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(text.contains("entities.a.fields.x") && text.contains("colour"), "{text}");
    let (code, token, _) = run(&["token", "--db", db.to_str().unwrap(), "--user", "alice"]);
    assert_eq!((code, token.trim().is_empty()), (Some(0), false));

    let terminated = Command::new("kill").arg(program.child.id().to_string()).status().unwrap();
    assert!(terminated.success());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let status = loop {
        match program.child.try_wait().unwrap() {
            Some(status) => break status,
            None if std::time::Instant::now() < deadline => std::thread::yield_now(),
            None => panic!("the program does not end on SIGTERM"),
        }
    };
    assert!(status.success());
}

#[tokio::test]
async fn a_database_has_one_server_and_says_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("one.db");
    let mut first = Program::start(&db);
    let run = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_syncline");
        let out = Command::new(program).args(arguments).arg("--db").arg(&db).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let saved = folder.path().join("saved.db");
    let saved = saved.to_str().unwrap();
    let address = first.address.to_string();
    assert_eq!(run(&["backup", saved]).0, Some(0));
    for refused in [&["dev", "--addr", "127.0.0.1:0"][..], &["restore", saved, "--replace"]] {
        let (code, _, error) = run(refused);
        assert_eq!(code, Some(2), "{refused:?}");
        assert!(error.contains("a server holds this database") && error.contains(&address), "{error}");
    }
    let (code, text, _) = run(&["inspect"]);
    assert!(code == Some(0) && text.contains(&format!("http://{address}, 0 sockets open")), "{text}");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert_eq!(run(&["restore", saved, "--replace"]).0, Some(0), "a lock goes with its process");
    let (_, json, _) = run(&["inspect", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["server"], Value::Null);
    drop(Program::start(&db));
    assert!(run(&["export", "--entity", "T"]).1.is_empty());
}
