//! JSON that is passed on as it came.

use alloc::boxed::Box;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Text that is known to be JSON, byte for byte as its writer wrote it.
///
/// The client makes it of what its own reader has passed over; serde's own type can only be had by reading the text again
/// with serde's parser, which a page would then download beside ours.
#[derive(Debug, Clone)]
pub struct RawJson(Source);

#[derive(Debug, Clone)]
enum Source {
    Text(Box<str>),
    Serde(Box<RawValue>),
}

impl RawJson {
    /// Takes text that was read or written as JSON before.
    pub fn from_checked(text: impl Into<Box<str>>) -> Self {
        Self(Source::Text(text.into()))
    }

    /// The text.
    pub fn get(&self) -> &str {
        match &self.0 {
            Source::Text(text) => text,
            Source::Serde(raw) => raw.get(),
        }
    }
}

impl From<Box<RawValue>> for RawJson {
    fn from(raw: Box<RawValue>) -> Self {
        Self(Source::Serde(raw))
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Source::Text(text) => {
                serde_json::from_str::<&RawValue>(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
            }
            Source::Serde(raw) => raw.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::from)
    }
}
