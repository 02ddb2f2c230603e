//! What goes to the database, in which order, and what a failure means.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use syncline_protocol::{ErrorCode, OpId, limits};

use super::compaction::Compaction;
use super::enqueuing::Withdrawn;
use super::mirror::Departure;
use super::mutation_queue::QueuePlace;
use super::mutation_record::Mutation;
use super::replica_record::first_key;
use super::{Client, Event, Output, RequestId, StorageFailure, StorageKind, StorageRequest, StorageState, StoredValue};
use crate::planted;

/// Where things are kept.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Mode {
    #[default]
    NotOpen,
    Disk,
    /// Rows did not fit any more and stay in memory. The queue still goes to the disk: it is small, and nobody else has it.
    QueueOnly(String),
    Memory(String),
}

/// Records with their keys.
pub(super) type Records = Vec<(u64, Vec<u8>)>;

/// Rows and a new place in the stream, to be written together.
#[derive(Debug)]
struct Commit {
    put: Records,
    put_bytes: usize,
    replica: Vec<u8>,
    remove_queue: Vec<(u64, u64)>,
    /// What may be tidied away once this is on disk.
    then: Vec<StorageKind>,
}

/// What records of the queue become.
#[derive(Debug, Default)]
pub(super) struct QueueUpdate {
    put: Records,
    remove: Vec<u64>,
    /// Rejected writes that the records tell of: once these are on disk the server need not remember.
    processed: Vec<OpId>,
    /// Whether the application knows that the disk refused a part of it.
    told: bool,
}

impl QueueUpdate {
    /// Makes room for a newer word about a record: the order of requests in one transaction is nothing to rely on.
    fn forget_record(&mut self, key: u64) {
        if let Some(at) = self.put.iter().position(|(other, _)| *other == key) {
            self.put.swap_remove(at);
        }
    }
}

/// Whether records may be worth merging.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum CompactionState {
    /// Records came since the last look.
    #[default]
    Due,
    /// Nothing to merge until more records come.
    Done,
    /// A merge failed: the records stay as they are until the next start.
    Off,
}

/// What a request was for.
#[derive(Debug)]
pub(super) enum Purpose {
    Enqueue(Vec<QueuePlace>),
    Mark,
    Commit {
        replica: Vec<u8>,
        then: Vec<StorageKind>,
    },
    Compact(Box<Compaction>),
    /// Records of the queue rewritten or removed.
    Queue(QueueUpdate),
    /// A record becomes the mark of a discarded write: its key, the mark if this tab leads, and the write, if that is to be told
    /// of.
    Discard(u64, Vec<u8>, Option<Box<Mutation>>),
    /// Nothing depends on the reply.
    Tidy,
}

/// State of the storage side.
#[derive(Debug, Default)]
pub(crate) struct StorageFlow {
    mode: Mode,
    /// Whether a database is open, even when it no longer takes rows.
    has_disk: bool,
    pub(crate) fence: u64,
    /// The replica record on disk.
    written: Option<Vec<u8>>,
    /// Requests without a reply, in no order.
    requests: Vec<(RequestId, Purpose)>,
    pub(super) unstored: Vec<QueuePlace>,
    commits: Vec<Commit>,
    pub(super) enqueueing: bool,
    committing: bool,
    compaction: CompactionState,
    /// The highest number of a generation that was ever used here.
    pub(crate) last_generation: u64,
    pub(super) withdrawn: Vec<Withdrawn>,
    /// What the disk refused to change in the queue: asked again with the next change, or on the next connection.
    owed: QueueUpdate,
}

impl StorageFlow {
    pub(crate) fn is_open(&self) -> bool {
        self.mode != Mode::NotOpen
    }

    /// Whether rows go to the disk.
    pub(crate) fn takes_rows(&self) -> bool {
        self.mode == Mode::Disk
    }

    /// Whether records of the queue can be changed on disk.
    pub(crate) const fn reaches_disk(&self) -> bool {
        self.has_disk
    }

    /// Whether records came since the last look and nothing is on its way to the disk.
    pub(crate) fn may_compact(&self) -> bool {
        self.mode == Mode::Disk && self.is_idle() && self.compaction == CompactionState::Due
    }

    /// There is nothing to merge until more records come.
    pub(crate) const fn compaction_is_done(&mut self) {
        self.compaction = CompactionState::Done;
    }

    /// Records cannot be merged: they stay as they are.
    pub(crate) const fn compaction_is_off(&mut self) {
        self.compaction = CompactionState::Off;
    }

