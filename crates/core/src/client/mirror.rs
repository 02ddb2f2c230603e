//! Memory as a mirror of the disk: what other tabs stored is done in memory too, and what does not fit is read again.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::OpId;

use super::mutation_record::{Mutation, MutationRecordError, MutationState, Record, is_mark};
use super::names::EntityIndex;
use super::replica_record::{ReplicaRecord, first_key};
use super::segment::read_segment;
use super::storage_flow::Records;
use super::{Client, Event, Former, Output, StorageFailure, StorageKind};
use crate::planted;

/// Transactions heard of while the disk is being read; with more, it is read again.
const HEARD_MAX: usize = 256;
/// Removed records that are remembered.
const GONE_MAX: usize = 1_000;

/// How a write left the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// The server applied it; the rows contain it from this seq on.
    Applied(u64),
    /// It was discarded, or another write stands for it.
    Removed,
    /// It was to be removed, which the disk may have refused.
    Leaving,
}

/// A reading of the disk under way.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// The keys of the queue when it began: those that are not found have left meanwhile.
    known: Vec<u64>,
    /// What the other tabs did meanwhile.
    heard: Vec<(StorageKind, Vec<u64>)>,
    /// Whether it must be followed by another.
    again: bool,
}

/// What is known of the disk besides its contents.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) reading: Option<Reading>,
    /// The fence that the disk held when it was read last.
    pub(crate) read_fence: u64,
    /// What was not found then although its key is not above this one was applied before.
    pub(crate) read_floor: u64,
    /// Readings without an answer. Only the last one's counts.
    awaited: u32,
    /// Another tab did something of which this one has not heard.
    has_gap: bool,
    /// Records that left the queue: a late word about one must not bring it back.
    gone: Vec<(u64, Departure)>,
    /// Whether some of them may have stayed on the disk.
    is_doubted: bool,
}

impl Mirror {
    pub(crate) const fn new() -> Self {
        Self { reading: None, read_fence: 0, read_floor: 0, awaited: 0, has_gap: false, gone: Vec::new(), is_doubted: false }
    }

    fn departure(&self, key: u64) -> Option<Departure> {
        self.gone.iter().find(|(gone, _)| *gone == key && !planted::is(41)).map(|(_, how)| *how)
    }

    pub(crate) fn is_gone(&mut self, key: u64, how: Departure) {
        if let Some((_, known)) = self.gone.iter_mut().find(|(gone, _)| *gone == key) {
            if *known == Departure::Leaving {
                *known = how;
            }
            return;
        }
        if self.gone.len() == GONE_MAX {
            self.gone.remove(0);
        }
        self.gone.push((key, how));
    }

    /// What is being read does not count, and what was to leave the disk may have stayed.
    pub(crate) fn doubt(&mut self) {
        self.reading = None;
        self.has_gap = false;
        self.is_doubted = true;
    }

    /// These are the records on the disk, by their keys in ascending order.
    pub(crate) fn are_found(&mut self, keys: &[u64]) {
        if core::mem::replace(&mut self.is_doubted, false) {
            self.gone.retain(|(gone, _)| keys.binary_search(gone).is_err());
        }
    }

    /// A reading was answered; says whether it was the last one.
    pub(crate) const fn is_answered(&mut self) -> bool {
        self.awaited = self.awaited.saturating_sub(1);
        self.awaited == 0
    }

    /// The disk kept a record that was to be discarded.
    pub(crate) fn is_back(&mut self, key: u64) {
        self.gone.retain(|(gone, _)| *gone != key);
    }
}

impl Client {
    /// Another tab carried out a storage request.
    pub(super) fn stored_elsewhere(&mut self, kind: StorageKind, keys: Vec<u64>) {
        match &mut self.tabs.mirror.reading {
            Some(_) if planted::is(44) => {}
            Some(reading) if reading.heard.len() < HEARD_MAX => reading.heard.push((kind, keys)),
            Some(reading) => reading.again = true,
            None => {
                if !self.mirror(kind, &keys) {
                    self.read_storage();
                }
            }
        }
    }

    /// Has the disk read again.
    pub(super) fn read_storage(&mut self) {
        if let Some(reading) = &mut self.tabs.mirror.reading {
            reading.again = true;
            return;
        }
        let known = self.queue.keys();
        self.tabs.mirror.reading = Some(Reading { known, ..Reading::default() });
        let known = self.storage.written().cloned();
        self.tabs.mirror.awaited += 1;
        self.outputs.push(Output::ReadStorage { known });
    }

