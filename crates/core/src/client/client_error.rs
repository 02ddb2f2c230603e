//! Why the client refuses a call of the application.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use core::fmt;

use syncline_protocol::json::decimal;
use syncline_protocol::{ErrorCode, IdError, IntentError, ValueError, limits};

/// Why a write, retry or removal was refused. Nothing happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// Before `Start`, or after `Stop`.
    NotStarted,
    /// Another tab runs a newer version and has the database.
    Outdated,
    /// An id or name is malformed.
    Id(IdError),
    /// A value cannot be stored.
    Value(ValueError),
    /// A kind that an application cannot ask for.
    Kind(String),
    /// An insert or update without fields, a delete with some, or an update that changes nothing.
    Data {
        /// The change's kind.
        kind: &'static str,
        /// Its entity.
        entity: String,
        /// Its row.
        row_id: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An insert of an id that the view has.
    RowExists {
        /// The entity.
        entity: String,
        /// The row.
        row_id: String,
    },
    /// An update or delete of a row that the view does not have.
    RowNotFound {
        /// The entity.
        entity: String,
        /// The row.
        row_id: String,
    },
    /// Empty, or larger than the limits.
    Size,
    /// The queue is as long as it may be.
    QueueFull,
    /// No write has this op_id.
    UnknownMutation(String),
    /// The write is not in a state for that.
    WrongState {
        /// Which.
        op_id: String,
        /// Its state.
        state: &'static str,
        /// Why that does not fit.
        problem: &'static str,
    },
}

impl ClientError {
    /// The stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotStarted => ErrorCode::NotStarted,
            Self::Outdated => ErrorCode::ReloadRequired,
            Self::Id(error) => error.code(),
            Self::Value(error) => error.code(),
            Self::Kind(_) => ErrorCode::UnknownKind,
            Self::Data { .. } => ErrorCode::InvalidValue,
            Self::RowExists { .. } => ErrorCode::RowExists,
            Self::RowNotFound { .. } => ErrorCode::RowNotFound,
            Self::Size => ErrorCode::TransactionTooLarge,
            Self::QueueFull => ErrorCode::QueueFull,
            Self::UnknownMutation(_) => ErrorCode::NotFound,
            Self::WrongState { .. } => ErrorCode::NotSupported,
        }
    }

    /// What it says.
    pub fn text(&self) -> String {
        match self {
            Self::NotStarted => "the engine is not running".to_owned(),
            Self::Outdated => "another tab runs a newer version; reload this one".to_owned(),
            Self::Id(error) => error.text(),
            Self::Value(error) => error.text(),
            Self::Kind(kind) => ["\"", kind, "\" is no kind of write: insert, update or delete"].concat(),
            Self::Data { kind, entity, row_id, problem } => [kind, " of ", entity, "/", row_id, ": ", problem].concat(),
            Self::RowExists { entity, row_id } => [entity, "/", row_id, " exists"].concat(),
            Self::RowNotFound { entity, row_id } => [entity, "/", row_id, " does not exist here"].concat(),
            Self::Size => IntentError::Size.text(),
            Self::QueueFull => [&*decimal(limits::QUEUE_TRANSACTIONS_MAX), " writes wait already"].concat(),
            Self::UnknownMutation(op_id) => ["no write here has the op_id ", op_id].concat(),
            Self::WrongState { op_id, state, problem } => ["the write ", op_id, " is ", state, ": ", problem].concat(),
        }
    }

    /// Whether the same call may succeed later without being changed.
    pub const fn is_retryable(&self) -> bool {
        self.code().is_retryable()
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl core::error::Error for ClientError {}

impl From<IdError> for ClientError {
    fn from(error: IdError) -> Self {
        Self::Id(error)
    }
}

impl From<ValueError> for ClientError {
    fn from(error: ValueError) -> Self {
        Self::Value(error)
    }
}
