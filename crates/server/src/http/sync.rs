//! The sync routes: hello, pull and push.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use syncline_core::planted;
use syncline_protocol::{
    ClientId, ErrorCode, Hello, Identity, OutcomeResult, PROTOCOL_VERSION, Page, Push, PushAnswer, ResumeMode, Timestamp,
    Welcome, limits,
};

use crate::api_error::ApiError;
use crate::app::App;
use crate::auth::Caller;
use crate::http::body::{Body, Params, parse_body};
use crate::http::pylon;
use crate::store::{PageLimits, ReadError, Reader, Writer, outcome_floor};

/// `POST /api/sync/hello`
pub(super) async fn hello(State(app): State<Arc<App>>, caller: Caller, body: Body) -> Result<Json<Welcome>, ApiError> {
    let hello: Hello = parse_body(&body)?;
    welcome(&app, &caller, &hello).await.map(Json)
}

/// Checks a hello and says how the client gets to the present.
pub(crate) async fn welcome(app: &App, caller: &Caller, hello: &Hello) -> Result<Welcome, ApiError> {
    check_hello(caller, hello)?;
    let head = app.store.head(caller.tenant_id());
    let checked = match &hello.cursor {
        Some(cursor) => Some(app.store.check_cursor(&caller.reader(), cursor).await),
        None => None,
    };
    greet(caller, app.store.epoch(), head, checked, now())
}

/// Refuses a client that this server cannot talk to.
pub(crate) fn check_hello(caller: &Caller, hello: &Hello) -> Result<(), ApiError> {
    if hello.protocol != PROTOCOL_VERSION {
        let message = format!("this server speaks version {PROTOCOL_VERSION} of the protocol, the client {}", hello.protocol);
        return Err(ApiError::new(ErrorCode::ProtocolMismatch, message));
    }
    caller.assert_identity(&hello.identity)
}

/// Answers a hello; `checked` is what the store says of its cursor.
pub(crate) fn greet(
    caller: &Caller,
    epoch: u64,
    head: u64,
    checked: Option<Result<u64, ReadError>>,
    now: Timestamp,
) -> Result<Welcome, ApiError> {
    let resume = match checked {
        Some(Ok(seq)) if head.saturating_sub(seq) <= limits::RESUME_CHANGES_MAX => ResumeMode::Stream,
        Some(Ok(_)) | None => ResumeMode::Pull,
        Some(Err(ReadError::Resync { .. })) => ResumeMode::Resync,
        Some(Err(error)) => return Err(error.into()),
    };
    Ok(Welcome {
        protocol: PROTOCOL_VERSION,
        identity: caller.identity().clone(),
        epoch: format!("{epoch:016x}"),
        head,
        resume,
        outcome_floor: outcome_floor(now),
        server_time: now,
        heartbeat_ms: limits::HEARTBEAT_MS,
    })
}

#[derive(Debug, Deserialize)]
pub(crate) struct PullParams {
    cursor: Option<String>,
    since: Option<String>,
    user_id: Option<String>,
    tenant_id: Option<String>,
}

impl PullParams {
    /// The cursor, once the identity that the client states is the caller's.
    pub(crate) fn checked_cursor(self, caller: &Caller) -> Result<Option<String>, ApiError> {
        let present = |value: Option<String>| value.filter(|value| !value.is_empty());
        caller.assert_identity(&Identity { user_id: present(self.user_id), tenant_id: present(self.tenant_id) })?;
        Ok(present(self.cursor))
    }
}

/// `GET /api/sync/pull`
pub(super) async fn pull(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<PullParams>,
) -> Result<Response, ApiError> {
    if let (Some(since), None) = (&params.since, &params.cursor) {
        // Pylon's server takes whatever is no number for zero, and its clients rely on it.
        return pylon::pull(&app, &caller, since.parse().unwrap_or(0)).await.map(IntoResponse::into_response);
    }
    let cursor = params.checked_cursor(&caller)?;
    let page = app.store.pull(&caller.reader(), cursor.as_deref(), PageLimits::default()).await?;
    Ok(Json(page).into_response())
}

/// Tells the two shapes of a push apart without reading either twice in full.
#[derive(Deserialize)]
struct Shape {
    changes: Option<IgnoredAny>,
    transactions: Option<IgnoredAny>,
}

/// `POST /api/sync/push`
pub(super) async fn push(State(app): State<Arc<App>>, caller: Caller, body: Body) -> Result<Response, ApiError> {
    let shape: Shape = parse_body(&body)?;
    if shape.changes.is_some() && shape.transactions.is_none() {
        return pylon::push(&app, &caller, parse_body(&body)?).await.map(IntoResponse::into_response);
    }
    let push: Push = parse_body(&body)?;
    let (id, cursor) = (push.id, push.cursor.clone());
    let results = evaluate(&app, &caller, push).await?;
    let frame = own_frame(&app, &caller, cursor.as_deref(), &results).await;
    Ok(Json(PushAnswer { id, results, frame }).into_response())
}

/// Evaluates a push of either transport.
pub(crate) async fn evaluate(app: &App, caller: &Caller, push: Push) -> Result<Vec<OutcomeResult>, ApiError> {
    let writer = check_push(caller, &push)?;
    app.push(writer, push.transactions, push.processed).await.map_err(ApiError::from)
}

/// Says who pushes, or refuses the push as a whole.
pub(crate) fn check_push(caller: &Caller, push: &Push) -> Result<Writer, ApiError> {
    if planted::is(22) {
        let Identity { user_id, tenant_id } = push.identity.clone();
        let reader = Reader { user_id, tenant_id, roles: Vec::new() };
        return Ok(Writer { reader, client_id: Some(push.client_id.clone()), fence: push.fence });
    }
    caller.assert_identity(&push.identity)?;
    if push.transactions.len() > limits::PUSH_TRANSACTIONS_MAX {
        let message = format!(
            "a push holds at most {} transactions; this one has {}",
            limits::PUSH_TRANSACTIONS_MAX,
            push.transactions.len()
        );
        return Err(ApiError::new(ErrorCode::PayloadTooLarge, message));
    }
    Ok(writer(caller, Some(push.client_id.clone()), push.fence))
}

pub(super) fn writer(caller: &Caller, client_id: Option<ClientId>, fence: u64) -> Writer {
    Writer { reader: caller.reader(), client_id, fence }
}

/// The page that carries the caller's own changes back, when one page from its cursor reaches them.
///
/// Failing to read it fails nothing: the writes are done, and the caller gets its changes by pulling.
async fn own_frame(app: &App, caller: &Caller, cursor: Option<&str>, results: &[OutcomeResult]) -> Option<Page> {
    let last = results.iter().filter_map(|result| result.last_seq).max()?;
    let page = app.store.pull(&caller.reader(), Some(cursor?), PageLimits::default()).await.ok()?;
    (page.to >= last && page.snapshot.is_none()).then_some(page)
}

/// The clock of the server, for people.
pub(crate) fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}
