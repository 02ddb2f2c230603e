//! One transaction's effect on the tables: rows, log records, ids of deleted rows.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;
use syncline_core::planted;
use syncline_core::server::{Entity, Field, FieldError, Operation, Schema, Stamper, check_stamps, insert_image, update_image};
use syncline_protocol::{Base, ChangeKind, ErrorCode, ErrorDetail, IntentChange, Row, canonical_json, canonical_row};
use xxhash_rust::xxh64::xxh64;

use crate::store::database::field_expression;
use crate::store::log::{LogBounds, LogRecord, decode, unsigned};
use crate::store::member_lookup::{MemberLookup, may_be_in};
use crate::store::row_json::parse_stored;
use crate::store::{ImportedRow, StoreError};

/// Whose transaction it is; the same for all its changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    pub(crate) op_id: String,
    pub(crate) client_id: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) issued_at: u64,
    pub(crate) committed_at: u64,
    pub(crate) schema: u32,
    /// Random bits from which the records' marks are drawn.
    pub(crate) mark_seed: u64,
}

/// A transaction being applied. Nothing of it counts until [`Transaction::finish`] and the caller's commit.
pub(crate) struct Transaction<'a> {
    connection: &'a Connection,
    schema: &'a Schema,
    tenant: &'a str,
    origin: Origin,
    memberships: MemberLookup<'a>,
    enforce_policies: bool,
    head: u64,
    records: Vec<LogRecord>,
    /// User and organisation of membership rows that were taken away or changed.
    left: Vec<(String, Value)>,
    /// Before and after of each change, when somebody wants to know.
    images: Option<Vec<RowImages>>,
}

/// A row before and after a change.
#[derive(Debug, Default)]
pub(crate) struct RowImages {
    /// Its seq before the transaction; 0 when there was none, and [`OWN_SEQ`] when an earlier change of it made or changed it.
    pub(crate) seq: u64,
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
}

/// Where a row's seq is one that only this transaction knows.
const OWN_SEQ: u64 = u64::MAX;

/// Why a change was not applied.
#[derive(Debug)]
pub(crate) enum ApplyError {
    /// The data decide so: the transaction is rejected, for ever.
    Rejected(ErrorDetail),
    /// The database failed: try again.
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for ApplyError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

/// A row as stored.
pub(crate) struct StoredRow {
    pub(crate) seq: u64,
    pub(crate) column_seqs: BTreeMap<String, u64>,
    pub(crate) data: Row,
}

const ROW_FORMAT: i64 = 1;

impl<'a> Transaction<'a> {
    /// Begins at the tenant's head, evaluating policies for the origin's user.
    pub(crate) fn begin(
        connection: &'a Connection,
        schema: &'a Schema,
        tenant: &'a str,
        origin: Origin,
    ) -> Result<Self, StoreError> {
        let head = LogBounds::load(connection, tenant)?.head;
        let memberships = MemberLookup::new(connection, tenant);
        let (records, left, images) = (Vec::new(), Vec::new(), None);
        Ok(Self { connection, schema, tenant, origin, memberships, enforce_policies: true, head, records, left, images })
    }

    /// Keeps each change's row as it was and as it became, for [`Transaction::take_images`].
    pub(crate) fn keeping_images(mut self) -> Self {
        self.images = Some(Vec::new());
        self
    }

    /// The rows before and after each change.
    pub(crate) fn take_images(&mut self) -> Vec<RowImages> {
        self.images.take().unwrap_or_default()
    }

    fn keep_images(&mut self, before: Option<&StoredRow>, after: Option<&Row>) {
        let Some(images) = &mut self.images else { return };
        let seq = before.map_or(0, |before| if before.seq > self.head { OWN_SEQ } else { before.seq });
        images.push(RowImages { seq, before: before.map(|before| before.data.clone()), after: after.cloned() });
    }

    /// Lets everything through that the schema's types allow: for imports by whoever owns the database.
    pub(crate) fn without_policies(mut self) -> Self {
        self.enforce_policies = false;
        self
    }

    /// Makes a row be like this, whatever is stored; says what that took, and the row's size.
    pub(crate) fn put(&mut self, entity: &str, row_id: &str, data: &Row) -> Result<(ImportedRow, usize), ApplyError> {
        self.check_entity(entity)?;
        let stored = match self.row(entity, row_id)? {
            Some(stored) => stored,
            None if self.exists("deleted_rows", entity, row_id)? => return Ok((ImportedRow::Deleted, 0)),
            None => {
                self.insert(entity, row_id, data)?;
                return Ok((ImportedRow::Inserted, self.last_bytes()));
            }
        };
        let wanted = insert_image(self.schema.entity(entity), row_id, data).map_err(refused)?;
        // The file may spell a number differently: 0.0 is stored as 0.
        let same = |stored: &Value, value: &Value| stored == value || canonical_json(stored) == canonical_json(value);
        let differs = |name: &str, value: &Value| !stored.data.get(name).is_some_and(|stored| same(stored, value));
        let patch: Row = wanted.into_iter().filter(|(name, value)| differs(name, value)).collect();
        if patch.is_empty() {
            return Ok((ImportedRow::Unchanged, 0));
        }
        self.update(entity, row_id, &patch, None)?;
        Ok((ImportedRow::Updated, self.last_bytes()))
    }

