//! The log in the shape that Pylon clients know: bare seqs, no enters or leaves, no cursors to check.

use rusqlite::params;
use syncline_core::server::Operation;
use syncline_protocol::{Change, ChangeKind};

use crate::store::pull::LogRead;
use crate::store::row_json::pick_fields;
use crate::store::visibility::{Eyes, TableRow};
use crate::store::{PageLimits, PylonChange, PylonCursor, PylonPage, ReadError, StoreError};

/// Events of one page, as Pylon has it.
const PAGE_CHANGES: usize = 100;

/// The page after a seq.
///
/// `since = 0` always works: what the log does not hold, or not within bounds, comes as one page of inserts from the rows.
pub(crate) fn page_since(read: &LogRead<'_>, since: u64) -> Result<PylonPage, ReadError> {
    let bounds = read.bounds;
    if since > bounds.head || (since > 0 && since < bounds.floor) {
        return Err(read.resync());
    }
    if since < bounds.floor {
        return Ok(page(rows_up_to(read, bounds.floor)?, bounds.floor, bounds.head > bounds.floor));
    }
    let walked = match read.walk(since, PageLimits { changes: PAGE_CHANGES, ..PageLimits::default() }) {
        // Such a client would begin at 0 again, and again.
        Err(ReadError::Resync { .. }) if since == 0 => return Ok(page(rows_up_to(read, bounds.head)?, bounds.head, false)),
        walked => walked?,
    };
    let changes = walked.changes.into_iter().zip(walked.times);
    let changes = changes.map(|(change, time)| pylon_change(change, time, walked.to)).collect();
    Ok(page(changes, walked.to, walked.to < bounds.head))
}

fn page(changes: Vec<PylonChange>, last_seq: u64, has_more: bool) -> PylonPage {
    PylonPage { changes, cursor: PylonCursor { last_seq }, has_more }
}

/// A row that appears is an insert and one that disappears is a delete to a client that knows nothing else. A row that was
/// read from the tables may be newer than the page; its seq must not be, because such clients count with it.
fn pylon_change(change: Change, time_ms: u64, to: u64) -> PylonChange {
    let kind = match change.kind {
        ChangeKind::Update => "update",
        ChangeKind::Delete | ChangeKind::Leave => "delete",
        ChangeKind::Insert | ChangeKind::Enter | ChangeKind::Increment | ChangeKind::Append | ChangeKind::Unknown(_) => "insert",
    };
    PylonChange {
        seq: change.seq.min(to),
        entity: change.entity,
        row_id: change.row_id,
        kind,
        data: change.data,
        timestamp: format!("{}Z", time_ms / 1_000),
    }
}

fn rows_up_to(read: &LogRead<'_>, seq: u64) -> Result<Vec<PylonChange>, StoreError> {
    let user = read.reader.user_id.as_deref();
    let eyes = Eyes::now(read.connection, read.schema, read.tenant, user)?;
    let sql = format!("SELECT {}, entity FROM rows WHERE tenant = ?1 AND seq <= ?2 ORDER BY seq", TableRow::COLUMNS);
    let mut statement = read.connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![read.tenant, seq.cast_signed()])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let entity: String = row.get(4)?;
        let row = TableRow::from_row(row)?;
        let fields = pick_fields(&row.data, &read.schema.visibility_fields(&entity))?;
        let policy = read.schema.policy(&entity, Operation::Read);
        if policy.may_allow(user) && eyes.see(&entity, &row.id, &fields) {
            changes.push(pylon_change(row.enter(&entity)?, 0, seq));
        }
    }
    Ok(changes)
}
