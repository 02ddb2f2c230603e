//! What may stand in a row. `docs/values.md` tells how a value travels from JavaScript to SQL and back.

use serde_json::{Map, Value};

use crate::message_reader::{read_all, read_row};
use crate::{EntityName, ErrorCode, IdError, canonical_row, limits};

/// The fields of a row by name, without its id. Kept in order of the names' UTF-8 bytes.
pub type Row = Map<String, Value>;

/// Why a value cannot be stored. `path` names the place: `tags[2].label`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The text is no JSON object.
    #[error("a row is a JSON object: {0}")]
    NotAnObject(String),
    /// A key that other languages treat specially.
    #[error("{path} uses a reserved key")]
    ReservedKey {
        /// Where.
        path: String,
    },
    /// A field name outside the alphabet.
    #[error(transparent)]
    Name(#[from] IdError),
    /// An integer beyond 2^53 - 1 that JavaScript would change silently.
    #[error("{path} is outside the safe integers (beyond 2^53 - 1)")]
    OutOfRange {
        /// Where.
        path: String,
    },
    /// Nested too deeply.
    #[error("{path} is nested deeper than {max} levels", max = limits::VALUE_DEPTH_MAX)]
    TooDeep {
        /// Where.
        path: String,
    },
    /// U+0000, which SQL stores cannot hold.
    #[error("{path} holds U+0000")]
    NulInText {
        /// Where.
        path: String,
    },
    /// Larger than a row may be.
    #[error("the row is {bytes} bytes encoded; at most {max} are stored", max = limits::ROW_BYTES_MAX)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More fields than a row may have.
    #[error("the row has {count} fields; at most {max} are stored", max = limits::ROW_FIELDS_MAX)]
    TooManyFields {
        /// How many.
        count: usize,
    },
}

impl ValueError {
    /// The stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotAnObject(_) => ErrorCode::InvalidJson,
            Self::ReservedKey { .. } => ErrorCode::ReservedKey,
            Self::Name(_) => ErrorCode::InvalidName,
            Self::OutOfRange { .. } => ErrorCode::ValueOutOfRange,
            Self::TooDeep { .. } => ErrorCode::ValueTooDeep,
            Self::NulInText { .. } => ErrorCode::InvalidText,
            Self::TooLarge { .. } | Self::TooManyFields { .. } => ErrorCode::RowTooLarge,
        }
    }
}

/// Parses and checks a row: an object whose values can be stored.
///
/// # Errors
/// When the text is no JSON object (half a surrogate pair counts as that), or holds a value that cannot be stored.
pub fn parse_row(text: &str) -> Result<Row, ValueError> {
    let row = read_all(text, read_row).map_err(|error| ValueError::NotAnObject(error.to_string()))?;
    check_row(&row)?;
    Ok(row)
}

/// Checks a row that was parsed as part of a larger message.
///
/// # Errors
/// When it holds a value that cannot be stored.
pub(crate) fn check_row(row: &Row) -> Result<(), ValueError> {
    if row.len() > limits::ROW_FIELDS_MAX {
        return Err(ValueError::TooManyFields { count: row.len() });
    }
    for (name, value) in row {
        check_key(name, name)?;
        EntityName::check_field(name)?;
        check_value(value, name, 1)?;
    }
    let bytes = canonical_row(row).len();
    if bytes > limits::ROW_BYTES_MAX {
        return Err(ValueError::TooLarge { bytes });
    }
    Ok(())
}

/// Checks one value at `path`, `depth` levels below its row.
///
/// # Errors
/// As [`parse_row`].
pub fn check_value(value: &Value, path: &str, depth: usize) -> Result<(), ValueError> {
    if depth > limits::VALUE_DEPTH_MAX {
        return Err(ValueError::TooDeep { path: path.to_owned() });
    }
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => check_number(number, path),
        Value::String(text) => check_text(text, path),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| check_value(item, &format!("{path}[{index}]"), depth + 1))
        }
        Value::Object(members) => members.iter().try_for_each(|(key, member)| {
            let path = format!("{path}.{key}");
            check_key(key, &path)?;
            check_value(member, &path, depth + 1)
        }),
    }
}

fn check_number(number: &serde_json::Number, path: &str) -> Result<(), ValueError> {
    // JavaScript prints whole numbers below 1e21 without an exponent: the canonical bytes of 1e19 are those of an integer
    // that it cannot count, so both spellings are refused. From 1e21 on a number can only have been meant as a float.
    let magnitude = number.as_f64().unwrap_or_default().abs();
    if magnitude > INTEGER_FLOAT_MAX && magnitude < 1e21 {
        return Err(ValueError::OutOfRange { path: path.to_owned() });
    }
    Ok(())
}

fn check_text(text: &str, path: &str) -> Result<(), ValueError> {
    if text.contains('\0') {
        return Err(ValueError::NulInText { path: path.to_owned() });
    }
    Ok(())
}

fn check_key(key: &str, path: &str) -> Result<(), ValueError> {
    if matches!(key, "__proto__" | "constructor" | "prototype") {
        return Err(ValueError::ReservedKey { path: path.to_owned() });
    }
    check_text(key, path)
}

/// [`limits::INTEGER_MAX`] as the number JavaScript sees.
const INTEGER_FLOAT_MAX: f64 = 9_007_199_254_740_991.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_named_with_their_path() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33));
        let cases = [
            (r#"{"a":{"__proto__":1}}"#, ErrorCode::ReservedKey, "a.__proto__"),
            (r#"{"n":[1,9007199254740992]}"#, ErrorCode::ValueOutOfRange, "n[1]"),
            (r#"{"t":"\u0000"}"#, ErrorCode::InvalidText, "t"),
            (r#"{"t":"\ud800"}"#, ErrorCode::InvalidJson, "hex escape"),
            (r#"{"$a":1}"#, ErrorCode::InvalidName, "$a"),
            ("[1]", ErrorCode::InvalidJson, "object"),
            (deep.as_str(), ErrorCode::ValueTooDeep, "a.a"),
        ];
        for (text, code, part) in cases {
            let error = parse_row(text).unwrap_err();
            assert_eq!(error.code(), code, "{text}");
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(parse_row(r#"{"a":null,"b":9007199254740991,"c":[{"d":1.5}],"space name":""}"#).is_ok());
    }
}
