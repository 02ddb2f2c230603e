//! The store through its public interface, on SQLite files.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that finds something else than it expects has failed")]

mod field_names;
mod history;
mod import;
mod isolation;
mod log;
mod manifest;
mod outcomes;
mod replica;
mod sessions;
mod support;
mod untidy;
mod upkeep;
