//! How writes of the application get to the disk: all that wait in one transaction, each in place of those it stands for.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::{ErrorCode, ErrorDetail};

use super::mirror::Departure;
use super::mutation_queue::QueuePlace;
use super::mutation_record::{Durability, Mutation, Record, is_unsent};
use super::storage_flow::{Purpose, StorageFlow};
use super::{Client, EntityIndex, Event, Former, StorageFailure, StorageKind, StoredValue};
use crate::planted;

/// A write that was taken out of the queue while its record was under way to the disk.
#[derive(Debug)]
pub(super) struct Withdrawn {
    place: QueuePlace,
    /// What stands for it.
    by: Option<QueuePlace>,
    /// Where its record lies, once it has arrived; it goes when that of what stands for it is there too.
    key: u64,
    record: Vec<u8>,
    /// What its record becomes when nothing stands for it.
    mark: Vec<u8>,
    /// The records that go when its own arrives.
    replaces: Vec<u64>,
}

impl StorageFlow {
    pub(crate) fn note_withdrawn(&mut self, place: QueuePlace, mutation: &Mutation) {
        let replaces = mutation.replaces.iter().map(|(key, _)| *key).collect();
        self.withdrawn.push(Withdrawn { place, by: None, key: 0, record: mutation.record(), mark: mutation.mark(), replaces });
    }

    /// Whether this is a record on its way to the disk that is not wanted any more.
    pub(crate) fn is_withdrawn(&self, record: &[u8]) -> bool {
        self.withdrawn.iter().any(|withdrawn| withdrawn.record == record)
    }

    /// One write stands for another: a record that is under way for that one stays until this one is on disk.
    pub(crate) fn note_superseded(&mut self, place: QueuePlace, by: QueuePlace) {
        for withdrawn in &mut self.withdrawn {
            if (withdrawn.place == place || withdrawn.by == Some(place)) && !planted::is(11) {
                withdrawn.by = Some(by);
            }
        }
    }
}

impl Client {
    pub(super) fn keep_in_memory(&mut self) {
        for place in core::mem::take(&mut self.storage.unstored) {
            self.durable(place, Durability::MemoryOnly);
        }
    }

    fn durable(&mut self, place: QueuePlace, durability: Durability) {
        if self.queue.set_durability(place, durability) {
            let rows = self.rows_of(place);
            self.refresh_rows(&rows);
        }
        let Some(op_id) = self.queue.get(place).map(|mutation| mutation.intent.op_id.clone()) else { return };
        self.notify(Event::MutationDurable { op_id });
        self.write_is_ready();
    }