    /// The disk was read: what was heard meanwhile follows.
    pub(super) fn read_ended(&mut self) {
        let Some(reading) = self.tabs.mirror.reading.take() else { return };
        // A record that was added and removed while the disk was read must not come back with the word that it was added.
        for (kind, keys) in &reading.heard {
            self.note_gone(kind, keys);
        }
        let mut fits = true;
        for (kind, keys) in reading.heard {
            // What the reading contains already does not fit any more; what comes after it does.
            let is_commit = matches!(kind, StorageKind::Commit { .. });
            let fitted = self.mirror(kind, &keys);
            fits = if is_commit { fitted } else { fits };
        }
        if reading.again || !fits {
            self.read_storage();
        } else {
            self.tabs.mirror.has_gap = false;
        }
    }

    /// Another tab did something that this one has not heard of: nothing is sent before the disk was read.
    pub(super) fn misses_something(&mut self) {
        self.tabs.mirror.has_gap = true;
        self.read_storage();
    }

    /// Whether another tab wrote what this one has not heard of, and will read.
    pub(super) const fn misses_writes(&self) -> bool {
        self.tabs.mirror.has_gap && self.storage.is_on_disk()
    }

    fn note_gone(&mut self, kind: &StorageKind, keys: &[u64]) {
        let (mut removed, mut applied) = (Vec::new(), [].as_slice());
        match kind {
            StorageKind::Enqueue { formers, .. } => {
                removed = gone_formers(formers, keys).into_iter().map(|(former, _)| former).collect();
            }
            StorageKind::UpdateQueue { remove, .. } | StorageKind::FoldQueue { remove, .. } => removed.clone_from(remove),
            StorageKind::Discard { .. } => removed = keys.to_vec(),
            StorageKind::Commit { remove_queue, .. } => applied = remove_queue,
            StorageKind::Compact { .. } | StorageKind::DeleteGeneration { .. } | StorageKind::Quarantine { .. } => return,
        }
        let gone = removed
            .iter()
            .map(|key| (*key, Departure::Removed))
            .chain(applied.iter().map(|(key, seq)| (*key, Departure::Applied(*seq))));
        for (key, how) in gone {
            if self.queue.find_key(key).is_none() {
                self.tabs.mirror.is_gone(key, how);
            }
        }
    }

    /// The keys of the queue when the reading began.
    pub(super) fn known_when_read(&mut self) -> Vec<u64> {
        self.tabs.mirror.reading.as_mut().map(|reading| core::mem::take(&mut reading.known)).unwrap_or_default()
    }

    /// Does in memory what another tab did on disk; says whether it fits.
    fn mirror(&mut self, kind: StorageKind, keys: &[u64]) -> bool {
        match kind {
            StorageKind::Enqueue { records, formers } => {
                // What is known already may have got further since. What was not added has no key.
                let is_new = |(key, _): &(u64, Vec<u8>)| {
                    *key != 0 && self.queue.find_key(*key).is_none() && self.departure(*key).is_none()
                };
                let records = keys.iter().copied().zip(records).filter(is_new).collect();
                self.take_records(records);
                let mut dirty = Vec::new();
                for (former, key) in gone_formers(&formers, keys) {
                    if let Some(by) = self.queue.find_key(key).and_then(|place| self.queue.get(place)).cloned() {
                        self.replace_formers(&by, &mut dirty);
                    }
                    // What took its place may have been applied already.
                    let how = self.departure(key).unwrap_or(Departure::Removed);
                    self.record_is_gone(former, how, &mut dirty);
                }
                self.refresh_rows(&dirty);
                self.write_is_ready();
            }
            StorageKind::UpdateQueue { fence, mut put, remove } => {
                if self.is_deposed_by(fence) {
                    // What is gone is gone for ever, however late the word.
                    put.retain(|(_, record)| is_mark(record));
                }
                self.rewrite_records(put, &remove);
            }
            // Nothing was stored when a record was missing.
            StorageKind::FoldQueue { .. } if keys.is_empty() => {}
            StorageKind::FoldQueue { fence, mut put, remove } => {
                if self.is_deposed_by(fence) {
                    put.clear();
                }
                self.fold_records(put, &remove);
            }
            StorageKind::Discard { .. } => self.forget_records(keys),
            StorageKind::Commit { fence, expect, replica, put, delete, remove_queue } => {
                if self.is_deposed_by(fence) {
                    return true;
                }
                return self.mirror_commit(expect.as_deref(), replica, put, &delete, &remove_queue);
            }
            StorageKind::Compact { fence, generation, put, delete } => {
                if !self.is_deposed_by(fence) && generation == self.base.number {
                    let mut run = delete;
                    let mut merged = None;
                    for (key, bytes) in put {
                        run.push(key);
                        merged = Some(bytes);
                    }
                    self.base.replace_run(&mut self.names, &run, merged);
                }
            }
            StorageKind::DeleteGeneration { .. } | StorageKind::Quarantine { .. } => {}
        }
        true
    }

