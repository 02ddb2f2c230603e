//! What becomes of the intents of a push, in order, inside one database transaction.

use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use syncline_core::server::Schema;
use syncline_protocol::{ChangeKind, ErrorCode, ErrorDetail, Intent, OpId, OutcomeResult, OutcomeStatus};

use crate::store::database::random_u64;
use crate::store::log::{LogRecord, tenant_key, unsigned};
use crate::store::member_lookup::may_be_in;
use crate::store::write::{ApplyError, Origin, Transaction};
use crate::store::{PushError, Reader, SessionEvent, StoreError, Writer, session};

/// An intent that was parsed and hashed before the writer thread sees it.
pub(crate) struct PreparedIntent {
    op_id: OpId,
    intent: Result<(Intent, [u8; 16]), ErrorDetail>,
}

/// What a push did.
pub(crate) struct Pushed {
    pub(crate) results: Vec<OutcomeResult>,
    /// The last seq written, if any transaction applied.
    pub(crate) head: Option<u64>,
    /// What the sessions of others have to notice.
    pub(crate) sessions: Vec<SessionEvent>,
}

impl PreparedIntent {
    /// Parses an intent. One that is malformed keeps its place, so that the results stay in order.
    pub(crate) fn prepare(raw: &str) -> Self {
        let failed = |code, message| Self { op_id: op_id_of(raw), intent: Err(ErrorDetail::new(code, message)) };
        let intent = match Intent::parse(raw) {
            Ok(intent) => intent,
            Err(error) => return failed(error.code(), error.to_string()),
        };
        let written = |kind: &ChangeKind| matches!(kind, ChangeKind::Insert | ChangeKind::Update | ChangeKind::Delete);
        if let Some(change) = intent.changes.iter().find(|change| !written(&change.kind)) {
            return failed(ErrorCode::UnknownKind, format!("this version does not know the kind {:?}", change.kind.as_str()));
        }
        let digest = Sha256::digest(intent.canonical());
        let mut hash = [0; 16];
        hash.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self { op_id: intent.op_id.clone(), intent: Ok((intent, hash)) }
    }

    /// The result when the store could not take the push at all.
    pub(crate) fn not_now(intents: &[OpId], error: &ErrorDetail) -> Vec<OutcomeResult> {
        let status = |index| if index == 0 { OutcomeStatus::Retry } else { OutcomeStatus::NotEvaluated };
        let result = |(index, op_id): (usize, &OpId)| {
            let error = (index == 0).then(|| error.clone());
            OutcomeResult { op_id: op_id.clone(), status: status(index), first_seq: None, last_seq: None, replayed: false, error }
        };
        intents.iter().enumerate().map(result).collect()
    }

