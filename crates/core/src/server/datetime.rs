//! Moments as text: ISO 8601 in UTC with milliseconds, so that the order of the texts is the order of the moments.

use alloc::format;
use alloc::string::String;

/// Brings `2026-11-21T10:00:00[.fff]Z` into the stored form `2026-11-21T10:00:00.000Z`.
///
/// Accepts one to nine digits of a second's fraction (cut to milliseconds) and `Z` only: an offset would have to be
/// converted, and a client that sends one means something by it. `None` when the text is no moment of the years 0000 to 9999.
pub fn normalise_datetime(text: &str) -> Option<String> {
    let rest = text.strip_suffix('Z')?;
    let (seconds, fraction) = rest.split_once('.').unwrap_or((rest, "000"));
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || fraction.is_empty() || fraction.len() > 9 || !is_moment(seconds.as_bytes()) {
        return None;
    }
    let millis: String = fraction.chars().chain("00".chars()).take(3).collect();
    Some(format!("{seconds}.{millis}Z"))
}

/// Whether the bytes are `YYYY-MM-DDTHH:MM:SS` of the calendar. Leap seconds are no moment to JavaScript and none here.
fn is_moment(bytes: &[u8]) -> bool {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1] = bytes else {
        return false;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0_u32, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(**digit - b'0')))
    };
    let (Some(year), Some(month), Some(day)) = (number(&[y0, y1, y2, y3]), number(&[m0, m1]), number(&[d0, d1])) else {
        return false;
    };
    let (Some(hour), Some(minute), Some(second)) = (number(&[h0, h1]), number(&[i0, i1]), number(&[s0, s1])) else {
        return false;
    };
    (1..=days_in(year, month)).contains(&day) && hour < 24 && minute < 60 && second < 60
}

const fn days_in(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_one_form() {
        let cases = [
            ("2026-11-21T10:00:00.000Z", Some("2026-11-21T10:00:00.000Z")),
            ("2026-11-21T10:00:00Z", Some("2026-11-21T10:00:00.000Z")),
            ("2026-11-21T10:00:00.5Z", Some("2026-11-21T10:00:00.500Z")),
            ("2026-11-21T10:00:00.123456789Z", Some("2026-11-21T10:00:00.123Z")),
            ("2024-02-29T00:00:00Z", Some("2024-02-29T00:00:00.000Z")),
            ("2023-02-29T00:00:00Z", None),
            ("2026-11-21T10:00:60Z", None),
            ("2026-11-21T24:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-21T10:00:00+01:00", None),
            ("2026-11-21 10:00:00Z", None),
            ("2026-11-21T10:00:00.Z", None),
            ("+02026-11-21T10:00:00Z", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(normalise_datetime(text).as_deref(), expected, "{text}");
        }
    }
}