    fn last_bytes(&self) -> usize {
        self.records.last().and_then(|record| record.after.as_ref()).map_or(0, String::len)
    }

    /// Applies one change.
    pub(crate) fn apply(&mut self, change: &IntentChange) -> Result<(), ApplyError> {
        self.check_entity(change.entity.as_str())?;
        let data = change.data.as_ref().map_or(Ok(Row::new()), |data| parse_stored(data.get()))?;
        let (entity, row_id) = (change.entity.as_str(), change.row_id.as_str());
        match change.kind {
            ChangeKind::Insert => self.insert(entity, row_id, &data),
            ChangeKind::Update => self.update(entity, row_id, &data, change.base.as_ref()),
            ChangeKind::Delete => self.delete(entity, row_id, change.base.as_ref()),
            ChangeKind::Enter | ChangeKind::Leave | ChangeKind::Increment | ChangeKind::Append | ChangeKind::Unknown(_) => {
                Err(rejected(ErrorCode::UnknownKind, format!("{} is no kind of write", change.kind.as_str())))
            }
        }
    }

    /// Makes a row.
    pub(crate) fn insert(&mut self, entity: &str, row_id: &str, data: &Row) -> Result<(), ApplyError> {
        let declared = self.schema.entity(entity);
        let after = match declared.filter(|_| self.enforce_policies) {
            Some(stamped) => {
                let mut data = data.clone();
                self.stamper().stamp(stamped, &mut data).map_err(refused)?;
                insert_image(declared, row_id, &data)
            }
            None => insert_image(declared, row_id, data),
        };
        let after = after.map_err(refused)?;
        self.admit(entity, Operation::Insert, row_id, &after)?;
        let was_deleted = self.exists("deleted_rows", entity, row_id)? && !planted::is(28);
        if was_deleted || self.exists("rows", entity, row_id)? {
            return Err(rejected(ErrorCode::RowExists, format!("{entity}/{row_id} exists, or did")));
        }
        self.check_unique(declared, entity, row_id, &after)?;
        self.keep_images(None, Some(&after));
        let text = canonical_row(&after);
        let seq = self.next_seq();
        self.store_row(entity, row_id, seq, None, &text)?;
        self.record(entity, row_id, ChangeKind::Insert, LogImages { after: Some(text), ..LogImages::default() });
        Ok(())
    }

    /// Changes fields of a row.
    pub(crate) fn update(&mut self, entity: &str, row_id: &str, patch: &Row, base: Option<&Base>) -> Result<(), ApplyError> {
        let before = self.visible_row(entity, row_id)?;
        self.admit(entity, Operation::Update, row_id, &before.data)?;
        let declared = self.schema.entity(entity);
        let (after, columns) = update_image(declared, row_id, &before.data, patch).map_err(refused)?;
        if let Some(stamped) = declared.filter(|_| self.enforce_policies) {
            check_stamps(stamped, &before.data, &after).map_err(refused)?;
        }
        self.admit(entity, Operation::Update, row_id, &after)?;
        self.note_membership(entity, row_id, &before.data);
        self.check_unique(declared, entity, row_id, &after)?;
        self.keep_images(Some(&before), Some(&after));
        let seq = self.next_seq();
        let column_seqs = column_seqs_after(&before, &after, &columns, seq);
        let column_seqs = (!column_seqs.is_empty()).then(|| json_text(&column_seqs));
        let text = canonical_row(&after);
        self.store_row(entity, row_id, seq, column_seqs.as_deref(), &text)?;
        let images = LogImages {
            columns: Some(json_text(&columns)),
            base: base.map(json_text),
            column_seqs,
            before: Some(self.visibility_image(entity, &before.data)),
            after: Some(text),
        };
        self.record(entity, row_id, ChangeKind::Update, images);
        Ok(())
    }

