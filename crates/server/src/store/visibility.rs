//! Which rows a reader sees, at which point of the log.

use rusqlite::{Connection, params};
use syncline_core::server::{MembershipCounts, MembershipSpec, Operation, Schema};
use syncline_protocol::{Change, ChangeKind, Row};

use crate::store::StoreError;
use crate::store::log::{LogRecord, decode, entity_name, row_id, unsigned};
use crate::store::member_lookup::{load_memberships, membership_step};
use crate::store::row_json::{pick_fields, raw};

/// A reader's eyes: the schema, the user and what the user is a member of at this point.
pub(crate) struct Eyes<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) user: Option<&'a str>,
    pub(crate) memberships: MembershipCounts,
}

/// A membership that began or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MembershipChange<'a> {
    pub(crate) spec: &'a MembershipSpec,
    /// Key of the value.
    pub(crate) key: String,
}

impl<'a> Eyes<'a> {
    /// As the tables have it now.
    pub(crate) fn now(
        connection: &Connection,
        schema: &'a Schema,
        tenant: &str,
        user: Option<&'a str>,
    ) -> Result<Self, StoreError> {
        Ok(Self { schema, user, memberships: load_memberships(connection, schema, tenant, user)? })
    }

    /// Whether these fields make a row visible; they must contain the entity's visibility fields.
    pub(crate) fn see(&self, entity: &str, row_id: &str, fields: &Row) -> bool {
        self.schema.policy(entity, Operation::Read).allows(row_id, fields, self.user, &self.memberships)
    }

    /// As [`Eyes::see`], from a stored image.
    pub(crate) fn see_image(&self, entity: &str, row_id: &str, image: &str) -> Result<bool, StoreError> {
        let fields = pick_fields(image, &self.schema.visibility_fields(entity))?;
        Ok(self.see(entity, row_id, &fields))
    }

    /// Follows a record of the log; returns what the user's memberships gained or lost.
    pub(crate) fn follow(&mut self, record: &LogRecord) -> Result<Vec<MembershipChange<'a>>, StoreError> {
        let mut changes = Vec::new();
        for (spec, before, after) in self.steps(record)? {
            if before == after {
                continue;
            }
            if let Some(key) = before
                && self.memberships.remove(spec, &key)
            {
                changes.push(MembershipChange { spec, key });
            }
            if let Some(key) = after
                && self.memberships.add(spec, &key)
            {
                changes.push(MembershipChange { spec, key });
            }
        }
        Ok(changes)
    }

    /// Takes a record of the log back; true when it was about this user's memberships.
    pub(crate) fn undo(&mut self, record: &LogRecord) -> Result<bool, StoreError> {
        let mut own = false;
        for (spec, before, after) in self.steps(record)? {
            own |= before != after;
            if let Some(key) = after {
                self.memberships.remove(spec, &key);
            }
            if let Some(key) = before {
                self.memberships.add(spec, &key);
            }
        }
        Ok(own)
    }

    fn steps(&self, record: &LogRecord) -> Result<Vec<MembershipStep<'a>>, StoreError> {
        let Some(user) = self.user else { return Ok(Vec::new()) };
        let specs = self.schema.read_specs().iter().filter(|spec| spec.entity == record.entity);
        specs.map(|spec| membership_step(spec, record, user).map(|(before, after)| (spec, before, after))).collect()
    }
}

type MembershipStep<'a> = (&'a MembershipSpec, Option<String>, Option<String>);

/// A row of the tables, on its way to a reader.
#[derive(Debug)]
pub(crate) struct TableRow {
    pub(crate) id: String,
    pub(crate) seq: u64,
    pub(crate) column_seqs: Option<String>,
    pub(crate) data: String,
}

impl TableRow {
    /// The columns every read of `rows` selects, in the order of [`TableRow::from_row`].
    pub(crate) const COLUMNS: &'static str = "id, seq, column_seqs, data";

    pub(crate) fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, seq: unsigned(row, 1)?, column_seqs: row.get(2)?, data: row.get(3)? })
    }

    /// The row, or `None`.
    pub(crate) fn load(connection: &Connection, tenant: &str, entity: &str, id: &str) -> Result<Option<Self>, StoreError> {
        use rusqlite::OptionalExtension as _;
        let sql = format!("SELECT {} FROM rows WHERE tenant = ?1 AND entity = ?2 AND id = ?3", Self::COLUMNS);
        let mut statement = connection.prepare_cached(&sql)?;
        Ok(statement.query_row(params![tenant, entity, id], Self::from_row).optional()?)
    }

    /// The change that shows it to somebody who did not see it before.
    pub(crate) fn enter(self, entity: &str) -> Result<Change, StoreError> {
        let data = raw(self.data)?;
        Ok(Change {
            seq: self.seq,
            entity: entity_name(entity)?,
            row_id: row_id(&self.id)?,
            kind: ChangeKind::Enter,
            data: Some(data),
            columns: None,
            column_seqs: decode(self.column_seqs.as_deref(), "column seqs")?,
            base: None,
        })
    }
}
