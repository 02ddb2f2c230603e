//! The WebSocket subprotocols: `syncline.1`, and `bearer.<token>`, because a browser's socket can carry no header.

use alloc::string::String;
use alloc::vec::Vec;

use crate::json::finish;
use crate::percent_encoding::percent_encode;
use crate::{ErrorCode, limits};

/// What a server of this version selects.
pub const SUBPROTOCOL: &str = "syncline.1";
/// What the token follows.
pub const BEARER_PREFIX: &str = "bearer.";

/// Encodes a token as a subprotocol.
///
/// Every byte that is no token character of RFC 7230 is percent-encoded, and `%` itself: `encodeURIComponent` leaves
/// parentheses, at which the browser's constructor throws.
///
/// # Errors
/// `TOKEN_TOO_LONG` above 4 KiB, since proxies cut longer header lines.
pub fn bearer_subprotocol(token: &str) -> Result<String, ErrorCode> {
    if token.len() > limits::TOKEN_BYTES_MAX {
        return Err(ErrorCode::TokenTooLong);
    }
    let mut out = BEARER_PREFIX.as_bytes().to_vec();
    percent_encode(&mut out, token, b"!#$&'*+-.^_`|~");
    Ok(finish(out))
}

/// Decodes the token of a `bearer.` subprotocol; `None` when it is no such thing or not UTF-8 behind the encoding.
pub fn token_from_subprotocol(offered: &str) -> Option<String> {
    let encoded = offered.strip_prefix(BEARER_PREFIX)?;
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_tokens_survive_the_header() {
        for token in ["pylon_a1", "a(b)", "a=b/c d%e", "ä\"{}", ""] {
            let encoded = bearer_subprotocol(token).unwrap();
            assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte)), "{encoded}");
            assert_eq!(token_from_subprotocol(&encoded).as_deref(), Some(token));
        }
        assert_eq!(bearer_subprotocol(&"x".repeat(5000)), Err(ErrorCode::TokenTooLong));
        assert_eq!(token_from_subprotocol("bearer.%zz"), None);
        assert_eq!(token_from_subprotocol("syncline.1"), None);
    }
}
