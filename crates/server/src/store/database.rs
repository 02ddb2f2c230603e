//! The SQLite file: how it is opened, its tables, the indexes a schema asks for.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use syncline_core::server::{MembershipSpec, Schema, StoredRows};
use syncline_protocol::canonical_json;

use crate::store::{PolicyUse, StoreError};

/// What the database knows about itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Recognises the database.
    pub(crate) epoch: u64,
    /// Grows whenever the read policies differ from those of the last start: the log keeps of before-images only what the
    /// policies of its time needed, so a cursor must not cross such a change.
    pub(crate) generation: u64,
    /// Whether the schema's policies are those that readers are served with.
    pub(crate) policies_match: bool,
}

/// Opens the write connection, brings the tables to the newest format and builds what the schema needs.
pub(crate) fn open_writer(path: &Path, schema: &Schema, policies: PolicyUse) -> Result<(Connection, Facts), StoreError> {
    let mut connection = Connection::open(path)?;
    configure(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // One write moves a handful of pages; a checkpoint every 4 MiB keeps the log file small without stalling commits.
    connection.pragma_update(None, "wal_autocheckpoint", 1_000)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    let facts = prepare(&mut connection, schema, policies, random_u64()?)?;
    Ok((connection, facts))
}

/// Brings the tables to the newest format and builds what the schema needs; a new database is recognised by `new_epoch`.
pub(crate) fn prepare(
    connection: &mut Connection,
    schema: &Schema,
    policies: PolicyUse,
    new_epoch: u64,
) -> Result<Facts, StoreError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    migrate(&transaction)?;
    if policies == PolicyUse::Adopt {
        adopt_shape(&transaction, schema)?;
        build_indexes(&transaction, schema)?;
    }
    let facts = facts(&transaction, schema, policies, new_epoch)?;
    transaction.commit()?;
    Ok(facts)
}

/// Opens one connection for reads.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

pub(crate) fn configure(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.pragma_update(None, "mmap_size", 256 * 1024 * 1024)?;
    Ok(())
}

const FORMAT: i64 = 1;

/// Whether this version can read the file; a file without format is of something else.
pub(crate) fn check_format(connection: &Connection) -> Result<(), StoreError> {
    match format(connection)? {
        0 => Err(StoreError::Foreign),
        _ => Ok(()),
    }
}

fn format(connection: &Connection) -> Result<i64, StoreError> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > FORMAT {
        return Err(StoreError::TooNew { found, known: FORMAT });
    }
    Ok(found)
}

fn migrate(connection: &Connection) -> Result<(), StoreError> {
    if format(connection)? < 1 {
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "user_version", FORMAT)?;
    }
    Ok(())
}

