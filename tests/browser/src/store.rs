//! The driver's store without an engine: one request at a time, answered.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Function, Promise};
use syncline_core::client::{Input, RequestId, StorageFailure, StorageKind, StorageRequest, StoredReplica, StoredValue};
use syncline_web::{BrowserEvent, OnEvent, Storage};
use wasm_bindgen::JsValue;

use crate::page::{replace_global, within_limit};

/// A store and everything it has said.
#[derive(Debug)]
pub struct TestStore {
    storage: Storage,
    heard: Rc<Heard>,
    requests: Cell<u64>,
    _listener: OnEvent,
}

#[derive(Debug, Default)]
struct Heard {
    events: RefCell<Vec<BrowserEvent>>,
    waiting: RefCell<Option<Function>>,
}

impl TestStore {
    /// A store with the usual limit.
    pub fn new() -> Self {
        Self::with_limit(5_000)
    }

    /// A store whose opening and transactions may hang for so long.
    pub fn with_limit(limit_ms: u64) -> Self {
        let heard = Rc::new(Heard::default());
        let hearing = Rc::clone(&heard);
        let listener = BrowserEvent::listener(move |event| {
            hearing.events.borrow_mut().push(event);
            if let Some(wake) = hearing.waiting.take() {
                let _ = wake.call0(&JsValue::NULL);
            }
        });
        let storage = Storage::new(listener.as_ref(), limit_ms, &JsValue::UNDEFINED);
        Self { storage, heard, requests: Cell::new(0), _listener: listener }
    }

    /// Opens a database.
    ///
    /// # Errors
    /// What the driver said.
    pub async fn open(&self, name: &str) -> Result<StoredReplica, StorageFailure> {
        self.begin_open(name);
        self.opened().await
    }

    /// Begins to open a database.
    pub fn begin_open(&self, name: &str) {
        self.storage.open(name, "{}");
    }

    /// Waits until that has ended.
    ///
    /// # Errors
    /// What the driver said.
    pub async fn opened(&self) -> Result<StoredReplica, StorageFailure> {
        let is_end = |event: &BrowserEvent| matches!(event, BrowserEvent::Input(Input::Opened(_) | Input::OpenFailed(_)));
        let event = self.event("an end of opening", is_end).await;
        if let BrowserEvent::Input(Input::OpenFailed(failure)) = event {
            return Err(failure);
        }
        let BrowserEvent::Input(Input::Opened(replica)) = event else { unreachable!() };
        Ok(*replica)
    }

    /// As [`TestStore::open`] where there are no locks: several stores may then have one database open.
    ///
    /// # Errors
    /// What the driver said.
    pub async fn open_unlocked(&self, name: &str) -> Result<StoredReplica, StorageFailure> {
        let without = replace_global("navigator", "{}");
        self.begin_open(name);
        drop(without);
        self.opened().await
    }

    /// Waits until it hears that another tab took the lead.
    pub async fn lost_the_lead(&self) {
        self.event("the loss of the lead", |event| matches!(event, BrowserEvent::Input(Input::LeadLost))).await;
    }

    /// Carries out a request.
    ///
    /// # Errors
    /// What the driver said.
    pub async fn run(&self, kind: StorageKind) -> Result<StoredValue, StorageFailure> {
        let id = self.begin(kind);
        self.answer(id).await
    }

    /// Hands a request over without waiting for its answer.
    pub fn begin(&self, kind: StorageKind) -> RequestId {
        let id = RequestId(self.requests.get() + 1);
        self.requests.set(id.0);
        self.storage.run(StorageRequest { id, kind });
        id
    }

    /// Waits for the answer to a request.
    ///
    /// # Errors
    /// What the driver said.
    pub async fn answer(&self, id: RequestId) -> Result<StoredValue, StorageFailure> {
        let is_answer =
            |event: &BrowserEvent| matches!(event, BrowserEvent::Input(Input::Stored { request, .. }) if *request == id);
        let BrowserEvent::Input(Input::Stored { result, .. }) = self.event("an answer", is_answer).await else { unreachable!() };
        result
    }

    /// Waits until the connection is taken away.
    pub async fn lost(&self) -> StorageFailure {
        self.opened().await.err().unwrap_or_else(|| panic!("it was opened again"))
    }

    async fn event(&self, what: &str, holds: impl Fn(&BrowserEvent) -> bool) -> BrowserEvent {
        loop {
            let at = self.heard.events.borrow().iter().position(&holds);
            if let Some(at) = at {
                return self.heard.events.borrow_mut().remove(at);
            }
            let promise = Promise::new(&mut |resolve, _| drop(self.heard.waiting.replace(Some(resolve))));
            within_limit(promise, what).await;
        }
    }
}

impl Default for TestStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        self.storage.abandon();
    }
}
