//! How a change makes a row: typed fields, defaults, patches. `docs/values.md` is the specification.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Number, Value};
use syncline_protocol::{ErrorCode, Row, ValueError, limits};

use crate::server::{Entity, Field, FieldType, normalise_datetime};

/// Why a change cannot become a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// Not declared.
    #[error("{field} is no field of this entity")]
    Unknown {
        /// Which.
        field: String,
    },
    /// Needed and not there.
    #[error("{field} is missing and has no default")]
    Missing {
        /// Which.
        field: String,
    },
    /// Null where null may not be.
    #[error("{field} is null and not optional")]
    Null {
        /// Which.
        field: String,
    },
    /// Not of the declared type.
    #[error("{field} is no {expected}")]
    Type {
        /// Which.
        field: String,
        /// The declared type.
        expected: &'static str,
    },
    /// Of the declared type, but beyond what it holds.
    #[error("{field} is out of range for {expected}")]
    Range {
        /// Which.
        field: String,
        /// The declared type.
        expected: &'static str,
    },
    /// A field that the server writes itself says somebody else.
    #[error("{field} is written by the server: leave it out")]
    Stamped {
        /// Which.
        field: String,
    },
    /// The fields name another id than the change.
    #[error("the field id says another id than the change")]
    Id,
    /// The row as a whole cannot be stored.
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl FieldError {
    /// The stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. } => ErrorCode::UnknownField,
            Self::Missing { .. } | Self::Null { .. } => ErrorCode::MissingField,
            Self::Type { .. } => ErrorCode::TypeMismatch,
            Self::Range { .. } => ErrorCode::ValueOutOfRange,
            Self::Stamped { .. } => ErrorCode::PolicyDenied,
            Self::Id => ErrorCode::InvalidValue,
            Self::Value(error) => error.code(),
        }
    }
}

/// Makes the row an insert asks for: every declared field, typed and with defaults. `None` is an open schema.
///
/// # Errors
/// When a field is unknown, missing or not of its type.
pub fn insert_image(entity: Option<&Entity>, row_id: &str, data: &Row) -> Result<Row, FieldError> {
    let mut row = without_id(row_id, data)?;
    let Some(entity) = entity else { return Ok(row) };
    type_fields(entity, &mut row)?;
    for (name, field) in &entity.fields {
        if row.contains_key(name) {
            continue;
        }
        match &field.default {
            Some(default) => row.insert(name.clone(), typed(name, field, default)?),
            None if field.optional => row.insert(name.clone(), Value::Null),
            None => return Err(FieldError::Missing { field: name.clone() }),
        };
    }
    check_size(&row)?;
    Ok(row)
}

/// Makes the row an update asks for, and names the fields it sets. A field that the patch does not name stays.
///
/// # Errors
/// When a field is unknown or not of its type.
pub fn update_image(entity: Option<&Entity>, row_id: &str, before: &Row, patch: &Row) -> Result<(Row, Vec<String>), FieldError> {
    let mut patch = without_id(row_id, patch)?;
    if let Some(entity) = entity {
        type_fields(entity, &mut patch)?;
    }
    let columns = patch.keys().cloned().collect();
    let mut row = before.clone();
    row.extend(patch);
    check_size(&row)?;
    Ok((row, columns))
}

/// Takes out the field `id`, which some clients repeat from the change.
fn without_id(row_id: &str, data: &Row) -> Result<Row, FieldError> {
    let mut row = data.clone();
    match row.remove("id") {
        None => Ok(row),
        Some(Value::String(id)) if id == row_id => Ok(row),
        Some(_) => Err(FieldError::Id),
    }
}

fn type_fields(entity: &Entity, row: &mut Row) -> Result<(), FieldError> {
    for (name, value) in row.iter_mut() {
        let Some(field) = entity.fields.get(name) else { return Err(FieldError::Unknown { field: name.clone() }) };
        *value = typed(name, field, value)?;
    }
    Ok(())
}

/// A patch may be small and the row it makes too large.
fn check_size(row: &Row) -> Result<(), FieldError> {
    if row.len() > limits::ROW_FIELDS_MAX {
        return Err(ValueError::TooManyFields { count: row.len() }.into());
    }
    let bytes = syncline_protocol::canonical_row(row).len();
    if bytes > limits::ROW_BYTES_MAX {
        return Err(ValueError::TooLarge { bytes }.into());
    }
    Ok(())
}

