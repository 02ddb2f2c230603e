//! The frozen intent: what the application asked for, in the bytes that are stored, sent, sent again and hashed.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::json::{Array, Object, decimal, finish, write_float};
use crate::{EntityName, ErrorCode, IdError, OpId, RowId, RowText, Timestamp, ValueError, limits};

/// What a change does to its row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ChangeKind {
    /// Makes a row.
    Insert,
    /// Changes the fields named in `data`.
    Update,
    /// Removes the row.
    Delete,
    /// In a frame: a row this reader may see from now on, in full.
    Enter,
    /// In a frame: a row this reader may no longer see; id and seq only.
    Leave,
    /// Adds to a number. Reserved: no version applies it yet.
    Increment,
    /// Adds to the end of a list or text. Reserved: no version applies it yet.
    Append,
    /// A kind that a newer version made.
    Unknown(String),
}

impl ChangeKind {
    /// The literal on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Enter => "enter",
            Self::Leave => "leave",
            Self::Increment => "increment",
            Self::Append => "append",
            Self::Unknown(kind) => kind,
        }
    }
}

impl From<String> for ChangeKind {
    fn from(kind: String) -> Self {
        match kind.as_str() {
            "insert" => Self::Insert,
            "update" => Self::Update,
            "delete" => Self::Delete,
            "enter" => Self::Enter,
            "leave" => Self::Leave,
            "increment" => Self::Increment,
            "append" => Self::Append,
            _ => Self::Unknown(kind),
        }
    }
}

impl From<ChangeKind> for String {
    fn from(kind: ChangeKind) -> Self {
        kind.as_str().to_owned()
    }
}

/// What the writer had seen of the row when it wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The seq of the row as the server had confirmed it.
    Seq(u64),
    /// The writer's own preceding transaction that touched the row, so that editing twice offline is no conflict.
    OpId(OpId),
}

/// One change of an intent.
#[derive(Debug, Clone, PartialEq)]
pub struct IntentChange {
    /// Kind of row.
    pub entity: EntityName,
    /// Which row; minted by the client for an insert.
    pub row_id: RowId,
    /// What to do.
    pub kind: ChangeKind,
    /// Insert: the fields. Update: the fields that change. Delete: absent.
    pub data: Option<RowText>,
    /// What the writer had seen; absent for an insert.
    pub base: Option<Base>,
}

/// One transaction as its writer meant it.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// Recognises the transaction for ever.
    pub op_id: OpId,
    /// Transactions that must have applied before this one makes sense.
    pub after: Vec<OpId>,
    /// The writer's clock; shown to people, never used for order.
    pub issued_at: Timestamp,
    /// Version of the application's schema the writer knew; 0 without one.
    pub schema: u32,
    /// The changes, in order; at least one.
    pub changes: Vec<IntentChange>,
}

/// Why an intent is refused before anything is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntentError {
    /// Not the documented shape.
    Shape(String),
    /// An id is malformed.
    Id(IdError),
    /// A value cannot be stored.
    Value(ValueError),
    /// Insert or update without fields.
    NoData {
        /// The change's kind.
        kind: String,
        /// Its entity.
        entity: String,
        /// Its row.
        row_id: String,
    },
    /// Empty, or larger than the limits.
    Size,
}

impl IntentError {
    /// The stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Shape(_) | Self::NoData { .. } => ErrorCode::InvalidJson,
            Self::Id(error) => error.code(),
            Self::Value(error) => error.code(),
            Self::Size => ErrorCode::TransactionTooLarge,
        }
    }

    /// What it says.
    pub fn text(&self) -> String {
        match self {
            Self::Shape(problem) => ["a transaction is not of the documented shape: ", problem].concat(),
            Self::Id(error) => error.text(),
            Self::Value(error) => error.text(),
            Self::NoData { kind, entity, row_id } => [kind, " of ", entity, "/", row_id, " has no data"].concat(),
            Self::Size => {
                let (changes, bytes) = (decimal(limits::TRANSACTION_CHANGES_MAX), decimal(limits::TRANSACTION_BYTES_MAX));
                ["a transaction has 1 to ", &*changes, " changes and at most ", &bytes, " bytes"].concat()
            }
        }
    }
}

impl fmt::Display for IntentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl core::error::Error for IntentError {}

impl From<IdError> for IntentError {
    fn from(error: IdError) -> Self {
        Self::Id(error)
    }
}

impl From<ValueError> for IntentError {
    fn from(error: ValueError) -> Self {
        Self::Value(error)
    }
}

impl Intent {
    /// Parses and checks an intent.
    ///
    /// # Errors
    /// When its shape, an id, a value or its size is not as documented. An unknown kind is no error here.
    pub fn parse(text: &str) -> Result<Self, IntentError> {
        Self::parse_frozen(text).map(|(intent, _)| intent)
    }

