//! Rows over REST: each write is a transaction of one change, decided like any other.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use syncline_protocol::{
    ChangeKind, EntityName, ErrorCode, ErrorDetail, Intent, IntentChange, OpId, OutcomeStatus, RawJson, Row, RowId, RowText,
    Timestamp, row_id_v7,
};

use crate::api_error::ApiError;
use crate::app::App;
use crate::auth::Caller;
use crate::http::body::{Body, Params, Segments, idempotency_key, parse_body};
use crate::http::pylon::op_id_of;
use crate::http::sync::{now, writer};
use crate::random;

#[derive(Deserialize)]
pub(super) struct ListParams {
    limit: Option<u64>,
    #[serde(default)]
    offset: u64,
}

#[derive(Serialize)]
pub(super) struct ListAnswer {
    data: Vec<RawJson>,
    count: u64,
    offset: u64,
    limit: Option<u64>,
}

/// `GET /api/entities/<E>`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(entity): Segments<String>,
    Params(ListParams { limit, offset }): Params<ListParams>,
) -> Result<Json<ListAnswer>, ApiError> {
    let rows = app.store.list(&caller.reader(), &EntityName::parse(entity)?, limit, offset).await?;
    Ok(Json(ListAnswer { data: rows.rows, count: rows.count, offset, limit }))
}

/// `GET /api/entities/<E>/<id>`
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((entity, id)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let (entity, id) = (EntityName::parse(entity)?, RowId::parse(id)?);
    let Some(row) = app.store.get(&caller.reader(), &entity, &id).await? else {
        return Err(ApiError::new(ErrorCode::RowNotFound, format!("there is no {entity}/{id} this user may see")));
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], row).into_response())
}

/// `POST /api/query/<E>`
pub(super) async fn query(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(entity): Segments<String>,
    body: Body,
) -> Result<Json<Vec<RawJson>>, ApiError> {
    let filter: Value = parse_body(&body)?;
    Ok(Json(app.store.query(&caller.reader(), &EntityName::parse(entity)?, &filter).await?))
}

/// `POST /api/entities/<E>`
pub(super) async fn insert(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(entity): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let write = RestWrite::of(&caller, &headers)?;
    let mut data: Row = parse_body(&body)?;
    let row_id = match data.remove("id") {
        Some(Value::String(id)) => RowId::parse(id)?,
        Some(other) => {
            return Err(ApiError::new(ErrorCode::InvalidRowId, format!("the id is no text: {:.80}", other.to_string())));
        }
        None => write.row_id()?,
    };
    let change = IntentChange {
        entity: EntityName::parse(entity)?,
        row_id: row_id.clone(),
        kind: ChangeKind::Insert,
        data: Some(RowText::from_row(&data)),
        base: None,
    };
    write.apply(&app, &caller, change).await?;
    Ok((StatusCode::CREATED, Json(json!({"id": row_id}))))
}

/// `PATCH /api/entities/<E>/<id>`
pub(super) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((entity, id)): Segments<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let data: Row = parse_body(&body)?;
    let (entity, row_id) = (EntityName::parse(entity)?, RowId::parse(id)?);
    let change = IntentChange { entity, row_id, kind: ChangeKind::Update, data: Some(RowText::from_row(&data)), base: None };
    RestWrite::of(&caller, &headers)?.apply(&app, &caller, change).await?;
    Ok(Json(json!({"updated": true})))
}

/// `DELETE /api/entities/<E>/<id>`
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((entity, id)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let (entity, row_id) = (EntityName::parse(entity)?, RowId::parse(id)?);
    let change = IntentChange { entity, row_id, kind: ChangeKind::Delete, data: None, base: None };
    RestWrite::of(&caller, &headers)?.apply(&app, &caller, change).await?;
    Ok(Json(json!({"deleted": true})))
}

/// What makes a REST write a transaction.
///
/// With an `Idempotency-Key` everything in it follows from the request, so that a repetition is the same bytes: the row's
/// id from the key, and no time, because a request carries none.
struct RestWrite {
    op_id: OpId,
    issued_at: Timestamp,
    repeatable: bool,
}

impl RestWrite {
    fn of(caller: &Caller, headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(key) = idempotency_key(headers)? else {
            return Ok(Self { op_id: random::op_id()?, issued_at: now(), repeatable: false });
        };
        Ok(Self { op_id: op_id_of(caller, key), issued_at: Timestamp(0), repeatable: true })
    }

    fn row_id(&self) -> Result<RowId, ApiError> {
        if self.repeatable {
            return Ok(RowId::parse(self.op_id.as_str())?);
        }
        Ok(row_id_v7(self.issued_at, random::bytes()?))
    }

    async fn apply(self, app: &App, caller: &Caller, change: IntentChange) -> Result<(), ApiError> {
        let intent = Intent { op_id: self.op_id, after: Vec::new(), issued_at: self.issued_at, schema: 0, changes: vec![change] };
        let text = RawJson::from_checked(intent.canonical());
        let results = app.push(writer(caller, None, 0), vec![text], Vec::new()).await?;
        let refused = |error: Option<ErrorDetail>, code, message| match error {
            Some(detail) => ApiError::from_detail(detail),
            None => ApiError::new(code, message),
        };
        let Some(result) = results.into_iter().next() else {
            return Err(ApiError::new(ErrorCode::Internal, "the write has no outcome"));
        };
        match result.status {
            OutcomeStatus::Applied | OutcomeStatus::Merged | OutcomeStatus::Held => Ok(()),
            OutcomeStatus::Rejected | OutcomeStatus::NotEvaluated => {
                Err(refused(result.error, ErrorCode::Internal, "the write was refused without a reason"))
            }
            OutcomeStatus::Retry => {
                Err(refused(result.error, ErrorCode::Busy, "the server is busy; try again").with_retry_after(1))
            }
        }
    }
}
