//! The fields of a row as canonical text: what the client keeps, folds and shows.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

use crate::canonical::{sort_members, write_canonical_row};
use crate::json::{Object, Reader, finish};
use crate::{Row, ValueError, canonical_row, limits};

/// The canonical encoding of a row's fields, without its id.
///
/// Equal rows are equal texts, a patch is a text with members to replace, and what is shown, stored and sent is the text
/// itself; so the client needs no tree of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowText(String);

impl RowText {
    /// Encodes and checks a row.
    ///
    /// # Errors
    /// When the text is no JSON object (half a surrogate pair counts as that), or holds a value that cannot be stored.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let mut reader = Reader::new(text);
        let (row, problem) = Self::read(&mut reader);
        reader.finish().map_err(|error| ValueError::NotAnObject(error.text()))?;
        problem.map_or(Ok(row), Err)
    }

    /// Encodes the object that comes next; gives what about it cannot be stored, if anything.
    pub(crate) fn read(reader: &mut Reader<'_>) -> (Self, Option<ValueError>) {
        let mut out = Vec::new();
        let problem = write_canonical_row(&mut out, reader);
        let bytes = out.len();
        let too_large = (bytes > limits::ROW_BYTES_MAX).then_some(ValueError::TooLarge { bytes });
        (Self(finish(out)), problem.or(too_large))
    }

    /// Takes an object whose values are canonical already, in any order.
    pub fn from_members(object: Vec<u8>) -> Self {
        let mut out = object;
        sort_members(&mut out, 0);
        Self(finish(out))
    }

    /// Encodes a row that was checked before or will be.
    pub fn from_row(row: &Row) -> Self {
        Self(canonical_row(row))
    }

    /// The text: an object.
    pub fn get(&self) -> &str {
        &self.0
    }

    /// Whether it has no fields.
    pub fn is_empty(&self) -> bool {
        self.members().is_empty()
    }

    /// The text between the braces.
    pub fn members(&self) -> &str {
        self.0.get(1..self.0.len().saturating_sub(1)).unwrap_or_default()
    }

    /// The row with the fields of the patches instead of its own; of two patches the later one counts.
    #[must_use]
    pub fn patched(&self, patches: &mut dyn Iterator<Item = &Self>) -> Self {
        let mut object = self.0.clone().into_bytes();
        for patch in patches.filter(|patch| !patch.is_empty()) {
            // Of two members with one name the later one counts: they are put in order at the end, for many patches at once.
            object.pop();
            if object.len() > 1 {
                object.push(b',');
            }
            object.extend_from_slice(patch.members().as_bytes());
            object.push(b'}');
            if object.len() > limits::ROW_BYTES_MAX {
                sort_members(&mut object, 0);
            }
        }
        Self::from_members(object)
    }

    /// Takes a field out; gives the text of its value.
    pub fn remove(&mut self, wanted: &str) -> Option<String> {
        let (mut kept, mut removed) = (Vec::new(), None);
        let mut reader = Reader::new(&self.0);
        let mut list = reader.object();
        let mut object = Object::begin(&mut kept);
        while let Some(name) = reader.next_name(&mut list) {
            let value = reader.raw();
            if name == wanted {
                removed = Some(value.to_owned());
            } else {
                object.raw(&name, value);
            }
        }
        object.end();
        self.0 = finish(kept);
        removed
    }
}

impl Default for RowText {
    /// No fields.
    fn default() -> Self {
        Self("{}".to_owned())
    }
}
