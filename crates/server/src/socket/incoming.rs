//! What a client's messages mean and what is answered, without a socket: `hello` first and once, then the rest.

use syncline_protocol::{
    ClientMessage, CloseCode, ErrorCode, Hello, OutcomeResult, Push, PushAnswer, ResumeMode, ServerMessage, Welcome, limits,
};

use crate::api_error::ApiError;
use crate::socket::Closing;
use crate::socket::registry::Leadership;
use crate::store::ReadError;

/// What the reading half asks of the writing half, in order.
#[derive(Debug)]
pub(crate) enum Reply {
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

/// What a message asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To be welcomed.
    Hello(Hello),
    /// Frames from this cursor on.
    Resume(String),
    /// To apply writes.
    Push(Push),
    /// Nothing: it shows that the client is there.
    Nothing,
}

/// How far the conversation has come, on the reading side.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    welcomed: bool,
}

impl Incoming {
    /// Understands a message, or says why the conversation is over.
    pub(crate) fn understand(&self, text: &str) -> Result<Asked, Closing> {
        if text.len() > limits::SOCKET_MESSAGE_BYTES_MAX {
            return Err(too_large());
        }
        let message = ClientMessage::parse(text).map_err(|error| not_understood(&error.to_string()))?;
        match (message, self.welcomed) {
            (ClientMessage::Hello(hello), false) => Ok(Asked::Hello(hello)),
            (ClientMessage::Hello(_), true) => Err(not_understood("hello comes once")),
            (_, false) => Err(not_understood("the first message is hello")),
            (ClientMessage::Resume(resume), true) => Ok(Asked::Resume(resume.cursor)),
            (ClientMessage::Push(push), true) => Ok(Asked::Push(push)),
            (ClientMessage::Heartbeat, true) => Ok(Asked::Nothing),
        }
    }

    /// Notes that `hello` is answered; gives the cursor from which frames follow at once.
    pub(crate) fn welcome(&mut self, resume: ResumeMode, cursor: Option<String>) -> Option<String> {
        self.welcomed = true;
        cursor.filter(|_| resume == ResumeMode::Stream)
    }

    /// How long the next message may take, in milliseconds.
    pub(crate) const fn patience_ms(&self) -> u64 {
        if self.welcomed { limits::SILENCE_MS_MAX } else { limits::HELLO_MS_MAX }
    }

    /// Ends a conversation in which nothing came for that long.
    pub(crate) fn silence(&self) -> Closing {
        let (code, message) = if self.welcomed {
            // The client may be there and its heartbeats lost; a code it does not know makes it reconnect.
            (CloseCode::Restarting, "nothing was heard for too long")
        } else {
            (CloseCode::HelloTimeout, "no hello came in time")
        };
        Closing::because(code, ApiError::new(ErrorCode::InvalidFrame, message))
    }
}

/// Answers `resume` with what the store says of its cursor.
pub(crate) fn resumed(cursor: String, checked: Result<u64, ReadError>) -> Result<Reply, Closing> {
    match checked {
        Ok(seq) => Ok(Reply::Stream { cursor, seq }),
        Err(error @ ReadError::Resync { .. }) => {
            Ok(Reply::Message(ServerMessage::Resync { error: ApiError::from(error).into_detail() }))
        }
        Err(error) => Err(Closing::from_error(error.into())),
    }
}

/// Answers `push` with what became of it.
pub(crate) fn pushed(id: u64, results: Result<Vec<OutcomeResult>, ApiError>) -> Result<Reply, Closing> {
    match results {
        Ok(results) => Ok(Reply::Outcomes(PushAnswer { id, results, frame: None })),
        Err(error) if error.is(ErrorCode::Forbidden) => Err(fenced()),
        Err(error) if error.is(ErrorCode::IdentityChanged) => Err(Closing::from_error(error)),
        Err(error) => Ok(Reply::Message(ServerMessage::Error { id: Some(id), error: error.into_detail() })),
    }
}

pub(crate) fn too_large() -> Closing {
    let message = format!("a message has at most {} bytes", limits::SOCKET_MESSAGE_BYTES_MAX);
    Closing::because(CloseCode::TooLarge, ApiError::new(ErrorCode::PayloadTooLarge, message))
}

pub(crate) fn not_understood(message: &str) -> Closing {
    Closing::because(CloseCode::InvalidMessage, ApiError::new(ErrorCode::InvalidJson, message))
}

pub(crate) fn fenced() -> Closing {
    let error = ApiError::new(ErrorCode::Forbidden, "a newer leader of this replica has taken over");
    Closing::because(CloseCode::Fenced, error)
}
