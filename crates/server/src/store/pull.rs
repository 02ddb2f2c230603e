//! Pages: the log as one reader sees it, walked forward from a cursor in one read transaction.

use rusqlite::{Connection, params};
use syncline_core::planted;
use syncline_core::server::Schema;
use syncline_protocol::{Change, ChangeKind, Cursor, Page, TransactionInfo, frame_checksum};

use crate::store::cursor::{CursorToken, view_hash};
use crate::store::database::Facts;
use crate::store::log::{COLUMNS, LogBounds, LogRecord, tenant_key};
use crate::store::scope_change::{LaterRecords, ScopeBudget, ScopeSearch, membership_records};
use crate::store::snapshot::snapshot_page;
use crate::store::visibility::{Eyes, MembershipChange};
use crate::store::{PageLimits, ReadError, Reader, StoreError};

/// One read of the log by one reader, at one moment.
pub(crate) struct LogRead<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) schema: &'a Schema,
    pub(crate) facts: Facts,
    pub(crate) reader: &'a Reader,
    pub(crate) tenant: &'a str,
    pub(crate) bounds: LogBounds,
    pub(crate) view: u64,
}

/// Records one page may look at, whether or not the reader sees them: keeps a page short in time.
const SCAN_MAX: u64 = 20_000;
/// How far back a changed membership is worked out from the log; beyond it a snapshot costs less.
const LATER_MAX: u64 = 50_000;

impl<'a> LogRead<'a> {
    pub(crate) fn begin(
        connection: &'a Connection,
        schema: &'a Schema,
        facts: Facts,
        reader: &'a Reader,
    ) -> Result<Self, StoreError> {
        let tenant = tenant_key(reader);
        let bounds = LogBounds::load(connection, tenant)?;
        let view = view_hash(schema.fingerprint(), facts.generation, reader);
        Ok(Self { connection, schema, facts, reader, tenant, bounds, view })
    }

    /// The page after a cursor, or the first of a snapshot.
    pub(crate) fn page(&self, cursor: Option<&str>, limits: PageLimits) -> Result<Page, ReadError> {
        let Some(token) = cursor else { return snapshot_page(self, None, limits) };
        let token = self.check(token)?;
        if token.snapshot.is_some() {
            return snapshot_page(self, Some(token), limits);
        }
        let walked = self.walk(token.seq, limits)?;
        let cursor = self.cursor(walked.to)?;
        Ok(Page {
            scope: SCOPE.to_owned(),
            from: token.seq,
            to: walked.to,
            cursor,
            has_more: walked.to < self.bounds.head,
            snapshot: None,
            consistent_at: (walked.fits_at > walked.to).then_some(self.bounds.head),
            checksum: frame_checksum(&walked.changes),
            changes: walked.changes,
            transactions: walked.transactions,
            scope_checksum: None,
        })
    }

    /// Checks a token.
    pub(crate) fn check(&self, token: &str) -> Result<CursorToken, ReadError> {
        let token = CursorToken::decode(token).ok_or_else(|| self.resync())?;
        let mark = self.bounds.mark_at(self.connection, self.tenant, token.seq).map_err(StoreError::from)?;
        if token.epoch != self.facts.epoch || token.view != self.view || mark != Some(token.mark) {
            return Err(self.resync());
        }
        Ok(token)
    }

    pub(crate) fn resync(&self) -> ReadError {
        ReadError::Resync { oldest_seq: self.bounds.floor + 1 }
    }

    /// The cursor at a seq of the log.
    pub(crate) fn cursor(&self, seq: u64) -> Result<Cursor, ReadError> {
        let token = CursorToken { epoch: self.facts.epoch, seq, mark: self.mark(seq)?, view: self.view, snapshot: None };
        Ok(Cursor { last_seq: seq, token: token.encode() })
    }

    pub(crate) fn mark(&self, seq: u64) -> Result<u64, ReadError> {
        let mark = self.bounds.mark_at(self.connection, self.tenant, seq).map_err(StoreError::from)?;
        Ok(mark.ok_or(StoreError::Corrupt { what: "log" })?)
    }

