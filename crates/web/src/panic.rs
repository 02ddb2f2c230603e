//! A panic leaves the module unusable: half-changed values stay, borrowed cells stay borrowed. It is said once, and
//! every later call is refused in words instead of trapping.

use std::cell::{Cell, RefCell};

use js_sys::{Array, Function};
use syncline_core::client::Event;
use syncline_protocol::ErrorCode;
use wasm_bindgen::prelude::*;

use crate::error::raw_error;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = queueMicrotask)]
    fn queue_microtask(task: &Function);
}

thread_local! {
    static IS_HOOKED: Cell<bool> = const { Cell::new(false) };
    static PANICKED: Cell<bool> = const { Cell::new(false) };
    static LISTENERS: RefCell<Vec<Function>> = const { RefCell::new(Vec::new()) };
}

/// Makes sure that a panic is reported to `listener` too.
pub(crate) fn report_to(listener: &Function) {
    if !IS_HOOKED.replace(true) {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            report(&info.to_string());
            previous(info);
        }));
    }
    LISTENERS.with_borrow_mut(|listeners| listeners.push(listener.clone()));
}

/// Undoes [`report_to`].
pub(crate) fn stop_reporting_to(listener: &Function) {
    LISTENERS.with_borrow_mut(|listeners| listeners.retain(|other| other != listener));
}

/// Whether the module is beyond use.
pub(crate) fn has_panicked() -> bool {
    PANICKED.get()
}

/// Refuses a call after a panic.
///
/// # Errors
/// `INTERNAL`, after a panic.
pub(crate) fn refuse_after_panic() -> Result<(), JsValue> {
    if has_panicked() {
        return Err(raw_error(ErrorCode::Internal, "the engine broke down and must be loaded again; its database is intact"));
    }
    Ok(())
}

fn report(message: &str) {
    if PANICKED.replace(true) {
        return;
    }
    let event = Event::Problem { code: ErrorCode::Internal, message: message.to_owned() };
    let events = Event::list_to_json(&[event]);
    let listeners = LISTENERS.with(|listeners| listeners.try_borrow().map(|listeners| listeners.clone()).unwrap_or_default());
    for listener in listeners {
        // Called after the trap has unwound JavaScript's stack, and without any of our code on the way.
        let bound: Function = listener.bind1(&JsValue::NULL, &events.as_str().into()).unchecked_into();
        queue_microtask(&bound);
    }
}

/// Calls the facade; what a listener throws is the facade's business and must not unwind through us.
pub(crate) fn call_listener(listener: &Function, events: &str) {
    let _ = listener.apply(&JsValue::NULL, &Array::of1(&events.into()));
}
