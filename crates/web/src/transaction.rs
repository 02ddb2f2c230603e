//! One IndexedDB transaction: all requests issued at once, checks inside, an end that is awaited with a limit.
//!
//! Nothing but the transaction's own requests is ever awaited while it is open: anything else lets it commit by itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Array, Object, Promise, Uint8Array};
use syncline_core::client::StorageFailure;
use syncline_protocol::limits;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbKeyRange, IdbObjectStore, IdbRequest, IdbTransaction};

use crate::database::failure_of;
use crate::global::{object, to_f64, to_u64};
use crate::handler::{Handler, function, handler};
use crate::timer::{Timeout, after};

#[wasm_bindgen]
extern "C" {
    /// `IDBDatabase` with the third argument of `transaction`, which `web-sys` has only as unstable.
    #[wasm_bindgen(extends = IdbDatabase, typescript_type = "IDBDatabase")]
    type Connection;

    #[wasm_bindgen(method, catch, js_name = transaction)]
    fn transaction_with_options(
        this: &Connection,
        stores: &Array,
        mode: &str,
        options: &Object,
    ) -> Result<IdbTransaction, JsValue>;
}

/// What the browser promises when it reports a transaction as complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It is on the device: a power cut does not take it back, as far as the device tells the truth.
    Strict,
    /// It was handed to the operating system: a crash of the browser does not take it back.
    Relaxed,
}

/// The four stores of `docs/storage.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Entities,
    Cursors,
    PendingMutations,
    Journal,
}

impl Store {
    const fn name(self) -> &'static str {
        match self {
            Self::Entities => "entities",
            Self::Cursors => "cursors",
            Self::PendingMutations => "pendingMutations",
            Self::Journal => "journal",
        }
    }
}

/// A read-write transaction. Dropped before [`Transaction::finish`], it is aborted.
#[derive(Debug)]
pub(crate) struct Transaction {
    raw: IdbTransaction,
    outcome: Rc<Outcome>,
    /// Kept until the end, because a closure that is dropped cannot be called.
    callbacks: RefCell<Vec<Handler>>,
    finished: bool,
}

#[derive(Debug, Default)]
struct Outcome {
    /// Why the transaction was aborted by this side.
    failure: RefCell<Option<StorageFailure>>,
    timed_out: Cell<bool>,
}

impl Transaction {
    /// Opens a transaction over these stores.
    ///
    /// # Errors
    /// When the connection is closed or closing.
    pub(crate) fn begin(database: &IdbDatabase, stores: &[Store], durability: Durability) -> Result<Self, StorageFailure> {
        let names: Array = stores.iter().map(|store| JsValue::from_str(store.name())).collect();
        let durability = match durability {
            Durability::Strict => "strict",
            Durability::Relaxed => "relaxed",
        };
        let options = object(&[("durability", &durability.into())]);
        let connection: &Connection = database.unchecked_ref();
        let raw = connection.transaction_with_options(&names, "readwrite", &options).map_err(|thrown| failure_of(&thrown))?;
        Ok(Self { raw, outcome: Rc::default(), callbacks: RefCell::default(), finished: false })
    }

    /// Reads the value under a key and aborts with `Conflict` unless `holds` says yes.
    pub(crate) fn check(
        &self,
        store: Store,
        key: &JsValue,
        mut holds: impl FnMut(&JsValue) -> bool + 'static,
    ) -> Result<(), StorageFailure> {
        self.read(self.store(store)?.get(key), move |value| if holds(&value) { Ok(()) } else { Err(StorageFailure::Conflict) })
    }

    /// Runs `then` with the request's result while the transaction is still open; its error aborts the transaction.
    pub(crate) fn read(
        &self,
        request: Result<IdbRequest, JsValue>,
        then: impl FnMut(JsValue) -> Result<(), StorageFailure> + 'static,
    ) -> Result<(), StorageFailure> {
        self.read_boxed(request, Box::new(then))
    }

