//! Deterministic simulation: the client core and the server's logic, as shipped, in one thread under one seed.
//!
//! The world is a queue of events; clock, network, disks, tabs, people and faults are drawn from the seed.
//! After each event the checkers compare what is with a naive model. What is simulated and what is checked stands in
//! `docs/simulation.md`.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a simulation that breaks ends with a panic: its verdict")]
#![expect(clippy::wildcard_enum_match_arm, reason = "what is new in the engine's enums matters here only where a checker looks")]

mod byzantine;
mod checks;
mod describe;
mod device;
mod disk;
mod engine;
mod fates;
mod faults;
mod model;
pub mod options;
pub mod planted;
mod random;
pub mod run;
mod said;
pub mod scenario;
mod script;
mod service;
mod storage;
mod tab;
mod together;
mod trace;
mod wire;
mod workload;
mod world;
