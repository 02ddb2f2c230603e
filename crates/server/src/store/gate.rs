//! Somebody outside who is asked before a client's transaction is committed.
//!
//! The answer may take seconds, so nobody waits for it with the database in hand. The writer's thread evaluates the
//! transaction as if it were to be committed, takes it back and asks; with the answer it evaluates once more, and when a row
//! that was looked at has changed meanwhile, it asks again. Transactions of one push are asked about one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use syncline_protocol::{
    ChangeKind, EntityName, ErrorCode, ErrorDetail, Intent, OpId, OutcomeResult, RawJson, Row, RowId, Timestamp,
};

use crate::store::database::random_u64;
use crate::store::push::{self, PreparedIntent, PushRequest};
use crate::store::writer::now;
use crate::store::{PushError, Store, StoreError, Writer};

/// Decides about transactions that types and policies have let pass.
pub trait WriteGate: Sync {
    /// Which transactions it is asked about.
    fn watched(&self) -> &Watched;

    /// Decides about one.
    fn judge(&self, writer: &Writer, write: &ProposedWrite) -> impl Future<Output = Verdict> + Send;
}

/// The entities whose changes are asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Watched {
    /// None.
    #[default]
    Nothing,
    /// All.
    Everything,
    /// These.
    Entities(Arc<BTreeSet<String>>),
}

impl Watched {
    /// Whether a transaction is to be asked about: when one of its changes is.
    pub(crate) fn has(&self, intent: &Intent) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Entities(entities) => intent.changes.iter().any(|change| entities.contains(change.entity.as_str())),
        }
    }
}

/// A transaction as it would be committed.
#[derive(Debug, Clone, PartialEq)]
pub struct ProposedWrite {
    /// Recognises the transaction.
    pub op_id: OpId,
    /// The writer's clock.
    pub issued_at: Timestamp,
    /// What it would do, in order.
    pub changes: Vec<ProposedChange>,
}

/// One change as it would be committed.
#[derive(Debug, Clone, PartialEq)]
pub struct ProposedChange {
    /// Kind of row.
    pub entity: EntityName,
    /// Which row.
    pub row_id: RowId,
    /// Insert, update or delete.
    pub kind: ChangeKind,
    /// The row as it is; `None` for an insert.
    pub before: Option<Row>,
    /// The row as it would be; `None` for a delete.
    pub after: Option<Row>,
}

/// What a gate decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It may be committed, with these fields set: by the index of the change.
    Accept(BTreeMap<usize, Row>),
    /// It is rejected, for ever.
    Reject(ErrorDetail),
    /// Nobody could decide: the client sends it again.
    NotNow(ErrorDetail),
}

/// A question and what was looked at for it.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) write: ProposedWrite,
    pub(crate) seen: Seen,
}

/// The seq of each row that a transaction changes, before it does; 0 for none.
pub(crate) type Seen = Vec<u64>;

/// The answer to the first transaction of a [`PushRequest`].
#[derive(Debug)]
pub(crate) enum Answer {
    Accept(BTreeMap<usize, Row>, Seen),
    Reject(ErrorDetail, Seen),
}

impl Answer {
    pub(crate) const fn seen(&self) -> &Seen {
        match self {
            Self::Accept(_, seen) | Self::Reject(_, seen) => seen,
        }
    }
}

/// The gate of a server without one.
struct Open;

impl WriteGate for Open {
    fn watched(&self) -> &Watched {
        &Watched::Nothing
    }

    async fn judge(&self, _writer: &Writer, _write: &ProposedWrite) -> Verdict {
        Verdict::Accept(BTreeMap::new())
    }
}

impl Store {
    /// Applies intents in order; one result for each. `processed` names transactions whose outcome the client has on disk.
    ///
    /// # Errors
    /// When a newer leader of the replica has pushed, or the writer has lost the tenant.
    pub async fn push(
        &self,
        writer: Writer,
        intents: Vec<RawJson>,
        processed: Vec<OpId>,
    ) -> Result<Vec<OutcomeResult>, PushError> {
        self.push_through(&Open, writer, intents, processed).await
    }

    /// As [`Store::push`], asking a gate about what it watches.
    ///
    /// # Errors
    /// As [`Store::push`].
    pub async fn push_through(
        &self,
        gate: &impl WriteGate,
        writer: Writer,
        intents: Vec<RawJson>,
        mut processed: Vec<OpId>,
    ) -> Result<Vec<OutcomeResult>, PushError> {
        // Parsing and hashing megabytes would hold up the other tasks of this thread.
        let prepare = move || intents.iter().map(|raw| PreparedIntent::prepare(raw.get())).collect::<Vec<_>>();
        let prepared: Arc<[PreparedIntent]> = tokio::task::spawn_blocking(prepare).await.unwrap_or_default().into();
        let (began, mut results) = (Instant::now(), Vec::with_capacity(prepared.len()));
        let (mut answer, mut asked) = (None, None);
        let error = loop {
            let request = PushRequest {
                intents: Arc::clone(&prepared),
                first: results.len(),
                answer: answer.take(),
                watched: gate.watched().clone(),
                processed: std::mem::take(&mut processed),
                mark_seed: match random_u64() {
                    Ok(seed) => seed,
                    Err(error) => break not_taken(&error),
                },
            };
            let done = match self.evaluate(writer.clone(), request).await {
                Ok(done) => done?,
                Err(error) => break error,
            };
            results.extend(done.results);
            let Some(question) = done.question else { return Ok(results) };
            let times = match asked {
                Some((place, times)) if place == results.len() => times + 1,
                _ => 1,
            };
            asked = Some((results.len(), times));
            if times > ASKED_MAX || began.elapsed() > JUDGING_MAX {
                break ErrorDetail::new(ErrorCode::Busy, "the server could not decide about the write now");
            }
            answer = Some(match gate.judge(&writer, &question.write).await {
                Verdict::Accept(set) => Answer::Accept(set, question.seen),
                Verdict::Reject(error) => Answer::Reject(error, question.seen),
                Verdict::NotNow(error) => break error,
            });
        };
        let rest = prepared.iter().skip(results.len());
        results.extend(PreparedIntent::not_now(rest, &error));
        Ok(results)
    }

    /// Goes through a push on the writer's thread, up to its end or to a question.
    async fn evaluate(&self, writer: Writer, request: PushRequest) -> Result<Result<push::Pushed, PushError>, ErrorDetail> {
        let schema = Arc::clone(&self.shared.schema);
        let pushed = self.shared.writer.run(move |connection, announcements| {
            push::push_and_announce(connection, &schema, &writer, request, now(), announcements)
        });
        pushed.await.map_err(|error: StoreError| not_taken(&error))
    }
}

fn not_taken(error: &StoreError) -> ErrorDetail {
    let code = if matches!(error, StoreError::Busy) { ErrorCode::Busy } else { ErrorCode::Internal };
    tracing::warn!(%error, "a push was not applied");
    ErrorDetail::new(code, "the server could not take the write now")
}

/// How often one transaction is asked about in one push, when its rows change under the question.
const ASKED_MAX: u32 = 3;
/// How long one push may ask: a client takes a server that is silent for thirty seconds for gone.
const JUDGING_MAX: Duration = Duration::from_secs(15);
