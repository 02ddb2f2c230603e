//! What enters and leaves a reader's sight when one of their memberships begins or ends.
//!
//! The walk over the log stands at some seq `t`, the tables at the head. A row that no record after `t` touches is in the
//! tables as it was at `t`; of one that was touched, the first such record holds the before-image. So exactly the rows
//! whose visibility changed at `t` are found, without history tables. Entering rows travel as they are now, if the reader
//! may see them now; the page then says with `consistent_at` when everything fits together.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};
use syncline_protocol::{Change, ChangeKind, Row, limits};

use crate::store::StoreError;
use crate::store::database::field_expression;
use crate::store::log::{COLUMNS, LogRecord, entity_name, row_id};
use crate::store::member_lookup::sql_value;
use crate::store::pull::change_bytes;
use crate::store::row_json::pick_fields;
use crate::store::visibility::{Eyes, MembershipChange, TableRow};

/// Before-images of the rows that the log touches after the reader's cursor, by entity, id and seq.
pub(crate) struct LaterRecords {
    by_row: BTreeMap<String, BTreeMap<String, Vec<BeforeImage>>>,
}

/// The seq of a record, and the row's visibility fields just before it; `None` for a row not yet born.
type BeforeImage = (u64, Option<Row>);

impl LaterRecords {
    /// Reads the records after `from` of the entities whose visibility hangs on memberships.
    pub(crate) fn load(connection: &Connection, eyes: &Eyes<'_>, tenant: &str, from: u64) -> Result<Self, StoreError> {
        let mut entities = BTreeSet::new();
        for spec in eyes.schema.read_specs() {
            entities.extend(eyes.schema.dependents(spec).into_iter().map(|(entity, _)| entity));
        }
        let mut by_row: BTreeMap<String, BTreeMap<String, Vec<_>>> = BTreeMap::new();
        let mut statement = connection
            .prepare_cached("SELECT entity, row_id, seq, before FROM log WHERE tenant = ?1 AND seq > ?2 ORDER BY seq")?;
        let mut rows = statement.query(params![tenant, from.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let entity = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            if !entities.contains(entity) {
                continue;
            }
            let fields = eyes.schema.visibility_fields(entity);
            let before = row.get::<_, Option<String>>(3)?.map(|text| pick_fields(&text, &fields)).transpose()?;
            let seq = crate::store::log::unsigned(row, 2)?;
            by_row.entry(entity.to_owned()).or_default().entry(row.get(1)?).or_default().push((seq, before));
        }
        Ok(Self { by_row })
    }

    /// Rows of an entity that records after `seq` touch, with their image at `seq`; `None` for one not yet born.
    fn images_at<'a>(&'a self, entity: &str, seq: u64) -> impl Iterator<Item = (&'a str, Option<&'a Row>)> {
        self.by_row.get(entity).into_iter().flatten().filter_map(move |(id, records)| {
            let (_, before) = records.get(records.partition_point(|(at, _)| *at <= seq))?;
            Some((id.as_str(), before.as_ref()))
        })
    }
}

/// The changes a membership record causes beyond its own row.
pub(crate) struct ScopeChanges {
    pub(crate) changes: Vec<Change>,
    /// A seq that the page must reach for its rows to fit each other.
    pub(crate) fits_at: u64,
    /// What may still be found.
    pub(crate) budget: ScopeBudget,
}

/// How much may enter and leave because of one transaction. A page cannot end inside one, so beyond this the reader is
/// sent to a snapshot, whose pages can.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScopeBudget {
    changes: usize,
    bytes: usize,
    exceeded: bool,
}

impl ScopeBudget {
    /// As much as a transaction itself may hold.
    pub(crate) const fn of_a_transaction() -> Self {
        Self { changes: limits::TRANSACTION_CHANGES_MAX, bytes: limits::TRANSACTION_BYTES_MAX, exceeded: false }
    }

    /// Whether there was more.
    pub(crate) const fn is_exceeded(self) -> bool {
        self.exceeded
    }

    fn spend(&mut self, bytes: usize) {
        match (self.changes.checked_sub(1), self.bytes.checked_sub(bytes)) {
            (Some(changes), Some(bytes)) => (self.changes, self.bytes) = (changes, bytes),
            (None, _) | (_, None) => self.exceeded = true,
        }
    }
}

impl ScopeChanges {
    fn push(&mut self, change: Change) {
        self.budget.spend(change_bytes(&change));
        if !self.budget.is_exceeded() {
            self.changes.push(change);
        }
    }
}

/// Everything the search needs to know about its place in the log.
pub(crate) struct ScopeSearch<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) tenant: &'a str,
    pub(crate) head: u64,
    /// The reader just before the record.
    pub(crate) before: &'a Eyes<'a>,
    /// The reader just after it.
    pub(crate) after: &'a Eyes<'a>,
    /// The reader at the head.
    pub(crate) now: &'a Eyes<'a>,
    pub(crate) later: &'a LaterRecords,
}

