//! Reading what a request says, with this project's errors instead of the framework's plain text.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use syncline_protocol::{ErrorCode, limits};

use crate::api_error::ApiError;
use crate::origin::IDEMPOTENCY_KEY;

/// The bytes of a body within the limit.
#[derive(Debug)]
pub(super) struct Body(Bytes);

impl Body {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection| refused(&rejection))
    }
}

fn refused(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::new(ErrorCode::PayloadTooLarge, format!("a body has at most {} bytes", limits::BODY_BYTES_MAX));
    }
    ApiError::new(ErrorCode::InvalidJson, format!("the body could not be read: {rejection}"))
}

/// Reads a body as JSON of the documented shape.
pub(super) fn parse_body<T: DeserializeOwned>(body: &Body) -> Result<T, ApiError> {
    serde_json::from_slice(&body.0)
        .map_err(|error| ApiError::new(ErrorCode::InvalidJson, format!("the body is not JSON of the documented shape: {error}")))
}

/// What makes a call repeatable, if its sender says so.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| !key.is_empty());
    key.map(Some).ok_or_else(|| ApiError::new(ErrorCode::InvalidOpId, "the Idempotency-Key is no text"))
}

/// The parameters behind the question mark.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(params) = Query::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::new(ErrorCode::InvalidQuery, rejection.body_text()))?;
        Ok(Self(params))
    }
}

/// The named parts of the path, percent-decoded.
#[derive(Debug)]
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(segments) = Path::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::new(ErrorCode::NotFound, rejection.body_text()))?;
        Ok(Self(segments))
    }
}