/// Format 1. `tenant` is `''` for none; 64-bit random values stand as signed integers; `format` versions each record.
const TABLES: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tenants(
    tenant TEXT PRIMARY KEY, head INTEGER NOT NULL, floor INTEGER NOT NULL, floor_mark INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE rows(
    tenant TEXT NOT NULL, entity TEXT NOT NULL, id TEXT NOT NULL,
    seq INTEGER NOT NULL, column_seqs TEXT, data TEXT NOT NULL, format INTEGER NOT NULL,
    PRIMARY KEY(tenant, entity, id)
) WITHOUT ROWID;
CREATE TABLE deleted_rows(
    tenant TEXT NOT NULL, entity TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY(tenant, entity, id)
) WITHOUT ROWID;
CREATE TABLE log(
    tenant TEXT NOT NULL, seq INTEGER NOT NULL, mark INTEGER NOT NULL,
    tx_first INTEGER NOT NULL, tx_last INTEGER NOT NULL,
    op_id TEXT NOT NULL, client_id TEXT, user_id TEXT,
    issued_at INTEGER NOT NULL, committed_at INTEGER NOT NULL, schema INTEGER NOT NULL,
    entity TEXT NOT NULL, row_id TEXT NOT NULL, kind TEXT NOT NULL,
    columns TEXT, base TEXT, column_seqs TEXT, before TEXT, after TEXT, format INTEGER NOT NULL,
    PRIMARY KEY(tenant, seq)
) WITHOUT ROWID;
CREATE TABLE outcomes(
    tenant TEXT NOT NULL, op_id TEXT NOT NULL, hash BLOB NOT NULL, status TEXT NOT NULL,
    first_seq INTEGER, last_seq INTEGER, code TEXT, message TEXT, user_id TEXT,
    at INTEGER NOT NULL, processed_at INTEGER, format INTEGER NOT NULL,
    PRIMARY KEY(tenant, op_id)
) WITHOUT ROWID;
CREATE INDEX outcomes_processed ON outcomes(processed_at) WHERE processed_at IS NOT NULL;
CREATE TABLE sessions(
    token_hash BLOB PRIMARY KEY, user_id TEXT NOT NULL, tenant TEXT NOT NULL, kind TEXT NOT NULL,
    created INTEGER NOT NULL, expires INTEGER NOT NULL, revoked INTEGER, format INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE fences(
    tenant TEXT NOT NULL, client_id TEXT NOT NULL, fence INTEGER NOT NULL, PRIMARY KEY(tenant, client_id)
) WITHOUT ROWID;
CREATE TABLE journal(
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL,
    format INTEGER NOT NULL
);
";

fn facts(connection: &Connection, schema: &Schema, policies: PolicyUse, new_epoch: u64) -> Result<Facts, StoreError> {
    let stored_epoch = stored_epoch(connection)?;
    if stored_epoch.is_none() {
        set_epoch(connection, new_epoch)?;
    }
    let epoch = stored_epoch.unwrap_or(new_epoch);
    let stored: u64 = match meta(connection, "policy_generation")? {
        Some(text) => text.parse().map_err(|_| StoreError::Corrupt { what: "policy generation" })?,
        None => 0,
    };
    let served = meta(connection, "policies")?;
    let policies_match = served.as_deref().is_none_or(|served| served == schema.fingerprint());
    if policies == PolicyUse::Keep || served.as_deref() == Some(schema.fingerprint()) {
        return Ok(Facts { epoch, generation: stored, policies_match });
    }
    set_meta(connection, "policies", schema.fingerprint())?;
    set_meta(connection, "policy_generation", &(stored + 1).to_string())?;
    Ok(Facts { epoch, generation: stored + 1, policies_match: true })
}

/// Takes over a manifest that rows stored under the last one fit.
fn adopt_shape(connection: &Connection, schema: &Schema) -> Result<(), StoreError> {
    const KEY: &str = "schema";
    let Some(shape) = schema.shape() else { return Ok(()) };
    if let Some(text) = meta(connection, KEY)? {
        let before = serde_json::from_str(&text).map_err(|_| StoreError::Corrupt { what: "schema" })?;
        schema.check_extends(&before, &mut StoredIn(connection))?;
    }
    set_meta(connection, KEY, &canonical_json(&shape))
}

struct StoredIn<'a>(&'a Connection);

impl StoredRows for StoredIn<'_> {
    type Error = StoreError;

    fn any(&mut self, entity: &str) -> Result<bool, StoreError> {
        // By tenant, because rows are ordered by tenant first.
        let sql = "SELECT 1 FROM tenants CROSS JOIN rows ON rows.tenant = tenants.tenant AND rows.entity = ?1 LIMIT 1";
        Ok(self.0.prepare(sql)?.exists([entity])?)
    }

    fn share_value(&mut self, entity: &str, field: &str) -> Result<bool, StoreError> {
        let value = field_expression(field);
        let sql = format!(
            "SELECT 1 FROM tenants CROSS JOIN rows ON rows.tenant = tenants.tenant AND rows.entity = ?1 \
             WHERE {value} IS NOT NULL GROUP BY rows.tenant, {value} HAVING count(*) > 1 LIMIT 1"
        );
        Ok(self.0.prepare(&sql)?.exists([entity])?)
    }
}

/// The number that recognises the database; `None` before the first start.
pub(crate) fn stored_epoch(connection: &Connection) -> Result<Option<u64>, StoreError> {
    let epoch = meta(connection, "epoch")?;
    epoch.map(|text| text.parse().map_err(|_| StoreError::Corrupt { what: "epoch" })).transpose()
}

