//! The server over real sockets, with SQLite on disk: what `docs/protocol.md` promises, seen from outside.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it expects has failed"
)]

mod app_backend;
mod bad_input;
mod engine;
mod functions;
#[path = "../store/history.rs"]
mod history;
mod hooks;
mod http_client;
mod isolation;
mod jwt;
mod kill;
mod kill_under_load;
mod membership;
mod origins;
mod pull;
mod push;
#[path = "../store/replica.rs"]
mod replica;
mod rest;
mod sessions;
mod socket_client;
mod socket_ends;
mod stream;
mod tenants;
mod test_server;
mod tls;