    /// Bytes of rows that wait for the disk.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.commits.iter().map(|commit| commit.put_bytes).sum()
    }

    pub(crate) fn public_state(&self) -> StorageState {
        match &self.mode {
            Mode::NotOpen => StorageState::Opening,
            Mode::Disk => StorageState::Indexeddb,
            Mode::QueueOnly(reason) | Mode::Memory(reason) => StorageState::Memory { reason: reason.clone() },
        }
    }

    pub(crate) fn open_disk(&mut self, fence: u64) {
        self.mode = Mode::Disk;
        self.has_disk = true;
        self.fence = fence;
    }

    /// Whether what is stored comes from the disk and goes there.
    pub(crate) const fn is_on_disk(&self) -> bool {
        matches!(self.mode, Mode::Disk | Mode::QueueOnly(_))
    }

    /// The replica record on disk, as far as is known.
    pub(crate) const fn written(&self) -> Option<&Vec<u8>> {
        self.written.as_ref()
    }

    pub(crate) fn is_written(&mut self, replica: Option<Vec<u8>>) {
        self.written = replica;
    }

    /// Rows are another tab's to write. Those in memory may be ahead of the disk, whose record is therefore no longer known.
    pub(crate) fn stop_leading(&mut self) {
        self.fence = 0;
        self.written = None;
        self.committing = false;
        for (_, purpose) in &mut self.requests {
            *purpose = match core::mem::replace(purpose, Purpose::Tidy) {
                kept @ (Purpose::Enqueue(_) | Purpose::Discard(..)) => kept,
                // Whoever leads reads what became of it.
                Purpose::Mark | Purpose::Queue(_) | Purpose::Commit { .. } | Purpose::Compact(_) | Purpose::Tidy => Purpose::Tidy,
            };
        }
        self.commits.clear();
        self.owed = QueueUpdate::default();
    }

    /// Whether nothing is on its way to the disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.commits.is_empty() && self.unstored.is_empty()
    }

    /// Nothing goes to the disk any more.
    pub(crate) const fn leave_disk(&mut self) {
        self.has_disk = false;
    }

    pub(crate) fn open_memory(&mut self, reason: String) {
        self.mode = Mode::Memory(reason);
        self.fence = 0;
    }

    pub(crate) fn note_mark(&mut self, request: RequestId) {
        self.requests.push((request, Purpose::Mark));
    }

    pub(crate) fn add_unstored(&mut self, place: QueuePlace) {
        self.unstored.push(place);
    }
}

impl Client {
    pub(super) fn request_as(&mut self, id: RequestId, kind: StorageKind) {
        self.outputs.push(Output::Store(StorageRequest { id, kind }));
    }

    pub(super) fn request(&mut self, purpose: Purpose, kind: StorageKind) {
        let id = self.request_id();
        self.storage.requests.push((id, purpose));
        self.request_as(id, kind);
    }

    /// Queues rows, removals and the replica's present place to be written together. Without a database it does nothing.
    pub(super) fn queue_commit(&mut self, mut put: Records, mut remove_queue: Vec<(u64, u64)>, mut then: Vec<StorageKind>) {
        if self.storage.mode != Mode::Disk || !self.tabs.leads {
            return;
        }
        let mut put_bytes = 0;
        for (_, bytes) in &put {
            put_bytes += bytes.len();
        }
        for (key, _) in &remove_queue {
            self.record.queue_floor = self.record.queue_floor.max(*key);
        }
        let replica = self.record.encode();
        match self.storage.commits.last_mut() {
            // Large transactions make the strict ones of the queue wait.
            Some(last) if last.put_bytes + put_bytes <= limits::SEGMENT_BYTES_MAX => {
                last.put.append(&mut put);
                last.put_bytes += put_bytes;
                last.replica = replica;
                last.remove_queue.append(&mut remove_queue);
                last.then.append(&mut then);
            }
            Some(_) | None => self.storage.commits.push(Commit { put, put_bytes, replica, remove_queue, then }),
        }
    }

    /// Stores what became of a write in the queue, and whether that was its end.
    pub(super) fn store_state(&mut self, key: u64, record: Vec<u8>, ended: Option<OpId>) {
        self.storage.owed.forget_record(key);
        self.storage.owed.put.push((key, record));
        self.storage.owed.processed.extend(ended);
        self.repeat_queue_update();
    }

    /// Removes records of the queue.
    pub(super) fn remove_from_queue(&mut self, keys: &[u64]) {
        for key in keys {
            self.storage.owed.forget_record(*key);
        }
        self.storage.owed.remove.extend_from_slice(keys);
        self.repeat_queue_update();
    }

