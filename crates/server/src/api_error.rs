//! The one error of every route: a code, a sentence for people, and the status that belongs to the code.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use syncline_protocol::{ErrorBody, ErrorCode, ErrorDetail, IdError};

use crate::store::{PushError, ReadError, SessionError, StoreError};

/// What a route answers when it does not do what was asked.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: StatusCode,
    detail: ErrorDetail,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::from_detail(ErrorDetail::new(code, message))
    }

    /// Keeps a detail that an outcome carries; a code this build does not know counts as a failure of its own.
    pub(crate) fn from_detail(detail: ErrorDetail) -> Self {
        let code = ErrorCode::from_code(&detail.code).unwrap_or(ErrorCode::Internal);
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, detail }
    }

    /// Logs what broke and answers without it: the reader may be anybody.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request failed");
        Self::new(ErrorCode::Internal, "something broke inside the server; its log has the details")
    }

    pub(crate) fn unauthenticated(message: &str) -> Self {
        Self::new(ErrorCode::Unauthenticated, message)
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.detail.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn with_retry_after(mut self, seconds: u64) -> Self {
        self.detail.retry_after_secs = Some(seconds);
        self
    }

    pub(crate) fn is(&self, code: ErrorCode) -> bool {
        self.detail.code == code.code()
    }

    pub(crate) fn into_detail(self) -> ErrorDetail {
        self.detail
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = self.detail.retry_after_secs;
        let mut response = (self.status, Json(ErrorBody { error: self.detail })).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Resync { oldest_seq } => {
                let mut error = Self::new(ErrorCode::ResyncRequired, "the cursor is not one of this log: pull without a cursor");
                error.detail.oldest_seq = Some(oldest_seq);
                error
            }
            ReadError::Store(error) => error.into(),
            ReadError::NoEntity(_) | ReadError::Denied(_) | ReadError::InvalidQuery(_) => {
                Self::new(error.code(), error.to_string())
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Busy) {
            return Self::new(ErrorCode::Busy, "the server is busy; try again").with_retry_after(1);
        }
        Self::internal(&error)
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Unknown | SessionError::Expired | SessionError::Revoked => Self::new(error.code(), error.to_string()),
            SessionError::Store(error) => error.into(),
        }
    }
}

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        match error {
            // The client's other tab leads now; over a socket this is close code 4430.
            PushError::Fenced { .. } => Self::new(ErrorCode::Forbidden, error.to_string()),
            PushError::NotAMember => Self::new(ErrorCode::IdentityChanged, error.to_string()),
        }
    }
}

impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
