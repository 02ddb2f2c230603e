//! Integers as JavaScript has them.

/// A whole, not negative number as an integer; what is neither gives 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, which is what is wanted")]
pub(crate) const fn to_u64(number: f64) -> u64 {
    number as u64
}

/// An integer as a number. Exact up to 2^53, which bounds every key, seq and time of ours.
#[expect(clippy::cast_precision_loss, reason = "all integers of ours are safe integers")]
pub(crate) const fn to_f64(integer: u64) -> f64 {
    integer as f64
}
