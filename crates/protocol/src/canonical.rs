//! The canonical encoding of JSON: RFC 8785, the JSON Canonicalization Scheme.
//!
//! Two ends that hold the same intent hold the same bytes, so a hash of them tells a replay from a reused op_id. Numbers
//! are printed as ECMAScript prints them and keys are sorted by UTF-16 code units, so JavaScript needs no library for it.

use serde_json::Value;

use crate::Row;
use crate::json::{Object, finish, write_float, write_value};
use crate::order::{positions, sort_positions};

/// Encodes a value canonically.
pub fn canonical_json(value: &Value) -> String {
    let mut out = Vec::new();
    write_canonical(&mut out, value);
    finish(out)
}

/// Encodes a row canonically.
pub fn canonical_row(row: &Row) -> String {
    let mut out = Vec::new();
    write_canonical_row(&mut out, row);
    finish(out)
}

fn write_canonical(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Number(number) => write_float(out, number.as_f64().unwrap_or_default()),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_canonical(out, item);
            }
            out.push(b']');
        }
        Value::Object(members) => write_canonical_row(out, members),
        Value::Null | Value::Bool(_) | Value::String(_) => write_value(out, value),
    }
}

pub(crate) fn write_canonical_row(out: &mut Vec<u8>, members: &Row) {
    let entries: Vec<(&String, &Value)> = members.iter().collect();
    let entry = |position: u32| entries.get(position as usize).copied();
    let units = |position: u32| entry(position).into_iter().flat_map(|(key, _)| key.encode_utf16());
    // The map is in UTF-8 order, which differs from UTF-16 order only beyond the basic plane.
    let mut order = positions(entries.len());
    sort_positions(&mut order, &mut |left, right| units(left).cmp(units(right)));
    let mut object = Object::begin(out);
    for (key, value) in order.into_iter().filter_map(entry) {
        write_canonical(object.name(key), value);
    }
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keys_and_escapes_follow_rfc_8785() {
        let cases = [
            (
                r#"{"b":1.0,"a":[1e21,1.5e-7,-0.0,333333333.33333329,1E30]}"#,
                r#"{"a":[1e+21,1.5e-7,0,333333333.3333333,1e+30],"b":1}"#,
            ),
            (r#"{"€":"\u000f\n\"\\/","\r":true,"é":null}"#, "{\"\\r\":true,\"é\":null,\"€\":\"\\u000f\\n\\\"\\\\/\"}"),
            (r#"{"\ud83d\ude00":1,"\ufb33":2}"#, "{\"\u{1f600}\":1,\"\u{fb33}\":2}"),
        ];
        for (text, canonical) in cases {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(canonical_json(&value), canonical);
        }
    }
}
