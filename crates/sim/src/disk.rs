//! A database as browsers were measured to behave: transactions are whole; after a power cut the strict ones are there, and
//! of the relaxed ones since the last flush some of the first.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use syncline_core::client::{Former, StorageFailure, StorageKind, StoredReplica, StoredValue};
use syncline_core::planted;

/// The stores of one database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stores {
    /// Rows.
    pub(crate) entities: BTreeMap<u64, Rc<[u8]>>,
    /// Writes.
    pub(crate) queue: BTreeMap<u64, Queued>,
    /// The replica record.
    pub(crate) replica: Option<Rc<[u8]>>,
    /// The highest key the queue ever gave.
    last_queue_key: u64,
    /// Number of the last leader.
    pub(crate) fence: u64,
}

/// A record of the queue, and the op_id of its write.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub(crate) bytes: Rc<[u8]>,
    op_id: Option<Rc<str>>,
}

impl Queued {
    /// Whether it stands in the place of a discarded write.
    pub(crate) fn is_mark(&self) -> bool {
        self.bytes.starts_with(MARK)
    }

    fn new(bytes: Vec<u8>) -> Self {
        Self { op_id: own_op_id(&bytes).map(Rc::from), bytes: bytes.into() }
    }
}

/// One thing a transaction did.
#[derive(Debug, Clone)]
enum Step {
    Entity(u64, Option<Rc<[u8]>>),
    Queue(u64, Option<Queued>),
    Replica(Rc<[u8]>),
    Fence(u64),
}

/// What stands in the place of the record of a discarded write, as in `queue_plans.js`.
const MARK: &[u8] = br#"{"format":1,"state":"discarded""#;

/// How the record of a write begins that failed.
const FAILED: &[u8] = br#"{"format":1,"state":"failed""#;

/// A transaction that a power cut may undo, if it is relaxed.
#[derive(Debug)]
struct Unflushed {
    steps: Vec<Step>,
    strict: bool,
}

/// One database of one device.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// What every tab reads.
    pub(crate) now: Stores,
    /// What the medium holds.
    flushed: Stores,
    unflushed: Vec<Unflushed>,
    /// What became of writes that were folded: the one that stands for each, or none if they came to nothing.
    pub(crate) folded: BTreeMap<String, Option<String>>,
    /// Writes in whose place a mark lies.
    pub(crate) discarded: BTreeSet<String>,
    /// How many of the next transactions fail with this.
    pub(crate) failing: Option<(u64, StorageFailure)>,
}

impl Disk {
    /// Reads everything as the next leader.
    pub(crate) fn open(&mut self) -> StoredReplica {
        self.apply(vec![Step::Fence(self.now.fence + 1)], false);
        StoredReplica { leads: true, ..self.read(None) }
    }

    /// Reads everything, or no rows when the replica record is the one that is known.
    pub(crate) fn read(&self, known: Option<&[u8]>) -> StoredReplica {
        let is_known = known.is_some() && known == self.now.replica.as_deref();
        let records = self.now.entities.iter().map(|(key, bytes)| (*key, bytes.to_vec()));
        let queue = self.now.queue.iter().map(|(key, record)| (*key, record.bytes.to_vec()));
        StoredReplica {
            replica: self.now.replica.as_deref().filter(|_| !is_known).map(<[u8]>::to_vec),
            records: if is_known { Vec::new() } else { records.collect() },
            queue: queue.collect(),
            fence: self.now.fence,
            leads: false,
            is_known,
            memory: None,
        }
    }

    /// Why a reading fails; for a leader it is also a small write.
    pub(crate) fn failure(&mut self, leads: bool) -> Option<StorageFailure> {
        let (left, failure) = self.failing.as_mut()?;
        if *failure == StorageFailure::Full && !leads {
            return None;
        }
        let failure = failure.clone();
        *left -= 1;
        if *left == 0 {
            self.failing = None;
        }
        Some(failure)
    }

    /// Everything so far reaches the medium, as it does by itself after some seconds.
    pub(crate) fn flush(&mut self) {
        self.unflushed.clear();
        self.flushed = self.now.clone();
    }

    /// How many relaxed transactions a power cut may take.
    pub(crate) fn at_risk(&self) -> usize {
        self.unflushed.iter().filter(|transaction| !transaction.strict).count()
    }

    /// Loses the relaxed transactions but the first `kept`; strict ones stay, whether they came before or after.
    pub(crate) fn cut_power(&mut self, kept: usize) {
        let mut left = kept;
        let mut state = self.flushed.clone();
        for Unflushed { steps, strict } in self.unflushed.drain(..) {
            let stays = strict || left > 0;
            if !strict {
                left = left.saturating_sub(1);
            }
            if stays {
                for step in steps {
                    state.take(step);
                }
            }
        }
        self.now = state.clone();
        self.flushed = state;
    }

