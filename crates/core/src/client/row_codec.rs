//! One row in bytes: `docs/storage.md`, "Segments". Read where it lies; nothing is decoded that nobody asked for.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use syncline_protocol::RowText;
use syncline_protocol::json::{write_float, write_int, write_text};

/// A field name, also in the form the JSON of a row needs it.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// `"name":`, escaped.
    json_key: Vec<u8>,
}

impl Column {
    pub(crate) fn new(name: &str) -> Self {
        let mut json_key = Vec::with_capacity(name.len() + 3);
        write_text(&mut json_key, name.as_bytes());
        json_key.push(b':');
        Self { name: name.to_owned(), json_key }
    }
}

/// A value where it lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FieldValue<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a [u8]),
    /// Canonical JSON of an array or object.
    Json(&'a [u8]),
}

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const TEXT: u8 = 5;
const JSON: u8 = 6;

/// Bytes before the id's length: the row's length and its seq.
const ID_AT: usize = 12;

impl FieldValue<'_> {
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(NULL),
            Self::Bool(value) => out.push(if value { TRUE } else { FALSE }),
            Self::Int(value) => {
                out.push(INT);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Float(value) => {
                out.push(FLOAT);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Text(text) => write_bytes(out, TEXT, text),
            Self::Json(text) => write_bytes(out, JSON, text),
        }
    }

    fn write_json(self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(value) => write_int(out, value),
            Self::Float(value) => write_float(out, value),
            Self::Text(text) => write_text(out, text),
            Self::Json(text) => out.extend_from_slice(text),
        }
    }
}

fn write_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    // A row is at most 1 MiB.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes pieces off the front of a byte slice; every reader of stored bytes goes through here and cannot run over the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) const fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let Some((head, rest)) = self.0.split_at_checked(count) else { return None };
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn value(&mut self) -> Option<FieldValue<'a>> {
        Some(match self.u8()? {
            NULL => FieldValue::Null,
            FALSE => FieldValue::Bool(false),
            TRUE => FieldValue::Bool(true),
            INT => FieldValue::Int(i64::from_le_bytes(self.array()?)),
            FLOAT => FieldValue::Float(f64::from_le_bytes(self.array()?)),
            TEXT => FieldValue::Text(self.sized()?),
            JSON => FieldValue::Json(self.sized()?),
            _ => return None,
        })
    }
}

/// The id of the row that begins at `at`.
pub(crate) fn id_at(segment: &[u8], at: usize) -> &[u8] {
    let Some(length) = segment.get(at + ID_AT) else { return &[] };
    let from = at + ID_AT + 1;
    segment.get(from..from + usize::from(*length)).unwrap_or_default()
}

/// A row where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowRef<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) seq: u64,
    /// Flags, then the count of fields, then the fields.
    rest: &'a [u8],
    columns: &'a [Column],
}

impl<'a> RowRef<'a> {
    /// Reads the row that begins at `at`; `None` when the bytes are none.
    pub(crate) fn read(segment: &'a [u8], at: usize, columns: &'a [Column]) -> Option<Self> {
        let mut bytes = Bytes(segment.get(at..)?);
        let mut body = Bytes(bytes.sized()?);
        let seq = body.u64()?;
        let length = body.u8()?;
        let id = body.take(usize::from(length))?;
        Some(Self { id, seq, rest: body.0, columns })
    }

    pub(crate) fn id_text(&self) -> &'a str {
        core::str::from_utf8(self.id).unwrap_or("")
    }

    pub(crate) fn fields(&self) -> Fields<'a> {
        let mut bytes = Bytes(self.rest);
        let left = bytes.u8().and_then(|_flags| bytes.u16()).unwrap_or(0);
        Fields { bytes, left, columns: self.columns }
    }

    /// Seqs of single fields, where they differ from the row's.
    pub(crate) fn column_seqs(&self) -> Vec<(&'a Column, u64)> {
        let flags = self.rest.first().copied().unwrap_or(0);
        if flags & 1 == 0 {
            return Vec::new();
        }
        let mut fields = self.fields();
        while fields.next().is_some() {}
        let mut bytes = fields.bytes;
        let count = bytes.u16().unwrap_or(0);
        (0..count).map_while(|_| Some((self.columns.get(usize::from(bytes.u16()?))?, bytes.u64()?))).collect()
    }

    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":");
        write_text(out, self.id);
        out.push(b',');
        self.write_members(out);
        // The comma behind the last member.
        out.pop();
        out.push(b'}');
    }

    pub(crate) fn to_text(self) -> RowText {
        let mut out = vec![b'{'];
        self.write_members(&mut out);
        if out.len() > 1 {
            out.pop();
        }
        out.push(b'}');
        RowText::from_members(out)
    }

    /// Appends the fields, a comma behind each.
    fn write_members(&self, out: &mut Vec<u8>) {
        for (column, value) in self.fields() {
            // The id is no field, whatever a server says.
            if column.name != "id" {
                out.extend_from_slice(&column.json_key);
                value.write_json(out);
                out.push(b',');
            }
        }
    }

    /// Whether both show the same fields, whatever their seqs.
    pub(crate) fn shows_the_same(&self, other: &RowRef<'_>) -> bool {
        let (mut left, mut right) = (self.fields(), other.fields());
        loop {
            match (left.next(), right.next()) {
                (None, None) => return true,
                (Some((left, left_value)), Some((right, right_value))) => {
                    if left_value != right_value || left.name != right.name {
                        return false;
                    }
                }
                (Some(_), None) | (None, Some(_)) => return false,
            }
        }
    }
}

/// The fields of a row in the order they were written.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    bytes: Bytes<'a>,
    left: u16,
    columns: &'a [Column],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a Column, FieldValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let column = self.columns.get(usize::from(self.bytes.u16()?))?;
        Some((column, self.bytes.value()?))
    }
}
