//! What stands in for the database with `persist: false`, and where IndexedDB is missing, refused or lost.

use syncline_core::client::{StorageKind, StoredValue};

/// Answers storage requests as a database would that nobody else opens and nobody reads again.
///
/// The core holds rows and queue itself, so nothing is kept twice. Every check holds, because only a second writer could
/// break one; only the keys of the queue have to be made.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    last_key: u64,
}

impl MemoryStore {
    /// A store whose keys are larger than any that a database of this replica has given.
    pub(crate) const fn new() -> Self {
        Self { last_key: FIRST_KEY }
    }

    /// Answers a request.
    pub(crate) fn run(&mut self, kind: &StorageKind) -> StoredValue {
        match kind {
            StorageKind::Enqueue { records } => {
                let first = self.last_key + 1;
                self.last_key += u64::try_from(records.len()).unwrap_or_default();
                StoredValue::Keys((first..=self.last_key).collect())
            }
            StorageKind::UpdateQueue { put, remove, .. } => {
                StoredValue::Keys(put.iter().map(|(key, _)| *key).chain(remove.iter().copied()).collect())
            }
            StorageKind::Commit { .. }
            | StorageKind::Compact { .. }
            | StorageKind::DeleteGeneration { .. }
            | StorageKind::Quarantine { .. } => StoredValue::Done,
        }
    }
}

/// An engine that loses its database goes on in memory with keys of both kinds; autoIncrement keys stay far below this.
const FIRST_KEY: u64 = 1 << 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_queue_grow_and_every_named_record_is_there() {
        let mut store = MemoryStore::new();
        let mut enqueue = |count| match store.run(&StorageKind::Enqueue { records: vec![Vec::new(); count] }) {
            StoredValue::Keys(keys) => keys,
            StoredValue::Done => Vec::new(),
        };
        let (first, second) = (enqueue(2), enqueue(1));
        assert_eq!(first.len(), 2);
        assert!(first[1] < second[0]);
        let update = StorageKind::UpdateQueue { fence: 1, put: vec![(first[0], Vec::new())], remove: vec![second[0]] };
        assert_eq!(store.run(&update), StoredValue::Keys(vec![first[0], second[0]]));
    }
}
