//! The canonical encoding of JSON: RFC 8785, the JSON Canonicalization Scheme.
//!
//! Two ends that hold the same intent hold the same bytes, so a hash of them tells a replay from a reused op_id. Numbers
//! are printed as ECMAScript prints them and keys are sorted by UTF-16 code units, so JavaScript needs no library for it.

use serde_json::Value;

use crate::Row;

/// Encodes a value canonically.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

/// Encodes a row canonically.
pub fn canonical_row(row: &Row) -> String {
    let mut out = String::new();
    write_object(&mut out, row);
    out
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => write_object(out, members),
    }
}

fn write_object(out: &mut String, members: &Row) {
    let mut entries: Vec<(&String, &Value)> = members.iter().collect();
    // The map is in UTF-8 order, which differs from UTF-16 order only beyond the basic plane.
    entries.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
    out.push('{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(out, key);
        out.push(':');
        write_value(out, value);
    }
    out.push('}');
}

fn write_number(out: &mut String, number: &serde_json::Number) {
    let float = number.as_f64().unwrap_or_default();
    out.push_str(ryu_js::Buffer::new().format(float));
}

/// Writes a JSON string with the fewest escapes, as RFC 8785 asks.
pub(crate) fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if u32::from(control) < 0x20 => {
                let nibble = |value: u32| char::from_digit(value, 16).unwrap_or('0');
                out.push_str("\\u00");
                out.push(nibble(u32::from(control) >> 4));
                out.push(nibble(u32::from(control) & 15));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
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
