//! The reading half of a socket: understands messages, evaluates pushes one after another, replies through the writer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use syncline_protocol::{
    ClientMessage, CloseCode, ErrorCode, Hello, Push, PushAnswer, ResumeMode, ServerMessage, Welcome, limits,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use crate::api_error::ApiError;
use crate::app::App;
use crate::auth::Caller;
use crate::http::sync;
use crate::rate_limit::{Meter, Rate};
use crate::socket::Closing;
use crate::socket::registry::Leadership;
use crate::store::ReadError;

/// What the reader asks of the writer, in order.
#[derive(Debug)]
pub(super) enum Reply {
    /// Answers `hello`; the socket stands for a replica from now on.
    Welcome(Welcome, Leadership),
    /// Answers `push`.
    Outcomes(PushAnswer),
    /// Something that is sent as it is.
    Message(ServerMessage),
    /// Frames follow from here.
    Stream {
        /// The client's cursor.
        cursor: String,
        /// Its seq.
        seq: u64,
    },
    /// The conversation is over.
    Close(Closing),
}

/// The reading half of a socket.
#[derive(Debug)]
pub(super) struct SocketReader {
    app: Arc<App>,
    caller: Caller,
    replies: mpsc::Sender<Reply>,
    meter: Meter,
    /// Whether `hello` was answered.
    welcomed: bool,
}

/// The socket is to end: for a reason to tell the client, or because nobody is there to be told.
enum Stop {
    Close(Closing),
    Gone,
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Close(Closing::from_error(error))
    }
}

impl SocketReader {
    pub(super) fn new(app: Arc<App>, caller: Caller, replies: mpsc::Sender<Reply>) -> Self {
        Self { app, caller, replies, meter: Meter::default(), welcomed: false }
    }

    /// Reads until the client is gone.
    pub(super) async fn run(mut self, mut stream: SplitStream<WebSocket>) {
        let stop = loop {
            if let Err(stop) = self.step(&mut stream).await {
                break stop;
            }
        };
        if let Stop::Close(closing) = stop {
            let _ = self.replies.send(Reply::Close(closing)).await;
            // Reading on lets the client's close arrive; a connection cut with unread bytes loses what was sent last.
            while let Some(Ok(_)) = stream.next().await {}
        }
    }

    async fn step(&mut self, stream: &mut SplitStream<WebSocket>) -> Result<(), Stop> {
        let wait = if self.welcomed { limits::SILENCE_MS_MAX } else { limits::HELLO_MS_MAX };
        let Ok(received) = timeout(Duration::from_millis(wait), stream.next()).await else { return Err(self.silence()) };
        let message = match received {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(unreadable(error)),
            None => return Err(Stop::Gone),
        };
        if self.meter.count(message_rate(), Instant::now()).is_err() {
            let error = ApiError::new(ErrorCode::RateLimited, "too many messages in too short a time");
            return Err(Stop::Close(Closing::because(CloseCode::RateLimited, error)));
        }
        match message {
            Message::Text(text) if text.len() > limits::SOCKET_MESSAGE_BYTES_MAX => Err(too_large()),
            Message::Text(text) => self.handle(&text).await,
            Message::Binary(_) => Err(not_understood("messages are text")),
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(Stop::Gone),
        }
    }

    async fn handle(&mut self, text: &str) -> Result<(), Stop> {
        let message = ClientMessage::parse(text).map_err(|error| not_understood(&error.to_string()))?;
        match (message, self.welcomed) {
            (ClientMessage::Hello(hello), false) => self.hello(hello).await,
            (ClientMessage::Hello(_), true) => Err(not_understood("hello comes once")),
            (_, false) => Err(not_understood("the first message is hello")),
            (ClientMessage::Resume(resume), true) => self.resume(resume.cursor).await,
            (ClientMessage::Push(push), true) => self.push(push).await,
            (ClientMessage::Heartbeat, true) => Ok(()),
        }
    }

    async fn hello(&mut self, hello: Hello) -> Result<(), Stop> {
        let welcome = sync::welcome(&self.app, &self.caller, &hello).await?;
        let replica = (self.caller.identity().clone(), hello.client_id);
        let leadership = self.app.sockets.lead(replica, hello.fence).ok_or_else(fenced)?;
        self.welcomed = true;
        let resume = welcome.resume;
        self.reply(Reply::Welcome(welcome, leadership)).await?;
        match (resume, hello.cursor) {
            (ResumeMode::Stream, Some(cursor)) => self.resume(cursor).await,
            _ => Ok(()),
        }
    }

    async fn resume(&mut self, cursor: String) -> Result<(), Stop> {
        let reply = match self.app.store.check_cursor(&self.caller.reader(), &cursor).await {
            Ok(seq) => Reply::Stream { cursor, seq },
            Err(error @ ReadError::Resync { .. }) => {
                Reply::Message(ServerMessage::Resync { error: ApiError::from(error).into_detail() })
            }
            Err(error) => return Err(ApiError::from(error).into()),
        };
        self.reply(reply).await
    }

    async fn push(&mut self, push: Push) -> Result<(), Stop> {
        let id = push.id;
        let reply = match sync::evaluate(&self.app, &self.caller, push).await {
            Ok(results) => Reply::Outcomes(PushAnswer { id, results, frame: None }),
            Err(error) if error.is(ErrorCode::Forbidden) => return Err(fenced()),
            Err(error) if error.is(ErrorCode::IdentityChanged) => return Err(error.into()),
            Err(error) => Reply::Message(ServerMessage::Error { id: Some(id), error: error.into_detail() }),
        };
        self.reply(reply).await
    }

    async fn reply(&self, reply: Reply) -> Result<(), Stop> {
        self.replies.send(reply).await.map_err(|_| Stop::Gone)
    }

    fn silence(&self) -> Stop {
        let (code, message) = if self.welcomed {
            // The client may be there and its heartbeats lost; a code it does not know makes it reconnect.
            (CloseCode::Restarting, "nothing was heard for too long")
        } else {
            (CloseCode::HelloTimeout, "no hello came in time")
        };
        Stop::Close(Closing::because(code, ApiError::new(ErrorCode::InvalidFrame, message)))
    }
}

/// The average holds over ten seconds, because a client that comes back sends what it has queued at once.
fn message_rate() -> Rate {
    const SECONDS: u32 = 10;
    let count = NonZeroU32::MIN.saturating_add(limits::SOCKET_MESSAGES_PER_SECOND * SECONDS);
    Rate::per(count, Duration::from_secs(u64::from(SECONDS)))
}

fn unreadable(error: axum::Error) -> Stop {
    match error.into_inner().downcast::<tungstenite::Error>().map(|error| *error) {
        Ok(tungstenite::Error::Capacity(_)) => too_large(),
        Ok(tungstenite::Error::Utf8(_)) => not_understood("a text message is not UTF-8"),
        _ => Stop::Gone,
    }
}

fn too_large() -> Stop {
    let message = format!("a message has at most {} bytes", limits::SOCKET_MESSAGE_BYTES_MAX);
    Stop::Close(Closing::because(CloseCode::TooLarge, ApiError::new(ErrorCode::PayloadTooLarge, message)))
}

fn not_understood(message: &str) -> Stop {
    Stop::Close(Closing::because(CloseCode::InvalidMessage, ApiError::new(ErrorCode::InvalidJson, message)))
}

fn fenced() -> Stop {
    let error = ApiError::new(ErrorCode::Forbidden, "a newer leader of this replica has taken over");
    Stop::Close(Closing::because(CloseCode::Fenced, error))
}
