//! Why the client refuses a call of the application.

use alloc::string::String;

use syncline_protocol::{ErrorCode, IdError, ValueError, limits};

/// Why a write, retry or removal was refused. Nothing happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Before `Start`, or after `Stop`.
    #[error("the engine is not running")]
    NotStarted,
    /// Another tab runs a newer version and has the database.
    #[error("another tab runs a newer version; reload this one")]
    Outdated,
    /// An id or name is malformed.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A value cannot be stored.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A kind that an application cannot ask for.
    #[error("\"{0}\" is no kind of write: insert, update or delete")]
    Kind(String),
    /// An insert or update without fields, a delete with some, or an update that changes nothing.
    #[error("{kind} of {entity}/{row_id}: {problem}")]
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
    #[error("{entity}/{row_id} exists")]
    RowExists {
        /// The entity.
        entity: String,
        /// The row.
        row_id: String,
    },
    /// An update or delete of a row that the view does not have.
    #[error("{entity}/{row_id} does not exist here")]
    RowNotFound {
        /// The entity.
        entity: String,
        /// The row.
        row_id: String,
    },
    /// Empty, or larger than the limits.
    #[error(
        "a transaction has 1 to {changes} changes and at most {bytes} bytes",
        changes = limits::TRANSACTION_CHANGES_MAX,
        bytes = limits::TRANSACTION_BYTES_MAX
    )]
    Size,
    /// The queue is as long as it may be.
    #[error("{max} writes wait already", max = limits::QUEUE_TRANSACTIONS_MAX)]
    QueueFull,
    /// No write has this op_id.
    #[error("no write here has the op_id {0}")]
    UnknownMutation(String),
    /// The write is not in a state for that.
    #[error("the write {op_id} is {state}: {problem}")]
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

    /// Whether the same call may succeed later without being changed.
    pub const fn is_retryable(&self) -> bool {
        self.code().is_retryable()
    }
}
