//! The canonical encoding of JSON: RFC 8785, the JSON Canonicalization Scheme.
//!
//! Two ends that hold the same intent hold the same bytes, so a hash of them tells a replay from a reused op_id. Numbers
//! are printed as ECMAScript prints them and keys are sorted by UTF-16 code units, so JavaScript needs no library for it.
//!
//! The client goes from text to canonical text and never holds a tree of values; only the server has the use of one.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use serde_json::Value;

use crate::json::{Array, Object, Reader, Token, finish, write_float, write_int, write_text, write_uint};
use crate::order::{positions, sort_positions};
use crate::value::{check_key, check_number, check_text};
use crate::{EntityName, Row, ValueError, limits};

/// Encodes a value canonically.
pub fn canonical_json(value: &Value) -> String {
    let mut out = Vec::new();
    write_value(&mut out, value);
    finish(out)
}

/// Encodes a row canonically.
pub fn canonical_row(row: &Row) -> String {
    let mut out = Vec::new();
    write_row(&mut out, row);
    finish(out)
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Number(number) => write_float(out, number.as_f64().unwrap_or_default()),
        Value::String(text) => write_text(out, text.as_bytes()),
        Value::Array(items) => {
            let mut array = Array::begin(out);
            for item in items {
                write_value(array.item(), item);
            }
            array.end();
        }
        Value::Object(members) => write_row(out, members),
    }
}

fn write_row(out: &mut Vec<u8>, members: &Row) {
    let mut entries: Vec<(&String, &Value)> = members.iter().collect();
    // The map is in UTF-8 order, which differs from UTF-16 order only beyond the basic plane.
    entries.sort_by(|(left, _), (right, _)| utf16_order(left, right));
    let mut object = Object::begin(out);
    for (key, value) in entries {
        write_value(object.name(key), value);
    }
    object.end();
}

/// Appends the canonical encoding of the value that comes next. A value that cannot be stored is encoded all the same.
pub fn write_canonical(out: &mut Vec<u8>, reader: &mut Reader<'_>) {
    // A field of a row: one level below it.
    Encoder { path: Vec::new(), depth: 1, problem: None }.value(out, reader);
}

/// Appends the canonical encoding of the row that comes next; gives what about it cannot be stored, if anything.
pub(crate) fn write_canonical_row(out: &mut Vec<u8>, reader: &mut Reader<'_>) -> Option<ValueError> {
    let mut encoder = Encoder { path: Vec::new(), depth: 0, problem: None };
    encoder.object(out, reader);
    encoder.problem
}

/// Encodes, and checks on the way. Values are written before it is known whether the text they stand in is JSON to its end.
struct Encoder {
    /// Where it is below the row: `tags[2].label`.
    path: Vec<u8>,
    depth: usize,
    /// The first value that cannot be stored.
    problem: Option<ValueError>,
}

impl Encoder {
    fn value(&mut self, out: &mut Vec<u8>, reader: &mut Reader<'_>) {
        if self.depth > limits::VALUE_DEPTH_MAX {
            self.note(Err(|path| ValueError::TooDeep { path }));
        }
        match reader.token() {
            Token::Null => out.extend_from_slice(b"null"),
            Token::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Token::Int(value) if value.unsigned_abs() <= limits::INTEGER_MAX.unsigned_abs() => write_int(out, value),
            #[expect(clippy::cast_precision_loss, reason = "canonical numbers are floats")]
            Token::Int(value) => self.number(out, value as f64),
            #[expect(clippy::cast_precision_loss, reason = "canonical numbers are floats")]
            Token::Large(value) => self.number(out, value as f64),
            Token::Float(value) => self.number(out, value),
            Token::Text(text) => {
                self.note(check_text(&text));
                write_text(out, text.as_bytes());
            }
            Token::Array => self.array(out, reader),
            Token::Object => self.object(out, reader),
        }
    }

    fn number(&mut self, out: &mut Vec<u8>, value: f64) {
        self.note(check_number(value));
        write_float(out, value);
    }

    fn array(&mut self, out: &mut Vec<u8>, reader: &mut Reader<'_>) {
        let above = self.path.len();
        let mut array = Array::begin(out);
        let mut list = reader.array();
        let mut index = 0;
        while reader.next_item(&mut list) {
            self.path.push(b'[');
            write_uint(&mut self.path, index);
            self.path.push(b']');
            self.below(above, array.item(), reader);
            index += 1;
        }
        array.end();
    }