/// Checks a value against its field and brings it into the form that is stored.
pub(crate) fn typed(name: &str, field: &Field, value: &Value) -> Result<Value, FieldError> {
    let expected = field.kind.as_str();
    let mismatch = || FieldError::Type { field: name.to_owned(), expected };
    if value.is_null() {
        return if field.optional { Ok(Value::Null) } else { Err(FieldError::Null { field: name.to_owned() }) };
    }
    match (field.kind, value) {
        (FieldType::Json, _)
        | (FieldType::String, Value::String(_))
        | (FieldType::Bool, Value::Bool(_))
        | (FieldType::Float, Value::Number(_)) => Ok(value.clone()),
        (FieldType::Int, Value::Number(number)) => integer(name, number),
        (FieldType::Datetime, Value::String(text)) => match normalise_datetime(text) {
            Some(text) => Ok(Value::String(text)),
            None => Err(mismatch()),
        },
        (FieldType::String | FieldType::Bool | FieldType::Float | FieldType::Int | FieldType::Datetime, _) => Err(mismatch()),
    }
}

fn integer(name: &str, number: &Number) -> Result<Value, FieldError> {
    let expected = FieldType::Int.as_str();
    let range = || FieldError::Range { field: name.to_owned(), expected };
    if let Some(integer) = number.as_i64() {
        let fits = integer.unsigned_abs() <= limits::INTEGER_MAX.unsigned_abs();
        return if fits { Ok(Value::from(integer)) } else { Err(range()) };
    }
    let float = number.as_f64().ok_or_else(range)?;
    if float % 1.0 != 0.0 {
        return Err(FieldError::Type { field: name.to_owned(), expected });
    }
    if float.abs() > INTEGER_MAX_FLOAT {
        return Err(range());
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53 - 1, checked above")]
    let integer = float as i64;
    Ok(Value::from(integer))
}

const INTEGER_MAX_FLOAT: f64 = 9_007_199_254_740_991.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Row {
        let Value::Object(row) = value else { panic!("{value} is no row") };
        row
    }

    fn entity() -> Entity {
        let field = |kind, optional, default| Field { kind, optional, default, unique: false, index: false, stamp: None };
        let fields = [
            ("title", field(FieldType::String, false, None)),
            ("count", field(FieldType::Int, false, Some(json!(0)))),
            ("price", field(FieldType::Float, true, None)),
            ("done", field(FieldType::Bool, false, Some(json!(false)))),
            ("at", field(FieldType::Datetime, true, None)),
            ("tags", field(FieldType::Json, true, None)),
        ];
        Entity { fields: fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect(), ..Entity::default() }
    }

    #[test]
    fn an_insert_is_typed_and_complete() {
        let made = insert_image(
            Some(&entity()),
            "r",
            &row(json!({"title": "a", "count": 5.0, "at": "2026-11-21T10:00:00Z", "id": "r"})),
        );
        assert_eq!(
            Value::Object(made.unwrap()),
            json!({"title": "a", "count": 5, "price": null, "done": false, "at": "2026-11-21T10:00:00.000Z", "tags": null})
        );
    }

    #[test]
    fn what_does_not_fit_has_a_code() {
        let cases = [
            (json!({}), ErrorCode::MissingField),
            (json!({"title": null}), ErrorCode::MissingField),
            (json!({"title": 1}), ErrorCode::TypeMismatch),
            (json!({"title": "a", "extra": 1}), ErrorCode::UnknownField),
            (json!({"title": "a", "count": 1.5}), ErrorCode::TypeMismatch),
            (json!({"title": "a", "count": "1"}), ErrorCode::TypeMismatch),
            (json!({"title": "a", "count": 1e300}), ErrorCode::ValueOutOfRange),
            (json!({"title": "a", "count": 9_007_199_254_740_992_i64}), ErrorCode::ValueOutOfRange),
            (json!({"title": "a", "done": 1}), ErrorCode::TypeMismatch),
            (json!({"title": "a", "at": "yesterday"}), ErrorCode::TypeMismatch),
            (json!({"title": "a", "id": "other"}), ErrorCode::InvalidValue),
        ];
        for (data, code) in cases {
            assert_eq!(insert_image(Some(&entity()), "r", &row(data.clone())).unwrap_err().code(), code, "{data}");
        }
    }

    #[test]
    fn an_update_changes_what_it_names() {
        let before = row(json!({"title": "a", "count": 1, "price": 2.5}));
        let (after, columns) = update_image(Some(&entity()), "r", &before, &row(json!({"price": null, "count": 2}))).unwrap();
        assert_eq!(Value::Object(after), json!({"title": "a", "count": 2, "price": null}));
        assert_eq!(columns, ["count", "price"]);
        let refused = update_image(Some(&entity()), "r", &before, &row(json!({"title": null})));
        assert_eq!(refused.unwrap_err().code(), ErrorCode::MissingField);
    }
}
