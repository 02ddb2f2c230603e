//! What may stand in a row. `docs/values.md` tells how a value travels from JavaScript to SQL and back.

use alloc::string::{String, ToString as _};
use core::fmt;

use serde_json::{Map, Value};

use crate::json::decimal;
use crate::{ErrorCode, IdError, RowText, limits};

/// The fields of a row by name, without its id, as a server looks at them. In order of the names' UTF-8 bytes.
pub type Row = Map<String, Value>;

/// Why a value cannot be stored. `path` names the place: `tags[2].label`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// The text is no JSON object.
    NotAnObject(String),
    /// A key that other languages treat specially.
    ReservedKey {
        /// Where.
        path: String,
    },
    /// A field name outside the alphabet.
    Name(IdError),
    /// An integer beyond 2^53 - 1 that JavaScript would change silently.
    OutOfRange {
        /// Where.
        path: String,
    },
    /// Nested too deeply.
    TooDeep {
        /// Where.
        path: String,
    },
    /// U+0000, which SQL stores cannot hold.
    NulInText {
        /// Where.
        path: String,
    },
    /// Larger than a row may be.
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More fields than a row may have.
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

    /// What it says.
    pub fn text(&self) -> String {
        match self {
            Self::NotAnObject(problem) => ["a row is a JSON object: ", problem].concat(),
            Self::ReservedKey { path } => [path, " uses a reserved key"].concat(),
            Self::Name(error) => error.text(),
            Self::OutOfRange { path } => [path, " is outside the safe integers (beyond 2^53 - 1)"].concat(),
            Self::TooDeep { path } => [path, " is nested deeper than ", &decimal(limits::VALUE_DEPTH_MAX), " levels"].concat(),
            Self::NulInText { path } => [path, " holds U+0000"].concat(),
            Self::TooLarge { bytes } => exceeded("is ", *bytes, " bytes encoded", limits::ROW_BYTES_MAX),
            Self::TooManyFields { count } => exceeded("has ", *count, " fields", limits::ROW_FIELDS_MAX),
        }
    }
}

fn exceeded(verb: &str, count: usize, unit: &str, max: usize) -> String {
    ["the row ", verb, &decimal(count), unit, "; at most ", &decimal(max), " are stored"].concat()
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl core::error::Error for ValueError {}

impl From<IdError> for ValueError {
    fn from(error: IdError) -> Self {
        Self::Name(error)
    }
}

/// Parses and checks a row: an object whose values can be stored.
///
/// # Errors
/// As [`RowText::parse`].
pub fn parse_row(text: &str) -> Result<Row, ValueError> {
    let row = RowText::parse(text)?;
    serde_json::from_str(row.get()).map_err(|error| ValueError::NotAnObject(error.to_string()))
}

/// Says at which place something cannot be stored.
pub(crate) type Refusal = fn(String) -> ValueError;

pub(crate) fn check_number(number: f64) -> Result<(), Refusal> {
    // JavaScript prints whole numbers below 1e21 without an exponent: the canonical bytes of 1e19 are those of an integer
    // that it cannot count, so both spellings are refused. From 1e21 on a number can only have been meant as a float.
    let magnitude = number.abs();
    if magnitude > INTEGER_FLOAT_MAX && magnitude < 1e21 {
        return Err(|path| ValueError::OutOfRange { path });
    }
    Ok(())
}

pub(crate) fn check_text(text: &str) -> Result<(), Refusal> {
    if text.contains('\0') {
        return Err(|path| ValueError::NulInText { path });
    }
    Ok(())
}

pub(crate) fn check_key(key: &str) -> Result<(), Refusal> {
    if matches!(key, "__proto__" | "constructor" | "prototype") {
        return Err(|path| ValueError::ReservedKey { path });
    }
    check_text(key)
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
