//! The Syncline server as a library, so that tests start it in their own process.

mod api_error;
mod app;
mod auth;
pub mod backend;
pub mod cli;
pub mod export;
mod http;
pub mod import;
pub mod jwt;
pub mod local_server;
pub mod manifest;
mod origin;
mod random;
mod rate_limit;
mod server;
mod socket;
pub mod store;

pub use crate::app::Mode;
pub use crate::http::StaticFiles;
pub use crate::server::{Server, ServerOptions, StartError};
