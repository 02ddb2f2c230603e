//! The WebSocket: handshake, and the two halves that read and write it. Specified in `docs/protocol.md`.
//!
//! The halves run side by side, so that a client that is slow to read does not stop the server from reading, and share
//! nothing but a short channel. There is no queue of frames: the writer remembers how far it has sent and reads the log.

pub(crate) mod incoming;
pub(crate) mod outgoing;
mod reader;
pub(crate) mod registry;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures_util::StreamExt;
use syncline_protocol::{BEARER_PREFIX, CloseCode, ErrorCode, ErrorDetail, SUBPROTOCOL, limits, token_from_subprotocol};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use crate::api_error::ApiError;
use crate::app::{App, CallerKey};
use crate::auth::{Caller, ClientAddress, bearer_token};
use crate::socket::reader::SocketReader;
pub(crate) use crate::socket::registry::SocketRegistry;
use crate::socket::writer::SocketWriter;
use crate::store::SessionEvent;

/// Replies the reader may have ahead of the writer; it stops reading when the client does not take them.
const REPLIES_AHEAD: usize = 4;
/// How long to wait for the client to take the close and close its end.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// `GET /api/sync/ws`
///
/// The handshake succeeds even for a token that is no session: a browser shows a page nothing about a failed handshake,
/// but it does show the code of a close.
pub(crate) async fn upgrade(
    State(app): State<Arc<App>>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let mut upgrade = upgrade
        .map_err(|rejection| ApiError::new(ErrorCode::ProtocolMismatch, format!("this route speaks WebSocket: {rejection}")))?;
    let offer = Offer::of(&headers);
    if offer.speaks_syncline {
        upgrade.set_selected_protocol(HeaderValue::from_static(SUBPROTOCOL));
    }
    let upgrade = upgrade
        .read_buffer_size(limits::SOCKET_BUFFER_BYTES)
        .write_buffer_size(limits::SOCKET_BUFFER_BYTES)
        // What is a little too large is still read, because a close sent into the middle of a message is often lost.
        .max_message_size(limits::BODY_BYTES_MAX)
        .max_frame_size(limits::BODY_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        // Watched from before the session is looked up, so that its end cannot fall between the two.
        let session_events = app.store.watch_sessions();
        if let Err(error) = app.count_call(CallerKey::Address(address)) {
            return refuse(socket, Closing::from_error(error)).await;
        }
        let Some(_seat) = app.sockets.admit(address) else {
            let error = ApiError::new(ErrorCode::TooManyConnections, "this address holds too many sockets");
            return refuse(socket, Closing::because(CloseCode::RateLimited, error)).await;
        };
        match admit(&app, offer).await {
            Ok(caller) => converse(app, socket, caller, session_events).await,
            Err(closing) => refuse(socket, closing).await,
        }
    }))
}

/// What the client's subprotocols and headers say.
struct Offer {
    speaks_syncline: bool,
    token: Result<Option<String>, ApiError>,
}

impl Offer {
    fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
        let offered: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let bearer = offered.iter().find(|name| name.starts_with(BEARER_PREFIX));
        let token = match bearer {
            Some(bearer) => token_from_subprotocol(bearer)
                .filter(|token| !token.is_empty())
                .map(Some)
                .ok_or_else(|| ApiError::unauthenticated("the bearer subprotocol does not decode")),
            None => bearer_token(headers),
        };
        Self { speaks_syncline: offered.contains(&SUBPROTOCOL), token }
    }
}

async fn admit(app: &App, offer: Offer) -> Result<Caller, Closing> {
    if !offer.speaks_syncline {
        let message = format!("offer the subprotocol {SUBPROTOCOL}; it is the only one spoken here");
        return Err(Closing::because(CloseCode::ProtocolMismatch, ApiError::new(ErrorCode::ProtocolMismatch, message)));
    }
    let caller = match offer.token {
        Ok(token) => Caller::of_token(app, token).await,
        Err(error) => Err(error),
    };
    caller.map_err(Closing::from_error)
}

/// Why and how the server ends a socket.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) code: CloseCode,
    /// Sent before the close; `None` when the client is known not to read.
    pub(crate) error: Option<ErrorDetail>,
}

impl Closing {
    pub(crate) fn because(code: CloseCode, error: ApiError) -> Self {
        Self { code, error: Some(error.into_detail()) }
    }

    /// Finds the close code of an error that ends the conversation.
    pub(crate) fn from_error(error: ApiError) -> Self {
        let detail = error.into_detail();
        let code = match ErrorCode::from_code(&detail.code) {
            Some(ErrorCode::Unauthenticated | ErrorCode::TokenExpired | ErrorCode::TokenTooLong) => CloseCode::Unauthenticated,
            Some(ErrorCode::IdentityChanged) => CloseCode::IdentityChanged,
            Some(ErrorCode::ProtocolMismatch) => CloseCode::ProtocolMismatch,
            Some(ErrorCode::PayloadTooLarge) => CloseCode::TooLarge,
            Some(ErrorCode::RateLimited | ErrorCode::TooManyConnections) => CloseCode::RateLimited,
            Some(ErrorCode::Busy | ErrorCode::Internal) => CloseCode::Restarting,
            _ => CloseCode::InvalidMessage,
        };
        Self { code, error: Some(detail) }
    }

    fn frame(&self) -> Message {
        let reason = self.error.as_ref().map_or("", |error| error.code.as_str());
        Message::Close(Some(CloseFrame { code: self.code.number(), reason: reason.into() }))
    }
}

/// Says why and closes, for a client that does not get as far as a conversation.
async fn refuse(socket: WebSocket, closing: Closing) {
    let (sink, mut stream) = socket.split();
    writer::close(sink, closing).await;
    let drained = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = timeout(CLOSE_WAIT, drained).await;
}

async fn converse(app: Arc<App>, socket: WebSocket, caller: Caller, session_events: broadcast::Receiver<SessionEvent>) {
    let (sink, stream) = socket.split();
    let (replies, from_reader) = mpsc::channel(REPLIES_AHEAD);
    let reader = SocketReader::new(app.clone(), caller.clone(), replies).run(stream);
    let writer = SocketWriter::new(app, caller, sink, from_reader, session_events).run();
    tokio::pin!(reader);
    tokio::select! {
        () = &mut reader => {}
        () = writer => {
            let _ = timeout(CLOSE_WAIT, reader).await;
        }
    }
}
