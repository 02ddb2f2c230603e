//! What becomes of the intents of a push, in order, inside one database transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use syncline_core::planted;
use syncline_core::server::Schema;
use syncline_protocol::{
    ChangeKind, ErrorCode, ErrorDetail, Intent, IntentChange, OpId, OutcomeResult, OutcomeStatus, Row, RowText, Timestamp,
};

use crate::store::committer::Announcements;
use crate::store::gate::{Answer, ProposedChange, ProposedWrite, Question, Seen, Watched};
use crate::store::log::{LogRecord, tenant_key, unsigned};
use crate::store::member_lookup::may_be_in;
use crate::store::outcome::{StoredOutcome, note_processed, outcome};
use crate::store::row_json::parse_stored;
use crate::store::write::{ApplyError, Origin, RowImages, Transaction};
use crate::store::{PushError, Reader, SessionEvent, StoreError, Writer, session};

/// An intent that was parsed and hashed before the writer thread sees it.
pub(crate) struct PreparedIntent {
    op_id: OpId,
    intent: Result<(Intent, [u8; 16]), ErrorDetail>,
}

/// What a push did.
#[derive(Default)]
pub(crate) struct Pushed {
    pub(crate) results: Vec<OutcomeResult>,
    /// The last seq written, if any transaction applied.
    pub(crate) head: Option<u64>,
    /// What the sessions of others have to notice.
    pub(crate) sessions: Vec<SessionEvent>,
    /// What has to be answered before the push goes on.
    pub(crate) question: Option<Question>,
}

impl PreparedIntent {
    /// Parses an intent. One that is malformed keeps its place, so that the results stay in order.
    pub(crate) fn prepare(raw: &str) -> Self {
        let failed = |code, message| Self { op_id: op_id_of(raw), intent: Err(ErrorDetail::new(code, message)) };
        let (intent, canonical) = match Intent::parse_frozen(raw) {
            Ok(parsed) => parsed,
            Err(error) => return failed(error.code(), error.to_string()),
        };
        let written = |kind: &ChangeKind| matches!(kind, ChangeKind::Insert | ChangeKind::Update | ChangeKind::Delete);
        if let Some(change) = intent.changes.iter().find(|change| !written(&change.kind)) {
            return failed(ErrorCode::UnknownKind, format!("this version does not know the kind {:?}", change.kind.as_str()));
        }
        let digest = Sha256::digest(canonical);
        let mut hash = [0; 16];
        hash.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self { op_id: intent.op_id.clone(), intent: Ok((intent, hash)) }
    }

    /// The results of what was not decided: the first may be sent again, and the rest with it.
    pub(crate) fn not_now<'a>(
        undecided: impl Iterator<Item = &'a Self>,
        error: &ErrorDetail,
    ) -> impl Iterator<Item = OutcomeResult> {
        undecided.enumerate().map(|(index, intent)| match index {
            0 => outcome(&intent.op_id, OutcomeStatus::Retry, Some(error.clone())),
            _ => outcome(&intent.op_id, OutcomeStatus::NotEvaluated, None),
        })
    }
}

/// Reads the op_id of what may be no intent; zeros when there is none to read.
fn op_id_of(raw: &str) -> OpId {
    #[derive(Deserialize)]
    struct Named {
        op_id: OpId,
    }
    serde_json::from_str::<Named>(raw).map_or_else(|_| OpId::from_bytes([0; 16]), |named| named.op_id)
}

/// What is left to do of a push.
pub(crate) struct PushRequest {
    pub(crate) intents: Arc<[PreparedIntent]>,
    /// Those before this one have their results.
    pub(crate) first: usize,
    /// What was decided about the first.
    pub(crate) answer: Option<Answer>,
    /// What is asked about.
    pub(crate) watched: Watched,
    /// Transactions whose outcome the client has on disk.
    pub(crate) processed: Vec<OpId>,
    /// Random bits from which the marks of log records are drawn.
    pub(crate) mark_seed: u64,
}

/// As [`push`], leaving word of what has to be announced once it is committed.
pub(crate) fn push_and_announce(
    connection: &Connection,
    schema: &Schema,
    writer: &Writer,
    request: PushRequest,
    now: Timestamp,
    announcements: &mut Announcements,
) -> Result<Result<Pushed, PushError>, StoreError> {
    let mut pushed = push(connection, schema, writer, request, now.0)?;
    if let Ok(pushed) = &mut pushed {
        announcements.heads.extend(pushed.head.map(|head| (tenant_key(&writer.reader).to_owned(), head)));
        announcements.sessions.append(&mut pushed.sessions);
    }
    Ok(pushed)
}