    /// Removes a row. Its id is kept, so that nothing can be born again under it.
    pub(crate) fn delete(&mut self, entity: &str, row_id: &str, base: Option<&Base>) -> Result<(), ApplyError> {
        let before = self.visible_row(entity, row_id)?;
        self.admit(entity, Operation::Delete, row_id, &before.data)?;
        self.note_membership(entity, row_id, &before.data);
        self.keep_images(Some(&before), None);
        let seq = self.next_seq();
        self.connection.prepare_cached("DELETE FROM rows WHERE tenant = ?1 AND entity = ?2 AND id = ?3")?.execute([
            self.tenant,
            entity,
            row_id,
        ])?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO deleted_rows(tenant, entity, id, seq, at) VALUES(?1, ?2, ?3, ?4, ?5)")?
            .execute(params![self.tenant, entity, row_id, seq.cast_signed(), self.origin.committed_at.cast_signed()])?;
        let before = Some(self.visibility_image(entity, &before.data));
        let images = LogImages { base: base.map(json_text), before, ..LogImages::default() };
        self.record(entity, row_id, ChangeKind::Delete, images);
        Ok(())
    }

    /// Users who were members of an organisation before this transaction and are not after it.
    pub(crate) fn ended_memberships(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut ended = Vec::new();
        for (user, tenant) in &self.left {
            if let Some(tenant) = tenant.as_str()
                && !may_be_in(self.connection, self.schema, user, tenant)?
            {
                ended.push((user.clone(), tenant.to_owned()));
            }
        }
        Ok(ended)
    }

    /// Remembers whom a row made a member of what, if it is such a row.
    fn note_membership(&mut self, entity: &str, row_id: &str, before: &Row) {
        let Some(spec) = self.schema.tenants().filter(|spec| spec.entity == entity) else { return };
        let id = Value::from(row_id);
        let value = |field: &str| if field == "id" { Some(&id) } else { before.get(field) };
        if let (Some(Value::String(user)), Some(tenant)) = (value(&spec.user_field), value(&spec.value_field)) {
            self.left.push((user.clone(), tenant.clone()));
        }
    }

    fn stamper(&self) -> Stamper<'_> {
        let tenant = (!self.tenant.is_empty()).then_some(self.tenant);
        Stamper { user: self.origin.user_id.as_deref(), tenant }
    }

    /// Writes the log and the head; returns the records, whose range is the transaction's.
    pub(crate) fn finish(mut self) -> Result<Vec<LogRecord>, StoreError> {
        let Some(last) = self.records.last().map(|record| record.seq) else { return Ok(self.records) };
        let mut statement = LogRecord::insert_statement(self.connection)?;
        for record in &mut self.records {
            record.tx_last = last;
            record.insert(&mut statement, self.tenant)?;
        }
        LogBounds::store_head(self.connection, self.tenant, last)?;
        Ok(self.records)
    }

    fn check_entity(&self, entity: &str) -> Result<(), ApplyError> {
        if !self.schema.has_entity(entity) {
            return Err(rejected(ErrorCode::EntityNotFound, format!("there is no entity {entity}")));
        }
        // Within an organisation such a row would make nobody a member, and its writer would not know.
        if !self.tenant.is_empty() && self.schema.tenants().is_some_and(|spec| spec.entity == entity) {
            let message = format!("rows of {entity} are written outside of all organisations: select none first");
            return Err(rejected(ErrorCode::PolicyDenied, message));
        }
        Ok(())
    }

