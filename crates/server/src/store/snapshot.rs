//! The first pages of a reader without a cursor: the rows themselves, in order of entity and id.
//!
//! Each page is a read of its own moment, and the cursor that ends the snapshot stands where it began. Whatever changed in
//! between follows from the log; `consistent_at` says until when the reader has to hold everything back.

use rusqlite::{OptionalExtension, params};
use syncline_core::planted;
use syncline_core::server::Operation;
use syncline_protocol::{Change, Cursor, Page, SnapshotMark, frame_checksum};

use crate::store::cursor::{CursorToken, SnapshotPosition};
use crate::store::pull::{LogRead, SCOPE, change_bytes};
use crate::store::row_json::pick_fields;
use crate::store::visibility::{Eyes, TableRow};
use crate::store::{PageLimits, ReadError, StoreError};

/// Rows one page may look at, whether or not the reader sees them.
const SCAN_MAX: usize = 50_000;

/// The page after `token`, or the first.
pub(crate) fn snapshot_page(read: &LogRead<'_>, token: Option<CursorToken>, limits: PageLimits) -> Result<Page, ReadError> {
    let start = token.is_none();
    let began_at = token.as_ref().map_or(read.bounds.head, |token| token.seq);
    let position = token.and_then(|token| token.snapshot).unwrap_or_default();
    let mut scan = Scan { read, limits, changes: Vec::new(), bytes: 0, looked_at: 0 };
    let stopped_at = scan.run(position)?;
    let end = stopped_at.is_none();
    let cursor = match stopped_at {
        None if planted::is(31) => read.cursor(read.bounds.head)?,
        None => read.cursor(began_at)?,
        Some(position) => {
            let token = CursorToken {
                epoch: read.facts.epoch,
                seq: began_at,
                mark: read.mark(began_at)?,
                view: read.view,
                snapshot: Some(position),
            };
            Cursor { last_seq: began_at, token: token.encode() }
        }
    };
    let grew = read.bounds.head > began_at;
    Ok(Page {
        scope: SCOPE.to_owned(),
        from: began_at,
        to: began_at,
        cursor,
        has_more: !end || grew,
        snapshot: Some(SnapshotMark { start, end }),
        consistent_at: (end && grew).then_some(read.bounds.head),
        checksum: frame_checksum(&scan.changes),
        changes: scan.changes,
        transactions: Vec::new(),
        scope_checksum: None,
    })
}

struct Scan<'a> {
    read: &'a LogRead<'a>,
    limits: PageLimits,
    changes: Vec<Change>,
    bytes: usize,
    looked_at: usize,
}

impl Scan<'_> {
    /// Reads on from a position; returns where it stopped, or `None` at the end.
    fn run(&mut self, mut position: SnapshotPosition) -> Result<Option<SnapshotPosition>, StoreError> {
        let user = self.read.reader.user_id.as_deref();
        let eyes = Eyes::now(self.read.connection, self.read.schema, self.read.tenant, user)?;
        loop {
            if !position.entity.is_empty()
                && let Some(stopped_at) = self.entity(&eyes, &position)?
            {
                return Ok(Some(stopped_at));
            }
            match self.next_entity(&position.entity)? {
                None => return Ok(None),
                Some(entity) => position = SnapshotPosition { entity, row_id: String::new() },
            }
        }
    }

    fn next_entity(&self, after: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self
            .read
            .connection
            .prepare_cached("SELECT entity FROM rows WHERE tenant = ?1 AND entity > ?2 ORDER BY entity LIMIT 1")?;
        Ok(statement.query_row([self.read.tenant, after], |row| row.get(0)).optional()?)
    }

    /// Reads one entity's rows behind a position.
    fn entity(&mut self, eyes: &Eyes<'_>, from: &SnapshotPosition) -> Result<Option<SnapshotPosition>, StoreError> {
        let policy = self.read.schema.policy(&from.entity, Operation::Read);
        if !policy.may_allow(eyes.user) {
            return Ok(None);
        }
        let wanted = self.read.schema.visibility_fields(&from.entity);
        let sql = format!("SELECT {} FROM rows WHERE tenant = ?1 AND entity = ?2 AND id > ?3 ORDER BY id", TableRow::COLUMNS);
        let mut statement = self.read.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![self.read.tenant, from.entity, from.row_id])?;
        while let Some(row) = rows.next()? {
            let row = TableRow::from_row(row)?;
            self.looked_at += 1;
            let row_id = row.id.clone();
            if eyes.see(&from.entity, &row.id, &pick_fields(&row.data, &wanted)?) {
                let change = row.enter(&from.entity)?;
                self.bytes += change_bytes(&change);
                self.changes.push(change);
            }
            if self.is_full() {
                return Ok(Some(SnapshotPosition { entity: from.entity.clone(), row_id }));
            }
        }
        Ok(None)
    }

    fn is_full(&self) -> bool {
        self.changes.len() >= self.limits.changes || self.bytes >= self.limits.bytes || self.looked_at >= SCAN_MAX
    }
}
