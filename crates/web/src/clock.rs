//! The time, as the core is told it.

use std::cell::Cell;

use syncline_protocol::Timestamp;
use wasm_bindgen::prelude::*;

use crate::global::to_u64;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// Milliseconds since 1970 that never run backwards.
///
/// The monotonic clock carries the wall clock's reading from the start, because a wall clock set back by an hour would
/// stretch every wait by an hour. It stands still while some systems sleep, so a wall clock that got ahead by more than
/// [`AHEAD_MS_MAX`] is believed.
#[derive(Debug)]
pub(crate) struct Clock {
    offset: Cell<f64>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { offset: Cell::new(js_sys::Date::now() - performance_now()) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let monotonic = performance_now();
        let wall = js_sys::Date::now();
        if wall > monotonic + self.offset.get() + AHEAD_MS_MAX {
            self.offset.set(wall - monotonic);
        }
        Timestamp(to_u64(monotonic + self.offset.get()))
    }
}

const AHEAD_MS_MAX: f64 = 1_000.0;
