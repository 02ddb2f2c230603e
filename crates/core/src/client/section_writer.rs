//! Encodes the rows of one entity, straight from the JSON text they came in.

use alloc::borrow::Cow;
use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::json::{JsonError, Reader, Token};
use syncline_protocol::{limits, write_canonical};

use super::key_index::{KeyIndex, hash};
use super::row_codec::{FieldValue, RowRef};

/// Rows and tombstones of one entity, to become a section of a segment.
#[derive(Debug, Default)]
pub(crate) struct SectionWriter {
    pub(crate) entity: String,
    columns: Vec<String>,
    column_numbers: KeyIndex,
    /// Whether a name came that the dictionary has no number for: what was written is of no use.
    overflowed: bool,
    rows: Vec<u8>,
    row_count: u32,
    tombstones: Vec<u8>,
    tombstone_count: u32,
    /// Fields of the row under way.
    fields: u16,
}

impl SectionWriter {
    pub(crate) fn new(entity: &str) -> Self {
        Self { entity: entity.to_owned(), ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) const fn is_empty(&self) -> bool {
        self.row_count == 0 && self.tombstone_count == 0
    }

    /// Whether it can be read again: the format numbers at most 65,535 names of fields.
    pub(crate) const fn fits(&self) -> bool {
        !self.overflowed
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.rows.len() + self.tombstones.len()
    }

    /// Adds a row from the texts of its fields and of the seqs of single ones. Takes it back whole when one is no JSON object.
    pub(crate) fn add_json(&mut self, id: &str, seq: u64, data: &str, column_seqs: Option<&str>) -> Result<(), JsonError> {
        let seqs = column_seqs.map_or(Ok(Vec::new()), read_seqs)?;
        let start = self.begin_row(id, seq, !seqs.is_empty());
        let mut reader = Reader::new(data);
        self.write_fields(&mut reader);
        if let Err(error) = reader.finish() {
            self.rows.truncate(start);
            return Err(error);
        }
        self.end_row(start, &seqs);
        Ok(())
    }

    /// Writes the members of a JSON object as fields.
    fn write_fields(&mut self, reader: &mut Reader<'_>) {
        let mut list = reader.object();
        while let Some(name) = reader.next_name(&mut list) {
            if name.len() > limits::NAME_BYTES_MAX {
                reader.fail("a field name is too long");
            }
            self.write_column(&name);
            if self.overflowed || self.fields == u16::MAX {
                reader.fail("too many field names");
            }
            write_json_value(&mut self.rows, reader);
        }
    }

    /// Adds a row from another segment.
    pub(crate) fn add_row(&mut self, row: &RowRef<'_>) {
        let seqs: Vec<(Cow<'_, str>, u64)> =
            row.column_seqs().into_iter().map(|(column, column_seq)| (column.name.as_str().into(), column_seq)).collect();
        let start = self.begin_row(row.id_text(), row.seq, !seqs.is_empty());
        for (column, value) in row.fields() {
            self.write_column(&column.name);
            value.write(&mut self.rows);
        }
        self.end_row(start, &seqs);
    }

    pub(crate) fn add_tombstone(&mut self, id: &str, seq: u64) {
        self.tombstones.extend_from_slice(&seq.to_le_bytes());
        write_short(&mut self.tombstones, id);
        self.tombstone_count += 1;
    }

    /// Appends the section.
    pub(crate) fn finish(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        write_short(out, &self.entity);
        out.extend_from_slice(&u16::try_from(self.columns.len()).unwrap_or(u16::MAX).to_le_bytes());
        for column in &self.columns {
            write_short(out, column);
        }
        out.extend_from_slice(&self.row_count.to_le_bytes());
        out.extend_from_slice(&self.tombstone_count.to_le_bytes());
        out.extend_from_slice(&self.rows);
        out.extend_from_slice(&self.tombstones);
        patch_length(out, start);
    }

    fn begin_row(&mut self, id: &str, seq: u64, has_column_seqs: bool) -> usize {
        let start = self.rows.len();
        self.rows.extend_from_slice(&[0; 4]);
        self.rows.extend_from_slice(&seq.to_le_bytes());
        write_short(&mut self.rows, id);
        self.rows.push(u8::from(has_column_seqs));
        // The count of fields, known at the end.
        self.rows.extend_from_slice(&[0; 2]);
        self.fields = 0;
        start
    }

    fn end_row(&mut self, start: usize, column_seqs: &[(Cow<'_, str>, u64)]) {
        let id_length = self.rows.get(start + 12).copied().unwrap_or(0);
        let count_at = start + 12 + 1 + usize::from(id_length) + 1;
        if let Some(count) = self.rows.get_mut(count_at..count_at + 2) {
            count.copy_from_slice(&self.fields.to_le_bytes());
        }
        if !column_seqs.is_empty() {
            self.rows.extend_from_slice(&u16::try_from(column_seqs.len()).unwrap_or(u16::MAX).to_le_bytes());
            for (name, seq) in column_seqs {
                let number = self.column_number(name);
                self.rows.extend_from_slice(&number.to_le_bytes());
                self.rows.extend_from_slice(&seq.to_le_bytes());
            }
        }
        patch_length(&mut self.rows, start);
        self.row_count += 1;
    }

    fn write_column(&mut self, name: &str) {
        let expected = usize::from(self.fields);
        // Rows of an entity mostly have the same fields in the same order.
        let number = match self.columns.get(expected) {
            Some(column) if column == name => self.fields,
            Some(_) | None => self.column_number(name),
        };
        self.rows.extend_from_slice(&number.to_le_bytes());
        self.fields = self.fields.saturating_add(1);
    }

    fn column_number(&mut self, name: &str) -> u16 {
        let hash = hash(name.as_bytes());
        let is_it = |position: u32| self.columns.get(position as usize).is_some_and(|column| column == name);
        if let Some(position) = self.column_numbers.find(hash, &is_it) {
            return u16::try_from(position).unwrap_or(u16::MAX);
        }
        let number = u16::try_from(self.columns.len()).unwrap_or(u16::MAX);
        if number == u16::MAX {
            self.overflowed = true;
            return number;
        }
        self.columns.push(name.to_owned());
        self.column_numbers.insert(hash, u32::from(number));
        number
    }
}

/// The writer for the rows of an entity, which come in order of their entities.
#[expect(clippy::indexing_slicing, reason = "the place is there or made")]
pub(crate) fn section_of<'a>(sections: &'a mut Vec<SectionWriter>, entity: &str) -> &'a mut SectionWriter {
    if sections.last().is_none_or(|section| section.entity != entity) {
        sections.push(SectionWriter::new(entity));
    }
    let last = sections.len() - 1;
    &mut sections[last]
}

fn write_short(out: &mut Vec<u8>, text: &str) {
    // Ids and names are at most 128 bytes.
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes().get(..text.len().min(255)).unwrap_or_default());
}

fn patch_length(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(start..start + 4) {
        slot.copy_from_slice(&length.to_le_bytes());
    }
}

fn read_seqs(text: &str) -> Result<Vec<(Cow<'_, str>, u64)>, JsonError> {
    let (mut reader, mut seqs) = (Reader::new(text), Vec::new());
    let mut list = reader.object();
    while let Some(name) = reader.next_name(&mut list) {
        seqs.push((name, reader.uint()));
    }
    reader.finish().map(|()| seqs)
}

fn write_json_value(out: &mut Vec<u8>, reader: &mut Reader<'_>) {
    let mut value = Vec::new();
    let token = reader.token();
    let value = match &token {
        Token::Null => FieldValue::Null,
        Token::Bool(value) => FieldValue::Bool(*value),
        Token::Int(value) => FieldValue::Int(*value),
        #[expect(clippy::cast_precision_loss, reason = "JavaScript counts with floats")]
        Token::Large(value) => FieldValue::Float(*value as f64),
        Token::Float(value) => FieldValue::Float(*value),
        Token::Text(text) => FieldValue::Text(text.as_bytes()),
        Token::Array | Token::Object => {
            write_canonical(&mut value, reader);
            FieldValue::Json(&value)
        }
    };
    value.write(out);
}
