//! What the browser tells: numbers of `js/`, read once and here.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_core::client::{Former, Input, RequestId, StorageFailure, StorageKind, StoredReplica, StoredValue, TabMessage};
use syncline_protocol::{ErrorBody, Identity};
use wasm_bindgen::prelude::*;

use crate::browser::{Found, body_bytes};
use crate::integer::to_u64;

/// What the browser calls: which event, a text, a JavaScript value, three numbers.
///
/// One type for all events: each type of closure brings its own way in from JavaScript, in code that every page downloads.
pub type OnEvent = Closure<dyn Fn(u32, String, JsValue, f64, f64, f64)>;

/// Something that happened outside.
#[derive(Debug)]
pub enum BrowserEvent {
    /// The core hears of it.
    Input(Input),
    /// The end begins: no request of storage came in between.
    Stopping,
    /// Everything is let go.
    Stopped,
}

impl BrowserEvent {
    /// What JavaScript calls to tell `hear`.
    pub fn listener(hear: impl Fn(Self) + 'static) -> OnEvent {
        OnEvent::new(move |kind, text, data, a, b, c| hear(Self::read(kind, text, &data, [a, b, c])))
    }

    fn read(kind: u32, text: String, data: &JsValue, [a, b, c]: [f64; 3]) -> Self {
        Self::Input(match kind {
            WAKE => Input::Wake,
            TICK => Input::Tick,
            LEAD_LOST => Input::LeadLost,
            OPENED => Input::Opened(Box::new(opened(data.unchecked_ref(), a, b))),
            TAB_HEARD => Input::TabHeard { tab: to_u64(a), number: to_u64(b), message: tab_message(text, data) },
            OPEN_FAILED => Input::OpenFailed(failure(a, text)),
            STORED => Input::Stored { request: RequestId(to_u64(a)), result: stored(data.unchecked_ref(), b, c, text) },
            STOPPING => return Self::Stopping,
            SOCKET_OPENED => Input::SocketOpened,
            SOCKET_CLOSED => Input::SocketClosed { code: to_u16(a), reason: text },
            RECEIVED => Input::Received(text),
            PULLED | RESOLVED => answered(kind, data, [a, b, c]),
            // STOPPED, the last one.
            _ => return Self::Stopped,
        })
    }
}

fn opened(found: &Found, fence: f64, leads: f64) -> StoredReplica {
    let (replica, fence, is_known) = (found.replica_record(), to_u64(fence), found.is_known());
    let (records, queue) = (records(found, RECORDS), records(found, QUEUE));
    StoredReplica { replica, records, queue, fence, leads: leads > 0.0, is_known, memory: None }
}

fn records(found: &Found, list: u32) -> Vec<(u64, Vec<u8>)> {
    let indexes = 0..found.count(list);
    indexes.map(|index| (to_u64(found.key(list, index)), found.take_bytes(list, index))).collect()
}

fn keys(found: &Found, list: u32) -> Vec<u64> {
    (0..found.count(list)).map(|index| to_u64(found.key(list, index))).collect()
}

/// What another tab said, or the storage request that it carried out.
fn tab_message(text: String, data: &JsValue) -> TabMessage {
    if data.is_undefined() {
        return TabMessage::Said(text);
    }
    let found: &Found = data.unchecked_ref();
    let bytes = |list| records(found, list).into_iter().map(|(_, bytes)| bytes);
    let number = |index| to_u64(found.key(NUMBERS, index));
    let (fence, put, remove) = (number(0), || records(found, RECORDS), || keys(found, REMOVED));
    let kind = match text.as_str() {
        "enqueue" => {
            let numbers = keys(found, FORMER_NUMBERS).into_iter().map(|number| usize::try_from(number).unwrap_or(usize::MAX));
            let former = |(key, number)| Former { number, key, expect: None };
            let formers = keys(found, FORMERS).into_iter().zip(numbers).map(former).collect();
            StorageKind::Enqueue { records: bytes(RECORDS).collect(), formers }
        }
        "updateQueue" => StorageKind::UpdateQueue { fence, put: put(), remove: remove() },
        "foldQueue" => StorageKind::FoldQueue { fence, put: put(), remove: remove() },
        "commit" => {
            let (expect, replica) = (bytes(EXPECTED).next(), found.replica_record().unwrap_or_default());
            let remove_queue = keys(found, UNQUEUED).into_iter().zip(keys(found, UNQUEUED_SEQS)).collect();
            StorageKind::Commit { fence, expect, replica, put: put(), delete: remove(), remove_queue }
        }
        "compact" => StorageKind::Compact { fence, generation: number(1), put: put(), delete: remove() },
        // Of what was discarded the keys say everything, and nothing else concerns this tab.
        "discard" => StorageKind::Discard { key: 0, expect: Vec::new(), mark: Vec::new() },
        _ => StorageKind::DeleteGeneration { fence, first: 0, last: 0 },
    };
    TabMessage::Stored(kind, keys(found, QUEUE))
}