    pub(crate) fn op_id(&self) -> &OpId {
        &self.op_id
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

/// Evaluates a push. `Err(StoreError)` means that the database failed and nothing of it may be kept.
pub(crate) fn push(
    connection: &Connection,
    schema: &Schema,
    writer: &Writer,
    intents: &[PreparedIntent],
    processed: &[OpId],
    now: u64,
) -> Result<Result<Pushed, PushError>, StoreError> {
    if !is_member(connection, schema, writer)? {
        return Ok(Err(PushError::NotAMember));
    }
    if let Err(fenced) = check_fence(connection, writer)? {
        return Ok(Err(fenced));
    }
    let pushed = Pushed { results: Vec::with_capacity(intents.len()), head: None, sessions: Vec::new() };
    let mut evaluation = Evaluation { connection, schema, writer, now, pushed };
    for prepared in intents {
        evaluation.take(prepared)?;
    }
    note_processed(connection, writer, processed, now)?;
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
    if writer.fence < current {
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
    now: u64,
    pushed: Pushed,
}

impl Evaluation<'_> {
    fn take(&mut self, prepared: &PreparedIntent) -> Result<(), StoreError> {
        let result = match &prepared.intent {
            Err(error) => outcome(&prepared.op_id, OutcomeStatus::NotEvaluated, Some(error.clone())),
            Ok((intent, hash)) => self.evaluate(intent, *hash)?,
        };
        if !result.replayed {
            self.pushed.head = result.last_seq.or(self.pushed.head);
        }
        self.pushed.results.push(result);
        Ok(())
    }

    fn evaluate(&mut self, intent: &Intent, hash: [u8; 16]) -> Result<OutcomeResult, StoreError> {
        let tenant = tenant_key(&self.writer.reader);
        if let Some(stored) = StoredOutcome::load(self.connection, tenant, &intent.op_id)? {
            return Ok(stored.answer(&intent.op_id, hash, self.writer));
        }
        for needed in &intent.after {
            if !StoredOutcome::load(self.connection, tenant, needed)?.is_some_and(|stored| stored.did_apply(self.writer)) {
                let error = ErrorDetail::new(ErrorCode::DependencyFailed, format!("transaction {needed} did not apply"));
                return Ok(outcome(&intent.op_id, OutcomeStatus::NotEvaluated, Some(error)));
            }
        }
        self.connection.execute_batch("SAVEPOINT intent")?;
        let stored = match self.apply(intent) {
            Ok(records) => {
                let first_seq = records.first().map(|record| record.seq);
                let last_seq = records.last().map(|record| record.seq);
                StoredOutcome::applied(self.writer, hash, first_seq, last_seq)
            }
            Err(ApplyError::Rejected(error)) => {
                self.connection.execute_batch("ROLLBACK TO intent")?;
                StoredOutcome::rejected(self.writer, hash, error)
            }
            Err(ApplyError::Store(error)) => return Err(error),
        };
        self.connection.execute_batch("RELEASE intent")?;
        stored.store(self.connection, tenant, &intent.op_id, self.now)?;
        Ok(stored.result(&intent.op_id, false))
    }

    fn apply(&mut self, intent: &Intent) -> Result<Vec<LogRecord>, ApplyError> {
        let origin = Origin {
            op_id: intent.op_id.as_str().to_owned(),
            client_id: self.writer.client_id.as_ref().map(ToString::to_string),
            user_id: self.writer.reader.user_id.clone(),
            issued_at: intent.issued_at.0,
            committed_at: self.now,
            schema: intent.schema,
            mark_seed: random_u64()?,
        };
        let mut transaction = Transaction::begin(self.connection, self.schema, tenant_key(&self.writer.reader), origin)?;
        for change in &intent.changes {
            transaction.apply(change)?;
        }
        for (user_id, tenant_id) in transaction.ended_memberships()? {
            session::leave_tenant(self.connection, &user_id, &tenant_id)?;
            self.pushed.sessions.push(SessionEvent::MembershipEnded { user_id, tenant_id });
        }
        Ok(transaction.finish()?)
    }
}

/// A rejected transaction that its client has dealt with need not be remembered for long. Applied ones are: a later
/// transaction may still name them in `after`.
fn note_processed(connection: &Connection, writer: &Writer, processed: &[OpId], now: u64) -> Result<(), StoreError> {
    for op_id in processed {
        connection
            .prepare_cached(
                "UPDATE outcomes SET processed_at = ?4 \
                 WHERE tenant = ?1 AND op_id = ?2 AND user_id IS ?3 AND status = 'rejected' AND processed_at IS NULL",
            )?
            .execute(params![tenant_key(&writer.reader), op_id.as_str(), writer.reader.user_id, now.cast_signed()])?;
    }
    Ok(())
}

/// Forgets outcomes: those older than the limit, and rejected ones a day after their client dealt with them.
pub(crate) fn forget_outcomes(connection: &Connection, now: u64) -> Result<(), StoreError> {
    const DAY_MS: u64 = 86_400_000;
    let before = |age: u64| now.saturating_sub(age).cast_signed();
    connection.execute("DELETE FROM outcomes WHERE processed_at < ?1", [before(DAY_MS)])?;
    let oldest = before(syncline_protocol::limits::OUTCOME_DAYS * DAY_MS);
    connection.execute("DELETE FROM outcomes WHERE at < ?1", [oldest])?;
    connection.execute("DELETE FROM deleted_rows WHERE at < ?1", [oldest])?;
    Ok(())
}

struct StoredOutcome {
    hash: Vec<u8>,
    status: String,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    error: Option<ErrorDetail>,
    user_id: Option<String>,
}

const APPLIED: &str = "applied";
const MERGED: &str = "merged";
const HELD: &str = "held";
const REJECTED: &str = "rejected";
const OUTCOME_FORMAT: i64 = 1;

impl StoredOutcome {
    fn applied(writer: &Writer, hash: [u8; 16], first_seq: Option<u64>, last_seq: Option<u64>) -> Self {
        let user_id = writer.reader.user_id.clone();
        Self { hash: hash.to_vec(), status: APPLIED.to_owned(), first_seq, last_seq, error: None, user_id }
    }

    fn rejected(writer: &Writer, hash: [u8; 16], error: ErrorDetail) -> Self {
        let user_id = writer.reader.user_id.clone();
        Self { hash: hash.to_vec(), status: REJECTED.to_owned(), first_seq: None, last_seq: None, error: Some(error), user_id }
    }

    fn load(connection: &Connection, tenant: &str, op_id: &OpId) -> Result<Option<Self>, StoreError> {
        let mut statement = connection.prepare_cached(
            "SELECT hash, status, first_seq, last_seq, code, message, user_id FROM outcomes WHERE tenant = ?1 AND op_id = ?2",
        )?;
        let stored = statement.query_row([tenant, op_id.as_str()], |row| {
            let seq = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(i64::cast_unsigned));
            let (code, message): (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
            Ok(Self {
                hash: row.get(0)?,
                status: row.get(1)?,
                first_seq: seq(2)?,
                last_seq: seq(3)?,
                error: code.map(|code| ErrorDetail {
                    code,
                    message: message.unwrap_or_default(),
                    hint: None,
                    oldest_seq: None,
                    retry_after_secs: None,
                }),
                user_id: row.get(6)?,
            })
        });
        Ok(stored.optional()?)
    }

    fn store(&self, connection: &Connection, tenant: &str, op_id: &OpId, now: u64) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "INSERT INTO outcomes(tenant, op_id, hash, status, first_seq, last_seq, code, message, user_id, at, format) \
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                tenant,
                op_id.as_str(),
                self.hash,
                self.status,
                self.first_seq.map(u64::cast_signed),
                self.last_seq.map(u64::cast_signed),
                self.error.as_ref().map(|error| &error.code),
                self.error.as_ref().map(|error| &error.message),
                self.user_id,
                now.cast_signed(),
                OUTCOME_FORMAT,
            ])?;
        Ok(())
    }

    fn did_apply(&self, writer: &Writer) -> bool {
        self.user_id == writer.reader.user_id && (self.status == APPLIED || self.status == MERGED)
    }

    /// Answers a transaction that was seen before: with what became of it, if it is the same and of the same user.
    fn answer(&self, op_id: &OpId, hash: [u8; 16], writer: &Writer) -> OutcomeResult {
        if self.hash == hash && self.user_id == writer.reader.user_id {
            return self.result(op_id, true);
        }
        let error = ErrorDetail::new(ErrorCode::OpIdReused, "this op_id was used for another transaction");
        outcome(op_id, OutcomeStatus::Rejected, Some(error))
    }

    fn result(&self, op_id: &OpId, replayed: bool) -> OutcomeResult {
        let status = match self.status.as_str() {
            APPLIED => OutcomeStatus::Applied,
            MERGED => OutcomeStatus::Merged,
            HELD => OutcomeStatus::Held,
            _ => OutcomeStatus::Rejected,
        };
        let (first_seq, last_seq) = (self.first_seq, self.last_seq);
        OutcomeResult { op_id: op_id.clone(), status, first_seq, last_seq, replayed, error: self.error.clone() }
    }
}

fn outcome(op_id: &OpId, status: OutcomeStatus, error: Option<ErrorDetail>) -> OutcomeResult {
    OutcomeResult { op_id: op_id.clone(), status, first_seq: None, last_seq: None, replayed: false, error }
}
