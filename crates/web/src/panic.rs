//! A panic leaves the instance unusable: half-changed values stay, borrowed cells stay borrowed. It is said once, and every
//! later call is refused in words instead of trapping. The npm package then makes another instance of the module.

use std::cell::Cell;

use crate::browser;

thread_local! {
    static IS_HOOKED: Cell<bool> = const { Cell::new(false) };
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Makes sure that a panic is reported to all engines.
pub(crate) fn report() {
    if IS_HOOKED.replace(true) {
        return;
    }
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !PANICKED.replace(true) {
            report_panic(&info.to_string());
        }
        previous(info);
    }));
}

/// Tells all engines, and lets go of what they hold: their locks and connections are of use to other tabs.
pub fn report_panic(message: &str) {
    browser::broke_down(message);
}

/// Whether the module is beyond use.
pub(crate) fn has_panicked() -> bool {
    PANICKED.get()
}

/// Refuses a call after a panic: throws an error without a code, which the facade takes for `INTERNAL`, as it does a trap.
pub(crate) fn refuse_after_panic() {
    if has_panicked() {
        wasm_bindgen::throw_str("the engine broke down; its database is intact");
    }
}
