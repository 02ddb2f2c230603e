//! The server's store, one for all inputs, as a server has one for all clients.

use std::cell::OnceCell;

use syncline_core::server::Schema;
use syncline_protocol::{ClientId, OutcomeStatus, RawJson};
use syncline_server::store::{PageLimits, Reader, Store, StoreOptions, Writer};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Rows that a store may get before a fresh one takes its place.
const PUSHES_MAX: usize = 20_000;

struct Server {
    runtime: Runtime,
    store: Store,
    pushes: usize,
    cursors: Vec<String>,
    _folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let folder = TempDir::new().expect("there is a place for files");
        let store = Store::open(&folder.path().join("fuzz.db"), Schema::open(), StoreOptions::default()).expect("a store opens");
        Self { runtime, store, pushes: 0, cursors: Vec::new(), _folder: folder }
    }
}

thread_local! {
    static SERVER: std::cell::RefCell<OnceCell<Server>> = const { std::cell::RefCell::new(OnceCell::new()) };
}

fn with_server(run: impl FnOnce(&mut Server)) {
    SERVER.with_borrow_mut(|cell| {
        if cell.get().is_some_and(|server| server.pushes > PUSHES_MAX) {
            drop(cell.take());
        }
        cell.get_or_init(Server::start);
        if let Some(server) = cell.get_mut() {
            run(server);
        }
    });
}

fn alice() -> Reader {
    Reader { user_id: Some("alice".to_owned()), ..Reader::default() }
}

/// Pushes JSON values, one a line, as transactions; sent again, each has the outcome it had.
pub fn push(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let intents: Vec<RawJson> = text.lines().take(50).filter_map(|line| serde_json::from_str(line).ok()).collect();
    if intents.is_empty() {
        return;
    }
    with_server(|server| {
        server.pushes += intents.len();
        let client_id = ClientId::parse("00000000000000000000000000000001").ok();
        let writer = Writer { reader: alice(), client_id, fence: 0 };
        let Server { runtime, store, .. } = server;
        let send = || runtime.block_on(store.push(writer.clone(), intents.clone(), Vec::new()));
        let Ok(first) = send() else { return };
        let second = send().expect("what was taken once is taken again");
        assert_eq!(first.len(), second.len());
        for (first, second) in first.iter().zip(&second) {
            if matches!(first.status, OutcomeStatus::Applied | OutcomeStatus::Merged) {
                assert!(second.replayed, "{first:?} {second:?}");
                assert_eq!((first.first_seq, first.last_seq), (second.first_seq, second.last_seq));
            }
        }
        let page = runtime.block_on(store.pull_since(&alice(), store.head(None).saturating_sub(1)));
        page.expect("the log can be read");
    });
}

/// Pulls with a text as the cursor: a page, or a word that it is of no use.
///
/// Cursors name the database, so no text from elsewhere gets far. Behind a zero byte stands what is changed in a real one: which,
/// then places and characters.
pub fn cursor(data: &[u8]) {
    with_server(|server| {
        let token = match data {
            [0, which, changes @ ..] => changed(server, *which, changes),
            text => std::str::from_utf8(text).ok().map(str::to_owned),
        };
        let Some(token) = token else { return };
        let page = server.runtime.block_on(server.store.pull(&alice(), Some(&token), ONE_ROW));
        if let Ok(page) = page {
            assert!(page.checksum_matches() && page.from <= page.to, "{page:?}");
        }
    });
}

/// Pages so small that a snapshot of three rows has cursors in its middle.
const ONE_ROW: PageLimits = PageLimits { changes: 1, bytes: 1 };
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn changed(server: &mut Server, which: u8, changes: &[u8]) -> Option<String> {
    if server.cursors.is_empty() {
        server.cursors = real_cursors(server);
    }
    let mut token = server.cursors[usize::from(which) % server.cursors.len()].clone().into_bytes();
    for pair in changes.chunks_exact(2) {
        let place = usize::from(pair[0]) % token.len();
        token[place] = ALPHABET[usize::from(pair[1]) % ALPHABET.len()];
    }
    String::from_utf8(token).ok()
}

/// Cursors in a snapshot, at its end and in the log.
fn real_cursors(server: &Server) -> Vec<String> {
    let Server { runtime, store, .. } = server;
    let writer = Writer { reader: alice(), client_id: None, fence: 0 };
    let intent = |number: u32| {
        let change = format!(r#"{{"entity":"Todo","row_id":"cursor-{number}","kind":"insert","data":{{"n":{number}}}}}"#);
        format!(r#"{{"op_id":"cc0000000000000000000000000000{number:02x}","issued_at":1,"schema":0,"changes":[{change}]}}"#)
    };
    let push = |number: u32| {
        let raw = vec![RawJson::from_checked(intent(number))];
        runtime.block_on(store.push(writer.clone(), raw, Vec::new())).expect("the store takes rows");
    };
    (0..3).for_each(push);
    let mut cursors: Vec<String> = Vec::new();
    for number in 3..9 {
        let page = runtime.block_on(store.pull(&alice(), cursors.last().map(String::as_str), ONE_ROW));
        cursors.push(page.expect("a real cursor is of use").cursor.token);
        push(number);
    }
    cursors
}
