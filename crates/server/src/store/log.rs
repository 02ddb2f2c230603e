//! Records of the change log: how they are written and read.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row as SqlRow, params};
use syncline_protocol::{Change, ChangeKind, ClientId, EntityName, OpId, RowId, Timestamp, TransactionInfo};

use crate::store::row_json::raw;
use crate::store::{Reader, StoreError};

/// One change of the log, as stored.
#[derive(Debug, Clone)]
pub(crate) struct LogRecord {
    pub(crate) seq: u64,
    /// Last seq of the transaction this belongs to.
    pub(crate) tx_last: u64,
    pub(crate) tx_first: u64,
    pub(crate) mark: u64,
    pub(crate) op_id: String,
    pub(crate) client_id: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) issued_at: u64,
    pub(crate) committed_at: u64,
    pub(crate) schema: u32,
    pub(crate) entity: String,
    pub(crate) row_id: String,
    pub(crate) kind: String,
    /// JSON list of the fields an update set.
    pub(crate) columns: Option<String>,
    /// JSON of what the writer had seen.
    pub(crate) base: Option<String>,
    /// JSON of the fields whose seq differs from the row's.
    pub(crate) column_seqs: Option<String>,
    /// The before-image's fields that decide who sees what; `None` for an insert.
    pub(crate) before: Option<String>,
    /// The full row; `None` for a delete.
    pub(crate) after: Option<String>,
}

/// The columns every read of the log selects, in the order of [`LogRecord::from_row`].
pub(crate) const COLUMNS: &str = "seq, tx_first, tx_last, mark, op_id, client_id, user_id, issued_at, committed_at, schema, \
     entity, row_id, kind, columns, base, column_seqs, before, after";

const RECORD_FORMAT: i64 = 1;

impl LogRecord {
    pub(crate) fn from_row(row: &SqlRow<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: unsigned(row, 0)?,
            tx_first: unsigned(row, 1)?,
            tx_last: unsigned(row, 2)?,
            mark: row.get::<_, i64>(3)?.cast_unsigned(),
            op_id: row.get(4)?,
            client_id: row.get(5)?,
            user_id: row.get(6)?,
            issued_at: unsigned(row, 7)?,
            committed_at: unsigned(row, 8)?,
            schema: row.get(9)?,
            entity: row.get(10)?,
            row_id: row.get(11)?,
            kind: row.get(12)?,
            columns: row.get(13)?,
            base: row.get(14)?,
            column_seqs: row.get(15)?,
            before: row.get(16)?,
            after: row.get(17)?,
        })
    }

    /// The statement [`LogRecord::insert`] runs.
    pub(crate) fn insert_statement(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
        connection.prepare_cached(
            "INSERT INTO log(tenant, seq, tx_first, tx_last, mark, op_id, client_id, user_id, issued_at, committed_at, schema, \
             entity, row_id, kind, columns, base, column_seqs, before, after, format) \
             VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20)",
        )
    }

    /// Writes it to the log.
    pub(crate) fn insert(&self, statement: &mut CachedStatement<'_>, tenant: &str) -> rusqlite::Result<()> {
        statement.execute(params![
            tenant,
            self.seq.cast_signed(),
            self.tx_first.cast_signed(),
            self.tx_last.cast_signed(),
            self.mark.cast_signed(),
            self.op_id,
            self.client_id,
            self.user_id,
            self.issued_at.cast_signed(),
            self.committed_at.cast_signed(),
            self.schema,
            self.entity,
            self.row_id,
            self.kind,
            self.columns,
            self.base,
            self.column_seqs,
            self.before,
            self.after,
            RECORD_FORMAT,
        ])?;
        Ok(())
    }

    /// The change as a reader sees it, of the kind the reader sees.
    pub(crate) fn change(&self, kind: ChangeKind) -> Result<Change, StoreError> {
        let shows_row = !matches!(kind, ChangeKind::Delete | ChangeKind::Leave);
        let data = if shows_row { self.after.clone().map(raw).transpose()? } else { None };
        let columns = if kind == ChangeKind::Update { decode(self.columns.as_deref(), "columns")? } else { None };
        let column_seqs = if shows_row { decode(self.column_seqs.as_deref(), "column seqs")? } else { None };
        let base = if shows_row { decode(self.base.as_deref(), "base")? } else { None };
        Ok(Change {
            seq: self.seq,
            entity: entity_name(&self.entity)?,
            row_id: row_id(&self.row_id)?,
            kind,
            data,
            columns,
            column_seqs,
            base,
        })
    }

    /// The transaction it belongs to.
    pub(crate) fn transaction(&self) -> Result<TransactionInfo, StoreError> {
        let corrupt = |_| StoreError::Corrupt { what: "op_id" };
        Ok(TransactionInfo {
            op_id: OpId::parse(self.op_id.as_str()).map_err(corrupt)?,
            client_id: self.client_id.as_deref().map(ClientId::parse).transpose().map_err(corrupt)?,
            user_id: self.user_id.clone(),
            issued_at: Timestamp(self.issued_at),
            committed_at: Timestamp(self.committed_at),
            schema: self.schema,
            first_seq: self.tx_first,
            last_seq: self.tx_last,
        })
    }
}

