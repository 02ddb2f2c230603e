//! How an error crosses to JavaScript: one function, so that `code` and `retryable` are always there.

use syncline_core::client::ClientError;
use syncline_protocol::ErrorCode;
use wasm_bindgen::JsValue;

use crate::global::property_of;

/// An `Error` with `code` and `retryable`; the facade rethrows it as `SynclineError`.
pub(crate) fn raw_error(code: ErrorCode, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    error.set_name("SynclineRawError");
    for (name, value) in [("code", JsValue::from_str(code.code())), ("retryable", JsValue::from_bool(code.is_retryable()))] {
        // Setting a property of a fresh object cannot fail.
        let _ = js_sys::Reflect::set(&error, &JsValue::from_str(name), &value);
    }
    error.into()
}

/// The same for what the core refuses.
pub(crate) fn client_error(error: &ClientError) -> JsValue {
    raw_error(error.code(), &error.to_string())
}

/// The `name` of something thrown: for a `DOMException` that is what tells one from another.
pub(crate) fn thrown_name(thrown: &JsValue) -> String {
    property_of(thrown, "name").and_then(|name| name.as_string()).unwrap_or_default()
}

/// Name and message of something thrown, for people.
pub(crate) fn thrown_text(thrown: &JsValue) -> String {
    let message = property_of(thrown, "message").and_then(|message| message.as_string()).unwrap_or_default();
    let name = thrown_name(thrown);
    if name.is_empty() { message } else { name + ": " + &message }
}