    /// Compiled once, whatever is done with the results.
    fn read_boxed(
        &self,
        request: Result<IdbRequest, JsValue>,
        mut then: Box<dyn FnMut(JsValue) -> Result<(), StorageFailure>>,
    ) -> Result<(), StorageFailure> {
        let request = request.map_err(|thrown| failure_of(&thrown))?;
        let (raw, outcome, source) = (self.raw.clone(), Rc::clone(&self.outcome), request.clone());
        let callback = handler(move |_| {
            let result = source.result().map_err(|thrown| failure_of(&thrown)).and_then(&mut then);
            if let Err(failure) = result {
                outcome.failure.borrow_mut().get_or_insert(failure);
                // A transaction that is over already cannot be aborted, and needs not be.
                let _ = raw.abort();
            }
        });
        request.set_onsuccess(Some(function(&callback)));
        self.callbacks.borrow_mut().push(callback);
        Ok(())
    }

    #[inline(never)]
    pub(crate) fn store(&self, store: Store) -> Result<IdbObjectStore, StorageFailure> {
        self.raw.object_store(store.name()).map_err(|thrown| failure_of(&thrown))
    }

    /// Waits until the browser has committed or aborted.
    ///
    /// # Errors
    /// `Conflict` when a check failed, `Full` at the quota, `Unavailable` for everything else, also when it takes longer
    /// than the limit. After any error but the last nothing was written; after that one nobody knows.
    pub(crate) async fn finish(mut self) -> Result<(), StorageFailure> {
        self.finished = true;
        let raw = self.raw.clone();
        let mut limit = None;
        // The browser's own events settle the promise; no closure of ours has to live for them.
        let ended = Promise::new(&mut |resolve, reject| {
            raw.set_oncomplete(Some(&resolve));
            raw.set_onabort(Some(&reject));
            limit = Some(give_up_later(&self.outcome, raw.clone(), reject));
        });
        let result = JsFuture::from(ended).await;
        raw.set_oncomplete(None);
        raw.set_onabort(None);
        if result.is_ok() {
            return Ok(());
        }
        if self.outcome.timed_out.get() {
            return Err(StorageFailure::Unavailable("a transaction took longer than 5 s".to_owned()));
        }
        if let Some(failure) = self.outcome.failure.take() {
            return Err(failure);
        }
        // The quota shows here and not at the request: the bytes are counted when the transaction commits.
        Err(raw
            .error()
            .map_or_else(|| StorageFailure::Unavailable("aborted by the browser".to_owned()), |error| failure_of(&error)))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.raw.abort();
        }
    }
}

/// Rejects and aborts after the limit. After a sleep of the machine the timer is due before the answer that has come in
/// the meantime is handed over, hence the second turn.
fn give_up_later(outcome: &Rc<Outcome>, raw: IdbTransaction, reject: js_sys::Function) -> Timeout {
    let outcome = Rc::clone(outcome);
    let started = js_sys::Date::now();
    after(STORAGE_MS_MAX, move || {
        let slept = js_sys::Date::now() - started > f64::from(2 * STORAGE_MS_MAX);
        let give_up = move || {
            outcome.timed_out.set(true);
            let _ = raw.abort();
            let _ = reject.call0(&JsValue::NULL);
        };
        if slept {
            // The second timer outlives this one's owner; a promise that is settled ignores it.
            after(STORAGE_MS_MAX, give_up).forget();
        } else {
            give_up();
        }
    })
}

#[expect(clippy::cast_possible_truncation, reason = "5,000 fits")]
pub(crate) const STORAGE_MS_MAX: u32 = limits::STORAGE_MS_MAX as u32;

/// The key of a record.
pub(crate) fn key(number: u64) -> JsValue {
    JsValue::from_f64(to_f64(number))
}

/// Keys as the browser gives them. What is no number has no place in our stores and becomes 0.
pub(crate) fn keys(array: &JsValue) -> Vec<u64> {
    Array::from(array).iter().map(|key| to_u64(key.as_f64().unwrap_or_default())).collect()
}

/// All keys from `first` to `last`.
pub(crate) fn key_range(first: u64, last: u64) -> Result<JsValue, StorageFailure> {
    IdbKeyRange::bound(&key(first), &key(last)).map(JsValue::from).map_err(|thrown| failure_of(&thrown))
}

/// Bytes copied out of WebAssembly's memory: a view of it would be torn off when that memory grows.
pub(crate) fn bytes_out(bytes: &[u8]) -> JsValue {
    Uint8Array::from(bytes).into()
}

/// Bytes copied in; `None` for a value that is no `Uint8Array`.
pub(crate) fn bytes_in(value: &JsValue) -> Option<Vec<u8>> {
    value.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec)
}
