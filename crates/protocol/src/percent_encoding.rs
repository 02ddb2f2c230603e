//! Text where only some of ASCII may stand (RFC 3986 §2.1).

use alloc::vec::Vec;

use crate::json::hex_digit;

/// Appends a text with every byte encoded but letters, digits and those of `plain`.
pub fn percent_encode(out: &mut Vec<u8>, text: &str, plain: &[u8]) {
    let digit = |nibble: u8| hex_digit(nibble).to_ascii_uppercase();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_byte_is_encoded() {
        let mut out = Vec::new();
        percent_encode(&mut out, "aZ9-._~ %/é\u{0}\u{7f}", b"-._~");
        assert_eq!(out, b"aZ9-._~%20%25%2F%C3%A9%00%7F");
    }
}