    /// Parses and checks an intent; gives its canonical bytes too.
    ///
    /// # Errors
    /// As [`Intent::parse`].
    pub fn parse_frozen(text: &str) -> Result<(Self, String), IntentError> {
        let intent = Self::read(text)?;
        let canonical = intent.freeze()?;
        Ok((intent, canonical))
    }

    /// Checks an intent that was built; gives its canonical bytes.
    ///
    /// # Errors
    /// When a change has no data that needs it, or the whole is too large.
    pub fn freeze(&self) -> Result<String, IntentError> {
        let sizes = 1..=limits::TRANSACTION_CHANGES_MAX;
        if !sizes.contains(&self.changes.len()) || self.after.len() > limits::AFTER_MAX {
            return Err(IntentError::Size);
        }
        for change in &self.changes {
            let needs_data = matches!(change.kind, ChangeKind::Insert | ChangeKind::Update);
            if needs_data && change.data.is_none() {
                return Err(IntentError::NoData {
                    kind: change.kind.as_str().to_owned(),
                    entity: change.entity.as_str().to_owned(),
                    row_id: change.row_id.as_str().to_owned(),
                });
            }
        }
        let text = self.canonical();
        if text.len() > limits::TRANSACTION_BYTES_MAX {
            return Err(IntentError::Size);
        }
        Ok(text)
    }

    /// The canonical bytes: equal for equal intents, whoever encodes them.
    pub fn canonical(&self) -> String {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        if !self.after.is_empty() {
            object.texts("after", &mut self.after.iter().map(OpId::as_str));
        }
        let mut changes = Array::begin(object.name("changes"));
        for change in &self.changes {
            change.write(changes.item());
        }
        changes.end();
        // Canonical numbers are floats, these too.
        write_float(object.name("issued_at"), json_number(self.issued_at.0));
        object.text("op_id", self.op_id.as_str());
        object.uint("schema", u64::from(self.schema));
        object.end();
        finish(out)
    }
}

impl IntentChange {
    fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        if let Some(base) = &self.base {
            let mut base_object = Object::begin(object.name("base"));
            match base {
                Base::Seq(seq) => write_float(base_object.name("seq"), json_number(*seq)),
                Base::OpId(op_id) => base_object.text("op_id", op_id.as_str()),
            }
            base_object.end();
        }
        if let Some(data) = &self.data {
            object.raw("data", data.get());
        }
        object.text("entity", self.entity.as_str());
        object.text("kind", self.kind.as_str());
        object.text("row_id", self.row_id.as_str());
        object.end();
    }
}

/// A number as every JSON library can hold it.
#[expect(clippy::cast_precision_loss, reason = "canonical numbers are floats")]
const fn json_number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const OP: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn an_intent_is_the_same_bytes_whatever_order_it_came_in() {
        let left = format!(
            r#"{{"changes":[{{"kind":"update","row_id":"r","entity":"Todo","data":{{"b":1.0,"a":"x"}},"base":{{"seq":7}}}}],"op_id":"{OP}","issued_at":5,"schema":1}}"#
        );
        let right = format!(
            r#"{{"schema":1,"op_id":"{OP}","issued_at":5,"changes":[{{"base":{{"seq":7}},"data":{{"a":"x","b":1}},"entity":"Todo","kind":"update","row_id":"r"}}]}}"#
        );
        let canonical = Intent::parse(&left).unwrap().canonical();
        assert_eq!(canonical, Intent::parse(&right).unwrap().canonical());
        assert_eq!(
            canonical,
            format!(
                r#"{{"changes":[{{"base":{{"seq":7}},"data":{{"a":"x","b":1}},"entity":"Todo","kind":"update","row_id":"r"}}],"issued_at":5,"op_id":"{OP}","schema":1}}"#
            )
        );
    }

    #[test]
    fn malformed_intents_have_codes() {
        let change = |inner: &str| format!(r#"{{"op_id":"{OP}","issued_at":5,"changes":[{inner}]}}"#);
        let cases = [
            (change(""), ErrorCode::TransactionTooLarge),
            (change(r#"{"entity":"T","row_id":"r","kind":"insert"}"#), ErrorCode::InvalidJson),
            (change(r#"{"entity":"T","row_id":"r","kind":"insert","data":{"constructor":1}}"#), ErrorCode::ReservedKey),
            ("{}".to_owned(), ErrorCode::InvalidJson),
        ];
        for (text, code) in cases {
            assert_eq!(Intent::parse(&text).unwrap_err().code(), code, "{text}");
        }
        let later = Intent::parse(&change(r#"{"entity":"T","row_id":"r","kind":"teleport"}"#)).unwrap();
        assert_eq!(later.changes[0].kind, ChangeKind::Unknown("teleport".to_owned()));
    }
}