/// Makes the database another one to every replica.
pub(crate) fn set_epoch(connection: &Connection, epoch: u64) -> Result<(), StoreError> {
    set_meta(connection, "epoch", &epoch.to_string())
}

fn meta(connection: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    Ok(connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?)
}

fn set_meta(connection: &Connection, key: &str, value: &str) -> Result<(), StoreError> {
    connection.execute("INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = ?2", [key, value])?;
    Ok(())
}

/// Sixty-four bits from the operating system.
pub(crate) fn random_u64() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| StoreError::Random(error.to_string()))
}

/// The SQL expression for a field of `rows`.
///
/// A name of letters stands in the path as it is, so that indexes made by earlier versions serve; any other stands in
/// quotes, escaped as in JSON, and the path as a whole is SQL text.
pub(crate) fn field_expression(field: &str) -> String {
    if field == "id" {
        return "id".to_owned();
    }
    let is_plain = field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !field.starts_with(|first: char| first.is_ascii_digit());
    if is_plain {
        return format!("json_extract(data, '$.{field}')");
    }
    let label = canonical_json(&serde_json::Value::from(field)).replace('\'', "''");
    format!("json_extract(data, '$.{label}')")
}

/// Creates the indexes the schema asks for and drops those of an earlier one.
fn build_indexes(connection: &Connection, schema: &Schema) -> Result<(), StoreError> {
    let wanted = wanted_indexes(schema);
    let existing: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB 'schema_*'")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for name in existing.iter().filter(|name| !wanted.contains_key(*name)) {
        connection.execute_batch(&format!("DROP INDEX \"{name}\""))?;
    }
    for (name, definition) in &wanted {
        connection.execute_batch(&format!("CREATE INDEX IF NOT EXISTS \"{name}\" ON {definition}"))?;
    }
    Ok(())
}

fn wanted_indexes(schema: &Schema) -> BTreeMap<String, String> {
    let mut wanted = BTreeMap::new();
    let mut rows_index = |entity: &str, fields: &[&str]| {
        let columns: Vec<String> = fields.iter().map(|field| field_expression(field)).collect();
        let fields: Vec<String> = fields.iter().map(|field| index_name_part(field)).collect();
        let name = format!("schema_rows_{}.{}", index_name_part(entity), fields.join("."));
        wanted.insert(name, format!("rows(tenant, {}) WHERE entity = '{entity}'", columns.join(", ")));
    };
    for (name, entity) in schema.entities() {
        for (field_name, _) in entity.fields.iter().filter(|(_, field)| field.index || field.unique) {
            rows_index(name, &[field_name]);
        }
    }
    for spec in specs(schema) {
        rows_index(&spec.entity, &[&spec.user_field, &spec.value_field]);
        for (entity, field) in schema.dependents(spec) {
            rows_index(entity, &[field]);
        }
    }
    if schema.tenants().is_some() {
        wanted.insert("schema_sessions_user".to_owned(), "sessions(user_id, tenant)".to_owned());
    }
    for spec in schema.read_specs() {
        let name = format!("schema_log_{}", index_name_part(&spec.entity));
        wanted.insert(name, format!("log(tenant, seq) WHERE entity = '{}'", spec.entity));
    }
    wanted
}

/// A name as part of an index's name, which SQLite compares without regard to case: what is not a small letter, a digit or
/// `_` becomes its bytes, so that `Title`, `title` and `a.b` never meet.
fn index_name_part(name: &str) -> String {
    use std::fmt::Write as _;
    let mut part = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' {
            part.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(part, "%{byte:02X}");
        }
    }
    part
}

/// Every membership that is looked up, by a policy or for a session.
fn specs(schema: &Schema) -> Vec<&MembershipSpec> {
    let mut specs: Vec<&MembershipSpec> = schema.tenants().into_iter().collect();
    for (_, entity) in schema.entities() {
        let policies = &entity.policies;
        for policy in [&policies.read, &policies.insert, &policies.update, &policies.delete] {
            policy.visit_fields(&mut |_, spec| specs.extend(spec));
        }
    }
    specs.sort();
    specs.dedup();
    specs
}
