//! One function for each thing that reads bytes from outside. It must neither panic nor hang, whatever the bytes are, and what
//! it accepts must stay what it is.
//!
//! `cargo xtask fuzz` feeds them random bytes; `tests/corpus.rs` feeds them all that was ever worth keeping.

mod device;
mod disk;
mod inputs;
mod messages;
mod records;
mod server;

pub use inputs::client_inputs;
pub use messages::{client_message, intent, pull_page, server_message};
pub use records::{queue_record, replica_record, segment};
pub use server::{cursor, push};

/// A function that takes bytes from outside.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("client_message", client_message),
    ("server_message", server_message),
    ("pull_page", pull_page),
    ("intent", intent),
    ("push", push),
    ("cursor", cursor),
    ("segment", segment),
    ("queue_record", queue_record),
    ("replica_record", replica_record),
    ("client_inputs", client_inputs),
];
