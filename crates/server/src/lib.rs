//! The Syncline server as a library, so that tests start it in their own process.

pub mod manifest;
pub mod store;
