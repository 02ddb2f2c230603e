//! CSV: a line of field names, then rows of texts.
//!
//! A text becomes what the manifest declares for its column; without a declaration it stays a text, so that `01234` keeps its
//! zero. What does not read as its type is passed on as a text, and the schema's refusal names field and type.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde_json::{Map, Number, Value};
use syncline_core::server::{Entity, Field, FieldType};

use crate::import::{Budgeted, FileImport, ImportError, Place, ROW_TEXT_MAX, too_long};

impl FileImport<'_, '_> {
    /// Takes the rows of a CSV file.
    pub(super) fn comma_separated(&mut self, mut reader: impl BufRead, delimiter: u8) -> Result<(), ImportError> {
        let failed = |source| ImportError::Read { path: self.path.to_owned(), source };
        let lines = Lines::of(reader.fill_buf().map_err(failed)?);
        let budget = Cell::new(ROW_TEXT_MAX);
        let watched = Watched { reader: Budgeted { reader, budget: &budget }, lines: &lines };
        let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(watched);
        let header = reader.headers().map_err(|error| self.unreadable(Place::Line(1), error))?.clone();
        let columns = columns(&header, self.rows.entity())?;
        let mut record = StringRecord::new();
        loop {
            budget.set(ROW_TEXT_MAX);
            let before = reader.position().line();
            let read = reader.read_record(&mut record);
            let place = lines.place(before, reader.position().line(), &record);
            if !read.map_err(|error| self.unreadable(place, error))? {
                return Ok(());
            }
            if record.as_slice().len() > ROW_TEXT_MAX {
                return Err(too_long(place));
            }
            self.row(place, &row_text(&columns, &record))?;
        }
    }

    fn unreadable(&self, place: Place, error: csv::Error) -> ImportError {
        let message = match error.into_kind() {
            ErrorKind::Io(source) if source.kind() == io::ErrorKind::Other => source.to_string(),
            ErrorKind::Io(source) => return ImportError::Read { path: self.path.to_owned(), source },
            ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("the first line names {expected_len} fields, this one has {len}")
            }
            ErrorKind::Utf8 { err, .. } => format!("field {} is not UTF-8", err.field() + 1),
            kind @ (ErrorKind::Seek | ErrorKind::Serialize(_) | ErrorKind::Deserialize { .. } | _) => format!("{kind:?}"),
        };
        ImportError::Text { place, message }
    }
}

/// Knows on which line a record begins. The reader's own count passes over blank lines only once it reads on, and has
/// counted the end of a record's last line when that is LF, but neither the second half of a CRLF nor an end that is missing.
struct Lines {
    crlf: bool,
    ended: Cell<bool>,
    last: Cell<u8>,
}

impl Lines {
    fn of(beginning: &[u8]) -> Self {
        let first = beginning.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Self { crlf: first.ends_with(b"\r"), ended: Cell::new(false), last: Cell::new(b'\n') }
    }

    fn place(&self, before: u64, after: u64, record: &StringRecord) -> Place {
        if record.is_empty() {
            return Place::Line(before);
        }
        let within = record.as_slice().bytes().filter(|byte| *byte == b'\n').count() as u64;
        let is_cut = self.ended.get() && self.last.get() != b'\n';
        Place::Line(after.saturating_sub(within + u64::from(!self.crlf && !is_cut)))
    }
}

/// Tells [`Lines`] how the file ends.
struct Watched<'a, R> {
    reader: R,
    lines: &'a Lines,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        match read.checked_sub(1).and_then(|last| buffer.get(last)) {
            Some(last) => self.lines.last.set(*last),
            None => self.lines.ended.set(true),
        }
        Ok(read)
    }
}

/// A column: its name, and the field it fills if that is declared.
struct Column<'a> {
    name: String,
    field: Option<&'a Field>,
}

fn columns<'a>(header: &StringRecord, entity: Option<&'a Entity>) -> Result<Vec<Column<'a>>, ImportError> {
    let refused = |message| Err(ImportError::Text { place: Place::Line(1), message });
    let mut columns: Vec<Column<'a>> = Vec::new();
    for name in header {
        if name.is_empty() {
            return refused(format!("column {} has no name", columns.len() + 1));
        }
        if columns.iter().any(|column| column.name == name) {
            return refused(format!("two columns are called {name:?}"));
        }
        columns.push(Column { name: name.to_owned(), field: entity.and_then(|entity| entity.fields.get(name)) });
    }
    Ok(columns)
}

fn row_text(columns: &[Column<'_>], record: &StringRecord) -> String {
    let mut row = Map::new();
    for (column, text) in columns.iter().zip(record) {
        // An empty id is no id: the row gets one made of its place.
        if column.name != "id" || !text.is_empty() {
            row.insert(column.name.clone(), cell(column.field, text));
        }
    }
    Value::Object(row).to_string()
}

fn cell(field: Option<&Field>, text: &str) -> Value {
    let Some(field) = field else { return Value::from(text) };
    if text.is_empty() && (field.optional || field.kind != FieldType::String) {
        return Value::Null;
    }
    let read = match field.kind {
        FieldType::String | FieldType::Datetime => None,
        FieldType::Int => text.parse::<i64>().ok().map(Value::from),
        FieldType::Float => text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number),
        FieldType::Bool => match text.to_ascii_lowercase().as_str() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        FieldType::Json => serde_json::from_str(text).ok(),
    };
    read.unwrap_or_else(|| Value::from(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_becomes_what_its_field_declares() {
        let field = |kind, optional| Field { kind, optional, default: None, unique: false, index: false, stamp: None };
        let cases = [
            (None, "01234", json!("01234")),
            (None, "", json!("")),
            (Some((FieldType::String, false)), "00501", json!("00501")),
            (Some((FieldType::String, false)), "", json!("")),
            (Some((FieldType::String, true)), "", Value::Null),
            (Some((FieldType::Int, false)), "-7", json!(-7)),
            (Some((FieldType::Int, false)), "1.5", json!("1.5")),
            (Some((FieldType::Int, true)), "", Value::Null),
            (Some((FieldType::Float, false)), "40.922326", json!(40.922_326)),
            (Some((FieldType::Float, false)), "NaN", json!("NaN")),
            (Some((FieldType::Bool, false)), "TRUE", json!(true)),
            (Some((FieldType::Bool, false)), "1", json!("1")),
            (Some((FieldType::Datetime, false)), "2026-11-21T10:00:00Z", json!("2026-11-21T10:00:00Z")),
            (Some((FieldType::Json, false)), "[1,{\"a\":null}]", json!([1, {"a": null}])),
        ];
        for (declared, text, expected) in cases {
            let declared = declared.map(|(kind, optional)| field(kind, optional));
            assert_eq!(cell(declared.as_ref(), text), expected, "{text}");
        }
    }
}
