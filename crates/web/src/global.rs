//! The global object, asked for what a page, a worker or Node may or may not have.

use js_sys::{Array, Object, Reflect};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(catch, js_namespace = crypto, js_name = getRandomValues)]
    fn get_random_values(bytes: &js_sys::Uint8Array) -> Result<JsValue, JsValue>;
}

/// A property of the global object; `None` when it is missing, null, or refuses to be read.
///
/// Reading `localStorage` or `indexedDB` throws in a sandboxed frame, which is the same to us as not having it.
pub(crate) fn property(name: &str) -> Option<JsValue> {
    property_of(&js_sys::global(), name)
}

/// A property of an object, in the same way.
pub(crate) fn property_of(object: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(object, &JsValue::from_str(name)).ok().filter(|value| !value.is_undefined() && !value.is_null())
}

/// An object with these properties.
pub(crate) fn object(properties: &[(&str, &JsValue)]) -> Object {
    let entries: Array = properties.iter().map(|(name, value)| Array::of2(&JsValue::from_str(name), value)).collect();
    Object::from_entries(&entries).unwrap_or_default()
}

/// 32 bytes of the platform's cryptographic randomness.
pub(crate) fn random_seed() -> Result<[u8; 32], JsValue> {
    let bytes = js_sys::Uint8Array::new_with_length(32);
    get_random_values(&bytes)?;
    let mut seed = [0; 32];
    bytes.copy_to(&mut seed);
    Ok(seed)
}

/// A whole, not negative number as an integer; what is neither gives 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, which is what is wanted")]
pub(crate) const fn to_u64(number: f64) -> u64 {
    number as u64
}

/// An integer as a number. Exact up to 2^53, which bounds every key, seq and time of ours.
#[expect(clippy::cast_precision_loss, reason = "all integers of ours are safe integers")]
pub(crate) const fn to_f64(integer: u64) -> f64 {
    integer as f64
}
