//! What an application decides about its replica before it starts.

use syncline_protocol::limits;

/// Settings of one [`Client`](super::Client).
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Cryptographically random bytes: every op_id, row id and client id this client mints is drawn from them.
    pub client_seed: [u8; 32],
    /// Version of the application's schema; 0 without one.
    pub schema: u32,
    /// First step of the reconnect delay, in milliseconds.
    pub reconnect_ms_base: u64,
    /// How long writes are gathered before they are sent as one batch, in milliseconds.
    pub push_window_ms: u64,
    /// Start without talking to the network until [`Input::Resume`](super::Input::Resume).
    pub start_paused: bool,
    /// Leave the rows on the disk unread and fetch them anew: reading them may be what broke the last instance down.
    pub queue_only: bool,
}

impl ClientConfig {
    /// The usual settings with the seed the caller provides.
    pub const fn with_seed(client_seed: [u8; 32]) -> Self {
        Self {
            client_seed,
            schema: 0,
            reconnect_ms_base: limits::BACKOFF_MS_BASE,
            push_window_ms: limits::PUSH_WINDOW_MS,
            start_paused: false,
            queue_only: false,
        }
    }
}
