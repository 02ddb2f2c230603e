//! What a database holds, for people: how far its logs reach, how many rows, outcomes and sessions there are.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, Params};
use serde::Serialize;
use syncline_protocol::Timestamp;

use crate::store::StoreError;
use crate::store::database::{check_format, open_reader, stored_epoch};
use crate::store::log::unsigned;
use crate::store::server_lock::ServerLock;

/// What a database holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Recognises the database; as `welcome` says it.
    pub epoch: String,
    /// Bytes of the file, without its write-ahead log.
    pub file_bytes: u64,
    /// What the server that holds it says of itself, with its sockets; `None` when none runs.
    pub server: Option<String>,
    /// By tenant; `""` is none.
    pub tenants: BTreeMap<String, TenantInspection>,
    /// Sessions by what became of them: `valid`, `expired`, `revoked`.
    pub sessions: BTreeMap<String, u64>,
}

/// What a tenant has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TenantInspection {
    /// Last seq of the log.
    pub head: u64,
    /// Last seq that was dropped from it.
    pub floor: u64,
    /// Rows by entity.
    pub rows: BTreeMap<String, u64>,
    /// Ids of deleted rows that are kept.
    pub deleted_rows: u64,
    /// Stored outcomes by status.
    pub outcomes: BTreeMap<String, u64>,
    /// When the oldest of them was stored.
    pub oldest_outcome_at: Option<Timestamp>,
}

/// Looks into a database that a server may be using.
///
/// # Errors
/// When it cannot be read, or is none of this program.
pub fn inspect(db: &Path, now: Timestamp) -> Result<Inspection, StoreError> {
    let connection = open_reader(db)?;
    let moment = connection.unchecked_transaction()?;
    check_format(&moment)?;
    let sessions = counts(
        &moment,
        "SELECT CASE WHEN revoked IS NOT NULL THEN 'revoked' WHEN expires <= ?1 THEN 'expired' ELSE 'valid' END AS state, \
         COUNT(*) FROM sessions GROUP BY state",
        [now.0.cast_signed()],
    )?;
    Ok(Inspection {
        epoch: format!("{:016x}", stored_epoch(&moment)?.unwrap_or_default()),
        file_bytes: moment
            .query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| unsigned(row, 0))?,
        server: ServerLock::holder(db),
        tenants: tenants(&moment)?,
        sessions,
    })
}

fn tenants(connection: &Connection) -> Result<BTreeMap<String, TenantInspection>, StoreError> {
    let mut statement = connection.prepare("SELECT tenant, head, floor FROM tenants")?;
    let bounds = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, unsigned(row, 1)?, unsigned(row, 2)?)))?;
    let mut tenants = BTreeMap::new();
    for found in bounds {
        let (tenant, head, floor) = found?;
        let one = |sql| connection.query_row(sql, [&tenant], |row| row.get::<_, Option<i64>>(0));
        let inspected = TenantInspection {
            head,
            floor,
            rows: counts(connection, "SELECT entity, COUNT(*) FROM rows WHERE tenant = ?1 GROUP BY entity", [&tenant])?,
            deleted_rows: one("SELECT COUNT(*) FROM deleted_rows WHERE tenant = ?1")?.unwrap_or_default().cast_unsigned(),
            outcomes: counts(connection, "SELECT status, COUNT(*) FROM outcomes WHERE tenant = ?1 GROUP BY status", [&tenant])?,
            oldest_outcome_at: one("SELECT MIN(at) FROM outcomes WHERE tenant = ?1")?.map(|at| Timestamp(at.cast_unsigned())),
        };
        tenants.insert(tenant, inspected);
    }
    Ok(tenants)
}

fn counts(connection: &Connection, sql: &str, parameters: impl Params) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let counts = statement.query_map(parameters, |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
    Ok(counts.collect::<Result<_, _>>()?)
}
