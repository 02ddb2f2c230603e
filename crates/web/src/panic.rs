//! A panic leaves the instance unusable: half-changed values stay, borrowed cells stay borrowed. It is said once, and every
//! later call is refused in words instead of trapping. The npm package then makes another instance of the module.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::browser;

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Reports a panic to all engines, and traps. The text of a panic would bring formatting, the names of all source files and a
/// tenth of the module with it: what a page's console shows of the trap says where it was.
#[cfg(feature = "module")]
#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    if !PANICKED.swap(true, Ordering::Relaxed) {
        report_panic("the module panicked");
    }
    core::arch::wasm32::unreachable()
}

/// Tells all engines, and lets go of what they hold: their locks and connections are of use to other tabs.
pub fn report_panic(message: &str) {
    browser::broke_down(message);
}

/// Whether the module is beyond use.
pub(crate) fn has_panicked() -> bool {
    PANICKED.load(Ordering::Relaxed)
}

/// Refuses a call after a panic: throws an error without a code, which the facade takes for `INTERNAL`, as it does a trap.
pub(crate) fn refuse_after_panic() {
    if has_panicked() {
        wasm_bindgen::throw_str("the engine broke down; its database is intact");
    }
}
