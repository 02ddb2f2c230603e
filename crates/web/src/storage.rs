//! Where the engine's storage requests go, and how a lost connection is mended.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Function, Promise};
use syncline_core::client::{StorageFailure, StorageKind, StoredReplica, StoredValue};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

use crate::database::{Database, Lost};
use crate::lock::{Lock, deferred};
use crate::transactions;

/// The store of one engine.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    leased: RefCell<Option<Rc<Leased>>>,
    running: Cell<usize>,
    on_quiet: RefCell<Option<Function>>,
}

/// A connection together with the lock that says the database is ours. Fields are dropped in order: the lock last.
#[derive(Debug)]
struct Leased {
    name: String,
    connection: RefCell<Rc<Database>>,
    reopens_left: Cell<u32>,
    /// Settles when the reopening under way has ended, so that requests in flight together share one.
    reopening: RefCell<Option<Promise>>,
    lost: Rc<dyn LostHandler>,
    _lock: Option<Lock>,
}

/// Called when a connection is lost without anybody of us closing it.
pub(crate) trait LostHandler: std::fmt::Debug {
    /// Says how.
    fn lost(&self, how: Lost);
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
        *self.leased.borrow_mut() = Some(Rc::new(Leased {
            name,
            connection,
            reopens_left: Cell::new(REOPENS_MAX),
            reopening: RefCell::default(),
            lost,
            _lock: lock,
        }));
        Ok(replica)
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// As [`transactions::run`]; `Unavailable` when nothing is open.
    pub(crate) async fn run(&self, kind: StorageKind) -> Result<StoredValue, StorageFailure> {
        let leased = self.leased.borrow().clone();
        let Some(leased) = leased else {
            return Err(StorageFailure::Unavailable("the database is closed".to_owned()));
        };
        leased.run(&kind).await
    }

    /// Counts a request from the moment the core asks.
    pub(crate) fn begin(&self) {
        self.running.set(self.running.get() + 1);
    }

    /// Counts it as done, after the core was told and has asked for whatever comes next.
    pub(crate) fn end(&self) {
        self.running.set(self.running.get() - 1);
        if self.running.get() == 0
            && let Some(on_quiet) = self.on_quiet.take()
        {
            let _ = on_quiet.call0(&JsValue::NULL);
        }
    }

    /// Waits until no request runs and none follows, then closes the connection and lets the lock go.
    pub(crate) async fn close(&self) {
        while self.running.get() > 0 {
            let (quiet, on_quiet) = deferred();
            self.on_quiet.replace(Some(on_quiet));
            let _ = JsFuture::from(quiet).await;
        }
        self.give_up();
    }

    /// Closes the connection at once; every later request is refused.
    pub(crate) fn give_up(&self) {
        self.leased.take();
    }
}

impl Leased {
    /// A connection that the browser dropped (Safari does so when its storage process dies) fails for ever, so it is
    /// opened again and the request repeated. Every request may be: a commit that is done already is recognised, and a
    /// write that is stored twice has one op_id, which the server answers once.
    async fn run(&self, kind: &StorageKind) -> Result<StoredValue, StorageFailure> {
        let used = Rc::clone(&self.connection.borrow());
        let result = transactions::run(used.raw(), kind).await;
        if !matches!(result, Err(StorageFailure::Unavailable(_))) || !self.reopen(&used).await {
            return result;
        }
        drop(used);
        let reopened = Rc::clone(&self.connection.borrow());
        transactions::run(reopened.raw(), kind).await
    }

    /// Replaces a broken connection, unless somebody else has; says whether there is another one now.
    async fn reopen(&self, broken: &Rc<Database>) -> bool {
        let is_replaced = || !Rc::ptr_eq(&self.connection.borrow(), broken);
        if is_replaced() {
            return true;
        }
        let under_way = self.reopening.borrow().clone();
        if let Some(under_way) = under_way {
            let _ = JsFuture::from(under_way).await;
            return is_replaced();
        }
        let Some(left) = self.reopens_left.get().checked_sub(1) else { return false };
        self.reopens_left.set(left);
        let (ended, end) = deferred();
        self.reopening.replace(Some(ended));
        if let Ok(reopened) = connect(&self.name, &self.lost).await {
            self.connection.replace(Rc::new(reopened));
        }
        self.reopening.take();
        let _ = end.call0(&JsValue::NULL);
        is_replaced()
    }
}

/// Lost connections that are mended in one session; storage that breaks more often is not to be trusted.
const REOPENS_MAX: u32 = 3;

async fn connect(name: &str, lost: &Rc<dyn LostHandler>) -> Result<Database, StorageFailure> {
    let lost = Rc::clone(lost);
    Database::open(name, move |how| lost.lost(how)).await
}
