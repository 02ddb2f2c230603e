//! The server over real sockets, with SQLite on disk: what `docs/protocol.md` promises, seen from outside.

mod http_client;
mod kill;
mod membership;
mod origins;
mod pull;
mod push;
mod rest;
mod sessions;
mod socket_client;
mod socket_ends;
mod stream;
mod test_server;
