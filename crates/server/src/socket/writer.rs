//! The writing half of a socket: replies, and the log as far as this client has not got it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use syncline_protocol::{CloseCode, ErrorCode, Page, PushAnswer, ServerMessage, Timestamp, limits};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::api_error::ApiError;
use crate::app::App;
use crate::auth::Caller;
use crate::http::sync::now;
use crate::server::is_ending;
use crate::socket::Closing;
use crate::socket::reader::Reply;
use crate::socket::registry::Leadership;
use crate::store::{PageLimits, ReadError, SessionEvent};

/// Frames are smaller than pages, so that one gets through a slow line within [`limits::SOCKET_WRITE_MS_MAX`].
const FRAME_LIMITS: PageLimits = PageLimits { changes: limits::PAGE_CHANGES_SOFT / 5, bytes: limits::PAGE_BYTES_SOFT / 16 };
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
    leadership: Option<Leadership>,
    /// `None` until the client says where it stands.
    position: Option<Position>,
    /// A frame that ends before this seq is sent even when it is empty: the client waits for its cursor to get there.
    awaited: u64,
    heartbeat_at: Instant,
}

/// How far the log has been read for this client, and how far it knows.
#[derive(Debug)]
struct Position {
    cursor: String,
    /// The `to` of the last frame that was sent; the next one's `from`.
    sent: u64,
    /// The last page that held nothing for this client, if it ends beyond `sent`.
    unsent: Option<Page>,
    /// Whether the log is known to go on.
    behind: bool,
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
        Self {
            app,
            caller,
            sink,
            replies,
            session_events,
            ending,
            head,
            leadership: None,
            position: None,
            awaited: 0,
            heartbeat_at,
        }
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
            Next::Expired => end(CloseCode::Unauthenticated, ErrorCode::TokenExpired, "the token has expired"),
            Next::Fenced => end(CloseCode::Fenced, ErrorCode::Forbidden, "a newer leader of this replica has connected"),
            Next::Ending => end(CloseCode::Restarting, ErrorCode::Busy, "the server is going down"),
        }
    }

    async fn next(&mut self) -> Next {
        let behind = self.position.as_ref().is_some_and(|position| position.behind);
        let following = self.position.is_some() && !behind;
        tokio::select! {
            biased;
            () = is_ending(&mut self.ending) => Next::Ending,
            event = self.session_events.recv(), if self.caller.session().is_some() => Next::SessionEvent(event),
            () = lost(&mut self.leadership) => Next::Fenced,
            () = expiry(self.caller.expires()) => Next::Expired,
            // Before frames, so that a client knows the outcome of a write when its changes come.
            reply = self.replies.recv() => Next::Reply(reply),
            () = std::future::ready(()), if behind => Next::Advance,
            Ok(()) = self.head.changed(), if following => Next::Advance,
            () = sleep_until(self.heartbeat_at) => Next::Heartbeat,
        }
    }

    async fn reply(&mut self, reply: Reply) -> Result<(), Ended> {
        match reply {
            Reply::Welcome(welcome, leadership) => {
                self.leadership = Some(leadership);
                self.send(&ServerMessage::Welcome(welcome)).await
            }
            Reply::Outcomes(answer) => {
                self.await_own(&answer);
                self.send(&ServerMessage::Outcomes(answer)).await
            }
            Reply::Message(message) => self.send(&message).await,
            Reply::Stream { cursor, seq } => {
                self.position = Some(Position { cursor, sent: seq, unsent: None, behind: true });
                Ok(())
            }
            Reply::Close(closing) => Err(Some(closing)),
        }
    }

    /// A write the client itself may not see still has to be passed by its cursor before it leaves the overlay.
    fn await_own(&mut self, answer: &PushAnswer) {
        let last = answer.results.iter().filter_map(|result| result.last_seq).max();
        self.awaited = self.awaited.max(last.unwrap_or(0));
        if let Some(position) = &mut self.position
            && self.awaited > position.sent
        {
            position.behind = true;
        }
    }

    /// Reads one page of the log and sends it if it holds anything for this client.
    async fn advance(&mut self) -> Result<(), Ended> {
        let Some(position) = &mut self.position else { return Ok(()) };
        self.head.mark_unchanged();
        let mut page = match self.app.store.pull(&self.caller.reader(), Some(&position.cursor), FRAME_LIMITS).await {
            Ok(page) => page,
            Err(error @ ReadError::Resync { .. }) => {
                self.position = None;
                return self.send(&ServerMessage::Resync { error: ApiError::from(error).into_detail() }).await;
            }
            Err(error) => {
                tracing::debug!(%error, "a socket could not read the log");
                sleep(BUSY_WAIT).await;
                return Ok(());
            }
        };
        position.behind = page.has_more;
        position.cursor.clone_from(&page.cursor.token);
        // Nothing between the last frame and this page was for this client, so the frame may say that it begins there.
        page.from = position.sent;
        self.awaited = self.awaited.max(page.consistent_at.unwrap_or(0));
        if page.changes.is_empty() && page.snapshot.is_none() && self.awaited <= position.sent {
            position.unsent = (page.to > position.sent).then_some(page);
            return Ok(());
        }
        self.send_frame(page).await
    }

    async fn send_frame(&mut self, page: Page) -> Result<(), Ended> {
        if let Some(position) = &mut self.position {
            position.sent = page.to;
            position.unsent = None;
        }
        self.send(&ServerMessage::Frame(page)).await
    }

    /// Shows that the server lives, by an empty frame where that moves the client's cursor.
    async fn heartbeat(&mut self) -> Result<(), Ended> {
        let unsent = self.position.as_mut().and_then(|position| position.unsent.take());
        match unsent {
            Some(page) => self.send_frame(page).await,
            None => self.send(&ServerMessage::Heartbeat).await,
        }
    }

    async fn session_event(&mut self, event: Result<SessionEvent, broadcast::error::RecvError>) -> Result<(), Ended> {
        let own = self.caller.token_hash();
        match event {
            Ok(SessionEvent::Revoked { token_hash }) if Some(token_hash) == own => {
                end(CloseCode::Unauthenticated, ErrorCode::TokenExpired, "the token was revoked")
            }
            Ok(SessionEvent::TenantChanged { token_hash }) if Some(token_hash) == own => {
                end(CloseCode::IdentityChanged, ErrorCode::IdentityChanged, "the session has another tenant")
            }
            Ok(SessionEvent::MembershipEnded { user_id, tenant_id }) if self.caller.reader().is(&user_id, &tenant_id) => {
                let message = "the user is no member of this organisation any more";
                end(CloseCode::IdentityChanged, ErrorCode::IdentityChanged, message)
            }
            Ok(SessionEvent::Revoked { .. } | SessionEvent::TenantChanged { .. } | SessionEvent::MembershipEnded { .. }) => {
                Ok(())
            }
            Err(broadcast::error::RecvError::Lagged(_)) => self.check_session().await,
            Err(broadcast::error::RecvError::Closed) => end(CloseCode::Restarting, ErrorCode::Busy, "the server is going down"),
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

fn end(code: CloseCode, error: ErrorCode, message: &str) -> Result<(), Ended> {
    Err(Some(Closing::because(code, ApiError::new(error, message))))
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
