//! A database as the browser's behaves: transactions are whole, in order, and the relaxed ones at the end may vanish.

use std::collections::BTreeMap;

use syncline_core::client::{Former, StorageFailure, StorageKind, StoredReplica, StoredValue};

/// Whether this stands in the place of a discarded write.
pub(crate) fn is_mark(record: &[u8]) -> bool {
    record.starts_with(br#"{"format":1,"state":"discarded""#)
}

#[derive(Debug, Clone, Default)]
pub(crate) struct DiskState {
    pub(crate) entities: BTreeMap<u64, Vec<u8>>,
    pub(crate) queue: BTreeMap<u64, Vec<u8>>,
    pub(crate) replica: Option<Vec<u8>>,
    pub(crate) journal: Vec<Vec<u8>>,
    next_queue_key: u64,
    pub(crate) fence: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) now: DiskState,
    /// States a power cut may bring back: since the last strict transaction, which is the first.
    history: Vec<DiskState>,
    /// op_ids of writes that were folded, with those they were folded into; without one they came to nothing.
    pub(crate) folded: BTreeMap<String, Option<String>>,
    /// Fail this many transactions with `Full`.
    pub(crate) failing: usize,
}

impl Disk {
    /// Takes the lead and reads everything.
    pub(crate) fn open(&mut self) -> StoredReplica {
        self.now.fence += 1;
        self.history = vec![self.now.clone()];
        StoredReplica { leads: true, ..self.read(None) }
    }

    /// Reads without taking the lead.
    pub(crate) fn read(&self, known: Option<&Vec<u8>>) -> StoredReplica {
        let is_known = known.is_some() && known == self.now.replica.as_ref();
        let records = if is_known { BTreeMap::new() } else { self.now.entities.clone() };
        StoredReplica {
            replica: self.now.replica.clone().filter(|_| !is_known),
            records: records.into_iter().collect(),
            queue: self.now.queue.clone().into_iter().collect(),
            fence: self.now.fence,
            leads: false,
            is_known,
            memory: None,
        }
    }

    /// Loses up to `lost` of the relaxed transactions since the last strict one.
    pub(crate) fn cut_power(&mut self, lost: usize) {
        let keep = self.history.len().saturating_sub(lost + 1);
        if let Some(state) = self.history.get(keep) {
            self.now = state.clone();
        }
    }

    pub(crate) fn execute(&mut self, kind: StorageKind) -> Result<StoredValue, StorageFailure> {
        if self.failing > 0 {
            self.failing -= 1;
            return Err(StorageFailure::Full);
        }
        let mut folds = Vec::new();
        if let StorageKind::FoldQueue { put, remove, .. } = &kind {
            folds = self.folds(put, remove);
        }
        let strict = matches!(
            kind,
            StorageKind::Enqueue { .. }
                | StorageKind::UpdateQueue { .. }
                | StorageKind::FoldQueue { .. }
                | StorageKind::Discard { .. }
        );
        let result = self.now.execute(kind);
        if result.as_ref().is_ok_and(|value| *value != StoredValue::Keys(Vec::new())) {
            self.folded.extend(folds);
        }
        if strict {
            self.history.clear();
        }
        self.history.push(self.now.clone());
        result
    }
}

impl Disk {
    /// What stands for a write that was folded, if it came to anything.
    pub(crate) fn stands_for<'a>(&'a self, mut op_id: &'a str) -> Option<&'a str> {
        while let Some(survivor) = self.folded.get(op_id) {
            op_id = survivor.as_deref()?;
        }
        Some(op_id)
    }

    /// From the request alone one can tell what becomes of each record: the last one put before it stands for it.
    fn folds(&self, put: &[(u64, Vec<u8>)], remove: &[u64]) -> Vec<(String, Option<String>)> {
        let op_id = |record: &[u8]| {
            let record: serde_json::Value = serde_json::from_slice(record).unwrap();
            record["intent"]["op_id"].as_str().map(str::to_owned)
        };
        let mut folds = Vec::new();
        for key in remove {
            let survivor = put.iter().rfind(|(survivor, _)| survivor < key);
            assert_eq!(survivor.is_some(), !put.is_empty(), "what comes to nothing has a request of its own");
            if let Some(gone) = self.now.queue.get(key).and_then(|record| op_id(record)) {
                folds.push((gone, survivor.and_then(|(_, record)| op_id(record))));
            }
        }
        folds
    }
}