fn stored(found: &Found, failed: f64, has_keys: f64, reason: String) -> Result<StoredValue, StorageFailure> {
    if failed > 0.0 {
        return Err(failure(failed, reason));
    }
    if has_keys > 0.0 {
        return Ok(StoredValue::Keys(keys(found, QUEUE)));
    }
    Ok(StoredValue::Done)
}

fn failure(kind: f64, reason: String) -> StorageFailure {
    match to_u16(kind) {
        CONFLICT => StorageFailure::Conflict,
        FULL => StorageFailure::Full,
        TOO_NEW => StorageFailure::TooNew,
        OUTDATED => StorageFailure::Outdated,
        _ => StorageFailure::Unavailable(reason),
    }
}

/// The answer to a GET; status 0 says that there was none.
fn answered(kind: u32, body: &JsValue, [request, status, retry_after_ms]: [f64; 3]) -> Input {
    let (request, status) = (RequestId(to_u64(request)), to_u16(status));
    let retry_after_ms = Some(to_u64(retry_after_ms)).filter(|ms| *ms > 0);
    let body = String::from_utf8(body_bytes(body)).unwrap_or_default();
    if kind == RESOLVED {
        return identity_answered(status, &body, retry_after_ms);
    }
    if status == 0 {
        return Input::PullFailed { request };
    }
    Input::PullAnswered { request, status, body, retry_after_ms }
}

/// What `GET /api/auth/me` means for the core.
fn identity_answered(status: u16, body: &str, retry_after_ms: Option<u64>) -> Input {
    if status == 200
        && let Ok(identity) = Identity::parse(body)
    {
        return Input::IdentityResolved(identity);
    }
    let code = ErrorBody::parse(body).ok().map(|body| body.error.code);
    Input::IdentityUnavailable { status: Some(status).filter(|status| *status > 0), code, retry_after_ms }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, which is what is wanted")]
const fn to_u16(number: f64) -> u16 {
    number as u16
}

// `js/page.js`.
const WAKE: u32 = 0;
const TICK: u32 = 1;
const LEAD_LOST: u32 = 2;
// `js/tabs.js`.
const TAB_HEARD: u32 = 16;
// `js/storage.js`; the last one, 15, says that all is over.
const OPENED: u32 = 11;
const OPEN_FAILED: u32 = 12;
const STORED: u32 = 13;
const STOPPING: u32 = 14;
// `js/network.js`.
const SOCKET_OPENED: u32 = 20;
const SOCKET_CLOSED: u32 = 21;
const RECEIVED: u32 = 22;
/// The answer to a pull; `Network.get` is given it.
pub(crate) const PULLED: u32 = 23;
/// The answer about the identity; likewise.
pub(crate) const RESOLVED: u32 = 24;
// `js/transaction.js`; every other one is a failure whose text says everything.
const CONFLICT: u16 = 1;
const FULL: u16 = 2;
const TOO_NEW: u16 = 4;
const OUTDATED: u16 = 6;
// The lists of `Found`.
const RECORDS: u32 = 0;
const QUEUE: u32 = 1;
const REMOVED: u32 = 2;
const UNQUEUED: u32 = 3;
const UNQUEUED_SEQS: u32 = 4;
const EXPECTED: u32 = 5;
const NUMBERS: u32 = 6;
const FORMERS: u32 = 7;
const FORMER_NUMBERS: u32 = 8;