    fn mirror_commit(
        &mut self,
        expect: Option<&[u8]>,
        replica: Vec<u8>,
        put: Records,
        delete: &[u64],
        remove_queue: &[(u64, u64)],
    ) -> bool {
        let written = self.storage.written().map(Vec::as_slice);
        if written == Some(&replica) && written != expect {
            // It was read from the disk before its word came; so may have been an earlier word about its writes.
            self.leave_applied(remove_queue, Vec::new());
            return true;
        }
        let Ok(record) = ReplicaRecord::decode(&replica) else { return false };
        if (written != expect && !planted::is(40)) || record.shown.generation != self.base.number || !delete.is_empty() {
            return false;
        }
        let first = first_key(self.base.number);
        let version = self.log.advance();
        let mut changes = Vec::new();
        for (key, bytes) in put {
            // Records of a snapshot under way are read from the disk when it is shown.
            if (first..first_key(self.base.number + 1)).contains(&key) {
                let Ok(head) = read_segment(&bytes) else { return false };
                self.base.add_segment(&mut self.names, key, bytes, head, version, Some(&mut changes));
            }
        }
        self.record = record;
        self.storage.is_written(Some(replica));
        let dirty = self.base_changed(changes);
        self.leave_applied(remove_queue, dirty);
        self.tell_followed();
        true
    }

    fn leave_applied(&mut self, applied: &[(u64, u64)], mut dirty: Vec<(EntityIndex, String)>) {
        for (key, seq) in applied {
            self.record_is_gone(*key, Departure::Applied(*seq), &mut dirty);
        }
        self.refresh_rows(&dirty);
    }

    /// Records that another tab, or an earlier life of this one, added to the queue.
    pub(super) fn take_records(&mut self, records: Records) {
        let mut dirty = Vec::new();
        for (key, bytes) in records {
            match Mutation::decode(key, &bytes) {
                Ok(Record::Write(mutation)) => self.take_mutation(*mutation, &mut dirty),
                Ok(Record::Discarded(stood_for)) => self.mark_found(key, &stood_for, &mut dirty),
                Err(MutationRecordError::TooNew) => self.degrade(&StorageFailure::TooNew),
                Err(MutationRecordError::Corrupt) => {}
            }
        }
        self.refresh_rows(&dirty);
    }

    /// The mark of a discarded write, which stood for others.
    pub(super) fn mark_found(&mut self, key: u64, stood_for: &[OpId], dirty: &mut Vec<(EntityIndex, String)>) {
        self.record_is_gone(key, Departure::Removed, dirty);
        for op_id in stood_for {
            let former = self.queue.find(op_id);
            if let Some(key) = former.and_then(|place| self.queue.get(place)).and_then(Mutation::key) {
                self.record_is_gone(key, Departure::Removed, dirty);
            }
        }
    }

    /// Takes a write as it lies on disk: a new one, or another state of one that is known.
    pub(super) fn take_mutation(&mut self, mutation: Mutation, dirty: &mut Vec<(EntityIndex, String)>) {
        self.replace_formers(&mutation, dirty);
        let Some(place) = self.queue.find(&mutation.intent.op_id) else {
            let op_id = mutation.intent.op_id.clone();
            // The word of it may come after the one of what took its place.
            let is_replaced = || !self.queue.places(&|other| other.stands_for.contains(&op_id)).is_empty();
            if mutation.key().and_then(|key| self.tabs.mirror.departure(key)).is_none()
                && !(self.storage.is_open() && is_replaced())
                && let Some(place) = self.queue.push(Box::new(mutation))
            {
                dirty.append(&mut self.overlay_insert(place));
                if self.storage.is_open() {
                    self.notify(Event::MutationQueued { op_id });
                }
            }
            return;
        };
        let Some(known) = self.queue.get(place).filter(|known| known.key() == mutation.key()) else { return };
        if known.text != mutation.text || known.stands_for != mutation.stands_for {
            dirty.append(&mut self.rows_of(place));
            self.overlay_forget(place);
            self.queue.rewrite(place, mutation.intent, mutation.text);
            if let Some(known) = self.queue.get_mut(place) {
                known.stands_for = mutation.stands_for;
            }
            dirty.append(&mut self.overlay_insert(place));
        }
        let op_id = match self.queue.get(place) {
            // Nothing but another reason follows upon a failure, so an open write is an older word.
            Some(known) if known.state != mutation.state && (known.state.is_open() || !mutation.state.is_open()) => {
                known.intent.op_id.clone()
            }
            Some(_) | None => return,
        };
        if let Some(known) = self.queue.get_mut(place) {
            known.first_sent_at = mutation.first_sent_at;
        }
        dirty.append(&mut self.rows_of(place));
        self.queue.set_state(place, mutation.state.clone());
        match mutation.state {
            MutationState::Sent => self.notify(Event::MutationSent { op_id }),
            MutationState::Failed(error) => self.notify(Event::MutationFailed { op_id, error }),
            MutationState::Pending | MutationState::Applied(_) => {}
        }
    }

