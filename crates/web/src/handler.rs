//! What the browser calls on an event.

use js_sys::Function;
use wasm_bindgen::prelude::*;

/// Kept by whoever listens, because a closure that is dropped cannot be called.
///
/// One type for all events: each type of closure brings its own way in from JavaScript, in code that every page downloads.
pub(crate) type Handler = Closure<dyn FnMut(JsValue)>;

/// Makes a handler.
pub(crate) fn handler(handle: impl FnMut(JsValue) + 'static) -> Handler {
    Closure::wrap(Box::new(handle))
}

/// A handler as JavaScript knows it.
pub(crate) fn function(handler: &Handler) -> &Function {
    handler.as_ref().unchecked_ref()
}
