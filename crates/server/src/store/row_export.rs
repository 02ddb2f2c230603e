//! Rows for whoever owns the database: all of one entity, at one moment, whatever the policies say.

use rusqlite::{Connection, params};
use syncline_protocol::EntityName;

use crate::store::{Store, StoreError};

/// The rows of one entity at one moment; they may be gone through more than once.
#[derive(Debug)]
pub struct RowExport<'a> {
    connection: &'a Connection,
    entity: &'a EntityName,
    tenant: &'a str,
}

impl RowExport<'_> {
    /// Hands each row to `take`, by id: its id and its fields as JSON.
    ///
    /// # Errors
    /// Those of `take`, and when the database fails.
    pub fn for_each<E: From<StoreError>>(&self, mut take: impl FnMut(&str, &str) -> Result<(), E>) -> Result<(), E> {
        let failed = |error: rusqlite::Error| E::from(StoreError::from(error));
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, data FROM rows WHERE tenant = ?1 AND entity = ?2 ORDER BY id")
            .map_err(failed)?;
        let mut rows = statement.query(params![self.tenant, self.entity.as_str()]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let text = |index| row.get_ref(index).and_then(|value| Ok(value.as_str()?));
            take(text(0).map_err(failed)?, text(1).map_err(failed)?)?;
        }
        Ok(())
    }
}

impl Store {
    /// Hands the rows of an entity to `write`, without policies: for whoever owns the database.
    ///
    /// # Errors
    /// Those of `write`, and when the database fails.
    pub async fn export<T, E, F>(&self, entity: &EntityName, tenant: Option<&str>, write: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&RowExport<'_>) -> Result<T, E> + Send + 'static,
    {
        let (entity, tenant) = (entity.clone(), tenant.unwrap_or_default().to_owned());
        let read = move |connection: &Connection| write(&RowExport { connection, entity: &entity, tenant: &tenant });
        self.shared.reads.run(read).await
    }
}
