//! Pull and push in the shape that clients of Pylon know.
//!
//! Each change of a push is a transaction of its own. Stricter than there: an insert's row id is honoured, an op_id is
//! remembered for good, and the cursor of the answer is a seq.

use axum::Json;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use syncline_protocol::{ClientId, OpId, OutcomeResult, OutcomeStatus, RawJson, limits};

use crate::api_error::ApiError;
use crate::app::App;
use crate::auth::Caller;
use crate::http::sync::writer;
use crate::random;
use crate::store::PylonPage;

/// `GET /api/sync/pull?since=<seq>`
pub(super) async fn pull(app: &App, caller: &Caller, since: u64) -> Result<Json<PylonPage>, ApiError> {
    Ok(Json(app.store.pull_since(&caller.reader(), since).await?))
}

#[derive(Debug, Deserialize)]
pub(super) struct PylonPush {
    changes: Vec<PylonChange>,
    client_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PylonChange {
    entity: String,
    row_id: String,
    kind: String,
    data: Option<Box<RawValue>>,
    op_id: Option<String>,
}

/// The transaction that one change becomes.
#[derive(Serialize)]
struct OneChangeIntent<'a> {
    op_id: &'a OpId,
    issued_at: u64,
    changes: [IntentChange<'a>; 1],
}

/// Text as it came: what is wrong with it is for the store to say, for this change alone.
#[derive(Serialize)]
struct IntentChange<'a> {
    entity: &'a str,
    row_id: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct PylonPushAnswer {
    applied: u64,
    deduped: u64,
    errors: Vec<String>,
    cursor: PylonCursor,
    results: Vec<OutcomeResult>,
}

#[derive(Debug, Default, Serialize)]
struct PylonCursor {
    last_seq: u64,
}

/// `POST /api/sync/push` with `changes`
pub(super) async fn push(app: &App, caller: &Caller, push: PylonPush) -> Result<Json<PylonPushAnswer>, ApiError> {
    let client_id = push.client_id.and_then(|id| ClientId::parse(id).ok());
    let mut answer = PylonPushAnswer::default();
    for batch in push.changes.chunks(limits::PUSH_TRANSACTIONS_MAX) {
        let intents = batch.iter().map(|change| intent(caller, change)).collect::<Result<Vec<_>, ApiError>>()?;
        let results = app.push(writer(caller, client_id.clone(), 0), intents, Vec::new()).await?;
        // What follows a write that could not be decided waits for it.
        let stopped = results.iter().any(|result| result.status == OutcomeStatus::Retry);
        for (change, result) in batch.iter().zip(results) {
            answer.add(change, result);
        }
        if stopped {
            break;
        }
    }
    answer.cursor.last_seq = app.store.head(caller.tenant_id());
    Ok(Json(answer))
}

impl PylonPushAnswer {
    fn add(&mut self, change: &PylonChange, result: OutcomeResult) {
        match result.status {
            OutcomeStatus::Applied | OutcomeStatus::Merged | OutcomeStatus::Held if result.replayed => self.deduped += 1,
            OutcomeStatus::Applied | OutcomeStatus::Merged | OutcomeStatus::Held => self.applied += 1,
            OutcomeStatus::Rejected | OutcomeStatus::Retry | OutcomeStatus::NotEvaluated => {
                let message = result.error.as_ref().map_or("not evaluated", |error| error.message.as_str());
                self.errors.push(describe(change, message));
            }
        }
        self.results.push(result);
    }
}

fn describe(change: &PylonChange, message: &str) -> String {
    match change.kind.as_str() {
        "insert" => format!("insert {}: {message}", change.entity),
        kind => format!("{kind} {}/{}: {message}", change.entity, change.row_id),
    }
}

fn intent(caller: &Caller, change: &PylonChange) -> Result<RawJson, ApiError> {
    let op_id = match &change.op_id {
        Some(text) => op_id_of(caller, text),
        None => random::op_id()?,
    };
    let PylonChange { entity, row_id, kind, data, .. } = change;
    // The time is part of what a repetition is compared with, and this shape names none.
    let intent =
        OneChangeIntent { op_id: &op_id, issued_at: 0, changes: [IntentChange { entity, row_id, kind, data: data.as_deref() }] };
    serde_json::value::to_raw_value(&intent).map(RawJson::from).map_err(|error| ApiError::internal(&error))
}

/// Any text names an operation in this shape; what is no op_id becomes one by its hash, so that two users may count alike.
pub(super) fn op_id_of(caller: &Caller, text: &str) -> OpId {
    OpId::parse(text).unwrap_or_else(|_| {
        let user = caller.identity().user_id.as_deref().unwrap_or_default();
        let digest = Sha256::new().chain_update(user).chain_update([0]).chain_update(text).finalize();
        let mut bytes = [0_u8; 16];
        for (byte, hashed) in bytes.iter_mut().zip(digest) {
            *byte = hashed;
        }
        OpId::from_bytes(bytes)
    })
}