    /// Asks for what is to change in the queue, and again for what the disk refused to change.
    pub(super) fn repeat_queue_update(&mut self) {
        let update = core::mem::take(&mut self.storage.owed);
        // What becomes of other records is the leader's to say.
        if self.storage.has_disk && self.tabs.leads && !(update.put.is_empty() && update.remove.is_empty()) {
            let fence = self.storage.fence;
            let (put, remove) = (update.put.clone(), update.remove.clone());
            self.request(Purpose::Queue(update), StorageKind::UpdateQueue { fence, put, remove });
        }
    }

    /// Puts the mark of a discarded write in the place of a record. A tab that does not lead does so only if the record is
    /// still this one: the leader may be sending the write. So may a newer leader of which this one has not heard: the
    /// application is told when the disk took the mark.
    pub(super) fn discard_record(&mut self, key: u64, expect: Vec<u8>, mut mark: Vec<u8>, told: Option<&Mutation>) {
        self.left_queue(Some(key));
        let told = told.map(|mutation| Box::new(mutation.clone()));
        let kind = if self.tabs.leads {
            self.storage.owed.forget_record(key);
            if !self.storage.has_disk {
                return self.tell_discarded(told);
            }
            StorageKind::UpdateQueue { fence: self.storage.fence, put: vec![(key, mark.clone())], remove: Vec::new() }
        } else {
            StorageKind::Discard { key, expect, mark: core::mem::take(&mut mark) }
        };
        self.request(Purpose::Discard(key, mark, told), kind);
        self.repeat_queue_update();
    }

    /// Only now it is known whether a write was discarded: it may have been sent, or another tab may have discarded it too, or
    /// put something in its place.
    fn discarded(&mut self, key: u64, mark: Vec<u8>, told: Option<Box<Mutation>>, result: &Result<StoredValue, StorageFailure>) {
        if let Err(failure) = result
            && *failure != StorageFailure::Conflict
            && self.tabs.leads
            && !mark.is_empty()
        {
            self.tell_discarded(told);
            // What was refused before it must not be put over the mark.
            self.storage.owed.forget_record(key);
            return self.queue_update_failed(QueueUpdate { put: vec![(key, mark)], ..QueueUpdate::default() }, failure);
        }
        let mut dirty = told.map(|mutation| self.put_back(mutation)).unwrap_or_default();
        if let Err(failure) = result {
            self.degrade(failure);
        }
        if matches!(result, Ok(StoredValue::Keys(keys)) if keys.contains(&key)) {
            self.record_is_gone(key, Departure::Removed, &mut dirty);
        } else {
            self.stays_on_disk(key);
        }
        self.refresh_rows(&dirty);
    }

    /// A record that was to leave the disk is still there, or somebody else removed it.
    pub(super) fn stays_on_disk(&mut self, key: u64) {
        self.tabs.mirror.is_back(key);
        self.read_storage();
    }

    /// The disk did not take a change of the queue: without it a reload brings the former state back.
    fn queue_update_failed(&mut self, mut update: QueueUpdate, failure: &StorageFailure) {
        self.degrade(failure);
        if *failure == StorageFailure::Conflict {
            // The tab that took the replica over decides about its records.
            return;
        }
        if !core::mem::replace(&mut update.told, true) {
            self.tell_of_revenants(failure);
        }
        let owed = &mut self.storage.owed;
        update.put.append(&mut owed.put);
        update.remove.append(&mut owed.remove);
        update.processed.append(&mut owed.processed);
        *owed = update;
    }

    pub(super) fn tell_of_revenants(&mut self, failure: &StorageFailure) {
        let (code, reason) = explain(failure);
        let message = ["a write that failed, was edited or discarded may come back after a reload: ", &reason].concat();
        self.notify(Event::Problem { code, message });
    }

    fn tell_discarded(&mut self, discarded: Option<Box<Mutation>>) {
        if let Some(mutation) = discarded {
            self.notify(Event::MutationRemoved { op_id: mutation.intent.op_id });
        }
    }

    /// Asks for something that nothing depends on.
    pub(super) fn tidy(&mut self, kinds: Vec<StorageKind>) {
        for kind in kinds {
            self.request(Purpose::Tidy, kind);
        }
    }

    /// What deletes every record of a generation.
    pub(super) fn without_generation(&self, generation: u64) -> StorageKind {
        let first = first_key(generation);
        StorageKind::DeleteGeneration { fence: self.storage.fence, first, last: first + u64::from(u32::MAX) }
    }

    /// Makes requests of what waits: all new writes in one, rows in another, compaction when nothing else is on.
    pub(super) fn pump_storage(&mut self) {
        match self.storage.mode {
            Mode::NotOpen => {}
            Mode::Memory(_) => self.keep_in_memory(),
            Mode::QueueOnly(_) => self.pump_enqueue(),
            Mode::Disk => {
                self.pump_enqueue();
                self.pump_commit();
                self.pump_compaction();
            }
        }
    }

