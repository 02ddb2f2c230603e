//! The browser driver: carries out what `syncline_core::client` decides, with IndexedDB, WebSocket, fetch and timers.
//!
//! It decides nothing itself. What it exports is raw and internal to the npm package `syncline`, whose TypeScript is the
//! public API. Everything that touches `JsValue` in this project is here. Storage is specified in `docs/storage.md`, the
//! wire in `docs/protocol.md`.

mod clock;
mod database;
mod engine;
mod error;
mod fetch;
mod global;
mod handler;
mod identity;
mod lifecycle;
mod lock;
mod migrations;
mod options;
mod panic;
mod raw_engine;
mod socket;
mod storage;
mod timer;
mod transaction;
mod transactions;

pub use database::{Database, Lost};
pub use identity::{identity_key, token_hash};
pub use options::RawOptions;
pub use raw_engine::RawEngine;
pub use transactions::{load, run};
