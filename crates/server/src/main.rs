//! Placeholder until the crate owner writes it.
fn main() {}
