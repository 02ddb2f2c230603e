//! Messages of the socket and bodies of the calls beside it. The shapes are those of `docs/protocol.md`.

use alloc::borrow::Cow;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClientId, ErrorDetail, OpId, Page, RawJson, Timestamp};

/// Who a session is, as far as data is concerned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Identity {
    /// The user; `None` for anonymous.
    pub user_id: Option<String>,
    /// The selected organisation; `None` for none.
    pub tenant_id: Option<String>,
}

/// First message of a client, and body of `POST /api/sync/hello`.
#[derive(Debug, Clone, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`] of the client.
    pub protocol: u32,
    /// The replica.
    pub client_id: ClientId,
    /// Who the client believes it is; compared, never taken.
    pub identity: Identity,
    /// The token of the durable cursor; `None` for an empty replica.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Version of the application's schema; 0 without one.
    #[serde(default)]
    pub schema: u32,
    /// Reserved for partial replicas: absent means everything readable.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    /// Grows with every new leader of this replica.
    #[serde(default)]
    pub fence: u64,
}

/// How a client gets from its cursor to the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeMode {
    /// Frames follow on this socket.
    Stream,
    /// Too far behind for that: pull over HTTP, then send `resume`.
    Pull,
    /// The cursor is of no use: pull without one, then send `resume`.
    Resync,
}

/// The server's answer to [`Hello`].
#[derive(Debug, Clone, Serialize)]
pub struct Welcome {
    /// [`crate::PROTOCOL_VERSION`] of the server.
    pub protocol: u32,
    /// Who the token belongs to.
    pub identity: Identity,
    /// Recognises the database; another one after a restored backup.
    pub epoch: String,
    /// Last seq of the tenant's log.
    pub head: u64,
    /// What to do next.
    pub resume: ResumeMode,
    /// Outcomes of writes issued before this time may be forgotten.
    pub outcome_floor: Timestamp,
    /// The server's clock.
    pub server_time: Timestamp,
    /// Silence after which to send a heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
}

/// Asks for frames from a cursor on, after a pull.
#[derive(Debug, Clone, Deserialize)]
pub struct Resume {
    /// The token of the cursor the client has reached.
    pub cursor: String,
}

/// A batch of writes, in the order of the queue; message, and body of `POST /api/sync/push`.
#[derive(Debug, Clone, Deserialize)]
pub struct Push {
    /// Pairs the answer with the push; counted by the client.
    #[serde(default)]
    pub id: u64,
    /// The replica.
    pub client_id: ClientId,
    /// Who the client believes it is.
    pub identity: Identity,
    /// The token of the client's cursor; the answer's frame starts there.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Grows with every new leader of this replica; the server refuses a lower one.
    #[serde(default)]
    pub fence: u64,
    /// The intents, byte for byte as they were frozen.
    pub transactions: Vec<RawJson>,
    /// Transactions whose outcome is durable at the client: their outcomes may be forgotten early.
    #[serde(default)]
    pub processed: Vec<OpId>,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeStatus {
    /// Done as asked. Stored.
    Applied,
    /// Done, merged with what others wrote. Stored.
    Merged,
    /// Kept for a person to decide. Stored.
    Held,
    /// Refused. Stored.
    Rejected,
    /// Not possible now; nothing is stored, send it again later.
    Retry,
    /// Not looked at, because of one before it.
    NotEvaluated,
}

/// What became of one transaction of a push.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutcomeResult {
    /// Which.
    pub op_id: OpId,
    /// What.
    pub status: OutcomeStatus,
    /// First seq of its range, when it applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seq: Option<u64>,
    /// Last seq of its range, when it applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seq: Option<u64>,
    /// Whether this is the stored outcome of an earlier send.
    pub replayed: bool,
    /// Why it did not apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}

/// The answer to [`Push`]: one result for each of its transactions, in order.
#[derive(Debug, Clone, Serialize)]
pub struct PushAnswer {
    /// The push's id.
    pub id: u64,
    /// Results, in order.
    pub results: Vec<OutcomeResult>,
    /// Over HTTP: the frame from the push's cursor that contains the caller's own changes. Over a socket it comes by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<Page>,
}

/// What a client sends on a socket.
#[derive(Debug, Clone)]
pub enum ClientMessage {
    /// Must be the first.
    Hello(Hello),
    /// After a pull.
    Resume(Resume),
    /// Writes.
    Push(Push),
    /// Proof of life.
    Heartbeat,
}

/// What a server sends on a socket.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// Answers `hello`.
    Welcome(Welcome),
    /// A piece of the log.
    Frame(Page),
    /// Answers `push`.
    Outcomes(PushAnswer),
    /// Proof of life.
    Heartbeat,
    /// The cursor is of no use any more: pull without one, then send `resume`.
    Resync {
        /// Why.
        error: ErrorDetail,
    },
    /// A message could not be handled; the socket stays open unless a close follows.
    Error {
        /// The push it is about, if any.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Why.
        error: ErrorDetail,
    },
}