impl DiskState {
    fn execute(&mut self, kind: StorageKind) -> Result<StoredValue, StorageFailure> {
        match kind {
            StorageKind::Enqueue { records, formers } => return Ok(StoredValue::Keys(self.enqueue(records, &formers))),
            StorageKind::UpdateQueue { fence, put, remove } => {
                self.check_fence(fence)?;
                let mut keys = Vec::new();
                for (key, record) in put {
                    if let Some(place) = self.queue.get_mut(&key).filter(|place| !is_mark(place)) {
                        *place = record;
                        keys.push(key);
                    }
                }
                for key in remove {
                    keys.extend(self.queue.remove(&key).map(|_| key));
                }
                return Ok(StoredValue::Keys(keys));
            }
            StorageKind::FoldQueue { fence, put, remove } => {
                self.check_fence(fence)?;
                let keys: Vec<u64> = put.iter().map(|(key, _)| *key).chain(remove.clone()).collect();
                if !keys.iter().all(|key| self.queue.get(key).is_some_and(|record| !is_mark(record))) {
                    return Ok(StoredValue::Keys(Vec::new()));
                }
                self.queue.extend(put);
                self.queue.retain(|key, _| !remove.contains(key));
                return Ok(StoredValue::Keys(keys));
            }
            StorageKind::Discard { key, expect, mark } => {
                let found = self.queue.get_mut(&key).filter(|record| **record == expect);
                let is_there = found.is_some();
                if let Some(record) = found {
                    *record = mark;
                }
                return Ok(StoredValue::Keys(is_there.then_some(key).into_iter().collect()));
            }
            StorageKind::Commit { fence, expect, replica, put, delete, remove_queue } => {
                self.check_fence(fence)?;
                if expect != self.replica {
                    return Err(StorageFailure::Conflict);
                }
                self.replica = Some(replica);
                self.entities.extend(put);
                for key in delete {
                    self.entities.remove(&key);
                }
                for (key, _) in remove_queue {
                    self.queue.remove(&key);
                }
            }
            StorageKind::Compact { fence, generation, put, delete } => {
                self.check_fence(fence)?;
                let replica: serde_json::Value = serde_json::from_slice(self.replica.as_deref().unwrap_or(b"null")).unwrap();
                if replica["generation"] != generation {
                    return Err(StorageFailure::Conflict);
                }
                self.entities.extend(put);
                for key in delete {
                    self.entities.remove(&key);
                }
            }
            StorageKind::DeleteGeneration { fence, first, last } => {
                self.check_fence(fence)?;
                self.entities.retain(|key, _| !(first..=last).contains(key));
            }
            StorageKind::Quarantine { fence, key } => {
                self.check_fence(fence)?;
                self.journal.extend(self.entities.remove(&key));
            }
        }
        Ok(StoredValue::Done)
    }

    fn enqueue(&mut self, records: Vec<Vec<u8>>, formers: &[Former]) -> Vec<u64> {
        let mut keys = Vec::new();
        for (number, record) in records.into_iter().enumerate() {
            let formers = formers.iter().filter(|former| former.number == number);
            let stands = |former: &Former| match (self.queue.get(&former.key), &former.expect) {
                (Some(record), Some(expect)) => record == expect,
                (Some(record), None) => !is_mark(record),
                (None, _) => false,
            };
            if formers.clone().all(stands) {
                for former in formers {
                    self.queue.remove(&former.key);
                }
                self.next_queue_key += 1;
                self.queue.insert(self.next_queue_key, record);
                keys.push(self.next_queue_key);
            } else {
                keys.push(0);
            }
        }
        keys
    }

    /// The writes that lie in the queue.
    pub(crate) fn writes(&self) -> usize {
        self.queue.values().filter(|record| !is_mark(record)).count()
    }

    fn check_fence(&self, fence: u64) -> Result<(), StorageFailure> {
        if fence == self.fence { Ok(()) } else { Err(StorageFailure::Conflict) }
    }
}