    /// Whether a write lies in the queue.
    pub(crate) fn now_holds(&self, op_id: &str) -> bool {
        self.now.holds(op_id)
    }

    /// Somebody clears the site's data, or the browser its damaged database.
    pub(crate) fn wipe(&mut self) {
        *self = Self::default();
    }

    /// Carries one request out.
    ///
    /// # Errors
    /// As the real database does.
    pub(crate) fn execute(&mut self, kind: StorageKind) -> Result<StoredValue, StorageFailure> {
        if let Some(failure) = self.failure(true) {
            return Err(failure);
        }
        let is_of_queue = matches!(
            kind,
            StorageKind::Enqueue { .. }
                | StorageKind::UpdateQueue { .. }
                | StorageKind::FoldQueue { .. }
                | StorageKind::Discard { .. }
        );
        let strict = is_of_queue && !planted::is(32);
        let mut folds = self.folds(&kind);
        let discarded = self.discards(&kind);
        let (steps, value) = self.now.plan(kind)?;
        if let StoredValue::Keys(keys) = &value {
            folds.retain(|(number, ..)| keys.get(*number).is_some_and(|key| *key != 0));
            self.folded.extend(folds.into_iter().map(|(_, op_id, by)| (op_id, by)));
            self.discarded.extend(discarded.into_iter().filter(|(key, _)| keys.contains(key)).map(|(_, op_id)| op_id));
        }
        self.apply(steps, strict);
        Ok(value)
    }

    /// The writes in whose place this would leave marks, but for those that failed.
    fn discards(&self, kind: &StorageKind) -> Vec<(u64, String)> {
        let marked: Vec<u64> = match kind {
            StorageKind::Discard { key, .. } => vec![*key],
            StorageKind::UpdateQueue { put, .. } => {
                put.iter().filter(|(_, record)| record.starts_with(MARK)).map(|(key, _)| *key).collect()
            }
            _ => return Vec::new(),
        };
        let op_id = |key: u64| {
            let record = self.now.queue.get(&key).filter(|record| !record.bytes.starts_with(FAILED))?;
            Some((key, record.op_id.as_deref()?.to_owned()))
        };
        marked.into_iter().filter_map(op_id).collect()
    }