/// Where a tenant's log begins and ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogBounds {
    /// Last seq; 0 before the first write.
    pub(crate) head: u64,
    /// Last seq that was dropped; 0 when everything is there.
    pub(crate) floor: u64,
    /// Mark of the record at the floor.
    pub(crate) floor_mark: u64,
}

impl LogBounds {
    pub(crate) fn load(connection: &Connection, tenant: &str) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare_cached("SELECT head, floor, floor_mark FROM tenants WHERE tenant = ?1")?;
        let bounds = statement.query_row([tenant], |row| {
            Ok(Self { head: unsigned(row, 0)?, floor: unsigned(row, 1)?, floor_mark: row.get::<_, i64>(2)?.cast_unsigned() })
        });
        Ok(bounds.optional()?.unwrap_or_default())
    }

    pub(crate) fn store_head(connection: &Connection, tenant: &str, head: u64) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(
            "INSERT INTO tenants(tenant, head, floor, floor_mark) VALUES(?1, ?2, 0, 0) \
             ON CONFLICT(tenant) DO UPDATE SET head = ?2",
        )?;
        statement.execute(params![tenant, head.cast_signed()])?;
        Ok(())
    }

    /// The mark of the record at `seq`; `None` when `seq` is not within the log.
    pub(crate) fn mark_at(&self, connection: &Connection, tenant: &str, seq: u64) -> rusqlite::Result<Option<u64>> {
        if seq == self.floor {
            return Ok(Some(self.floor_mark));
        }
        if seq < self.floor || seq > self.head {
            return Ok(None);
        }
        let mut statement = connection.prepare_cached("SELECT mark FROM log WHERE tenant = ?1 AND seq = ?2")?;
        let mark = statement.query_row(params![tenant, seq.cast_signed()], |row| row.get::<_, i64>(0)).optional()?;
        Ok(mark.map(i64::cast_unsigned))
    }
}

/// Drops the log below the transaction that contains `keep_from`; returns the new floor.
pub(crate) fn truncate(connection: &Connection, tenant: &str, keep_from: u64) -> Result<u64, StoreError> {
    let bounds = LogBounds::load(connection, tenant)?;
    let keep = keep_from.min(bounds.head + 1);
    let floor = if keep > bounds.head {
        bounds.head
    } else {
        let first: Option<i64> = connection
            .query_row("SELECT tx_first FROM log WHERE tenant = ?1 AND seq = ?2", params![tenant, keep.cast_signed()], |row| {
                row.get(0)
            })
            .optional()?;
        first.map_or(bounds.floor, |first| first.cast_unsigned().saturating_sub(1))
    };
    if floor <= bounds.floor {
        return Ok(bounds.floor);
    }
    let mark = bounds.mark_at(connection, tenant, floor)?.ok_or(StoreError::Corrupt { what: "log" })?;
    connection.execute("DELETE FROM log WHERE tenant = ?1 AND seq <= ?2", params![tenant, floor.cast_signed()])?;
    connection.execute(
        "UPDATE tenants SET floor = ?2, floor_mark = ?3 WHERE tenant = ?1",
        params![tenant, floor.cast_signed(), mark.cast_signed()],
    )?;
    Ok(floor)
}

/// The key of a reader's tenant in every table.
pub(crate) fn tenant_key(reader: &Reader) -> &str {
    reader.tenant_id.as_deref().unwrap_or_default()
}

/// Reads an integer that never is negative.
pub(crate) fn unsigned(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(index)?.cast_unsigned())
}

pub(crate) fn entity_name(text: &str) -> Result<EntityName, StoreError> {
    EntityName::parse(text).map_err(|_| StoreError::Corrupt { what: "entity" })
}

pub(crate) fn row_id(text: &str) -> Result<RowId, StoreError> {
    RowId::parse(text).map_err(|_| StoreError::Corrupt { what: "row id" })
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(text: Option<&str>, what: &'static str) -> Result<Option<T>, StoreError> {
    text.map(serde_json::from_str).transpose().map_err(|_| StoreError::Corrupt { what })
}
