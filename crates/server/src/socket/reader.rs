//! The reading half of a socket: understands messages, evaluates pushes one after another, replies through the writer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use syncline_protocol::{CloseCode, ErrorCode, Hello, Push, limits};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use crate::api_error::ApiError;
use crate::app::App;
use crate::auth::Caller;
use crate::http::sync;
use crate::rate_limit::{Meter, Rate};
use crate::socket::Closing;
use crate::socket::incoming::{Asked, Incoming, Reply, fenced, not_understood, pushed, resumed, too_large};

/// The reading half of a socket.
#[derive(Debug)]
pub(super) struct SocketReader {
    app: Arc<App>,
    caller: Caller,
    replies: mpsc::Sender<Reply>,
    meter: Meter,
    incoming: Incoming,
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

impl From<Closing> for Stop {
    fn from(closing: Closing) -> Self {
        Self::Close(closing)
    }
}

impl SocketReader {
    pub(super) fn new(app: Arc<App>, caller: Caller, replies: mpsc::Sender<Reply>) -> Self {
        Self { app, caller, replies, meter: Meter::default(), incoming: Incoming::default() }
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
        let wait = Duration::from_millis(self.incoming.patience_ms());
        let Ok(received) = timeout(wait, stream.next()).await else { return Err(self.incoming.silence().into()) };
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
            Message::Text(text) => self.handle(&text).await,
            Message::Binary(_) => Err(not_understood("messages are text").into()),
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(Stop::Gone),
        }
    }

    async fn handle(&mut self, text: &str) -> Result<(), Stop> {
        match self.incoming.understand(text)? {
            Asked::Hello(hello) => self.hello(hello).await,
            Asked::Resume(cursor) => self.resume(cursor).await,
            Asked::Push(push) => self.push(push).await,
            Asked::Nothing => Ok(()),
        }
    }

    async fn hello(&mut self, hello: Hello) -> Result<(), Stop> {
        let welcome = sync::welcome(&self.app, &self.caller, &hello).await?;
        let replica = (self.caller.identity().clone(), hello.client_id);
        let leadership = self.app.sockets.lead(replica, hello.fence).ok_or_else(fenced)?;
        let follow = self.incoming.welcome(welcome.resume, hello.cursor);
        self.reply(Reply::Welcome(welcome, leadership)).await?;
        match follow {
            Some(cursor) => self.resume(cursor).await,
            None => Ok(()),
        }
    }

    async fn resume(&mut self, cursor: String) -> Result<(), Stop> {
        let checked = self.app.store.check_cursor(&self.caller.reader(), &cursor).await;
        self.reply(resumed(cursor, checked)?).await
    }

    async fn push(&mut self, push: Push) -> Result<(), Stop> {
        let id = push.id;
        let results = sync::evaluate(&self.app, &self.caller, push).await;
        self.reply(pushed(id, results)?).await
    }

    async fn reply(&self, reply: Reply) -> Result<(), Stop> {
        self.replies.send(reply).await.map_err(|_| Stop::Gone)
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
        Ok(tungstenite::Error::Capacity(_)) => too_large().into(),
        Ok(tungstenite::Error::Utf8(_)) => not_understood("a text message is not UTF-8").into(),
        _ => Stop::Gone,
    }
}
