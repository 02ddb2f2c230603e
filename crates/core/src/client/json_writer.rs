//! Writes JSON text for JavaScript as fast as the bytes allow.

use serde_json::Value;

/// Appends a JSON string; copies it whole when nothing in it must be escaped.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut clean_from = 0;
    for (index, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(text.get(clean_from..index).unwrap_or_default());
        write_escape(out, byte);
        clean_from = index + 1;
    }
    out.extend_from_slice(text.get(clean_from..).unwrap_or_default());
    out.push(b'"');
}

/// Appends an integer.
pub(crate) fn write_int(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0_u8; 20];
    let mut rest = value.unsigned_abs();
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        // The remainder is below ten.
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// Appends a float; `null` for what JSON cannot say.
pub(crate) fn write_float(out: &mut Vec<u8>, value: f64) {
    if serde_json::to_writer(&mut *out, &value).is_err() {
        out.extend_from_slice(b"null");
    }
}

/// Appends any value.
pub(crate) fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => write_text(out, text.as_bytes()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            if serde_json::to_writer(&mut *out, value).is_err() {
                out.extend_from_slice(b"null");
            }
        }
    }
}

/// Takes the text that was written. Every piece of it was text before.
pub(crate) fn finish(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        control => {
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[digit(control >> 4), digit(control & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["", "plain", "a\"b\\c\nd\u{1}\u{1f}é\u{1f600}", "\t", "ends\""] {
            let mut out = Vec::new();
            write_text(&mut out, text.as_bytes());
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
        for number in [0, 7, -1, 10, i64::MAX, i64::MIN, 9_007_199_254_740_991] {
            let mut out = Vec::new();
            write_int(&mut out, number);
            assert_eq!(finish(out), number.to_string());
        }
        let mut out = Vec::new();
        write_float(&mut out, 0.1);
        out.push(b' ');
        write_float(&mut out, f64::NAN);
        assert_eq!(finish(out), "0.1 null");
    }
}
