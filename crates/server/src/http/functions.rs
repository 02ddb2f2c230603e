//! `POST /api/fn/NAME`: calls of the application's own backend, with the session of who asks.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use syncline_protocol::ErrorCode;

use crate::api_error::ApiError;
use crate::app::App;
use crate::auth::Caller;
use crate::backend::SessionView;
use crate::http::body::{Body, Segments, idempotency_key, parse_body};
use crate::random;

/// What the backend gets.
#[derive(Serialize)]
struct Call<'a> {
    r#type: &'static str,
    function: &'a str,
    session: SessionView<'a>,
    idempotency_key: Option<&'a str>,
    args: &'a RawValue,
}

/// `POST /api/fn/<name>`
pub(super) async fn call(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let found = app.backend.as_deref().and_then(|backend| Some((backend, backend.function(&name)?)));
    let Some((backend, endpoint)) = found else {
        return Err(ApiError::new(ErrorCode::NotFound, format!("there is no function {name:.200}"))
            .with_hint("a table [functions.NAME] of the manifest declares one"));
    };
    if body.len() > ARGS_BYTES_MAX {
        let message = format!("the arguments of a function have at most {ARGS_BYTES_MAX} bytes");
        return Err(ApiError::new(ErrorCode::PayloadTooLarge, message));
    }
    let args: Box<RawValue> = parse_body(&body)?;
    let key = idempotency_key(&headers)?;
    let reader = caller.reader();
    let id = message_id(&name, key, &caller)?;
    let message =
        Call { r#type: "function", function: &name, session: SessionView::of(&reader), idempotency_key: key, args: &args };
    let text = serde_json::to_string(&message).map_err(|error| ApiError::internal(&error))?;
    let answer = backend.call(endpoint, &id, text).await.map_err(|error| ApiError::from_detail(error.into_detail()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

/// A call that is repeated with the same key is the same message to the backend; any other is one of its own.
fn message_id(name: &str, key: Option<&str>, caller: &Caller) -> Result<String, ApiError> {
    let Some(key) = key else { return Ok(format!("fn_{}", random::op_id()?)) };
    let identity = caller.identity();
    let mut digest = Sha256::new();
    for part in [identity.tenant_id.as_deref(), identity.user_id.as_deref(), Some(name), Some(key)] {
        digest.update(part.unwrap_or_default());
        digest.update([0]);
    }
    Ok(format!("fn_{}", URL_SAFE_NO_PAD.encode(digest.finalize())))
}

/// Largest arguments of a function, in bytes.
const ARGS_BYTES_MAX: usize = 1024 * 1024;
