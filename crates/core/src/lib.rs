//! The decisions of Syncline, without any effects: time, randomness, storage and network are arguments and requests.
//!
//! [`client`] is the state machine of one replica; [`server`] holds what a server decides about a write or a read. Drivers
//! (the browser, the server binary, tests) perform the effects. Specified in `docs/protocol.md` and `docs/storage.md`.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod client;
pub mod planted;
pub mod server;
