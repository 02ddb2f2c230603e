//! A database that does what it is asked, and can be read again after a crash.

use std::collections::BTreeMap;

use syncline_core::client::{StorageFailure, StorageKind, StoredReplica, StoredValue};

#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) entities: BTreeMap<u64, Vec<u8>>,
    pub(crate) queue: BTreeMap<u64, Vec<u8>>,
    pub(crate) replica: Option<Vec<u8>>,
    pub(crate) fence: u64,
    pub(crate) last_key: u64,
}

impl Disk {
    /// Reads everything under a new fence.
    pub(crate) fn open(&mut self) -> StoredReplica {
        self.fence += 1;
        self.last_key = self.last_key.max(self.queue.keys().next_back().copied().unwrap_or_default());
        StoredReplica {
            replica: self.replica.clone(),
            records: self.entities.clone().into_iter().collect(),
            queue: self.queue.clone().into_iter().collect(),
            #[allow(clippy::useless_conversion, reason = "a fence may be optional")]
            fence: self.fence.into(),
            leads: true,
            ..StoredReplica::default()
        }
    }

    pub(crate) fn execute(&mut self, kind: StorageKind) -> Result<StoredValue, StorageFailure> {
        match kind {
            StorageKind::Enqueue { records, formers } => {
                self.queue.retain(|key, _| !formers.iter().any(|former| former.key == *key));
                let keys = records.into_iter().map(|record| {
                    self.last_key += 1;
                    self.queue.insert(self.last_key, record);
                    self.last_key
                });
                return Ok(StoredValue::Keys(keys.collect()));
            }
            StorageKind::UpdateQueue { put, remove, .. } => {
                let mut keys = Vec::new();
                for (key, record) in put {
                    if let Some(place) = self.queue.get_mut(&key) {
                        *place = record;
                        keys.push(key);
                    }
                }
                for key in remove {
                    keys.extend(self.queue.remove(&key).map(|_| key));
                }
                return Ok(StoredValue::Keys(keys));
            }
            StorageKind::Commit { expect, replica, put, delete, remove_queue, .. } => {
                if expect != self.replica {
                    return Err(StorageFailure::Conflict);
                }
                self.replica = Some(replica);
                self.exchange(put, &delete);
                self.queue.retain(|key, _| !remove_queue.iter().any(|(removed, _)| removed == key));
            }
            StorageKind::Compact { put, delete, .. } => self.exchange(put, &delete),
            StorageKind::DeleteGeneration { first, last, .. } => {
                self.entities.retain(|key, _| !(first..=last).contains(key));
            }
            StorageKind::Quarantine { key, .. } => drop(self.entities.remove(&key)),
            #[allow(unreachable_patterns, reason = "requests that the fuzzed paths do not make")]
            _ => {}
        }
        Ok(StoredValue::Done)
    }

    fn exchange(&mut self, put: Vec<(u64, Vec<u8>)>, delete: &[u64]) {
        self.entities.extend(put);
        self.entities.retain(|key, _| !delete.contains(key));
    }
}
