//! Whose replica it is: names derived from an identity, and the map from known tokens to identities.
//!
//! The map lets a page that starts without a network show the right user's rows. It holds hashes of tokens, never tokens,
//! and lives in `localStorage` because it must be read before any database is chosen.

use sha2::{Digest as _, Sha256};
use syncline_protocol::Identity;
use syncline_protocol::json::{JsonError, Object, Reader, Slot, finish, write_text};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::Storage;

use crate::global::property;

/// Names the database and lock of an identity: 32 hexadecimal digits of the SHA-256 of `[user_id, tenant_id]`.
#[wasm_bindgen(js_name = identityKey)]
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
pub fn token_hash(token: &str) -> String {
    sha256_hex(token.as_bytes())
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
    let hash = token_hash(token);
    let known = read(&local_storage()?, &map_name(app_name));
    known.into_iter().find(|entry| entry.token_hash == hash).map(|entry| entry.identity)
}

/// Keeps what the server said about a token. Where there is no `localStorage` the next start asks again.
pub(crate) fn remember(app_name: &str, token: Option<&str>, identity: &Identity) {
    let (Some(token), Some(storage)) = (token, local_storage()) else {
        return;
    };
    let name = map_name(app_name);
    let entry = Known { token_hash: token_hash(token), identity: identity.clone() };
    let mut known = read(&storage, &name);
    if known.first() == Some(&entry) {
        return;
    }
    known.retain(|other| other.token_hash != entry.token_hash);
    known.insert(0, entry);
    known.truncate(KNOWN_MAX);
    // A full or refused storage costs an offline start, nothing else.
    let _ = storage.set_item(&name, &to_json(&known));
}

/// How many tokens are remembered: several users of one browser, and a token or two of each that was renewed.
const KNOWN_MAX: usize = 8;

#[derive(Debug, PartialEq, Eq)]
struct Known {
    token_hash: String,
    identity: Identity,
}

fn read(storage: &Storage, name: &str) -> Vec<Known> {
    let text = storage.get_item(name).ok().flatten().unwrap_or_default();
    from_json(&text).unwrap_or_default()
}

fn to_json(known: &[Known]) -> String {
    let mut out = vec![b'['];
    for (index, entry) in known.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let mut object = Object::begin(&mut out);
        object.text("token_hash", &entry.token_hash);
        entry.identity.write(object.name("identity"));
        object.end();
    }
    out.push(b']');
    finish(out)
}

fn from_json(text: &str) -> Result<Vec<Known>, JsonError> {
    let (mut reader, mut known) = (Reader::new(text), Vec::new());
    let mut list = reader.array();
    while reader.next_item(&mut list) {
        let (mut token_hash, mut identity) = (String::new(), Identity::default());
        reader.members(
            &mut [
                ("token_hash", Slot::Text(&mut token_hash)),
                ("identity", Slot::Nested(&mut |reader| identity = Identity::read(reader))),
            ],
            &mut [],
        );
        known.push(Known { token_hash, identity });
    }
    reader.finish().map(|()| known)
}

fn map_name(app_name: &str) -> String {
    ["syncline_", app_name, "_identities"].concat()
}

fn local_storage() -> Option<Storage> {
    property("localStorage").map(JsCast::unchecked_into)
}

fn sha256_hex(text: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    Sha256::digest(text).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
