//! The one timer of an engine: when the core wants to be woken.

use std::cell::RefCell;

pub(crate) use gloo_timers::callback::Timeout;
use syncline_protocol::Timestamp;

/// Holds at most one pending wake-up.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    pending: RefCell<Option<(Timestamp, Timeout)>>,
}

impl Timer {
    /// Arranges for `wake` to run at `wake_at`, in place of whatever was arranged before.
    pub(crate) fn set(&self, now: Timestamp, wake_at: Option<Timestamp>, wake: impl FnOnce() + 'static) {
        let mut pending = self.pending.borrow_mut();
        let Some(wake_at) = wake_at else {
            *pending = None;
            return;
        };
        if pending.as_ref().is_some_and(|(armed, _)| *armed == wake_at) {
            return;
        }
        // A browser takes the delay as a signed 32-bit number and fires at once beyond it. Waking early is harmless.
        let delay_ms = u32::try_from(wake_at.0.saturating_sub(now.0)).unwrap_or(DELAY_MS_MAX).min(DELAY_MS_MAX);
        *pending = Some((wake_at, after(delay_ms, wake)));
    }

    /// Forgets the arrangement, because it has come about or nobody waits any more.
    pub(crate) fn clear(&self) {
        self.pending.borrow_mut().take();
    }
}

/// Runs `then` after a time, unless what it gives is dropped.
pub(crate) fn after(delay_ms: u32, then: impl FnOnce() + 'static) -> Timeout {
    // Boxed, so that the way to the browser is compiled once for all.
    let then: Box<dyn FnOnce()> = Box::new(then);
    Timeout::new(delay_ms, then)
}

const DELAY_MS_MAX: u32 = 0x7fff_ffff;
