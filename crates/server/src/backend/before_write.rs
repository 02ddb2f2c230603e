//! `[hooks] before_write`: the application's backend decides about each transaction before it is committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use syncline_protocol::{ChangeKind, ClientId, ErrorDetail, Row, parse_row};

use crate::backend::{Backend, BackendError, Endpoint, SessionView, refused};
use crate::random;
use crate::store::{ProposedWrite, Verdict, Watched, WriteGate, Writer};

/// Where questions go, and about what.
#[derive(Debug)]
pub(super) struct BeforeWrite {
    pub(super) endpoint: Endpoint,
    pub(super) watched: Watched,
}

/// The backend as the gate of the store.
#[derive(Debug)]
pub(crate) struct BackendGate<'a> {
    pub(super) backend: &'a Backend,
    pub(super) hook: &'a BeforeWrite,
}

/// What the backend gets.
#[derive(Serialize)]
struct Asked<'a> {
    r#type: &'static str,
    op_id: &'a str,
    client_id: Option<&'a str>,
    issued_at: u64,
    session: SessionView<'a>,
    changes: Vec<AskedChange<'a>>,
}

#[derive(Serialize)]
struct AskedChange<'a> {
    entity: &'a str,
    row_id: &'a str,
    kind: &'a str,
    before: Option<&'a Row>,
    after: Option<&'a Row>,
}

/// What the backend may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    accept: bool,
    #[serde(default)]
    set: Vec<SetFields>,
    code: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFields {
    change: usize,
    fields: Box<RawValue>,
}

impl WriteGate for BackendGate<'_> {
    fn watched(&self) -> &Watched {
        &self.hook.watched
    }

    async fn judge(&self, writer: &Writer, write: &ProposedWrite) -> Verdict {
        let not_now = |error: BackendError| {
            Verdict::NotNow(ErrorDetail { retry_after_secs: Some(RETRY_AFTER_SECS), ..error.into_detail() })
        };
        let decided = match self.ask(writer, write).await {
            Ok(answer) => understood(&answer, write),
            // A refusal to answer is not one of the write: that would be final.
            Err(BackendError::Refused { code, .. }) => {
                Err(BackendError::Failed(format!("answered the hook with the error {code} instead of a decision")))
            }
            // Logged by the call.
            Err(error) => return not_now(error),
        };
        decided.unwrap_or_else(|error| {
            tracing::warn!(url = %self.hook.endpoint.url, op_id = %write.op_id, "{error}");
            not_now(error)
        })
    }
}

impl BackendGate<'_> {
    async fn ask(&self, writer: &Writer, write: &ProposedWrite) -> Result<Vec<u8>, BackendError> {
        let changes = write.changes.iter().map(|change| AskedChange {
            entity: change.entity.as_str(),
            row_id: change.row_id.as_str(),
            kind: change.kind.as_str(),
            before: change.before.as_ref(),
            after: change.after.as_ref(),
        });
        let asked = Asked {
            r#type: "before_write",
            op_id: write.op_id.as_str(),
            client_id: writer.client_id.as_ref().map(ClientId::as_str),
            issued_at: write.issued_at.0,
            session: SessionView::of(&writer.reader),
            changes: changes.collect(),
        };
        let failed = |_| BackendError::Failed("could not be asked".to_owned());
        let body = serde_json::to_string(&asked).map_err(failed)?;
        // A question of its own each time, also about the same transaction: the rows may have changed, and the answer with them.
        let id = random::op_id().map_err(|_| BackendError::Failed("could not be asked".to_owned()))?;
        Ok(self.backend.call(&self.hook.endpoint, &format!("hook_{id}"), body).await?.to_vec())
    }
}

