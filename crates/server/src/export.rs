//! `syncline export`: the rows of one entity as one JSON object a line, or as CSV.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::{Map, Value};
use syncline_protocol::EntityName;

use crate::store::{RowExport, Store, StoreError};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// One JSON object a line
    Ndjson,
    /// A line of names, then a line for each row
    Csv,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The rows could not be written.
    #[error("cannot write the rows: {0}")]
    Write(#[from] io::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<csv::Error> for ExportError {
    fn from(error: csv::Error) -> Self {
        Self::Write(error.into())
    }
}

/// Writes the rows of an entity, all of one moment, and returns how many there are.
///
/// # Errors
/// When the rows cannot be read or written.
pub async fn export(
    store: &Store,
    entity: &EntityName,
    tenant: Option<&str>,
    format: ExportFormat,
    to: impl Write + Send + 'static,
) -> Result<u64, ExportError> {
    let write = move |rows: &RowExport<'_>| match format {
        ExportFormat::Ndjson => lines(rows, to),
        ExportFormat::Csv => comma_separated(rows, to),
    };
    store.export(entity, tenant, write).await
}

fn lines(rows: &RowExport<'_>, mut to: impl Write) -> Result<u64, ExportError> {
    let mut count = 0;
    rows.for_each(|id, data| {
        count += 1;
        Ok::<_, ExportError>(writeln!(to, "{}", crate::store::with_id(id, data))?)
    })?;
    to.flush()?;
    Ok(count)
}

/// Columns are the fields that any row has; so the rows are gone through twice.
fn comma_separated(rows: &RowExport<'_>, to: impl Write) -> Result<u64, ExportError> {
    let mut names = BTreeSet::new();
    rows.for_each(|_, data| {
        names.extend(fields(data)?.into_iter().map(|(name, _)| name));
        Ok::<_, ExportError>(())
    })?;
    let mut writer = csv::Writer::from_writer(to);
    writer.write_record(std::iter::once("id").chain(names.iter().map(String::as_str)))?;
    let mut count = 0;
    rows.for_each(|id, data| {
        count += 1;
        let mut row = fields(data)?;
        let cells = names.iter().map(|name| row.remove(name).map_or_else(String::new, cell));
        Ok::<_, ExportError>(writer.write_record(std::iter::once(id.to_owned()).chain(cells))?)
    })?;
    writer.flush()?;
    Ok(count)
}

fn fields(data: &str) -> Result<Map<String, Value>, StoreError> {
    serde_json::from_str(data).map_err(|_| StoreError::Corrupt { what: "row" })
}

/// Text as it is, nothing for null, JSON for the rest.
fn cell(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    }
}
