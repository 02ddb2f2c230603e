//! What the tests of the browser driver share: an engine whose events are awaited, a reader of the raw stores that knows
//! nothing of the driver, and the page's globals to spy on and break.
//!
//! Run with `cargo xtask test browser-chromium` (or `-firefox`, `-webkit`). Nothing here sleeps: tests wait for events.
#![allow(clippy::indexing_slicing, clippy::missing_panics_doc, reason = "whatever is not as a test expects makes it fail")]

pub mod engine;
pub mod page;
pub mod raw_stores;
pub mod store;
