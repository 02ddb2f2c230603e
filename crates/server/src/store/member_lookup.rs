//! Memberships as the tables hold them.

use std::cell::RefCell;

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params};
use serde_json::Value;
use syncline_core::server::{MembershipCounts, MembershipSpec, Memberships, Schema};

use crate::store::StoreError;
use crate::store::database::field_expression;
use crate::store::log::LogRecord;
use crate::store::row_json::pick_fields;

/// Looks single memberships up in the rows, inside the writer's transaction, so that rows written earlier in it count.
pub(crate) struct MemberLookup<'a> {
    connection: &'a Connection,
    tenant: &'a str,
    failure: RefCell<Option<StoreError>>,
}

impl<'a> MemberLookup<'a> {
    pub(crate) const fn new(connection: &'a Connection, tenant: &'a str) -> Self {
        Self { connection, tenant, failure: RefCell::new(None) }
    }

    /// A policy cannot fail halfway, so a failed lookup says no and the failure is fetched here before the answer counts.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }

    fn find(&self, spec: &MembershipSpec, user: &str, key: &str) -> Result<bool, StoreError> {
        let Some(value) = sql_value(key) else { return Ok(false) };
        let sql = format!(
            "SELECT id, data FROM rows WHERE tenant = ?1 AND entity = '{}' AND {} = ?2 AND {} = ?3",
            spec.entity,
            field_expression(&spec.user_field),
            field_expression(&spec.value_field),
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![self.tenant, user, value])?;
        let wanted = [spec.user_field.as_str(), spec.value_field.as_str()].into();
        while let Some(row) = rows.next()? {
            // SQL holds true and 1 for equal; the policy does not.
            let fields = pick_fields(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?, &wanted)?;
            let id: String = row.get(0)?;
            if spec.value_for(&id, &fields, user).as_deref() == Some(key) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Memberships for MemberLookup<'_> {
    fn contains(&self, spec: &MembershipSpec, user: &str, key: &str) -> bool {
        self.find(spec, user, key).unwrap_or_else(|error| {
            *self.failure.borrow_mut() = Some(error);
            false
        })
    }
}

/// Whether a user may be in an organisation: as the membership rows say, if the schema names them.
pub(crate) fn may_be_in(connection: &Connection, schema: &Schema, user: &str, tenant: &str) -> Result<bool, StoreError> {
    let Some(spec) = schema.tenants() else { return Ok(true) };
    let Some(key) = syncline_core::server::value_key(&Value::from(tenant)) else { return Ok(false) };
    // Those rows live outside of all organisations.
    MemberLookup::new(connection, "").find(spec, user, &key)
}

/// All memberships of a user that read policies look up, as the tables hold them now.
pub(crate) fn load_memberships(
    connection: &Connection,
    schema: &Schema,
    tenant: &str,
    user: Option<&str>,
) -> Result<MembershipCounts, StoreError> {
    let Some(user) = user else { return Ok(MembershipCounts::default()) };
    let mut counts = MembershipCounts::new(user);
    for spec in schema.read_specs() {
        let sql = format!(
            "SELECT id, data FROM rows WHERE tenant = ?1 AND entity = '{}' AND {} = ?2",
            spec.entity,
            field_expression(&spec.user_field),
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![tenant, user])?;
        let wanted = [spec.user_field.as_str(), spec.value_field.as_str()].into();
        while let Some(row) = rows.next()? {
            let fields = pick_fields(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?, &wanted)?;
            let id: String = row.get(0)?;
            if let Some(key) = spec.value_for(&id, &fields, user) {
                counts.add(spec, &key);
            }
        }
    }
    Ok(counts)
}

/// What a log record takes from and gives to a user: the [`value_key`](syncline_core::server::value_key) of each image.
pub(crate) fn membership_step(
    spec: &MembershipSpec,
    record: &LogRecord,
    user: &str,
) -> Result<(Option<String>, Option<String>), StoreError> {
    let wanted = [spec.user_field.as_str(), spec.value_field.as_str()].into();
    let key = |image: Option<&str>| match image {
        None => Ok(None),
        Some(text) => Ok::<_, StoreError>(spec.value_for(&record.row_id, &pick_fields(text, &wanted)?, user)),
    };
    Ok((key(record.before.as_deref())?, key(record.after.as_deref())?))
}

/// What `json_extract` gives for a value with this key.
pub(crate) fn sql_value(key: &str) -> Option<SqlValue> {
    match serde_json::from_str(key).ok()? {
        Value::String(text) => Some(SqlValue::Text(text)),
        Value::Bool(truth) => Some(SqlValue::Integer(i64::from(truth))),
        Value::Number(number) => number.as_i64().map(SqlValue::Integer).or_else(|| number.as_f64().map(SqlValue::Real)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