    /// Walks the log from a seq that lies within it.
    pub(crate) fn walk(&self, from: u64, limits: PageLimits) -> Result<Walked, ReadError> {
        let user = self.reader.user_id.as_deref();
        let mut walked = Walked { changes: Vec::new(), transactions: Vec::new(), to: from, fits_at: 0, times: Vec::new() };
        if from == self.bounds.head {
            return Ok(walked);
        }
        let now = Eyes::now(self.connection, self.schema, self.tenant, user)?;
        let (eyes, later) = self.eyes_at(from, &now)?;
        let mut step = Step { read: self, now, eyes, later, budget: ScopeBudget::of_a_transaction() };
        let sql = format!("SELECT {COLUMNS} FROM log WHERE tenant = ?1 AND seq > ?2 ORDER BY seq");
        let mut statement = self.connection.prepare_cached(&sql).map_err(StoreError::from)?;
        let mut rows = statement.query(params![self.tenant, from.cast_signed()]).map_err(StoreError::from)?;
        let mut bytes = 0;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            let record = LogRecord::from_row(row).map_err(StoreError::from)?;
            let first = walked.changes.len();
            step.take(&record, &mut walked)?;
            if step.budget.is_exceeded() {
                return Err(self.resync());
            }
            bytes += walked.changes.iter().skip(first).map(change_bytes).sum::<usize>();
            walked.times.resize(walked.changes.len(), record.committed_at);
            if record.seq == record.tx_last || planted::is(21) {
                walked.to = record.seq;
                let full = walked.changes.len() >= limits.changes || bytes >= limits.bytes;
                if full || record.seq - from >= SCAN_MAX {
                    break;
                }
            }
        }
        Ok(walked)
    }

    /// The reader as of `from`: today's memberships, with what the log did since taken back.
    fn eyes_at(&self, from: u64, now: &Eyes<'a>) -> Result<(Eyes<'a>, Option<LaterRecords>), ReadError> {
        let mut eyes = Eyes { schema: self.schema, user: now.user, memberships: now.memberships.clone() };
        if now.user.is_none() || self.schema.read_specs().is_empty() {
            return Ok((eyes, None));
        }
        let mut own = false;
        for record in membership_records(self.connection, &eyes, self.tenant, from)? {
            own |= eyes.undo(&record)?;
        }
        if !own {
            return Ok((eyes, None));
        }
        if self.bounds.head - from > LATER_MAX {
            return Err(self.resync());
        }
        let later = LaterRecords::load(self.connection, &eyes, self.tenant, from)?;
        Ok((eyes, Some(later)))
    }
}

/// Names the part of a tenant that a page covers; everything readable, until partial replicas come.
pub(crate) const SCOPE: &str = "all";

/// What a walk found.
pub(crate) struct Walked {
    pub(crate) changes: Vec<Change>,
    pub(crate) transactions: Vec<TransactionInfo>,
    pub(crate) to: u64,
    /// A seq that the page must reach for its rows to fit each other.
    pub(crate) fits_at: u64,
    /// When each change was committed.
    pub(crate) times: Vec<u64>,
}

struct Step<'a> {
    read: &'a LogRead<'a>,
    now: Eyes<'a>,
    eyes: Eyes<'a>,
    later: Option<LaterRecords>,
    /// What may still enter and leave because of the transaction at hand.
    budget: ScopeBudget,
}

impl Step<'_> {
    /// Adds what the reader sees of one record.
    fn take(&mut self, record: &LogRecord, walked: &mut Walked) -> Result<(), StoreError> {
        if record.seq == record.tx_first {
            self.budget = ScopeBudget::of_a_transaction();
        }
        let count = walked.changes.len();
        let (entity, row_id) = (record.entity.as_str(), record.row_id.as_str());
        let seen_before = match &record.before {
            None => false,
            Some(image) => self.eyes.see_image(entity, row_id, image)?,
        };
        let is_membership = self.eyes.schema.read_specs().iter().any(|spec| spec.entity == record.entity);
        let before = (is_membership && self.later.is_some()).then(|| Eyes {
            schema: self.eyes.schema,
            user: self.eyes.user,
            memberships: self.eyes.memberships.clone(),
        });
        let memberships = self.eyes.follow(record)?;
        let seen_after = match &record.after {
            None => false,
            Some(image) => self.eyes.see_image(entity, row_id, image)?,
        };
        if let Some(kind) = visible_kind(record, seen_before, seen_after) {
            walked.changes.push(record.change(kind)?);
        }
        if let (Some(before), Some(later), false) = (&before, &self.later, memberships.is_empty() || planted::is(27)) {
            self.budget = self.scope_changes(before, later, record, &memberships, walked)?;
        }
        let last = walked.transactions.last().map(|transaction| transaction.last_seq);
        if walked.changes.len() > count && last != Some(record.tx_last) {
            walked.transactions.push(record.transaction()?);
        }
        Ok(())
    }

    fn scope_changes(
        &self,
        before: &Eyes<'_>,
        later: &LaterRecords,
        record: &LogRecord,
        memberships: &[MembershipChange<'_>],
        walked: &mut Walked,
    ) -> Result<ScopeBudget, StoreError> {
        let search = ScopeSearch {
            connection: self.read.connection,
            tenant: self.read.tenant,
            head: self.read.bounds.head,
            before,
            after: &self.eyes,
            now: &self.now,
            later,
        };
        let found = search.run(record, memberships, self.budget)?;
        walked.changes.extend(found.changes);
        walked.fits_at = walked.fits_at.max(found.fits_at);
        Ok(found.budget)
    }
}

/// What a record is to a reader who saw the row before, after, both or neither.
fn visible_kind(record: &LogRecord, before: bool, after: bool) -> Option<ChangeKind> {
    let kind = ChangeKind::from(record.kind.clone());
    match (before, after) {
        (false, false) => None,
        (true, true) => Some(kind),
        (false, true) if kind == ChangeKind::Insert => Some(kind),
        (false, true) => Some(ChangeKind::Enter),
        (true, false) if kind == ChangeKind::Delete => Some(kind),
        (true, false) => Some(ChangeKind::Leave),
    }
}

/// What a change weighs in a page.
pub(crate) fn change_bytes(change: &Change) -> usize {
    const ENVELOPE: usize = 96;
    ENVELOPE + change.data.as_ref().map_or(0, |data| data.get().len())
}
