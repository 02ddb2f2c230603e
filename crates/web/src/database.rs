//! The engine's one long-lived connection to IndexedDB.
//!
//! Opened with the browser's own interfaces: `idb` would wrap them once more, in code that every page downloads
//! (`docs/decisions/0004-no-idb.md`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::Function;
use syncline_core::client::StorageFailure;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{IdbDatabase, IdbFactory, IdbOpenDbRequest, IdbRequestReadyState, IdbVersionChangeEvent};

use crate::error::{thrown_name, thrown_text};
use crate::global::property;
use crate::handler::{Handler, function, handler};
use crate::lock::deferred;
use crate::migrations;
use crate::timer::after;
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
    /// Of `versionchange` and `close`.
    _handlers: [Handler; 2],
}

impl Database {
    /// Opens the database, making or upgrading it as needed. `lost` is called at most once.
    ///
    /// # Errors
    /// `TooNew` for a database of a newer version, `Unavailable` when IndexedDB is missing, refuses or hangs for 5 s.
    pub async fn open(name: &str, lost: impl Fn(Lost) + 'static) -> Result<Self, StorageFailure> {
        let Some(factory) = property("indexedDB") else {
            return Err(StorageFailure::Unavailable("this browser has no IndexedDB here".to_owned()));
        };
        let factory: &IdbFactory = factory.unchecked_ref();
        let request = factory.open_with_u32(name, migrations::VERSION).map_err(|thrown| failure_of(&thrown))?;
        let raw = opened(request).await?;
        Ok(Self::listening(raw, Rc::new(lost)))
    }

    fn listening(raw: IdbDatabase, lost: Rc<dyn Fn(Lost)>) -> Self {
        let (closing, report, has_lost) = (raw.clone(), Rc::clone(&lost), Rc::new(Cell::new(false)));
        let is_first = Rc::clone(&has_lost);
        let on_version_change = handler(move |_| {
            closing.close();
            if !is_first.replace(true) {
                report(Lost::VersionChange);
            }
        });
        let on_close = handler(move |_| {
            if !has_lost.replace(true) {
                lost(Lost::Closed);
            }
        });
        raw.set_onversionchange(Some(function(&on_version_change)));
        raw.set_onclose(Some(function(&on_close)));
        Self { raw, _handlers: [on_version_change, on_close] }
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

/// Waits for the open request, with a limit: some versions of WebKit never answer the first one.
async fn opened(request: IdbOpenDbRequest) -> Result<IdbDatabase, StorageFailure> {
    let (settled, settle) = deferred();
    let timed_out = Rc::new(Cell::new(false));
    let blocked = Rc::new(Cell::new(false));
    let upgrade_failure = Rc::new(RefCell::new(None));

    let (upgraded, failure) = (request.clone(), Rc::clone(&upgrade_failure));
    let on_upgrade_needed = handler(move |event| {
        if let Err(thrown) = upgrade(&upgraded, event.unchecked_ref()) {
            // Otherwise the browser would keep the stores that were made so far, under the new version.
            let _ = upgraded.transaction().map(|transaction| transaction.abort());
            *failure.borrow_mut() = Some(thrown);
        }
    });
    let was_blocked = Rc::clone(&blocked);
    let on_blocked = handler(move |_| was_blocked.set(true));
    request.set_onupgradeneeded(Some(function(&on_upgrade_needed)));
    request.set_onblocked(Some(function(&on_blocked)));
    settle_when_done(&request, &settle);
    let given_up = Rc::clone(&timed_out);
    let limit = after(STORAGE_MS_MAX, move || {
        given_up.set(true);
        drop(settle.call0(&JsValue::NULL));
    });

    // The promise is only ever resolved.
    let _ = JsFuture::from(settled).await;
    drop(limit);
    request.set_onblocked(None);
    if timed_out.get() {
        let reason = if blocked.get() {
            "another tab holds an older version of the database"
        } else {
            "opening the database took longer than 5 s"
        };
        close_when_opened(request, on_upgrade_needed);
        return Err(StorageFailure::Unavailable(reason.to_owned()));
    }
    let upgrade_failure = upgrade_failure.take();
    if let Some(thrown) = upgrade_failure {
        close_when_opened(request, on_upgrade_needed);
        return Err(failure_of(&thrown));
    }
    request.set_onupgradeneeded(None);
    if let Ok(Some(error)) = request.error() {
        return Err(failure_of(&error));
    }
    request.result().map(JsCast::unchecked_into).map_err(|thrown| failure_of(&thrown))
}

fn upgrade(request: &IdbOpenDbRequest, event: &IdbVersionChangeEvent) -> Result<(), JsValue> {
    migrations::run(request.result()?.unchecked_ref(), event.old_version())
}

/// The browser's own events call the promise's function; no closure of ours has to live for them.
fn settle_when_done(request: &IdbOpenDbRequest, settle: &Function) {
    request.set_onsuccess(Some(settle));
    request.set_onerror(Some(settle));
}

/// Keeps an abandoned request and its upgrade until it answers: a connection nobody uses would block every later upgrade.
fn close_when_opened(request: IdbOpenDbRequest, on_upgrade_needed: Handler) {
    let (settled, settle) = deferred();
    settle_when_done(&request, &settle);
    spawn_local(async move {
        if request.ready_state() != IdbRequestReadyState::Done {
            let _ = JsFuture::from(settled).await;
        }
        request.set_onupgradeneeded(None);
        drop(on_upgrade_needed);
        if let Ok(database) = request.result() {
            database.unchecked_into::<IdbDatabase>().close();
        }
    });
}
