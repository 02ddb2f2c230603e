//! Whose replica it is: names derived from an identity, and the map from known tokens to identities (`js/page.js`).

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};
use syncline_protocol::Identity;
use syncline_protocol::json::{finish, write_text};
use wasm_bindgen::prelude::*;

use crate::browser::{recall_identity, remember_identity};

/// Names the database and lock of an identity: 32 hexadecimal digits of the SHA-256 of `[user_id, tenant_id]`.
pub fn identity_key(user_id: Option<String>, tenant_id: Option<String>) -> String {
    let mut text = vec![b'['];
    for (part, after) in [(user_id, b','), (tenant_id, b']')] {
        match part {
            Some(part) => write_text(&mut text, part.as_bytes()),
            None => text.extend_from_slice(b"null"),
        }
        text.push(after);
    }
    let mut key = sha256_hex(&text);
    key.truncate(32);
    key
}

/// SHA-256 of a token in hexadecimal: what is stored in its place.
#[wasm_bindgen(js_name = tokenHash)]
pub fn token_hash(token: &str) -> JsValue {
    JsValue::from_str(&sha256_hex(token.as_bytes()))
}

/// Name of the database and the lock of an identity.
pub(crate) fn database_name(app_name: &str, identity: &Identity) -> String {
    let key = identity_key(identity.user_id.clone(), identity.tenant_id.clone());
    ["syncline_", app_name, "_", &key].concat()
}

/// The identity a token is known to have; without a token that is the anonymous one.
pub(crate) fn recall(app_name: &str, token: Option<&str>) -> Option<Identity> {
    let Some(token) = token else {
        return Some(Identity::default());
    };
    Identity::parse(&recall_identity(&map_name(app_name), &sha256_hex(token.as_bytes()))?).ok()
}

/// Keeps what the server said about a token.
pub(crate) fn remember(app_name: &str, token: Option<&str>, identity: &Identity) {
    if let Some(token) = token {
        remember_identity(&map_name(app_name), &sha256_hex(token.as_bytes()), &to_json(identity));
    }
}

/// An identity as it is kept.
pub(crate) fn to_json(identity: &Identity) -> String {
    let mut out = Vec::new();
    identity.write(&mut out);
    finish(out)
}

fn map_name(app_name: &str) -> String {
    ["syncline_", app_name, "_identities"].concat()
}

fn sha256_hex(text: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    Sha256::digest(text).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