/// Why a text is no message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// Not JSON, or not the shape of its type.
    Shape(String),
    /// A type this version does not know.
    UnknownType(String),
}

impl MessageError {
    /// What it says.
    pub fn text(&self) -> String {
        match self {
            Self::Shape(problem) => ["not a message of the documented shape: ", problem].concat(),
            Self::UnknownType(name) => ["unknown message type \"", name, "\""].concat(),
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl core::error::Error for MessageError {}

/// Reads only the type, because serde's tagged enums cannot hold raw JSON.
#[derive(Deserialize)]
struct Probe<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

fn probe(text: &str) -> Result<Cow<'_, str>, MessageError> {
    Ok(body::<Probe<'_>>(text)?.kind)
}

fn body<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, MessageError> {
    serde_json::from_str(text).map_err(|error| MessageError::Shape(error.to_string()))
}

impl ClientMessage {
    /// Parses a text frame.
    ///
    /// # Errors
    /// When it is not JSON, of an unknown type or not of its type's shape.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        match probe(text)?.as_ref() {
            "hello" => body(text).map(Self::Hello),
            "resume" => body(text).map(Self::Resume),
            "push" => body(text).map(Self::Push),
            "heartbeat" => Ok(Self::Heartbeat),
            other => Err(MessageError::UnknownType(other.chars().take(40).collect())),
        }
    }
}

impl ServerMessage {
    /// Encodes it as a text frame.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Why the server closes a socket. Numbers of the private range, 4000 and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// A message was not understood; do not send it again.
    InvalidMessage = 4400,
    /// No token, or unknown or expired: ask the application for another, do not retry with this one.
    Unauthenticated = 4401,
    /// No `hello` in time.
    HelloTimeout = 4408,
    /// Another user or tenant than the client believes: resolve the session again.
    IdentityChanged = 4409,
    /// A message over the limit; do not send it again.
    TooLarge = 4413,
    /// The client did not read; resume from the cursor.
    SlowConsumer = 4414,
    /// The peer's protocol version is not spoken here.
    ProtocolMismatch = 4426,
    /// Too many messages or sockets; wait.
    RateLimited = 4429,
    /// A newer leader of the same replica has connected.
    Fenced = 4430,
    /// The server is going down and will be back.
    Restarting = 1012,
}

impl CloseCode {
    /// The number in the close frame.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Reads a close frame's number.
    pub fn from_number(number: u16) -> Option<Self> {
        [
            Self::InvalidMessage,
            Self::Unauthenticated,
            Self::HelloTimeout,
            Self::IdentityChanged,
            Self::TooLarge,
            Self::SlowConsumer,
            Self::ProtocolMismatch,
            Self::RateLimited,
            Self::Fenced,
            Self::Restarting,
        ]
        .into_iter()
        .find(|code| code.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let push = r#"{"type":"push","id":3,"client_id":"00112233445566778899aabbccddeeff","identity":{"user_id":"alice","tenant_id":null},"cursor":null,"fence":0,"transactions":[{"b": 1,"a":2}]}"#;
        let parsed = ClientMessage::parse(push).unwrap();
        assert_eq!(parsed.encode(), push, "the intent's bytes must not change on the way");
        let frame = r#"{"type":"frame","scope":"all","from":1,"to":2,"cursor":{"last_seq":2,"token":"x"},"has_more":false,"changes":[{"seq":2,"entity":"Todo","row_id":"r","kind":"delete"}],"transactions":[],"checksum":"1c24a35a20dd4a1b"}"#;
        assert_eq!(ServerMessage::parse(frame).unwrap().encode(), frame);
    }

    #[test]
    fn what_is_no_message_says_why() {
        assert!(matches!(ServerMessage::parse("<html>"), Err(MessageError::Shape(_))));
        assert_eq!(ClientMessage::parse(r#"{"type":"dance"}"#).unwrap_err(), MessageError::UnknownType("dance".to_owned()));
    }
}