impl ScopeSearch<'_> {
    /// Finds what entered and left because of `record`.
    pub(crate) fn run(
        &self,
        record: &LogRecord,
        memberships: &[MembershipChange<'_>],
        budget: ScopeBudget,
    ) -> Result<ScopeChanges, StoreError> {
        let mut found = ScopeChanges { changes: Vec::new(), fits_at: 0, budget };
        let mut seen = BTreeSet::from([(record.entity.clone(), record.row_id.clone())]);
        for change in memberships {
            for (entity, field) in self.after.schema.dependents(change.spec) {
                self.unchanged_rows(record.seq, entity, field, &change.key, &mut seen, &mut found)?;
                self.changed_rows(record.seq, entity, field, &change.key, &mut seen, &mut found)?;
            }
        }
        Ok(found)
    }

    /// Rows that the tables hold as they were at `seq`.
    fn unchanged_rows(
        &self,
        seq: u64,
        entity: &str,
        field: &str,
        key: &str,
        seen: &mut BTreeSet<(String, String)>,
        found: &mut ScopeChanges,
    ) -> Result<(), StoreError> {
        let Some(value) = sql_value(key) else { return Ok(()) };
        let sql = format!(
            "SELECT {} FROM rows WHERE tenant = ?1 AND entity = '{entity}' AND {} = ?2 AND seq <= ?3",
            TableRow::COLUMNS,
            field_expression(field),
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![self.tenant, value, seq.cast_signed()])?;
        let wanted = self.after.schema.visibility_fields(entity);
        while !found.budget.is_exceeded()
            && let Some(row) = rows.next()?
        {
            let row = TableRow::from_row(row)?;
            let fields = pick_fields(&row.data, &wanted)?;
            if !seen.insert((entity.to_owned(), row.id.clone())) {
                continue;
            }
            match self.crossing(entity, &row.id, &fields) {
                Some(ChangeKind::Leave) => found.push(leave(seq, entity, &row.id)?),
                Some(_) if self.now.see(entity, &row.id, &fields) => found.push(row.enter(entity)?),
                // Seen for a while and lost again before the head: the reader never gets it.
                Some(_) => found.fits_at = self.head,
                None => {}
            }
        }
        Ok(())
    }

    /// Rows that the log touches after `seq`.
    fn changed_rows(
        &self,
        seq: u64,
        entity: &str,
        field: &str,
        key: &str,
        seen: &mut BTreeSet<(String, String)>,
        found: &mut ScopeChanges,
    ) -> Result<(), StoreError> {
        for (id, image) in self.later.images_at(entity, seq) {
            if found.budget.is_exceeded() {
                break;
            }
            let Some(fields) = image else { continue };
            let value = if field == "id" {
                Some(format!("\"{id}\""))
            } else {
                fields.get(field).and_then(syncline_core::server::value_key)
            };
            if value.as_deref() != Some(key) || !seen.insert((entity.to_owned(), id.to_owned())) {
                continue;
            }
            match self.crossing(entity, id, fields) {
                Some(ChangeKind::Leave) => found.push(leave(seq, entity, id)?),
                Some(_) => {
                    found.fits_at = self.head;
                    if let Some(row) = TableRow::load(self.connection, self.tenant, entity, id)?
                        && self.now.see_image(entity, id, &row.data)?
                    {
                        found.push(row.enter(entity)?);
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    /// `Enter` or `Leave`, when the row crosses the edge of the reader's sight.
    fn crossing(&self, entity: &str, id: &str, fields: &Row) -> Option<ChangeKind> {
        match (self.before.see(entity, id, fields), self.after.see(entity, id, fields)) {
            (false, true) => Some(ChangeKind::Enter),
            (true, false) => Some(ChangeKind::Leave),
            (true, true) | (false, false) => None,
        }
    }
}

fn leave(seq: u64, entity: &str, id: &str) -> Result<Change, StoreError> {
    Ok(Change {
        seq,
        entity: entity_name(entity)?,
        row_id: row_id(id)?,
        kind: ChangeKind::Leave,
        data: None,
        columns: None,
        column_seqs: None,
        base: None,
    })
}

/// Membership records after `from`, newest first.
pub(crate) fn membership_records(
    connection: &Connection,
    eyes: &Eyes<'_>,
    tenant: &str,
    from: u64,
) -> Result<Vec<LogRecord>, StoreError> {
    let mut records = Vec::new();
    let entities: BTreeSet<&str> = eyes.schema.read_specs().iter().map(|spec| spec.entity.as_str()).collect();
    for entity in entities {
        let sql = format!("SELECT {COLUMNS} FROM log WHERE tenant = ?1 AND entity = '{entity}' AND seq > ?2");
        let mut statement = connection.prepare_cached(&sql)?;
        let found = statement.query_map(params![tenant, from.cast_signed()], LogRecord::from_row)?;
        for record in found {
            records.push(record?);
        }
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.seq));
    Ok(records)
}
