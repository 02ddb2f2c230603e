//! The last committed seq of each tenant, for those who wait for the next.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::watch;

use crate::store::StoreError;
use crate::store::log::unsigned;

/// Heads of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    by_tenant: Mutex<HashMap<String, watch::Sender<u64>>>,
}

impl Heads {
    /// Reads the heads of all tenants.
    pub(crate) fn load(connection: &Connection) -> Result<Self, StoreError> {
        let mut statement = connection.prepare("SELECT tenant, head FROM tenants")?;
        let heads = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, unsigned(row, 1)?)))?;
        let mut by_tenant = HashMap::new();
        for head in heads {
            let (tenant, head) = head?;
            by_tenant.insert(tenant, watch::Sender::new(head));
        }
        Ok(Self { by_tenant: Mutex::new(by_tenant) })
    }

    /// Follows one tenant's head.
    pub(crate) fn watch(&self, tenant: &str) -> watch::Receiver<u64> {
        let mut heads = self.lock();
        match heads.get(tenant) {
            Some(head) => head.subscribe(),
            None => heads.entry(tenant.to_owned()).or_insert_with(|| watch::Sender::new(0)).subscribe(),
        }
    }

    /// One tenant's head.
    pub(crate) fn head(&self, tenant: &str) -> u64 {
        self.lock().get(tenant).map_or(0, |head| *head.borrow())
    }

    /// Raises a head; also when another process, an import, has written.
    pub(crate) fn raise(&self, tenant: &str, seq: u64) {
        let mut heads = self.lock();
        let head = heads.entry(tenant.to_owned()).or_insert_with(|| watch::Sender::new(0));
        head.send_if_modified(|head| {
            let grew = seq > *head;
            *head = seq.max(*head);
            grew
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        // The map is whole between any two statements, so a panic elsewhere leaves it usable.
        self.by_tenant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