    pub(super) fn pump_enqueue(&mut self) {
        if self.storage.enqueueing || self.storage.unstored.is_empty() {
            return;
        }
        let (mut records, mut formers, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let leads = self.tabs.leads;
        for place in core::mem::take(&mut self.storage.unstored) {
            let Some(mutation) = self.queue.get_mut(place) else { continue };
            mutation.durability = Durability::Storing;
            for (key, record) in &mutation.replaces {
                // Who leads knows what became of a record, which the disk may have refused to keep; the others may not have heard.
                // But of what was not sent a newer leader can know more, of which this one may not have heard either.
                let expect = (!leads || is_unsent(record)).then(|| record.clone());
                formers.push(Former { number: records.len(), key: *key, expect });
            }
            records.push(mutation.record());
            places.push(place);
        }
        if !places.is_empty() {
            self.storage.enqueueing = true;
            if planted::is(12) {
                self.enqueued(&places, Ok(StoredValue::Keys((1..).take(places.len()).collect())));
            }
            self.request(Purpose::Enqueue(places), StorageKind::Enqueue { records, formers });
        }
    }

    pub(super) fn enqueued(&mut self, places: &[QueuePlace], result: Result<StoredValue, StorageFailure>) {
        self.storage.enqueueing = false;
        match result {
            Ok(StoredValue::Keys(keys)) if keys.len() == places.len() => {
                let mut dirty = Vec::new();
                for (place, key) in places.iter().zip(keys) {
                    if self.queue.get(*place).is_none() {
                        self.withdrawn_stored(*place, key);
                    } else if key == 0 {
                        self.came_too_late(*place);
                    } else {
                        self.is_stored(*place, key, &mut dirty);
                    }
                }
                self.refresh_rows(&dirty);
            }
            result => {
                let failure = result.err().unwrap_or_else(|| StorageFailure::Corrupt("keys are missing".to_owned()));
                for place in places {
                    if self.queue.get(*place).is_none() {
                        self.withdrawn_stored(*place, 0);
                    }
                }
                self.degrade(&failure);
                let replaces = |place: &QueuePlace| self.queue.get(*place).is_some_and(|write| !write.replaces.is_empty());
                if places.iter().any(replaces) {
                    self.tell_of_revenants(&failure);
                }
                if self.link.is_over() {
                    for place in places {
                        self.lose(*place, ErrorCode::NotStarted, "the engine was stopped before the write was on disk");
                    }
                    return;
                }
                for place in places {
                    self.durable(*place, Durability::MemoryOnly);
                }
            }
        }
    }

    fn is_stored(&mut self, place: QueuePlace, key: u64, dirty: &mut Vec<(EntityIndex, String)>) {
        let replaced = self.queue.get_mut(place).map(|mutation| core::mem::take(&mut mutation.replaces)).unwrap_or_default();
        self.durable(place, Durability::Stored(key));
        // It may have failed while it was on its way to the disk.
        self.store_failure(place);
        for (key, _) in replaced {
            // The disk may have been read before.
            self.record_is_gone(key, Departure::Removed, dirty);
        }
        let goes = |withdrawn: &Withdrawn| withdrawn.by == Some(place) && withdrawn.key > 0;
        while let Some(at) = self.storage.withdrawn.iter().position(goes) {
            let Withdrawn { key, record, mark, .. } = self.storage.withdrawn.swap_remove(at);
            self.discard_record(key, record, mark, None);
        }
        if let Some(how) = self.departure(key) {
            // Another tab found it on the disk and was faster.
            self.record_is_gone(key, how, dirty);
        }
    }

    /// The record of a write arrived that was taken out of the queue meanwhile.
    fn withdrawn_stored(&mut self, place: QueuePlace, key: u64) {
        let Some(at) = self.storage.withdrawn.iter().position(|withdrawn| withdrawn.place == place) else { return };
        let mut withdrawn = self.storage.withdrawn.swap_remove(at);
        let Withdrawn { by, ref record, .. } = withdrawn;
        let discarded = match Mutation::decode(key, record) {
            Ok(Record::Write(mutation)) if by.is_none() => Some(mutation),
            _ => None,
        };
        if key == 0 {
            // What stands for it finds the same.
            if let Some(mutation) = discarded {
                self.notify(Event::MutationRemoved { op_id: mutation.intent.op_id });
            }
            return;
        }
        // The disk may have been read before it leaves it.
        self.left_queue(Some(key));
        match by.and_then(|by| self.queue.get_mut(by)) {
            Some(by) if matches!(by.durability, Durability::Unstored | Durability::MemoryOnly) => {
                by.replaces.retain(|(key, _)| !withdrawn.replaces.contains(key));
                by.replaces.push((key, withdrawn.record));
            }
            // One that is under way itself, because the engine stops, does not take this record along: it goes afterwards, or
            // others would hear that it is discarded before they know of the other one.
            Some(by) if by.durability == Durability::Storing => {
                withdrawn.key = key;
                self.storage.withdrawn.push(withdrawn);
            }
            _ => self.discard_record(key, withdrawn.record, withdrawn.mark, discarded.as_deref()),
        }
    }

    /// Another tab was faster: what this write was to take the place of was sent, discarded, or something else stands for it. That
    /// one counts again, and the disk says what became of it.
    fn came_too_late(&mut self, place: QueuePlace) {
        let mut dirty = Vec::new();
        let Some(mutation) = self.leaves(place, &mut dirty) else { return };
        let op_id = mutation.intent.op_id;
        let mut former = None;
        for (key, record) in mutation.replaces {
            self.stays_on_disk(key);
            if let Ok(Record::Write(write)) = Mutation::decode(key, &record) {
                former = Some(write.intent.op_id.clone());
                dirty.append(&mut self.put_back(write));
            }
        }
        self.refresh_rows(&dirty);
        let message = "another tab was faster: the write was sent, discarded, edited or tried again";
        self.notify(match former {
            Some(by) => Event::MutationReplaced { op_id, by },
            None => Event::MutationLost { op_id, error: ErrorDetail::new(ErrorCode::NotSupported, message) },
        });
    }

    /// A write is in the queue again as it was; gives the rows to be looked at.
    pub(super) fn put_back(&mut self, mut mutation: Box<Mutation>) -> Vec<(EntityIndex, String)> {
        mutation.aside = false;
        self.queue.push(mutation).map(|place| self.overlay_insert(place)).unwrap_or_default()
    }

    /// Rolls writes back that are not on disk and never will be.
    pub(super) fn lose_unstored(&mut self, code: ErrorCode, message: &str) {
        for durability in [Durability::Unstored, Durability::MemoryOnly] {
            for place in self.queue.places(&|mutation| mutation.durability == durability) {
                self.lose(place, code, message);
            }
        }
        self.storage.unstored.clear();
    }

    /// The end: open writes that are only in memory end with it, and the application is told.
    pub(super) fn lose_memory_only(&mut self) {
        for place in self.queue.places(&|mutation| mutation.durability == Durability::MemoryOnly && mutation.state.is_open()) {
            self.lose(place, ErrorCode::NotStarted, "the engine was stopped and these writes were only in memory");
        }
    }

    fn lose(&mut self, place: QueuePlace, code: ErrorCode, message: &str) {
        let mut rows = Vec::new();
        let Some(mutation) = self.leaves(place, &mut rows) else { return };
        self.refresh_rows(&rows);
        if mutation.state.is_open() {
            self.notify(Event::MutationLost { op_id: mutation.intent.op_id, error: ErrorDetail::new(code, message) });
        }
    }
}