/// Evaluates a push up to its end or to a question. `Err(StoreError)` means that the database failed and nothing of it may be
/// kept.
fn push(
    connection: &Connection,
    schema: &Schema,
    writer: &Writer,
    request: PushRequest,
    now: u64,
) -> Result<Result<Pushed, PushError>, StoreError> {
    if !is_member(connection, schema, writer)? {
        return Ok(Err(PushError::NotAMember));
    }
    if let Err(fenced) = check_fence(connection, writer)? {
        return Ok(Err(fenced));
    }
    let PushRequest { intents, first, mut answer, watched, processed, mark_seed } = request;
    let mut evaluation = Evaluation { connection, schema, writer, watched, now, mark_seed, pushed: Pushed::default() };
    for prepared in intents.iter().skip(first) {
        evaluation.take(prepared, answer.take())?;
        if evaluation.pushed.question.is_some() {
            break;
        }
    }
    note_processed(connection, writer, &processed, now)?;
    Ok(Ok(evaluation.pushed))
}

/// Asked again inside the transaction, because the session was looked up before it.
fn is_member(connection: &Connection, schema: &Schema, writer: &Writer) -> Result<bool, StoreError> {
    let Reader { user_id: Some(user), tenant_id: Some(tenant), .. } = &writer.reader else { return Ok(true) };
    may_be_in(connection, schema, user, tenant)
}

fn check_fence(connection: &Connection, writer: &Writer) -> Result<Result<(), PushError>, StoreError> {
    let Some(client_id) = &writer.client_id else { return Ok(Ok(())) };
    let tenant = tenant_key(&writer.reader);
    // With the user, because everybody who sees a transaction learns its client_id and could fence that replica for ever.
    let replica = format!("{client_id} {}", writer.reader.user_id.as_deref().unwrap_or_default());
    let current = connection
        .prepare_cached("SELECT fence FROM fences WHERE tenant = ?1 AND client_id = ?2")?
        .query_row([tenant, &replica], |row| unsigned(row, 0))
        .optional()?
        .unwrap_or_default();
    if writer.fence < current && !planted::is(23) {
        return Ok(Err(PushError::Fenced { current }));
    }
    if writer.fence > current {
        connection
            .prepare_cached(
                "INSERT INTO fences(tenant, client_id, fence) VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET fence = ?3",
            )?
            .execute(params![tenant, replica, writer.fence.cast_signed()])?;
    }
    Ok(Ok(()))
}

/// A push on its way through its intents.
struct Evaluation<'a> {
    connection: &'a Connection,
    schema: &'a Schema,
    writer: &'a Writer,
    watched: Watched,
    now: u64,
    mark_seed: u64,
    pushed: Pushed,
}

/// What a transaction did, before it is kept or taken back.
struct Applied {
    records: Vec<LogRecord>,
    images: Vec<RowImages>,
    sessions: Vec<SessionEvent>,
}

impl Applied {
    fn seen(&self) -> Seen {
        self.images.iter().map(|images| images.seq).collect()
    }

    fn question(self, intent: &Intent) -> Question {
        let seen = self.seen();
        let changes = intent.changes.iter().zip(self.images).map(|(change, RowImages { before, after, .. })| ProposedChange {
            entity: change.entity.clone(),
            row_id: change.row_id.clone(),
            kind: change.kind.clone(),
            before,
            after,
        });
        let (op_id, issued_at) = (intent.op_id.clone(), intent.issued_at);
        Question { write: ProposedWrite { op_id, issued_at, changes: changes.collect() }, seen }
    }
}