fn understood(answer: &[u8], write: &ProposedWrite) -> Result<Verdict, BackendError> {
    let failed = |why: String| BackendError::Failed(format!("answered the hook with something else than a decision: {why}"));
    let Answered { accept, set, code, message } = serde_json::from_slice(answer).map_err(|error| failed(error.to_string()))?;
    match (accept, code) {
        (true, None) if message.is_none() => fields(&set, write).map(Verdict::Accept).map_err(failed),
        (false, Some(code)) if set.is_empty() => match refused(code, &message.unwrap_or_default()) {
            Some(refusal) => Ok(Verdict::Reject(refusal.into_detail())),
            None => Err(failed("a code has 1 to 64 letters, digits and the signs . _ -".to_owned())),
        },
        (true, _) => Err(failed("code and message belong to a refusal".to_owned())),
        (false, _) => Err(failed("a refusal has a code and sets nothing".to_owned())),
    }
}

/// The fields to set, checked like those a client sends.
fn fields(set: &[SetFields], write: &ProposedWrite) -> Result<BTreeMap<usize, Row>, String> {
    let mut fields: BTreeMap<usize, Row> = BTreeMap::new();
    for SetFields { change, fields: text } in set {
        match write.changes.get(*change) {
            None => return Err(format!("there is no change {change}")),
            Some(found) if found.kind == ChangeKind::Delete => return Err(format!("change {change} is a delete")),
            Some(_) => {}
        }
        let row = parse_row(text.get()).map_err(|error| format!("fields of change {change}: {error}"))?;
        if fields.insert(*change, row).is_some() {
            return Err(format!("change {change} is set twice"));
        }
    }
    Ok(fields)
}

/// When the client may come again; its own delays grow from there.
const RETRY_AFTER_SECS: u64 = 1;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use syncline_protocol::{EntityName, ErrorCode, OpId, RowId, Timestamp};

    use super::*;
    use crate::store::ProposedChange;

    fn judged(answer: &Value) -> Result<Verdict, BackendError> {
        let change = |kind| ProposedChange {
            entity: EntityName::parse("T").unwrap(),
            row_id: RowId::parse("r").unwrap(),
            kind,
            before: None,
            after: None,
        };
        let changes = vec![change(ChangeKind::Insert), change(ChangeKind::Delete)];
        let write = ProposedWrite { op_id: OpId::from_bytes([0; 16]), issued_at: Timestamp(0), changes };
        understood(answer.to_string().as_bytes(), &write)
    }

    #[test]
    fn a_decision_is_taken_and_nothing_that_is_half_of_one() {
        assert_eq!(judged(&json!({"accept": true})), Ok(Verdict::Accept(BTreeMap::new())));
        let set = judged(&json!({"accept": true, "set": [{"change": 0, "fields": {"a": 1}}]})).unwrap();
        let Verdict::Accept(set) = set else { panic!("{set:?}") };
        assert_eq!(Value::Object(set[&0].clone()), json!({"a": 1}));
        let refusal = judged(&json!({"accept": false, "code": "PLAN_LIMIT", "message": "three is the most"})).unwrap();
        let expected = ErrorDetail::new(ErrorCode::BackendRefused, "PLAN_LIMIT: three is the most");
        assert_eq!(refusal, Verdict::Reject(expected));
        for nothing in [
            json!(null),
            json!({}),
            json!({"accept": "yes"}),
            json!({"accept": true, "sets": []}),
            json!({"accept": true, "code": "A"}),
            json!({"accept": true, "message": "fine"}),
            json!({"accept": false}),
            json!({"accept": false, "code": "no code"}),
            json!({"accept": false, "code": "A", "set": [{"change": 0, "fields": {}}]}),
            json!({"accept": true, "set": [{"change": 2, "fields": {}}]}),
            json!({"accept": true, "set": [{"change": 1, "fields": {}}]}),
            json!({"accept": true, "set": [{"change": 0, "fields": {}}, {"change": 0, "fields": {}}]}),
            json!({"accept": true, "set": [{"change": 0, "fields": {"__proto__": 1}}]}),
            json!({"accept": true, "set": [{"change": 0, "fields": {"n": 9_007_199_254_740_993_i64}}]}),
            json!({"accept": true, "set": [{"change": 0, "fields": [1]}]}),
        ] {
            assert!(matches!(judged(&nothing), Err(BackendError::Failed(_))), "{nothing}");
        }
    }
}
