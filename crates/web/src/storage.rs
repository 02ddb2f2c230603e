//! Where the engine's storage requests go: the database or memory, and in what groups.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Function, Promise};
use syncline_core::client::{RequestId, StorageFailure, StorageKind, StoredReplica, StoredValue};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

use crate::database::{Database, Lost};
use crate::lock::{Lock, deferred};
use crate::memory_store::MemoryStore;
use crate::transactions;

/// The answer to one storage request.
pub(crate) type Answer = (RequestId, Result<StoredValue, StorageFailure>);

/// The store of one engine.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    backend: RefCell<Backend>,
    gathered: RefCell<Gathered>,
    is_enqueuing: Cell<bool>,
    running: Cell<usize>,
    on_quiet: RefCell<Option<Function>>,
}

#[derive(Debug, Default)]
enum Backend {
    /// Not opened yet, or closed.
    #[default]
    None,
    Database(Rc<Leased>),
    Memory(MemoryStore),
}

/// A connection together with the lock that says the database is ours. Fields are dropped in order: the lock last.
#[derive(Debug)]
struct Leased {
    name: String,
    connection: RefCell<Rc<Database>>,
    has_reopened: Cell<bool>,
    lost: Rc<dyn LostHandler>,
    _lock: Option<Lock>,
}

/// Called when a connection is lost without anybody of us closing it.
pub(crate) trait LostHandler: std::fmt::Debug {
    /// Says how.
    fn lost(&self, how: Lost);
}

/// Records that wait for the next transaction over the queue, and how many of them belong to which request.
#[derive(Debug, Default)]
struct Gathered {
    requests: Vec<(RequestId, usize)>,
    records: Vec<Vec<u8>>,
}

impl Storage {
    /// Opens the database, takes the lead of the replica and reads everything there is.
    ///
    /// # Errors
    /// As [`Database::open`] and [`transactions::load`].
    pub(crate) async fn open(
        &self,
        name: String,
        identity: &str,
        lock: Option<Lock>,
        lost: Rc<dyn LostHandler>,
    ) -> Result<StoredReplica, StorageFailure> {
        let database = connect(&name, &lost).await?;
        let replica = transactions::load(database.raw(), identity).await?;
        let connection = RefCell::new(Rc::new(database));
        let leased = Leased { name, connection, has_reopened: Cell::new(false), lost, _lock: lock };
        *self.backend.borrow_mut() = Backend::Database(Rc::new(leased));
        Ok(replica)
    }

    /// Uses memory from now on. The lock is let go: nothing of the database is touched any more.
    pub(crate) fn use_memory(&self) {
        *self.backend.borrow_mut() = Backend::Memory(MemoryStore::new());
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// As [`transactions::run`].
    pub(crate) async fn run(&self, kind: StorageKind) -> Result<StoredValue, StorageFailure> {
        let leased = match &mut *self.backend.borrow_mut() {
            Backend::None => return Err(StorageFailure::Unavailable("the database is not open".to_owned())),
            Backend::Memory(memory) => return Ok(memory.run(&kind)),
            Backend::Database(leased) => Rc::clone(leased),
        };
        self.running.set(self.running.get() + 1);
        let result = leased.run(kind).await;
        self.end_of_run();
        result
    }

    /// Puts records aside for the next transaction over the queue, so that writes of one task, and those made while a
    /// strict transaction runs, share one. Whether the caller has to start [`Storage::enqueue_gathered`].
    pub(crate) fn gather(&self, id: RequestId, records: Vec<Vec<u8>>) -> bool {
        let mut gathered = self.gathered.borrow_mut();
        gathered.requests.push((id, records.len()));
        gathered.records.extend(records);
        !self.is_enqueuing.replace(true)
    }

    /// Writes what was gathered, and what is gathered meanwhile; `answer` gets the answers transaction by transaction.
    pub(crate) async fn enqueue_gathered(&self, answer: impl Fn(Vec<Answer>)) {
        self.running.set(self.running.get() + 1);
        // Lets the rest of the current task add its writes first.
        let _ = JsFuture::from(Promise::resolve(&JsValue::UNDEFINED)).await;
        loop {
            let Gathered { requests, records } = self.gathered.take();
            if requests.is_empty() {
                break;
            }
            let result = self.run(StorageKind::Enqueue { records }).await;
            answer(divide(&requests, &result));
        }
        self.is_enqueuing.set(false);
        self.end_of_run();
    }

    /// Waits until no request runs, then closes the connection and lets the lock go.
    pub(crate) async fn close(&self) {
        if self.running.get() > 0 {
            let (quiet, on_quiet) = deferred();
            *self.on_quiet.borrow_mut() = Some(on_quiet);
            let _ = JsFuture::from(quiet).await;
        }
        *self.backend.borrow_mut() = Backend::None;
    }

    fn end_of_run(&self) {
        self.running.set(self.running.get() - 1);
        if self.running.get() == 0
            && let Some(on_quiet) = self.on_quiet.take()
        {
            let _ = on_quiet.call0(&JsValue::NULL);
        }
    }
}

impl Leased {
    /// A connection that the browser dropped (Safari does so when its storage process dies) fails for ever, so it is
    /// opened again, once. Enqueue is not repeated after it began, because nobody knows whether the records are in.
    async fn run(&self, kind: StorageKind) -> Result<StoredValue, StorageFailure> {
        let connection = Rc::clone(&self.connection.borrow());
        let again = (!matches!(kind, StorageKind::Enqueue { .. }) && !self.has_reopened.get()).then(|| kind.clone());
        let result = transactions::run(connection.raw(), kind).await;
        let (Err(StorageFailure::Unavailable(_)), Some(kind)) = (&result, again) else {
            return result;
        };
        if self.has_reopened.replace(true) {
            return result;
        }
        drop(connection);
        let Ok(reopened) = connect(&self.name, &self.lost).await else {
            return result;
        };
        let reopened = Rc::new(reopened);
        *self.connection.borrow_mut() = Rc::clone(&reopened);
        transactions::run(reopened.raw(), kind).await
    }
}

async fn connect(name: &str, lost: &Rc<dyn LostHandler>) -> Result<Database, StorageFailure> {
    let lost = Rc::clone(lost);
    Database::open(name, move |how| lost.lost(how)).await
}

/// Gives each request its share of the keys of one transaction.
fn divide(requests: &[(RequestId, usize)], result: &Result<StoredValue, StorageFailure>) -> Vec<Answer> {
    let mut keys = match result {
        Ok(StoredValue::Keys(keys)) => keys.iter(),
        Ok(StoredValue::Done) | Err(_) => [].iter(),
    };
    let mut share = |count: usize| match result {
        Ok(_) => Ok(StoredValue::Keys(keys.by_ref().take(count).copied().collect())),
        Err(failure) => Err(failure.clone()),
    };
    requests.iter().map(|(id, count)| (*id, share(*count))).collect()
}
