//! The store through its public interface, on SQLite files.

mod history;
mod import;
mod isolation;
mod log;
mod outcomes;
mod replica;
mod sessions;
mod support;