    fn object(&mut self, out: &mut Vec<u8>, reader: &mut Reader<'_>) {
        let (above, start) = (self.path.len(), out.len());
        let (mut before, mut count, mut in_order) = (Cow::default(), 0, true);
        let mut list = reader.object();
        let mut object = Object::begin(out);
        while let Some(name) = reader.next_name(&mut list) {
            in_order &= count == 0 || utf16_order(&before, &name).is_lt();
            if above > 0 {
                self.path.push(b'.');
            }
            self.path.extend_from_slice(name.as_bytes());
            self.note(check_key(&name));
            if self.depth == 0
                && let (Err(error), None) = (EntityName::check_field(&name), &self.problem)
            {
                self.problem = Some(error.into());
            }
            self.below(above, object.name(&name), reader);
            before = name;
            count += 1;
        }
        object.end();
        if !in_order {
            count = sort_members(out, start);
        }
        if self.depth == 0 && count > limits::ROW_FIELDS_MAX {
            self.problem = Some(ValueError::TooManyFields { count });
        }
    }

    /// Encodes an item or member, then leaves its path.
    fn below(&mut self, above: usize, out: &mut Vec<u8>, reader: &mut Reader<'_>) {
        self.depth += 1;
        self.value(out, reader);
        self.depth -= 1;
        self.path.truncate(above);
    }

    /// Keeps the first problem.
    fn note(&mut self, check: Result<(), fn(String) -> ValueError>) {
        if let (Err(problem), None) = (check, &self.problem) {
            self.problem = Some(problem(finish(self.path.clone())));
        }
    }
}

/// Sorts the members of the object that was appended at `start`. Of those with one name the last one stays, as everywhere in
/// JSON. Gives how many they are.
pub(crate) fn sort_members(out: &mut Vec<u8>, start: usize) -> usize {
    let text = finish(out.split_off(start));
    let (mut names, mut values) = (Vec::new(), Vec::new());
    let mut reader = Reader::new(&text);
    let mut list = reader.object();
    while let Some(name) = reader.next_name(&mut list) {
        names.push(name);
        values.push(reader.raw());
    }
    let mut order = positions(names.len());
    let name = |position: u32| names.get(position as usize).map_or("", |name| name);
    sort_positions(&mut order, &mut |left, right| utf16_order(name(left), name(right)));
    let mut object = Object::begin(out);
    let mut count = 0;
    for (index, &position) in order.iter().enumerate() {
        // Equal ones are in the order in which they came.
        if order.get(index + 1).is_none_or(|&next| name(next) != name(position)) {
            object.raw(name(position), values.get(position as usize).copied().unwrap_or("null"));
            count += 1;
        }
    }
    object.end();
    count
}

/// Compares by UTF-16 code units. That is the order of the bytes, but that surrogates stand for what four bytes say and come
/// before U+E000 to U+FFFF, whose first byte is 0xEE or 0xEF.
fn utf16_order(left: &str, right: &str) -> Ordering {
    let rank = |byte: u8| if byte & 0xfe == 0xee { byte | 0x10 } else { byte };
    left.bytes().map(rank).cmp(right.bytes().map(rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_by_their_utf_16_code_units() {
        let edges =
            ["", "a", "\u{7f}", "\u{80}", "\u{7ff}", "\u{800}", "\u{d7ff}", "\u{e000}", "\u{ffff}", "\u{10000}", "\u{10ffff}"];
        let mut names: Vec<String> = edges.iter().flat_map(|first| edges.map(|second| [first, second].concat())).collect();
        names.extend(edges.map(|edge| ["é", edge, "z"].concat()));
        for left in &names {
            for right in &names {
                assert_eq!(utf16_order(left, right), left.encode_utf16().cmp(right.encode_utf16()), "{left:?} {right:?}");
            }
        }
    }

    #[test]
    fn numbers_keys_and_escapes_follow_rfc_8785() {
        let cases = [
            (
                r#"{"b":1.0,"a":[1e21,1.5e-7,-0.0,333333333.33333329,1E30]}"#,
                r#"{"a":[1e+21,1.5e-7,0,333333333.3333333,1e+30],"b":1}"#,
            ),
            (r#"{"€":"\u000f\n\"\\/","\r":true,"é":null}"#, "{\"\\r\":true,\"é\":null,\"€\":\"\\u000f\\n\\\"\\\\/\"}"),
            (r#"{"\ud83d\ude00":1,"\ufb33":2}"#, "{\"\u{1f600}\":1,\"\u{fb33}\":2}"),
            (
                r#"{"b":1,"a":{"d":[],"c":{}},"b":2,"a":3,"b":{"z":-1,"y":-9007199254740991}}"#,
                r#"{"a":3,"b":{"y":-9007199254740991,"z":-1}}"#,
            ),
        ];
        for (text, canonical) in cases {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(canonical_json(&value), canonical);
            let mut out = Vec::new();
            write_canonical(&mut out, &mut Reader::new(text));
            assert_eq!(finish(out), canonical);
        }
    }
}
