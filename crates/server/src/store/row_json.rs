//! Stored rows are JSON text; most of them travel without ever being parsed.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use syncline_protocol::{RawJson, Row};

use crate::store::StoreError;

/// Parses only the wanted fields of a stored row; the rest is skipped without being built.
pub(crate) fn pick_fields(text: &str, wanted: &BTreeSet<&str>) -> Result<Row, StoreError> {
    if wanted.is_empty() {
        return Ok(Row::new());
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(Pick { wanted }).map_err(|_| StoreError::Corrupt { what: "row" })
}

/// Parses a stored row.
pub(crate) fn parse_stored(text: &str) -> Result<Row, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt { what: "row" })
}

/// Takes a stored row as it is.
pub(crate) fn raw(text: String) -> Result<RawJson, StoreError> {
    RawValue::from_string(text).map(RawJson::from).map_err(|_| StoreError::Corrupt { what: "row" })
}

/// Puts the id into a stored row's text. Row ids need no escapes.
pub(crate) fn with_id(id: &str, text: &str) -> String {
    match text.strip_prefix('{') {
        Some("}") | None => format!("{{\"id\":\"{id}\"}}"),
        Some(rest) => format!("{{\"id\":\"{id}\",{rest}"),
    }
}

struct Pick<'a> {
    wanted: &'a BTreeSet<&'a str>,
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut row = Row::new();
        while let Some(Key(key)) = map.next_key_seed(KeySeed)? {
            if self.wanted.contains(key.as_ref()) {
                row.insert(key.into_owned(), map.next_value::<Value>()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(row)
    }
}

struct Key<'de>(Cow<'de, str>);
struct KeySeed;

/// Borrows the key from the text unless it has escapes; serde's `Cow` always copies.
impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Key<'de>, D::Error> {
        deserializer.deserialize_str(KeySeed)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_wanted_fields_are_parsed() {
        let picked = pick_fields(r#"{"a":1,"b":{"c":[1,2]},"d\n":"x","e":null}"#, &BTreeSet::from(["a", "d\n", "z"])).unwrap();
        assert_eq!(Value::Object(picked), json!({"a": 1, "d\n": "x"}));
    }

    #[test]
    fn the_id_comes_first() {
        assert_eq!(with_id("r", "{}"), r#"{"id":"r"}"#);
        assert_eq!(with_id("r", r#"{"a":1}"#), r#"{"id":"r","a":1}"#);
    }
}