impl Evaluation<'_> {
    fn take(&mut self, prepared: &PreparedIntent, answer: Option<Answer>) -> Result<(), StoreError> {
        let result = match &prepared.intent {
            Err(error) => Some(outcome(&prepared.op_id, OutcomeStatus::NotEvaluated, Some(error.clone()))),
            Ok((intent, hash)) => self.evaluate(intent, *hash, answer)?,
        };
        // Without a result there is a question.
        if let Some(result) = result {
            if !result.replayed {
                self.pushed.head = result.last_seq.or(self.pushed.head);
            }
            self.pushed.results.push(result);
        }
        Ok(())
    }

    fn evaluate(&mut self, intent: &Intent, hash: [u8; 16], answer: Option<Answer>) -> Result<Option<OutcomeResult>, StoreError> {
        let tenant = tenant_key(&self.writer.reader);
        if let Some(stored) = StoredOutcome::load(self.connection, tenant, &intent.op_id)? {
            return Ok(Some(stored.answer(&intent.op_id, hash, self.writer)));
        }
        for needed in &intent.after {
            let needed_outcome = StoredOutcome::load(self.connection, tenant, needed)?;
            if !needed_outcome.is_some_and(|stored| stored.did_apply(self.writer)) && !planted::is(26) {
                let error = ErrorDetail::new(ErrorCode::DependencyFailed, format!("transaction {needed} did not apply"));
                return Ok(Some(outcome(&intent.op_id, OutcomeStatus::NotEvaluated, Some(error))));
            }
        }
        self.connection.execute_batch("SAVEPOINT intent")?;
        let decided = self.decide(intent, answer)?;
        if !matches!(decided, Decided::Applied(_)) {
            self.connection.execute_batch("ROLLBACK TO intent")?;
        }
        self.connection.execute_batch("RELEASE intent")?;
        let stored = match decided {
            Decided::Applied(applied) => {
                self.pushed.sessions.extend(applied.sessions);
                let first_seq = applied.records.first().map(|record| record.seq);
                let last_seq = applied.records.last().map(|record| record.seq);
                StoredOutcome::applied(self.writer, hash, first_seq, last_seq)
            }
            Decided::Rejected(error) => StoredOutcome::rejected(self.writer, hash, error),
            Decided::Asked(question) => {
                self.pushed.question = Some(question);
                return Ok(None);
            }
        };
        if !planted::is(20) {
            stored.store(self.connection, tenant, &intent.op_id, self.now)?;
        }
        Ok(Some(stored.result(&intent.op_id, false)))
    }

    /// Applies a transaction and says what is to become of it.
    fn decide(&mut self, intent: &Intent, answer: Option<Answer>) -> Result<Decided, StoreError> {
        let nothing = BTreeMap::new();
        let set = match &answer {
            Some(Answer::Accept(set, _)) => set,
            Some(Answer::Reject(..)) | None => &nothing,
        };
        let applied = match self.apply(intent, set) {
            Ok(applied) => applied,
            Err(ApplyError::Store(error)) => return Err(error),
            Err(ApplyError::Rejected(error)) if set.is_empty() => return Ok(Decided::Rejected(error)),
            Err(ApplyError::Rejected(error)) => return self.decide_without(intent, answer, error),
        };
        if !self.watched.has(intent) {
            return Ok(Decided::Applied(applied));
        }
        Ok(match answer {
            Some(answer) if *answer.seen() != applied.seen() => {
                // What was asked about is not what is there now; and it is asked about without what was set.
                self.connection.execute_batch("ROLLBACK TO intent")?;
                return self.decide(intent, None);
            }
            Some(Answer::Accept(..)) => Decided::Applied(applied),
            Some(Answer::Reject(error, _)) => Decided::Rejected(error),
            None => Decided::Asked(applied.question(intent)),
        })
    }

    /// What was set makes the transaction one that types or policies refuse: unless that is because the rows have changed
    /// since, it is rejected, and the reason is the gate's.
    fn decide_without(&mut self, intent: &Intent, answer: Option<Answer>, mut error: ErrorDetail) -> Result<Decided, StoreError> {
        self.connection.execute_batch("ROLLBACK TO intent")?;
        match self.decide(intent, None)? {
            Decided::Asked(question) if answer.is_some_and(|answer| *answer.seen() == question.seen) => {
                error.message = format!("with what the application's backend set: {}", error.message);
                tracing::warn!(op_id = %intent.op_id, code = error.code, "{}", error.message);
                Ok(Decided::Rejected(error))
            }
            decided @ (Decided::Applied(_) | Decided::Rejected(_) | Decided::Asked(_)) => Ok(decided),
        }
    }

    fn apply(&mut self, intent: &Intent, set: &BTreeMap<usize, Row>) -> Result<Applied, ApplyError> {
        let origin = Origin {
            op_id: intent.op_id.as_str().to_owned(),
            client_id: self.writer.client_id.as_ref().map(ToString::to_string),
            user_id: self.writer.reader.user_id.clone(),
            issued_at: intent.issued_at.0,
            committed_at: self.now,
            schema: intent.schema,
            mark_seed: self.mark_seed,
        };
        let mut transaction = Transaction::begin(self.connection, self.schema, tenant_key(&self.writer.reader), origin)?;
        if self.watched.has(intent) {
            transaction = transaction.keeping_images();
        }
        for (index, change) in intent.changes.iter().enumerate() {
            match set.get(&index) {
                None => transaction.apply(change)?,
                Some(fields) => transaction.apply(&amended(change, fields)?)?,
            }
        }
        let mut sessions = Vec::new();
        for (user_id, tenant_id) in transaction.ended_memberships()? {
            session::leave_tenant(self.connection, &user_id, &tenant_id)?;
            sessions.push(SessionEvent::MembershipEnded { user_id, tenant_id });
        }
        let images = transaction.take_images();
        Ok(Applied { records: transaction.finish()?, images, sessions })
    }
}

/// What is to become of a transaction that was applied inside a savepoint.
enum Decided {
    Applied(Applied),
    Rejected(ErrorDetail),
    Asked(Question),
}

/// A change with some fields set by somebody else.
fn amended(change: &IntentChange, fields: &Row) -> Result<IntentChange, StoreError> {
    let mut data = change.data.as_ref().map_or(Ok(Row::new()), |data| parse_stored(data.get()))?;
    data.extend(fields.clone());
    Ok(IntentChange { data: Some(RowText::from_row(&data)), ..change.clone() })
}