    /// The row as stored, or `None`.
    pub(crate) fn row(&self, entity: &str, row_id: &str) -> Result<Option<StoredRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT seq, column_seqs, data FROM rows WHERE tenant = ?1 AND entity = ?2 AND id = ?3")?;
        let found = statement
            .query_row([self.tenant, entity, row_id], |row| {
                Ok((unsigned(row, 0)?, row.get::<_, Option<String>>(1)?, row.get::<_, String>(2)?))
            })
            .optional()?;
        let Some((seq, column_seqs, data)) = found else { return Ok(None) };
        let column_seqs = decode(column_seqs.as_deref(), "column seqs")?.unwrap_or_default();
        Ok(Some(StoredRow { seq, column_seqs, data: parse_stored(&data)? }))
    }

    /// A row that the writer may not read does not exist for them.
    fn visible_row(&self, entity: &str, row_id: &str) -> Result<StoredRow, ApplyError> {
        let missing = || rejected(ErrorCode::RowNotFound, format!("{entity}/{row_id} does not exist, or is not visible"));
        let row = self.row(entity, row_id)?.ok_or_else(missing)?;
        if self.allows(entity, Operation::Read, row_id, &row.data)? { Ok(row) } else { Err(missing()) }
    }

    fn allows(&self, entity: &str, operation: Operation, row_id: &str, row: &Row) -> Result<bool, StoreError> {
        if !self.enforce_policies {
            return Ok(true);
        }
        let policy = self.schema.policy(entity, operation);
        let allowed = policy.allows(row_id, row, self.origin.user_id.as_deref(), &self.memberships);
        self.memberships.check()?;
        Ok(allowed)
    }

    fn admit(&self, entity: &str, operation: Operation, row_id: &str, row: &Row) -> Result<(), ApplyError> {
        if self.allows(entity, operation, row_id, row)? {
            return Ok(());
        }
        Err(rejected(ErrorCode::PolicyDenied, format!("the {} policy of {entity} denies this", operation.as_str())))
    }

    fn exists(&self, table: &'static str, entity: &str, row_id: &str) -> Result<bool, StoreError> {
        let sql = format!("SELECT 1 FROM {table} WHERE tenant = ?1 AND entity = ?2 AND id = ?3");
        Ok(self.connection.prepare_cached(&sql)?.exists([self.tenant, entity, row_id])?)
    }

    fn check_unique(&self, declared: Option<&Entity>, entity: &str, row_id: &str, after: &Row) -> Result<(), ApplyError> {
        let unique = |(_, field): &(&String, &Field)| field.unique && !planted::is(29);
        for (name, _) in declared.into_iter().flat_map(|declared| &declared.fields).filter(unique) {
            let value = after.get(name).and_then(syncline_core::server::value_key);
            let Some(value) = value.as_deref().and_then(crate::store::member_lookup::sql_value) else { continue };
            let sql = format!(
                "SELECT 1 FROM rows WHERE tenant = ?1 AND entity = '{entity}' AND {} = ?2 AND id <> ?3",
                field_expression(name)
            );
            if self.connection.prepare_cached(&sql)?.exists(params![self.tenant, value, row_id])? {
                return Err(rejected(ErrorCode::UniqueViolation, format!("another {entity} has this {name}")));
            }
        }
        Ok(())
    }

    fn store_row(&self, entity: &str, row_id: &str, seq: u64, column_seqs: Option<&str>, data: &str) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO rows(tenant, entity, id, seq, column_seqs, data, format) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT DO UPDATE SET seq = ?4, column_seqs = ?5, data = ?6, format = ?7",
            )?
            .execute(params![self.tenant, entity, row_id, seq.cast_signed(), column_seqs, data, ROW_FORMAT])?;
        Ok(())
    }

    /// The before-image as far as the log keeps it.
    fn visibility_image(&self, entity: &str, before: &Row) -> String {
        let fields = self.schema.visibility_fields(entity);
        let kept = before.iter().filter(|(name, _)| fields.contains(name.as_str()));
        canonical_row(&kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn next_seq(&self) -> u64 {
        self.head + 1 + self.records.len() as u64
    }

    fn record(&mut self, entity: &str, row_id: &str, kind: ChangeKind, images: LogImages) {
        let seq = self.next_seq();
        self.records.push(LogRecord {
            seq,
            tx_first: self.head + 1,
            tx_last: seq,
            mark: xxh64(&seq.to_be_bytes(), self.origin.mark_seed),
            op_id: self.origin.op_id.clone(),
            client_id: self.origin.client_id.clone(),
            user_id: self.origin.user_id.clone(),
            issued_at: self.origin.issued_at,
            committed_at: self.origin.committed_at,
            schema: self.origin.schema,
            entity: entity.to_owned(),
            row_id: row_id.to_owned(),
            kind: kind.into(),
            columns: images.columns,
            base: images.base,
            column_seqs: images.column_seqs,
            before: images.before,
            after: images.after,
        });
    }
}

#[derive(Default)]
struct LogImages {
    columns: Option<String>,
    base: Option<String>,
    column_seqs: Option<String>,
    before: Option<String>,
    after: Option<String>,
}

/// The seq of each field's last change, for those the update did not set.
fn column_seqs_after(before: &StoredRow, after: &Row, columns: &[String], seq: u64) -> BTreeMap<String, u64> {
    let set = |name: &String| columns.binary_search(name).is_ok();
    let seq_before = |name: &String| before.column_seqs.get(name).copied().unwrap_or(before.seq);
    after.keys().filter(|name| !set(name)).map(|name| (name.clone(), seq_before(name))).filter(|(_, old)| *old != seq).collect()
}

fn json_text<T: serde::Serialize + ?Sized>(value: &T) -> String {
    canonical_json(&serde_json::to_value(value).unwrap_or(Value::Null))
}

fn rejected(code: ErrorCode, message: String) -> ApplyError {
    ApplyError::Rejected(ErrorDetail::new(code, message))
}

#[expect(clippy::needless_pass_by_value, reason = "the signature map_err wants")]
fn refused(error: FieldError) -> ApplyError {
    rejected(error.code(), error.to_string())
}
