//! What every request and socket of one server shares.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use syncline_protocol::{ErrorCode, OpId, OutcomeResult, RawJson};
use tokio::sync::watch;

use crate::api_error::ApiError;
use crate::backend::Backend;
use crate::jwt::JwtVerifier;
use crate::origin::OriginPolicy;
use crate::rate_limit::RateLimiter;
use crate::socket::SocketRegistry;
use crate::store::{PushError, Store, Writer};

/// Who the server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One developer on this machine: loopback only, sessions for the asking.
    Dev,
    /// Everybody the manifest admits.
    Serve,
}

/// What every request and socket of one server shares.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) mode: Mode,
    pub(crate) guests: bool,
    /// Whose tokens are taken beside those of this server.
    pub(crate) jwt: Option<Arc<JwtVerifier>>,
    /// The application's own backend.
    pub(crate) backend: Option<Arc<Backend>>,
    pub(crate) origins: OriginPolicy,
    /// `None`: not limited.
    pub(crate) limiter: Option<RateLimiter<CallerKey>>,
    /// Whether the last entry of `X-Forwarded-For` is the caller's address.
    pub(crate) behind_proxy: bool,
    pub(crate) sockets: SocketRegistry,
    pub(crate) started: Instant,
    /// Becomes true when the server is to end.
    pub(crate) ending: watch::Receiver<bool>,
}

/// Whose calls are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum CallerKey {
    /// Everybody at one address who has no session.
    Address(IpAddr),
    /// SHA-256 of a session's token.
    Session([u8; 32]),
}

impl App {
    /// Applies a client's transactions, asking whoever decides about writes.
    pub(crate) async fn push(
        &self,
        writer: Writer,
        intents: Vec<RawJson>,
        processed: Vec<OpId>,
    ) -> Result<Vec<OutcomeResult>, PushError> {
        match self.backend.as_deref().and_then(Backend::gate) {
            Some(gate) => self.store.push_through(&gate, writer, intents, processed).await,
            None => self.store.push(writer, intents, processed).await,
        }
    }

    /// Counts one call.
    pub(crate) fn count_call(&self, caller: CallerKey) -> Result<(), ApiError> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.count(caller, Instant::now()).map_err(|wait| {
            ApiError::new(ErrorCode::RateLimited, "too many calls in too short a time").with_retry_after(wait.as_secs() + 1)
        })
    }
}
