//! What became of transactions, kept so that a repetition gets the same answer.

use rusqlite::{Connection, OptionalExtension, params};
use syncline_protocol::{ErrorCode, ErrorDetail, OpId, OutcomeResult, OutcomeStatus, Timestamp, limits};

use crate::store::log::tenant_key;
use crate::store::{StoreError, Writer};

/// What became of a transaction.
pub(crate) struct StoredOutcome {
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
    pub(crate) fn applied(writer: &Writer, hash: [u8; 16], first_seq: Option<u64>, last_seq: Option<u64>) -> Self {
        let user_id = writer.reader.user_id.clone();
        Self { hash: hash.to_vec(), status: APPLIED.to_owned(), first_seq, last_seq, error: None, user_id }
    }

    pub(crate) fn rejected(writer: &Writer, hash: [u8; 16], error: ErrorDetail) -> Self {
        let user_id = writer.reader.user_id.clone();
        Self { hash: hash.to_vec(), status: REJECTED.to_owned(), first_seq: None, last_seq: None, error: Some(error), user_id }
    }

    pub(crate) fn load(connection: &Connection, tenant: &str, op_id: &OpId) -> Result<Option<Self>, StoreError> {
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

    pub(crate) fn store(&self, connection: &Connection, tenant: &str, op_id: &OpId, now: u64) -> Result<(), StoreError> {
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

    pub(crate) fn did_apply(&self, writer: &Writer) -> bool {
        self.user_id == writer.reader.user_id && (self.status == APPLIED || self.status == MERGED)
    }

    /// Answers a transaction that was seen before: with what became of it, if it is the same and of the same user.
    pub(crate) fn answer(&self, op_id: &OpId, hash: [u8; 16], writer: &Writer) -> OutcomeResult {
        if self.hash == hash && self.user_id == writer.reader.user_id {
            return self.result(op_id, true);
        }
        let error = ErrorDetail::new(ErrorCode::OpIdReused, "this op_id was used for another transaction");
        outcome(op_id, OutcomeStatus::Rejected, Some(error))
    }

    pub(crate) fn result(&self, op_id: &OpId, replayed: bool) -> OutcomeResult {
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

/// A result that is not stored.
pub(crate) fn outcome(op_id: &OpId, status: OutcomeStatus, error: Option<ErrorDetail>) -> OutcomeResult {
    OutcomeResult { op_id: op_id.clone(), status, first_seq: None, last_seq: None, replayed: false, error }
}

/// A rejected transaction that its client has dealt with need not be remembered for long. Applied ones are: a later
/// transaction may still name them in `after`.
pub(crate) fn note_processed(connection: &Connection, writer: &Writer, processed: &[OpId], now: u64) -> Result<(), StoreError> {
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

/// Outcomes of writes issued before this time may be forgotten.
pub(crate) fn outcome_floor(now: Timestamp) -> Timestamp {
    const DAY_MS: u64 = 86_400_000;
    Timestamp(now.0.saturating_sub(limits::OUTCOME_DAYS * DAY_MS))
}

/// Forgets outcomes: those older than the limit, and rejected ones a day after their client dealt with them.
pub(crate) fn forget_outcomes(connection: &Connection, now: u64) -> Result<(), StoreError> {
    const DAY_MS: u64 = 86_400_000;
    let before = |age: u64| now.saturating_sub(age).cast_signed();
    connection.execute("DELETE FROM outcomes WHERE processed_at < ?1", [before(DAY_MS)])?;
    let oldest = outcome_floor(Timestamp(now)).0.cast_signed();
    connection.execute("DELETE FROM outcomes WHERE at < ?1", [oldest])?;
    connection.execute("DELETE FROM deleted_rows WHERE at < ?1", [oldest])?;
    Ok(())
}
