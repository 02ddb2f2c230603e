//! The state machine of one replica.
