//! Reads of single rows, lists and filtered lists, under the same policies as the log.

use std::collections::BTreeSet;

use rusqlite::params_from_iter;
use rusqlite::types::Value as SqlValue;
use serde_json::Value;
use syncline_core::server::{Operation, value_key};
use syncline_protocol::{RawJson, Row};

use crate::store::database::field_expression;
use crate::store::filter::Filter;
use crate::store::member_lookup::sql_value;
use crate::store::pull::LogRead;
use crate::store::row_json::{pick_fields, raw, with_id};
use crate::store::visibility::{Eyes, TableRow};
use crate::store::{ReadError, RowList, StoreError};

/// Rows of an entity by id.
pub(crate) fn list(read: &LogRead<'_>, entity: &str, limit: Option<u64>, offset: u64) -> Result<RowList, ReadError> {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let filter = Filter::everything(limit.map(size), size(offset));
    let rows = matching(read, entity, &filter)?;
    Ok(RowList { count: rows.len() as u64, rows })
}

/// One row with its id; `None` when the reader sees none.
pub(crate) fn row(read: &LogRead<'_>, entity: &str, id: &str) -> Result<Option<String>, ReadError> {
    let eyes = eyes_for(read, entity)?;
    let Some(row) = TableRow::load(read.connection, read.tenant, entity, id)? else { return Ok(None) };
    Ok(if eyes.see_image(entity, id, &row.data)? { Some(with_id(id, &row.data)) } else { None })
}

/// Rows that match a filter.
pub(crate) fn query(read: &LogRead<'_>, entity: &str, filter: &Value) -> Result<Vec<RawJson>, ReadError> {
    let declared = read.schema.entity(entity);
    let has_field = |name: &str| name == "id" || declared.is_none_or(|declared| declared.fields.contains_key(name));
    let filter = Filter::parse(filter, has_field)?;
    matching(read, entity, &filter)
}

fn eyes_for<'a>(read: &'a LogRead<'_>, entity: &str) -> Result<Eyes<'a>, ReadError> {
    if !read.schema.has_entity(entity) {
        return Err(ReadError::NoEntity(entity.to_owned()));
    }
    let user = read.reader.user_id.as_deref();
    if !read.schema.policy(entity, Operation::Read).may_allow(user) {
        return Err(ReadError::Denied(entity.to_owned()));
    }
    Ok(Eyes::now(read.connection, read.schema, read.tenant, user)?)
}

fn matching(read: &LogRead<'_>, entity: &str, filter: &Filter) -> Result<Vec<RawJson>, ReadError> {
    let eyes = eyes_for(read, entity)?;
    let mut wanted: BTreeSet<&str> = read.schema.visibility_fields(entity);
    wanted.extend(filter.fields().filter(|name| *name != "id"));
    let (sql, parameters) = select(read, entity, filter);
    let mut statement = read.connection.prepare_cached(&sql).map_err(StoreError::from)?;
    let mut rows = statement.query(params_from_iter(parameters)).map_err(StoreError::from)?;
    let enough = if filter.is_ordered() { None } else { filter.limit.map(|limit| limit.saturating_add(filter.offset)) };
    let mut found: Vec<(Row, TableRow)> = Vec::new();
    while enough.is_none_or(|enough| found.len() < enough)
        && let Some(row) = rows.next().map_err(StoreError::from)?
    {
        let row = TableRow::from_row(row).map_err(StoreError::from)?;
        let mut fields = pick_fields(&row.data, &wanted)?;
        if !eyes.see(entity, &row.id, &fields) {
            continue;
        }
        fields.insert("id".to_owned(), Value::from(row.id.as_str()));
        if filter.matches(|name| field(&fields, name)) {
            found.push((fields, row));
        }
    }
    if filter.is_ordered() {
        // The rows come by id and the sort is stable, so the id decides between equals.
        found.sort_by(|(left, _), (right, _)| filter.compare(|name| field(left, name), |name| field(right, name)));
    }
    let page = found.into_iter().skip(filter.offset).take(filter.limit.unwrap_or(usize::MAX));
    Ok(page.map(|(_, row)| raw(with_id(&row.id, &row.data))).collect::<Result<_, StoreError>>()?)
}

/// Lets SQL find by id or by an indexed field what the filter then decides exactly.
fn select(read: &LogRead<'_>, entity: &str, filter: &Filter) -> (String, Vec<SqlValue>) {
    let mut parameters = vec![SqlValue::from(read.tenant.to_owned()), SqlValue::from(entity.to_owned())];
    let mut condition = String::new();
    let declared = read.schema.entity(entity);
    let indexed = |name: &str| {
        name == "id" || declared.and_then(|declared| declared.fields.get(name)).is_some_and(|field| field.index || field.unique)
    };
    let usable = filter.equalities().find_map(|(name, value)| {
        let value = value_key(value).as_deref().and_then(sql_value)?;
        indexed(name).then_some((name, value))
    });
    if let Some((name, value)) = usable {
        let found = format!(" AND {} = ?3", field_expression(name));
        // A partial index serves only a query that repeats its condition word by word.
        condition = if name == "id" { found } else { format!("{found} AND entity = '{entity}'") };
        parameters.push(value);
    }
    let sql = format!("SELECT {} FROM rows WHERE tenant = ?1 AND entity = ?2{condition} ORDER BY id", TableRow::COLUMNS);
    (sql, parameters)
}

fn field<'a>(fields: &'a Row, name: &str) -> &'a Value {
    fields.get(name).unwrap_or(&Value::Null)
}
