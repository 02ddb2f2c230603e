//! Reads a float.

/// The float nearest to the number; `None` when that is infinite.
pub(super) fn parse(text: &str) -> Option<f64> {
    text.parse().ok().filter(|float: &f64| float.is_finite())
}
