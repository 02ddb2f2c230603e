//! The browser driver: carries out what `syncline_core::client` decides, with IndexedDB, WebSocket, fetch and timers.
//!
//! It decides nothing itself. Its mechanics are JavaScript, in `js/`, because every interface of a browser costs several
//! times more code when it is called from WebAssembly (`docs/decisions/0006-browser-mechanics-in-javascript.md`). Rust holds
//! the pump between the core and them, and what it exports is raw and internal to the npm package `syncline`, whose
//! TypeScript is the public API. Storage is specified in `docs/storage.md`, the wire in `docs/protocol.md`.

#![cfg_attr(feature = "module", no_std)]

extern crate alloc;

/// The memory of the module. The allocator of the standard library is five times larger.
#[cfg(feature = "module")]
#[global_allocator]
static MEMORY: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

mod browser;
mod engine;
mod event;
mod identity;
mod integer;
mod options;
mod panic;
mod raw_engine;
mod storage;

pub use event::{BrowserEvent, OnEvent};
pub use identity::{identity_key, token_hash};
pub use panic::report_panic;
pub use raw_engine::RawEngine;
pub use storage::Storage;
