//! Rows from outside, in bulk: no policies, but the schema's types, and only what differs is written.

use rusqlite::Connection;
use syncline_core::server::{Entity, Schema};
use syncline_protocol::{EntityName, ErrorCode, OpId, Row, RowId};

use crate::store::StoreError;
use crate::store::database::random_u64;
use crate::store::write::{ApplyError, Origin, Transaction};
use crate::store::writer::now;

/// Takes the rows of an import, cutting them into replication transactions.
pub struct RowImport<'a> {
    connection: &'a Connection,
    schema: &'a Schema,
    tenant: &'a str,
    entity: &'a EntityName,
    open: Option<Transaction<'a>>,
    rows: usize,
    bytes: usize,
    head: Option<u64>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportedRow {
    /// It is new.
    Inserted,
    /// It differed from what was stored.
    Updated,
    /// It was stored like this already.
    Unchanged,
    /// Its id was deleted once.
    Deleted,
}

/// Why a row was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportRefusal {
    /// The schema does not admit it.
    #[error("{message}")]
    Row {
        /// Stable code of the reason.
        code: ErrorCode,
        /// The reason.
        message: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Rows of one replication transaction: a reader takes it whole, and a page of the usual size holds five.
const TRANSACTION_ROWS: usize = 1_000;
/// Bytes of one replication transaction, for large rows.
const TRANSACTION_BYTES: usize = syncline_protocol::limits::TRANSACTION_BYTES_MAX;

impl<'a> RowImport<'a> {
    pub(crate) fn begin(connection: &'a Connection, schema: &'a Schema, tenant: &'a str, entity: &'a EntityName) -> Self {
        Self { connection, schema, tenant, entity, open: None, rows: 0, bytes: 0, head: None }
    }

    /// Takes one row.
    ///
    /// # Errors
    /// When the schema does not admit it or the database fails; the import as a whole must then be given up.
    pub fn put(&mut self, id: &RowId, data: &Row) -> Result<ImportedRow, ImportRefusal> {
        let (entity, id) = (self.entity.as_str(), id.as_str());
        if self.open.is_none() {
            self.open = Some(Transaction::begin(self.connection, self.schema, self.tenant, origin()?)?.without_policies());
        }
        let Some(transaction) = &mut self.open else { return Err(StoreError::Busy.into()) };
        let (done, bytes) = transaction.put(entity, id, data).map_err(refusal)?;
        if matches!(done, ImportedRow::Inserted | ImportedRow::Updated) {
            self.rows += 1;
            self.bytes += bytes;
        }
        if self.rows >= TRANSACTION_ROWS || self.bytes >= TRANSACTION_BYTES {
            self.finish()?;
        }
        Ok(done)
    }

    /// How the entity is declared; `None` in an open schema, and for an entity that does not exist.
    pub fn entity(&self) -> Option<&'a Entity> {
        self.schema.entity(self.entity.as_str())
    }

    /// Ends the replication transaction under way.
    ///
    /// # Errors
    /// When the database fails.
    pub fn finish(&mut self) -> Result<(), StoreError> {
        if let Some(transaction) = self.open.take()
            && let Some(last) = transaction.finish()?.last()
        {
            self.head = Some(last.seq);
        }
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }

    /// The last seq written, if any.
    pub(crate) const fn head(&self) -> Option<u64> {
        self.head
    }
}

impl std::fmt::Debug for RowImport<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowImport").field("entity", &self.entity).finish_non_exhaustive()
    }
}

fn origin() -> Result<Origin, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Random(error.to_string()))?;
    let now = now().0;
    let op_id = OpId::from_bytes(bytes).into();
    Ok(Origin { op_id, issued_at: now, committed_at: now, mark_seed: random_u64()?, ..Origin::default() })
}

fn refusal(error: ApplyError) -> ImportRefusal {
    match error {
        ApplyError::Rejected(detail) => ImportRefusal::Row {
            code: ErrorCode::from_code(&detail.code).unwrap_or(ErrorCode::Internal),
            message: detail.message,
        },
        ApplyError::Store(error) => error.into(),
    }
}