    /// Gives every write to the database now: after this nothing is asked of it any more.
    pub(super) fn flush_writes(&mut self) {
        self.storage.enqueueing = false;
        self.pump_storage();
    }

    /// After the end: what was promised to the database still goes there, one request after the other; nothing is tidied.
    pub(super) fn flush_storage(&mut self) {
        if matches!(self.storage.mode, Mode::Disk | Mode::QueueOnly(_)) {
            self.pump_enqueue();
            self.pump_commit();
        }
    }

    fn pump_commit(&mut self) {
        if self.storage.committing || self.storage.commits.is_empty() {
            return;
        }
        self.storage.committing = true;
        let Commit { mut put, replica, remove_queue, then, .. } = self.storage.commits.remove(0);
        if planted::is(1) {
            put.clear();
        }
        let (fence, expect) = (self.storage.fence, self.storage.written.clone());
        self.request(
            Purpose::Commit { replica: replica.clone(), then },
            StorageKind::Commit { fence, expect, replica, put, delete: Vec::new(), remove_queue },
        );
    }

    pub(super) fn request_compaction(&mut self, compaction: Compaction, put: Records, delete: Vec<u64>) {
        let (fence, generation) = (self.storage.fence, self.base.number);
        self.request(Purpose::Compact(Box::new(compaction)), StorageKind::Compact { fence, generation, put, delete });
    }

    /// A reply came. Unknown ids are late or repeated ones.
    pub(super) fn stored(&mut self, request: RequestId, result: Result<StoredValue, StorageFailure>) {
        let Some(at) = self.storage.requests.iter().position(|(id, _)| *id == request) else { return };
        match self.storage.requests.swap_remove(at).1 {
            Purpose::Enqueue(places) => self.enqueued(&places, result),
            Purpose::Mark => self.batch_marked(request, result),
            Purpose::Commit { replica, then } => {
                self.storage.committing = false;
                match result {
                    Ok(_) => self.committed(replica, then),
                    Err(_) if planted::is(5) => self.committed(replica, then),
                    Err(StorageFailure::Full) => self.degrade_to(Mode::QueueOnly, &StorageFailure::Full),
                    Err(failure) => self.degrade(&failure),
                }
            }
            Purpose::Compact(compaction) => match result {
                Ok(_) => self.compacted(*compaction),
                Err(StorageFailure::Conflict) => self.degrade(&StorageFailure::Conflict),
                Err(_) => self.storage.compaction_is_off(),
            },
            Purpose::Queue(update) => match result {
                Ok(_) => self.push.report_processed(update.processed),
                Err(failure) => self.queue_update_failed(update, &failure),
            },
            Purpose::Discard(key, mark, told) => self.discarded(key, mark, told, &result),
            Purpose::Tidy => {}
        }
    }

    fn committed(&mut self, replica: Vec<u8>, then: Vec<StorageKind>) {
        self.storage.written = Some(replica);
        if self.storage.compaction == CompactionState::Done {
            self.storage.compaction = CompactionState::Due;
        }
        self.tidy(then);
    }

    /// The database no longer takes what it should: go on in memory and say so. Nothing that was written is dropped.
    pub(super) fn degrade(&mut self, failure: &StorageFailure) {
        self.degrade_to(Mode::Memory, failure);
    }

    fn degrade_to(&mut self, mode: fn(String) -> Mode, failure: &StorageFailure) {
        if *failure == StorageFailure::Conflict {
            // Another tab leads: the disk is as good as before.
            return self.follow();
        }
        if matches!(self.storage.mode, Mode::Memory(_)) {
            return;
        }
        let (code, reason) = explain(failure);
        self.storage.mode = mode(reason.clone());
        self.storage.commits.clear();
        self.notify(Event::Problem { code, message: reason });
        self.lead_alone();
    }
}

/// The code and the sentence for a failure.
pub(crate) fn explain(failure: &StorageFailure) -> (ErrorCode, String) {
    match failure {
        StorageFailure::Conflict => (ErrorCode::StorageUnavailable, "another tab or window writes this database".to_owned()),
        StorageFailure::Full => (ErrorCode::StorageFull, "the browser's quota is used up".to_owned()),
        StorageFailure::Unavailable(reason) => (ErrorCode::StorageUnavailable, reason.clone()),
        StorageFailure::Outdated => {
            (ErrorCode::ReloadRequired, "another tab runs a newer version, or deleted the database; reload this one".to_owned())
        }
        StorageFailure::TooNew => (ErrorCode::StorageTooNew, "the database was written by a newer version".to_owned()),
        StorageFailure::Corrupt(reason) => (ErrorCode::StorageCorrupt, reason.clone()),
    }
}
