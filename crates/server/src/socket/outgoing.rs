//! What is sent to a client and when, without a socket: replies, and the log as far as this client has not got it.

use syncline_core::planted;
use syncline_protocol::{CloseCode, ErrorCode, Page, PushAnswer, ServerMessage, limits};

use crate::api_error::ApiError;
use crate::auth::Caller;
use crate::socket::Closing;
use crate::socket::incoming::Reply;
use crate::socket::registry::Leadership;
use crate::store::{PageLimits, ReadError, SessionEvent};

/// Frames are smaller than pages, so that one gets through a slow line within [`limits::SOCKET_WRITE_MS_MAX`].
pub(crate) const FRAME_LIMITS: PageLimits =
    PageLimits { changes: limits::PAGE_CHANGES_SOFT / 5, bytes: limits::PAGE_BYTES_SOFT / 16 };

/// How far the conversation has come, on the writing side.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) leadership: Option<Leadership>,
    /// `None` until the client says where it stands.
    position: Option<Position>,
    /// A frame that ends before this seq is sent even when it is empty: the client waits for its cursor to get there.
    awaited: u64,
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

impl Outgoing {
    /// Whether the log is known to go on.
    pub(crate) fn is_behind(&self) -> bool {
        self.position.as_ref().is_some_and(|position| position.behind)
    }

    /// Whether the log is to be looked at when it grows.
    pub(crate) fn is_following(&self) -> bool {
        self.position.as_ref().is_some_and(|position| !position.behind)
    }

    /// Where the next page begins; `None` when no frames are wanted.
    pub(crate) fn cursor(&self) -> Option<&str> {
        self.position.as_ref().map(|position| position.cursor.as_str())
    }

    /// The seq up to which the log was read; `None` when no frames are wanted.
    pub(crate) fn read_to(&self) -> Option<u64> {
        let read_to = |position: &Position| position.unsent.as_ref().map_or(position.sent, |page| page.to);
        self.position.as_ref().map(read_to)
    }

    /// Takes a reply of the reading half; gives what to send, or ends the conversation.
    pub(crate) fn reply(&mut self, reply: Reply) -> Result<Option<ServerMessage>, Closing> {
        Ok(Some(match reply {
            Reply::Welcome(welcome, leadership) => {
                self.leadership = Some(leadership);
                ServerMessage::Welcome(welcome)
            }
            Reply::Outcomes(answer) => {
                self.await_own(&answer);
                ServerMessage::Outcomes(answer)
            }
            Reply::Message(message) => message,
            Reply::Stream { cursor, seq } => {
                self.position = Some(Position { cursor, sent: seq, unsent: None, behind: true });
                return Ok(None);
            }
            Reply::Close(closing) => return Err(closing),
        }))
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

    /// Takes the page that follows the cursor; gives what to send, if it holds anything for this client.
    ///
    /// # Errors
    /// When the store could not read now.
    pub(crate) fn read(&mut self, page: Result<Page, ReadError>) -> Result<Option<ServerMessage>, ReadError> {
        let Some(position) = &mut self.position else { return Ok(None) };
        let mut page = match page {
            Ok(page) => page,
            Err(error @ ReadError::Resync { .. }) => {
                self.position = None;
                return Ok(Some(ServerMessage::Resync { error: ApiError::from(error).into_detail() }));
            }
            Err(error) => return Err(error),
        };
        position.behind = page.has_more;
        position.cursor.clone_from(&page.cursor.token);
        // Nothing between the last frame and this page was for this client, so the frame may say that it begins there.
        page.from = position.sent;
        self.awaited = self.awaited.max(page.consistent_at.unwrap_or(0));
        if page.changes.is_empty() && page.snapshot.is_none() && self.awaited <= position.sent {
            position.unsent = (page.to > position.sent).then_some(page);
            return Ok(None);
        }
        Ok(Some(position.frame(page)))
    }

    /// Shows that the server lives, by an empty frame where that moves the client's cursor.
    pub(crate) fn heartbeat(&mut self) -> ServerMessage {
        let position = self.position.as_mut();
        let unsent = position.and_then(|position| position.unsent.take().map(|page| position.frame(page)));
        unsent.unwrap_or(ServerMessage::Heartbeat)
    }
}

impl Position {
    fn frame(&mut self, page: Page) -> ServerMessage {
        self.sent = page.to;
        self.unsent = None;
        ServerMessage::Frame(page)
    }
}

/// Ends the conversation when the event says that the session is not what it was.
pub(crate) fn heed(event: &SessionEvent, caller: &Caller) -> Result<(), Closing> {
    let own = |token_hash: &[u8; 32]| Some(*token_hash) == caller.token_hash();
    let (code, error, message) = match event {
        SessionEvent::Revoked { token_hash } if own(token_hash) && !planted::is(24) => {
            (CloseCode::Unauthenticated, ErrorCode::TokenExpired, "the token was revoked")
        }
        SessionEvent::TenantChanged { token_hash } if own(token_hash) => {
            (CloseCode::IdentityChanged, ErrorCode::IdentityChanged, "the session has another tenant")
        }
        SessionEvent::MembershipEnded { user_id, tenant_id } if caller.reader().is(user_id, tenant_id) => {
            let message = "the user is no member of this organisation any more";
            (CloseCode::IdentityChanged, ErrorCode::IdentityChanged, message)
        }
        SessionEvent::Revoked { .. } | SessionEvent::TenantChanged { .. } | SessionEvent::MembershipEnded { .. } => {
            return Ok(());
        }
    };
    Err(Closing::because(code, ApiError::new(error, message)))
}

/// Ends a conversation whose token is over.
pub(crate) fn expired() -> Closing {
    Closing::because(CloseCode::Unauthenticated, ApiError::new(ErrorCode::TokenExpired, "the token has expired"))
}

/// Ends a conversation whose replica has a newer leader.
pub(crate) fn superseded() -> Closing {
    Closing::because(CloseCode::Fenced, ApiError::new(ErrorCode::Forbidden, "a newer leader of this replica has connected"))
}

/// Ends a conversation because the server does.
pub(crate) fn restarting() -> Closing {
    Closing::because(CloseCode::Restarting, ApiError::new(ErrorCode::Busy, "the server is going down"))
}
