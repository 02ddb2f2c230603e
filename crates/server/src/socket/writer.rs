//! The writing half of a socket: replies, and the log as far as this client has not got it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use syncline_protocol::{CloseCode, ServerMessage, Timestamp, limits};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::app::App;
use crate::auth::Caller;
use crate::http::sync::now;
use crate::server::is_ending;
use crate::socket::Closing;
use crate::socket::incoming::Reply;
use crate::socket::outgoing::{FRAME_LIMITS, Outgoing, expired, heed, restarting, superseded};
use crate::socket::registry::Leadership;
use crate::store::SessionEvent;

/// How long to try to say goodbye to a client that does not read.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long to wait before reading again from a store that was busy.
const BUSY_WAIT: Duration = Duration::from_millis(50);

/// The writing half of a socket.
#[derive(Debug)]
pub(super) struct SocketWriter {
    app: Arc<App>,
    caller: Caller,
    sink: SplitSink<WebSocket, Message>,
    replies: mpsc::Receiver<Reply>,
    session_events: broadcast::Receiver<SessionEvent>,
    ending: watch::Receiver<bool>,
    head: watch::Receiver<u64>,
    outgoing: Outgoing,
    heartbeat_at: Instant,
}

/// What there is to do next.
enum Next {
    Reply(Option<Reply>),
    Advance,
    Heartbeat,
    SessionEvent(Result<SessionEvent, broadcast::error::RecvError>),
    Expired,
    Fenced,
    Ending,
}

/// The conversation is over; `None` when the client is gone already.
type Ended = Option<Closing>;

impl SocketWriter {
    pub(super) fn new(
        app: Arc<App>,
        caller: Caller,
        sink: SplitSink<WebSocket, Message>,
        replies: mpsc::Receiver<Reply>,
        session_events: broadcast::Receiver<SessionEvent>,
    ) -> Self {
        let head = app.store.watch_head(caller.tenant_id());
        let ending = app.ending.clone();
        let heartbeat_at = next_heartbeat();
        Self { app, caller, sink, replies, session_events, ending, head, outgoing: Outgoing::default(), heartbeat_at }
    }

    /// Writes until the conversation is over, and closes.
    pub(super) async fn run(mut self) {
        let ended = loop {
            if let Err(ended) = self.step().await {
                break ended;
            }
        };
        if let Some(closing) = ended {
            close(self.sink, closing).await;
        }
    }

    async fn step(&mut self) -> Result<(), Ended> {
        match self.next().await {
            Next::Reply(Some(reply)) => self.reply(reply).await,
            Next::Reply(None) => Err(None),
            Next::Advance => self.advance().await,
            Next::Heartbeat => self.heartbeat().await,
            Next::SessionEvent(event) => self.session_event(event).await,
            Next::Expired => Err(Some(expired())),
            Next::Fenced => Err(Some(superseded())),
            Next::Ending => Err(Some(restarting())),
        }
    }

    async fn next(&mut self) -> Next {
        let (behind, following) = (self.outgoing.is_behind(), self.outgoing.is_following());
        tokio::select! {
            biased;
            () = is_ending(&mut self.ending) => Next::Ending,
            event = self.session_events.recv(), if self.caller.session().is_some() => Next::SessionEvent(event),
            () = lost(&mut self.outgoing.leadership) => Next::Fenced,
            () = expiry(self.caller.expires()) => Next::Expired,
            // Before frames, so that a client knows the outcome of a write when its changes come.
            reply = self.replies.recv() => Next::Reply(reply),
            () = std::future::ready(()), if behind => Next::Advance,
            Ok(()) = self.head.changed(), if following => Next::Advance,
            () = sleep_until(self.heartbeat_at) => Next::Heartbeat,
        }
    }

    async fn reply(&mut self, reply: Reply) -> Result<(), Ended> {
        match self.outgoing.reply(reply).map_err(Some)? {
            Some(message) => self.send(&message).await,
            None => Ok(()),
        }
    }

    /// Reads one page of the log and sends it if it holds anything for this client.
    async fn advance(&mut self) -> Result<(), Ended> {
        let Some(cursor) = self.outgoing.cursor() else { return Ok(()) };
        self.head.mark_unchanged();
        let page = self.app.store.pull(&self.caller.reader(), Some(cursor), FRAME_LIMITS).await;
        match self.outgoing.read(page) {
            Ok(Some(message)) => self.send(&message).await,
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "a socket could not read the log");
                sleep(BUSY_WAIT).await;
                Ok(())
            }
        }
    }

    async fn heartbeat(&mut self) -> Result<(), Ended> {
        let message = self.outgoing.heartbeat();
        self.send(&message).await
    }

    async fn session_event(&mut self, event: Result<SessionEvent, broadcast::error::RecvError>) -> Result<(), Ended> {
        match event {
            Ok(event) => heed(&event, &self.caller).map_err(Some),
            Err(broadcast::error::RecvError::Lagged(_)) => self.check_session().await,
            Err(broadcast::error::RecvError::Closed) => Err(Some(restarting())),
        }
    }

    /// After events were missed: asks the store.
    async fn check_session(&self) -> Result<(), Ended> {
        let Some((token, _)) = self.caller.session() else { return Ok(()) };
        let token = token.to_owned();
        let current = Caller::of_token(&self.app, Some(token)).await.map_err(|error| Some(Closing::from_error(error)))?;
        current.assert_identity(self.caller.identity()).map_err(|error| Some(Closing::from_error(error)))
    }

    async fn send(&mut self, message: &ServerMessage) -> Result<(), Ended> {
        self.heartbeat_at = next_heartbeat();
        let limit = Duration::from_millis(limits::SOCKET_WRITE_MS_MAX);
        match timeout(limit, self.sink.send(Message::Text(message.encode().into()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(None),
            Err(_) => Err(Some(Closing { code: CloseCode::SlowConsumer, error: None })),
        }
    }
}

/// Says why and closes; gives up when the client does not take it.
pub(super) async fn close(mut sink: SplitSink<WebSocket, Message>, closing: Closing) {
    let frame = closing.frame();
    let said = async {
        if let Some(error) = closing.error {
            sink.send(Message::Text(ServerMessage::Error { id: None, error }.encode().into())).await?;
        }
        sink.send(frame).await
    };
    if !matches!(timeout(GOODBYE, said).await, Ok(Ok(()))) {
        tracing::debug!("a client was gone, or did not read, when its socket was closed");
    }
}

fn next_heartbeat() -> Instant {
    Instant::now() + Duration::from_millis(limits::HEARTBEAT_MS)
}

async fn lost(leadership: &mut Option<Leadership>) {
    match leadership {
        Some(leadership) => leadership.lost().await,
        None => std::future::pending().await,
    }
}

/// Waits until a token expires. Looks at the clock every few seconds, because a machine that slept has a late timer.
async fn expiry(expires: Option<Timestamp>) {
    let Some(expires) = expires else { return std::future::pending().await };
    while now() < expires {
        let left = Duration::from_millis(expires.0.saturating_sub(now().0));
        sleep(left.min(EXPIRY_CHECK)).await;
    }
}

/// Longest time an expired token keeps its socket.
const EXPIRY_CHECK: Duration = Duration::from_secs(5);