    /// Whoever knows the request knows what stands for each record that it removes, if the key with this number is given.
    fn folds(&self, kind: &StorageKind) -> Vec<(usize, String, Option<String>)> {
        let op_id = |key: &u64| self.now.queue.get(key)?.op_id.as_deref().map(str::to_owned);
        match kind {
            StorageKind::FoldQueue { put, remove, .. } => {
                let survivor = put.first().and_then(|(_, bytes)| own_op_id(bytes));
                remove.iter().filter_map(op_id).map(|op_id| (0, op_id, survivor.clone())).collect()
            }
            StorageKind::Enqueue { records, formers } => {
                let by = |former: &Former| records.get(former.number).and_then(|record| own_op_id(record));
                formers.iter().filter_map(|former| Some((former.number, op_id(&former.key)?, by(former)))).collect()
            }
            StorageKind::Discard { key, .. } => op_id(key).map(|op_id| (0, op_id, None)).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn apply(&mut self, steps: Vec<Step>, strict: bool) {
        for step in &steps {
            self.now.take(step.clone());
        }
        self.unflushed.push(Unflushed { steps, strict });
    }
}

impl Stores {
    fn take(&mut self, step: Step) {
        match step {
            Step::Entity(key, bytes) => put(&mut self.entities, key, bytes),
            Step::Queue(key, bytes) => {
                self.last_queue_key = self.last_queue_key.max(key);
                put(&mut self.queue, key, bytes);
            }
            Step::Replica(bytes) => self.replica = Some(bytes),
            Step::Fence(fence) => self.fence = fence,
        }
    }

    /// What a request would do, as `store_request.js` does it.
    fn plan(&self, kind: StorageKind) -> Result<(Vec<Step>, StoredValue), StorageFailure> {
        let mut steps = Vec::new();
        match kind {
            StorageKind::Enqueue { records, formers } => {
                let keys = self.enqueue(records, &formers, &mut steps);
                return Ok((steps, StoredValue::Keys(keys)));
            }
            StorageKind::UpdateQueue { fence, put, remove } => {
                self.check_fence(fence)?;
                let there = |key: &u64| self.queue.contains_key(key);
                // A write that another tab discarded meanwhile must not be sent.
                let is_wanted = |key: &u64| self.is_write(*key);
                let wanted = put.iter().map(|(key, _)| *key).filter(is_wanted);
                let keys = wanted.chain(remove.iter().copied().filter(there)).collect();
                steps.extend(
                    put.into_iter()
                        .filter(|(key, _)| is_wanted(key))
                        .map(|(key, bytes)| Step::Queue(key, Some(Queued::new(bytes)))),
                );
                steps.extend(remove.into_iter().filter(there).map(|key| Step::Queue(key, None)));
                return Ok((steps, StoredValue::Keys(keys)));
            }
            StorageKind::FoldQueue { fence, put, remove } => {
                self.check_fence(fence)?;
                let keys: Vec<u64> = put.iter().map(|(key, _)| *key).chain(remove.iter().copied()).collect();
                if !keys.iter().all(|key| self.is_write(*key)) {
                    return Ok((steps, StoredValue::Keys(Vec::new())));
                }
                steps.extend(put.into_iter().map(|(key, bytes)| Step::Queue(key, Some(Queued::new(bytes)))));
                steps.extend(remove.into_iter().map(|key| Step::Queue(key, None)));
                return Ok((steps, StoredValue::Keys(keys)));
            }
            StorageKind::Discard { key, expect, mark } => {
                let is_it = self.queue.get(&key).is_some_and(|stored| *stored.bytes == *expect || planted::is(37));
                steps.extend(is_it.then(|| Step::Queue(key, Some(Queued::new(mark)))));
                return Ok((steps, StoredValue::Keys(is_it.then_some(key).into_iter().collect())));
            }
            StorageKind::Commit { fence, expect, replica, put, delete, remove_queue } => {
                self.check_fence(fence)?;
                if self.replica.as_deref() != expect.as_deref() {
                    return Err(StorageFailure::Conflict);
                }
                steps.extend(exchange(put, delete));
                steps.push(Step::Replica(replica.into()));
                steps.extend(remove_queue.into_iter().map(|(key, _)| Step::Queue(key, None)));
            }
            StorageKind::Compact { fence, generation, put, delete } => {
                self.check_fence(fence)?;
                if self.shown_generation() != Some(generation) {
                    return Err(StorageFailure::Conflict);
                }
                steps.extend(exchange(put, delete));
            }
            StorageKind::DeleteGeneration { fence, first, last } => {
                self.check_fence(fence)?;
                steps.extend(self.entities.range(first..=last).map(|(key, _)| Step::Entity(*key, None)));
            }
            StorageKind::Quarantine { fence, key } => {
                self.check_fence(fence)?;
                steps.push(Step::Entity(key, None));
            }
        }
        Ok((steps, StoredValue::Done))
    }

    /// Nothing takes the place of what another tab sent, discarded or exchanged meanwhile.
    fn enqueue(&self, records: Vec<Vec<u8>>, formers: &[Former], steps: &mut Vec<Step>) -> Vec<u64> {
        let stands = |former: &Former| {
            let stored = self.queue.get(&former.key).map(|stored| &*stored.bytes);
            stored.is_some_and(|stored| former.expect.as_ref().map_or(!stored.starts_with(MARK), |expect| stored == *expect))
        };
        let mut keys = Vec::new();
        let mut last_key = self.last_queue_key;
        for (number, record) in records.into_iter().enumerate() {
            let replaced = formers.iter().filter(|former| former.number == number);
            if !replaced.clone().all(stands) && !planted::is(38) {
                keys.push(0);
                continue;
            }
            last_key += 1;
            keys.push(last_key);
            steps.extend(replaced.map(|former| Step::Queue(former.key, None)));
            steps.push(Step::Queue(last_key, Some(Queued::new(record))));
        }
        keys
    }

    /// Whether a record is there, and no mark of a discarded write.
    fn is_write(&self, key: u64) -> bool {
        self.queue.get(&key).is_some_and(|record| !record.is_mark())
    }

    fn check_fence(&self, fence: u64) -> Result<(), StorageFailure> {
        match self.fence {
            0 => Err(StorageFailure::Unavailable("site data was cleared".to_owned())),
            found if found == fence => Ok(()),
            _ => Err(StorageFailure::Conflict),
        }
    }

    fn shown_generation(&self) -> Option<u64> {
        let replica: serde_json::Value = serde_json::from_slice(self.replica.as_deref()?).ok()?;
        replica["generation"].as_u64()
    }

    /// Whether a write lies in the queue.
    fn holds(&self, op_id: &str) -> bool {
        self.queue.values().any(|record| record.op_id.as_deref() == Some(op_id))
    }
}

/// The op_id of a stored write.
fn own_op_id(record: &[u8]) -> Option<String> {
    let record: serde_json::Value = serde_json::from_slice(record).ok()?;
    record["intent"]["op_id"].as_str().map(str::to_owned)
}

fn exchange(put: Vec<(u64, Vec<u8>)>, delete: Vec<u64>) -> impl Iterator<Item = Step> {
    let put = put.into_iter().map(|(key, bytes)| Step::Entity(key, Some(bytes.into())));
    put.chain(delete.into_iter().map(|key| Step::Entity(key, None)))
}

fn put<T>(store: &mut BTreeMap<u64, T>, key: u64, value: Option<T>) {
    match value {
        Some(value) => drop(store.insert(key, value)),
        None => drop(store.remove(&key)),
    }
}
