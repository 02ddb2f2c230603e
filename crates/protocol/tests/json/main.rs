//! The crate's own JSON, against `serde_json` and against the rules that are written down.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "clippy's settings for tests reach only functions marked as tests"
)]

mod dice;
mod text;
mod values;
