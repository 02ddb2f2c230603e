//! The engine's one long-lived connection to IndexedDB.
//!
//! Opened with `idb`, which has the upgrade, blocked, versionchange and close events that an engine must handle. It has no
//! durability option, so transactions are begun on the raw connection (see `transaction.rs`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gloo_timers::callback::Timeout;
use idb::request::OpenDatabaseRequest;
use idb::{DatabaseEvent as _, Event as _, Request as _};
use syncline_core::client::StorageFailure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{IdbDatabase, IdbTransaction};

use crate::error::{thrown_name, thrown_text};
use crate::global::property_of;
use crate::lock::deferred;
use crate::migrations;
use crate::transaction::STORAGE_MS_MAX;

/// How a connection was lost without us closing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The browser closed it: storage was cleared, or its storage process died.
    Closed,
    /// Another tab wants to upgrade or delete the database. The connection is closed already, so that it can.
    VersionChange,
}

/// An open connection; closed when dropped.
#[derive(Debug)]
pub struct Database {
    raw: IdbDatabase,
    /// Owns the handlers of `versionchange` and `close`.
    _connection: idb::Database,
}

impl Database {
    /// Opens the database, making or upgrading it as needed. `lost` is called at most once.
    ///
    /// # Errors
    /// `TooNew` for a database of a newer version, `Unavailable` when IndexedDB is missing, refuses or hangs for 5 s.
    pub async fn open(name: &str, lost: impl Fn(Lost) + 'static) -> Result<Self, StorageFailure> {
        let missing = |_| StorageFailure::Unavailable("this browser has no IndexedDB here".to_owned());
        let factory = idb::Factory::new().map_err(missing)?;
        let request = factory.open(name, Some(migrations::VERSION)).map_err(|error| failure_of_idb(&error))?;
        let raw = opened(request).await?;
        let mut connection = idb::Database::from(raw.clone());
        let lost = Rc::new(lost);
        let (closing, report) = (raw.clone(), Rc::clone(&lost));
        connection.on_version_change(move |_| {
            closing.close();
            report(Lost::VersionChange);
        });
        connection.on_close(move |_| lost(Lost::Closed));
        Ok(Self { raw, _connection: connection })
    }

    /// What transactions are begun on.
    pub const fn raw(&self) -> &IdbDatabase {
        &self.raw
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The handlers go with this value; the browser must not call them any more.
        self.raw.set_onversionchange(None);
        self.raw.set_onclose(None);
        // Waits for transactions that are still running.
        self.raw.close();
    }
}

/// Says what a thrown value means for storage.
pub(crate) fn failure_of(thrown: &JsValue) -> StorageFailure {
    match thrown_name(thrown).as_str() {
        "QuotaExceededError" => StorageFailure::Full,
        "VersionError" => StorageFailure::TooNew,
        _ => StorageFailure::Unavailable(thrown_text(thrown)),
    }
}

fn failure_of_idb(error: &idb::Error) -> StorageFailure {
    if let idb::Error::IndexedDbOpenFailed(thrown) | idb::Error::ObjectStoreCreateFailed(thrown) = error {
        return failure_of(thrown);
    }
    StorageFailure::Unavailable("opening the database failed".to_owned())
}

/// Waits for the open request, with a limit: some versions of WebKit never answer the first one.
async fn opened(mut request: OpenDatabaseRequest) -> Result<IdbDatabase, StorageFailure> {
    let (settled, settle) = deferred();
    let timed_out = Rc::new(Cell::new(false));
    let blocked = Rc::new(Cell::new(false));
    let upgrade_failure = Rc::new(RefCell::new(None));

    let failure = Rc::clone(&upgrade_failure);
    request.on_upgrade_needed(move |event| {
        let upgraded = event.old_version().and_then(|from| migrations::run(&event.database()?, from));
        if let Err(error) = upgraded {
            // Otherwise the browser would keep the stores that were made so far, under the new version.
            let request: Option<JsValue> = event.target().ok().map(JsValue::from);
            let transaction = request.and_then(|request| property_of(&request, "transaction"));
            let _ = transaction.map(|transaction| transaction.unchecked_into::<IdbTransaction>().abort());
            *failure.borrow_mut() = Some(error);
        }
    });
    let was_blocked = Rc::clone(&blocked);
    request.on_blocked(move |_| was_blocked.set(true));
    let done = settle.clone();
    request.on_success(move |_| drop(done.call0(&JsValue::NULL)));
    let done = settle.clone();
    request.on_error(move |_| drop(done.call0(&JsValue::NULL)));
    let given_up = Rc::clone(&timed_out);
    let limit = Timeout::new(STORAGE_MS_MAX, move || {
        given_up.set(true);
        drop(settle.call0(&JsValue::NULL));
    });

    // The promise is only ever resolved.
    let _ = JsFuture::from(settled).await;
    drop(limit);
    if timed_out.get() {
        close_when_opened(request);
        let reason = if blocked.get() {
            "another tab holds an older version of the database"
        } else {
            "opening the database took longer than 5 s"
        };
        return Err(StorageFailure::Unavailable(reason.to_owned()));
    }
    if let Some(error) = upgrade_failure.take() {
        close_when_opened(request);
        return Err(failure_of_idb(&error));
    }
    if let Ok(Some(error)) = request.error() {
        return Err(failure_of(&error));
    }
    request.result().map(JsCast::unchecked_into).map_err(|error| failure_of_idb(&error))
}

/// Keeps an abandoned request until it answers: its handlers must exist then, and a connection nobody uses would block
/// every later upgrade.
fn close_when_opened(mut request: OpenDatabaseRequest) {
    let (settled, settle) = deferred();
    let done = settle.clone();
    request.on_success(move |_| drop(done.call0(&JsValue::NULL)));
    request.on_error(move |_| drop(settle.call0(&JsValue::NULL)));
    spawn_local(async move {
        if request.ready_state() != Ok(idb::request::RequestReadyState::Done) {
            let _ = JsFuture::from(settled).await;
        }
        if let Ok(database) = request.database() {
            database.close();
        }
    });
}
