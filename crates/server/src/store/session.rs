//! Who holds which token. Tokens are stored as SHA-256 only.

use syncline_protocol::{ErrorCode, Timestamp};

use crate::store::{Reader, StoreError};

/// How a session came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// For the asking, in `syncline dev`.
    Dev,
    /// A guest's.
    Guest,
    /// Issued with `syncline token`.
    Issued,
}

/// Who a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// Who reads and writes.
    pub reader: Reader,
    /// How it came about.
    pub kind: SessionKind,
    /// When it ends.
    pub expires: Timestamp,
}

/// Why a token is no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The server never issued it.
    #[error("the token is not known")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was ended.
    #[error("the token was revoked")]
    Revoked,
    /// The store could not look.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SessionError {
    /// The stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::Unauthenticated,
            Self::Expired | Self::Revoked => ErrorCode::TokenExpired,
            Self::Store(_) => ErrorCode::Internal,
        }
    }
}

/// Something happened to a session that its sockets must notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// It is over.
    Revoked {
        /// SHA-256 of the token.
        token_hash: [u8; 32],
    },
    /// It has another tenant.
    TenantChanged {
        /// SHA-256 of the token.
        token_hash: [u8; 32],
    },
}
