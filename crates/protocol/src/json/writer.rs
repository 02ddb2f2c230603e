//! Writes JSON text, as fast as the bytes allow.

use alloc::string::String;
use alloc::vec::Vec;

/// An object under way. Each call appends one member.
#[derive(Debug)]
pub struct Object<'w> {
    out: &'w mut Vec<u8>,
    empty: bool,
}

impl<'w> Object<'w> {
    /// Begins one.
    pub fn begin(out: &'w mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Appends a name; the caller appends the value.
    pub fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        write_text(self.out, name.as_bytes());
        self.out.push(b':');
        self.out
    }

    /// Appends a text.
    pub fn text(&mut self, name: &str, value: &str) {
        write_text(self.name(name), value.as_bytes());
    }

    /// Appends a text or `null`.
    pub fn text_or_null(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.raw(name, "null"),
        }
    }

    /// Appends a whole number.
    pub fn uint(&mut self, name: &str, value: u64) {
        write_uint(self.name(name), value);
    }

    /// Appends a whole number or `null`.
    pub fn uint_or_null(&mut self, name: &str, value: Option<u64>) {
        match value {
            Some(value) => self.uint(name, value),
            None => self.raw(name, "null"),
        }
    }

    /// Appends `true` or `false`.
    pub fn bool(&mut self, name: &str, value: bool) {
        self.raw(name, if value { "true" } else { "false" });
    }

    /// Appends what is JSON already.
    pub fn raw(&mut self, name: &str, value: &str) {
        self.name(name).extend_from_slice(value.as_bytes());
    }

    /// Appends an array of texts.
    pub fn texts(&mut self, name: &str, texts: &mut dyn Iterator<Item = &str>) {
        let mut array = Array::begin(self.name(name));
        for text in texts {
            write_text(array.item(), text.as_bytes());
        }
        array.end();
    }

    /// Ends it.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// An array under way.
#[derive(Debug)]
pub struct Array<'w> {
    out: &'w mut Vec<u8>,
    empty: bool,
}

impl<'w> Array<'w> {
    /// Begins one.
    pub fn begin(out: &'w mut Vec<u8>) -> Self {
        out.push(b'[');
        Self { out, empty: true }
    }

    /// Makes room for an item, which the caller appends.
    pub fn item(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out
    }

    /// Ends it.
    pub fn end(self) {
        self.out.push(b']');
    }
}

/// Appends a JSON string with the fewest escapes, as RFC 8785 asks; copies it whole when nothing in it must be escaped.
pub fn write_text(out: &mut Vec<u8>, text: &[u8]) {
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

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x8 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0xc => b'f',
        b'\r' => b'r',
        control => return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex_digit(control >> 4), hex_digit(control & 15)]),
    };
    out.extend_from_slice(&[b'\\', letter]);
}

/// The lower-case hexadecimal digit of a number below 16.
pub(crate) const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// Appends an integer.
pub fn write_int(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_uint(out, value.unsigned_abs());
}

/// Appends an integer from zero on.
pub fn write_uint(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0_u8; 20];
    let mut rest = value;
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
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// Appends a float as ECMAScript prints it; `null` for what JSON cannot say.
pub fn write_float(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(ryu_js::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Takes the text that was written. Every piece of it was text before.
pub fn finish(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap_or_default()
}

/// A count as text: `to_string` would bring all that formatting can do.
pub fn decimal(count: usize) -> String {
    let mut out = Vec::new();
    write_uint(&mut out, count as u64);
    finish(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["", "plain", "a\"b\\c\nd\u{1}\u{1f}é\u{1f600}", "\t\u{8}\u{c}\r", "ends\""] {
            let text_written = written(|out| write_text(out, text.as_bytes()));
            assert_eq!(serde_json::from_str::<String>(&text_written).unwrap(), text);
        }
        for number in [0, 7, -1, 10, i64::MAX, i64::MIN, 9_007_199_254_740_991] {
            assert_eq!(written(|out| write_int(out, number)), number.to_string());
        }
        assert_eq!(written(|out| write_uint(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(written(|out| write_float(out, 0.1)), "0.1");
        assert_eq!(written(|out| write_float(out, f64::NAN)), "null");
    }
}
