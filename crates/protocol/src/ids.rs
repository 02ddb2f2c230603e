//! Newtypes for the names and numbers that travel: a bare string in a signature would be a question.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::json::{Reader, finish, hex_digit};
use crate::{ErrorCode, limits};

/// Why a string is no id.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdError {
    /// Not a row id.
    Row(String),
    /// Not an entity or field name.
    Name(String),
    /// Not an op_id or client id.
    Hex(String),
}

impl IdError {
    /// The stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Row(_) => ErrorCode::InvalidRowId,
            Self::Name(_) => ErrorCode::InvalidName,
            Self::Hex(_) => ErrorCode::InvalidOpId,
        }
    }

    /// What it says.
    // Not with `format!`, whose machinery every page would download.
    pub fn text(&self) -> String {
        let (text, what) = match self {
            Self::Row(text) => (text, "no row id: 1 to 128 of the characters A-Z a-z 0-9 . _ ~ : @ + = -"),
            Self::Name(text) => (text, "no name: 1 to 128 bytes, no control characters, not starting with $ or __"),
            Self::Hex(text) => (text, "not 32 lower-case hexadecimal digits"),
        };
        ["\"", text, "\" is ", what].concat()
    }
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl core::error::Error for IdError {}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text and keeps it.
            ///
            /// # Errors
            /// When the text is outside the documented alphabet or length.
            pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                $check(&text)?;
                Ok(Self(text))
            }

            /// Takes a text that was read. Is it none, the reader fails, and nobody gets to see what it read.
            pub fn read(text: String, reader: &mut Reader<'_>) -> Self {
                note(reader, $check(&text));
                Self(text)
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// Names a row within its entity and tenant; made by the client that inserts it.
    RowId, check_row_id
}
text_id! {
    /// Names a kind of row: what a table is to SQL.
    EntityName, check_name
}
text_id! {
    /// Random 128 bits that make a transaction recognisable for ever, in hexadecimal.
    OpId, check_hex
}
text_id! {
    /// Random 128 bits of one replica, in hexadecimal: where a transaction came from.
    ClientId, check_hex
}

impl OpId {
    /// Makes an op_id of random bytes the caller provides.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }
}

impl ClientId {
    /// Makes a client id of random bytes the caller provides.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }
}

impl EntityName {
    /// Whether `name` may name a field.
    ///
    /// # Errors
    /// The same as for entity names.
    pub fn check_field(name: &str) -> Result<(), IdError> {
        check_name(name)
    }
}

/// Milliseconds since 1970 by some clock; never used to order writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time `ms` milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Makes a row id: a UUID of version 7 (RFC 9562) of a time and random bytes the caller provides.
pub fn row_id_v7(now: Timestamp, random: [u8; 10]) -> RowId {
    let mut bytes = [0_u8; 16];
    let (time, rest) = bytes.split_at_mut(6);
    time.copy_from_slice(&now.0.to_be_bytes()[2..]);
    rest.copy_from_slice(&random);
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = hex(&bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    RowId(text)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.extend_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
    }
    finish(out)
}

fn note(reader: &mut Reader<'_>, check: Result<(), IdError>) {
    if let Err(error) = check {
        reader.fail(error.text());
    }
}

fn check_row_id(text: &str) -> Result<(), IdError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:@+=-".contains(&byte);
    if text.is_empty() || text.len() > limits::ROW_ID_BYTES_MAX || !text.bytes().all(allowed) {
        return Err(IdError::Row(clip(text)));
    }
    Ok(())
}

fn check_name(text: &str) -> Result<(), IdError> {
    let shape = !text.is_empty() && text.len() <= limits::NAME_BYTES_MAX && !text.starts_with('$') && !text.starts_with("__");
    if !shape || text.chars().any(char::is_control) {
        return Err(IdError::Name(clip(text)));
    }
    Ok(())
}

fn check_hex(text: &str) -> Result<(), IdError> {
    if text.len() != 32 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(IdError::Hex(clip(text)));
    }
    Ok(())
}

/// Keeps an error message short when somebody sends a megabyte for an id.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_ids_are_checked_at_the_edge() {
        for good in ["t_123", "0190f8c0-0000-7000-8000-000000000000", "a:b@c.d~e+f="] {
            assert!(RowId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(129)] {
            assert_eq!(RowId::parse(bad).unwrap_err().code(), ErrorCode::InvalidRowId, "{bad}");
        }
    }

    #[test]
    fn a_minted_row_id_is_a_uuid_of_version_7_that_sorts_by_time() {
        let early = row_id_v7(Timestamp(1_763_711_111_000), [0xff; 10]);
        let late = row_id_v7(Timestamp(1_763_711_111_001), [0; 10]);
        assert_eq!(early.as_str(), "019aa55f-cf58-7fff-bfff-ffffffffffff");
        assert!(early < late);
    }
}
