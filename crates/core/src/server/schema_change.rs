//! Whether rows stored under an earlier manifest fit a later one. `docs/server.md` has the rules.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

use crate::server::{Entity, Field, Schema};

/// A change of the manifest that rows already stored do not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}; take it back, or export the rows of {entity} and import them into a new database")]
pub struct SchemaChange {
    /// Which entity, or which field of it, as in the manifest.
    place: String,
    /// Whose rows.
    entity: String,
    /// What changed, and which rows mind.
    what: String,
}

/// What is stored, as far as a change of the manifest has to know.
pub trait StoredRows {
    /// Why it could not be looked up, or that the change is refused.
    type Error: From<SchemaChange>;

    /// Whether an entity has any.
    ///
    /// # Errors
    /// When the store cannot look.
    fn any(&mut self, entity: &str) -> Result<bool, Self::Error>;

    /// Whether two rows of one tenant hold the same value in a field.
    ///
    /// # Errors
    /// When the store cannot look.
    fn share_value(&mut self, entity: &str, field: &str) -> Result<bool, Self::Error>;
}

impl Schema {
    /// What stored rows rely on, to be compared with a later manifest; `None` for an open schema, which promises nothing.
    pub fn shape(&self) -> Option<Value> {
        if self.is_open() {
            return None;
        }
        let field = |field: &Field| {
            json!({
                "type": field.kind.as_str(),
                "optional": field.optional,
                "unique": field.unique,
                "default": field.default.is_some(),
            })
        };
        let fields = |entity: &Entity| entity.fields.iter().map(|(name, declared)| (name.clone(), field(declared))).collect();
        let entities: Map<_, _> =
            self.entities().map(|(name, entity)| (name.to_owned(), Value::Object(fields(entity)))).collect();
        Some(Value::Object(entities))
    }

    /// Compares this schema with the [`Schema::shape`] of the one that rows were stored under. What has no rows may change
    /// in any way; of the rest only what every stored row fits.
    ///
    /// # Errors
    /// Names the first change that stored rows do not fit.
    pub fn check_extends<S: StoredRows>(&self, shape: &Value, rows: &mut S) -> Result<(), S::Error> {
        let Some(entities) = shape.as_object() else { return Ok(()) };
        for (name, fields) in entities {
            let refused = |place: String, what: String| SchemaChange { place, entity: name.clone(), what };
            let (Some(entity), Some(fields)) = (self.entity(name), fields.as_object()) else {
                if rows.any(name)? {
                    let what = format!("it was taken out, and rows of {name} are stored");
                    return Err(refused(format!("entities.{name}"), what).into());
                }
                continue;
            };
            for (field, change) in changed_fields(entity, fields) {
                let what = match change {
                    FieldChange::Unique if rows.share_value(name, &field)? => {
                        "it was not unique and is now, and stored rows share a value".to_owned()
                    }
                    FieldChange::Narrowed(what) if rows.any(name)? => format!("{what}, and rows of {name} are stored"),
                    FieldChange::Unique | FieldChange::Narrowed(_) => continue,
                };
                return Err(refused(format!("entities.{name}.fields.{field}"), what).into());
            }
        }
        Ok(())
    }
}

/// How a field changed by more than an addition.
enum FieldChange {
    /// In a way that no stored row can be trusted to fit.
    Narrowed(String),
    /// It became unique, which rows may or may not be.
    Unique,
}

fn changed_fields(entity: &Entity, before: &Map<String, Value>) -> Vec<(String, FieldChange)> {
    let narrowed = |what: &str| FieldChange::Narrowed(what.to_owned());
    let of_before = before.iter().filter_map(|(name, before)| {
        let change = match entity.fields.get(name) {
            None => Some(narrowed("it was taken out")),
            Some(field) => changed(field, before),
        };
        Some((name.clone(), change?))
    });
    let is_open_end = |field: &Field| field.optional || field.default.is_some();
    let needed = entity.fields.iter().filter(|(name, field)| !before.contains_key(*name) && !is_open_end(field));
    let needed = needed.map(|(name, _)| (name.clone(), narrowed("it is new, neither optional nor with a default")));
    of_before.chain(needed).collect()
}

fn changed(field: &Field, before: &Value) -> Option<FieldChange> {
    let was = |key: &str| before.get(key).and_then(Value::as_bool).unwrap_or_default();
    let kind = before.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind != field.kind.as_str() {
        return Some(FieldChange::Narrowed(format!("its type was {kind} and is now {}", field.kind.as_str())));
    }
    if was("optional") && !field.optional {
        return Some(FieldChange::Narrowed("it was optional and is no longer".to_owned()));
    }
    if was("default") && field.default.is_none() && !field.optional {
        return Some(FieldChange::Narrowed("its default was taken out".to_owned()));
    }
    (!was("unique") && field.unique).then_some(FieldChange::Unique)
}