    /// The leader made one write of several; without one they came to nothing.
    fn fold_records(&mut self, put: Records, remove: &[u64]) {
        let survivor = put.first().and_then(|(key, _)| self.queue.find_key(*key)).and_then(|place| self.queue.get(place));
        let by = survivor.map(|mutation| mutation.intent.op_id.clone());
        self.take_records(put);
        let mut dirty = Vec::new();
        for key in remove {
            let Some(place) = self.queue.find_key(*key) else {
                self.left_queue(Some(*key));
                continue;
            };
            let Some(mutation) = self.leaves(place, &mut dirty) else { continue };
            self.left_queue(Some(*key));
            let op_id = mutation.intent.op_id;
            self.notify(match &by {
                Some(by) => Event::MutationReplaced { op_id, by: by.clone() },
                None => Event::MutationConfirmed { op_id, seq: 0 },
            });
        }
        self.refresh_rows(&dirty);
    }

    fn rewrite_records(&mut self, put: Records, remove: &[u64]) {
        let known = |(key, _): &(u64, Vec<u8>)| self.queue.find_key(*key).is_some();
        let put = put.into_iter().filter(known).collect();
        self.take_records(put);
        self.forget_records(remove);
    }

    /// Records that were discarded, or that another write stands for.
    fn forget_records(&mut self, keys: &[u64]) {
        let mut dirty = Vec::new();
        for key in keys {
            self.record_is_gone(*key, Departure::Removed, &mut dirty);
        }
        self.refresh_rows(&dirty);
    }

    /// A write in whose place another tab put this one.
    fn replace_formers(&mut self, mutation: &Mutation, dirty: &mut Vec<(EntityIndex, String)>) {
        let departure = mutation.key().and_then(|key| self.tabs.mirror.departure(key));
        let departure = departure.filter(|how| *how != Departure::Leaving);
        for op_id in &mutation.stands_for {
            let Some(former) = self.queue.find(op_id) else { continue };
            if let (Some(how), Some(key)) = (departure, self.queue.get(former).and_then(Mutation::key)) {
                // The word is late: that one has left already, and took this one along.
                self.record_is_gone(key, how, dirty);
                continue;
            }
            let Some(former) = self.leaves(former, dirty) else { continue };
            self.left_queue(former.key());
            self.notify(Event::MutationReplaced { op_id: former.intent.op_id, by: mutation.intent.op_id.clone() });
        }
    }

    /// How a record that is not here left the queue; `None` for one that was never here.
    pub(super) fn departure(&self, key: u64) -> Option<Departure> {
        let applied = (key <= self.tabs.mirror.read_floor).then_some(Departure::Applied(self.record.shown.seq));
        self.tabs.mirror.departure(key).or(applied)
    }

    /// A record is to leave the disk, which may be read meanwhile.
    pub(super) fn left_queue(&mut self, key: Option<u64>) {
        if let Some(key) = key {
            self.tabs.mirror.is_gone(key, Departure::Leaving);
        }
    }

    /// A record left the disk.
    pub(super) fn record_is_gone(&mut self, key: u64, how: Departure, dirty: &mut Vec<(EntityIndex, String)>) {
        self.tabs.mirror.is_gone(key, how);
        let Some(place) = self.queue.find_key(key) else { return };
        let Some(mutation) = self.leaves(place, dirty) else { return };
        let op_id = mutation.intent.op_id;
        match how {
            Departure::Applied(_) if matches!(mutation.state, MutationState::Applied(_)) => {}
            Departure::Applied(seq) => self.notify(Event::MutationConfirmed { op_id, seq }),
            Departure::Removed | Departure::Leaving => self.notify(Event::MutationRemoved { op_id }),
        }
    }
}

/// The records that others took the place of, each with the key of that one.
fn gone_formers(formers: &[Former], keys: &[u64]) -> Vec<(u64, u64)> {
    let by = |former: &Former| keys.get(former.number).filter(|key| **key != 0).map(|key| (former.key, *key));
    formers.iter().filter_map(by).collect()
}
