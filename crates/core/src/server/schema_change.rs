//! Whether rows stored under an earlier manifest fit a later one. `docs/server.md` has the rules.

use serde_json::{Map, Value, json};

use crate::server::{Entity, Field, Schema};

/// A change of the manifest that rows already stored do not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}, and rows of {entity} are stored; take it back, or export them and import them into a new database")]
pub struct SchemaChange {
    /// Which entity, or which field of it, as in the manifest.
    place: String,
    /// Whose rows.
    entity: String,
    /// What changed.
    what: String,
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
    /// in any way; of the rest only what adds to it passes.
    ///
    /// # Errors
    /// Names the first change that is more than an addition.
    pub fn check_extends<E: From<SchemaChange>>(
        &self,
        shape: &Value,
        mut has_rows: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<(), E> {
        let Some(entities) = shape.as_object() else { return Ok(()) };
        for (name, fields) in entities {
            let changed = match self.entity(name) {
                None => Some((String::new(), "it was taken out".to_owned())),
                Some(entity) => fields.as_object().and_then(|fields| changed_field(entity, fields)),
            };
            let Some((field, what)) = changed else { continue };
            if has_rows(name)? {
                let place = if field.is_empty() { format!("entities.{name}") } else { format!("entities.{name}.fields.{field}") };
                return Err(SchemaChange { place, entity: name.clone(), what }.into());
            }
        }
        Ok(())
    }
}

/// The first field that changed by more than an addition, and how.
fn changed_field(entity: &Entity, before: &Map<String, Value>) -> Option<(String, String)> {
    let of_before = before.iter().find_map(|(name, before)| {
        let what = match entity.fields.get(name) {
            None => Some("it was taken out".to_owned()),
            Some(field) => narrowed(field, before),
        };
        what.map(|what| (name.clone(), what))
    });
    let added = || {
        let is_open_end = |field: &Field| field.optional || field.default.is_some();
        let (name, _) = entity.fields.iter().find(|(name, field)| !before.contains_key(*name) && !is_open_end(field))?;
        Some((name.clone(), "it is new, neither optional nor with a default".to_owned()))
    };
    of_before.or_else(added)
}

fn narrowed(field: &Field, before: &Value) -> Option<String> {
    let was = |key: &str| before.get(key).and_then(Value::as_bool).unwrap_or_default();
    let kind = before.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind != field.kind.as_str() {
        return Some(format!("its type was {kind} and is now {}", field.kind.as_str()));
    }
    let found = if was("optional") && !field.optional {
        "it was optional and is no longer"
    } else if !was("unique") && field.unique {
        "it was not unique and is now"
    } else if was("default") && field.default.is_none() && !field.optional {
        "its default was taken out"
    } else {
        return None;
    };
    Some(found.to_owned())
}
