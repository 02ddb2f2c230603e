//! Makes one write of several that change one row and were not sent. The earliest keeps its place and its op_id.
//!
//! Only neighbours in the queue are folded, and only when nothing else depends on what goes: so the server's rows are the
//! same as if each had been sent. What one turn of the application writes is folded before it is stored, the rest when a
//! batch is about to be made of it.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem::{discriminant, swap};

use syncline_protocol::{ChangeKind, Intent, OpId, limits};

use super::mutation_queue::QueuePlace;
use super::mutation_record::{Durability, Mutation, MutationState, Parked};
use super::{Client, Event, StorageFailure, StorageKind, StoredValue};

/// Most writes folded into one at a time.
const RUN_MAX: usize = 1_000;

/// Writes that become one.
#[derive(Debug)]
pub(crate) struct Fold {
    /// In order.
    pub(crate) places: Vec<QueuePlace>,
    /// The intent of the first from then on; empty when nothing is left of them.
    text: String,
    /// The writes on disk that the first stands for from then on.
    stands_for: Vec<OpId>,
}

impl Client {
    /// Folds a write that was just made into the one before it, if neither was given to the disk.
    pub(super) fn fold_new(&mut self, place: QueuePlace) {
        let before = self.queue.nth(self.queue.number(place).wrapping_sub(1));
        if let Some((place, before)) = before
            && before.durability == Durability::Unstored
            && let Some(fold) = self.fold_from(place)
        {
            self.folded(&fold);
        }
    }

    /// Folds the first writes of a batch that can be folded, in memory or by a request; says whether there were any.
    pub(super) fn fold_batch(&mut self, batch: &[(QueuePlace, OpId)]) -> bool {
        for (place, _) in batch {
            let Some(mut fold) = self.fold_from(*place) else { continue };
            let mut remove: Vec<u64> = Vec::with_capacity(fold.places.len());
            for place in &fold.places {
                remove.extend(self.queue.get(*place).and_then(Mutation::key));
            }
            if remove.is_empty() {
                self.folded(&fold);
                return true;
            }
            let mut put = Vec::new();
            if let (false, Some(survivor)) = (fold.text.is_empty(), self.queue.get(*place)) {
                let mut survivor = survivor.clone();
                survivor.text.clone_from(&fold.text);
                for place in fold.places.iter().skip(1) {
                    if let Some(other) = self.queue.get(*place) {
                        survivor.stand_for(other);
                    }
                }
                put.push((remove.remove(0), survivor.record()));
                fold.stands_for = survivor.stands_for;
            }
            let (id, fence) = (self.request_id(), self.storage.fence);
            self.storage.note_mark(id);
            self.request_as(id, StorageKind::FoldQueue { fence, put, remove });
            self.push.fold = Some((id, fold));
            return true;
        }
        false
    }

    /// The disk folded, or did not.
    pub(super) fn fold_stored(&mut self, fold: &Fold, result: Result<StoredValue, StorageFailure>) {
        match result {
            Ok(StoredValue::Keys(keys)) if !keys.is_empty() => return self.folded(fold),
            // Somebody else removed one of the records: the mark of the batch finds out which.
            Ok(_) => {}
            Err(failure) => self.degrade(&failure),
        }
        self.push.skips_fold = true;
    }

    /// The writes from one on that can become one.
    fn fold_from(&mut self, place: QueuePlace) -> Option<Fold> {
        let mut places = Vec::new();
        let mut last = None;
        let mut number = self.queue.number(place);
        while let Some((place, mutation)) = self.queue.nth(number)
            && follows(last, mutation)
        {
            // What is nearer to the end goes first: nothing depends on it.
            if places.len() == RUN_MAX {
                places = places.split_off(RUN_MAX / 2);
            }
            places.push(place);
            last = Some(mutation);
            number += 1;
        }
        let ([first, rest @ ..], change) = (places.as_slice(), last?.intent.changes.first()?) else { return None };
        // Who changes the row after them depends on the last of them.
        let touched = self.overlay.row(self.names.find(change.entity.as_str())?, change.row_id.as_str())?;
        touched.steps.last().filter(|(place, _)| rest.last() == Some(place))?;
        let deletes = change.kind == ChangeKind::Delete;
        let (mut kind, mut data) = (change.kind.clone(), None);
        let former = self.queue.get(*first)?;
        let former_change = former.intent.changes.first()?;
        if !deletes {
            let data_of = |place: &QueuePlace| self.queue.get(*place)?.intent.changes.first()?.data.as_ref();
            let merged = former_change.data.as_ref()?.patched(&mut rest.iter().filter_map(data_of));
            if merged.get().len() > limits::ROW_BYTES_MAX {
                return None;
            }
            (kind, data) = (former_change.kind.clone(), Some(merged));
        } else if former_change.kind == ChangeKind::Insert {
            // Who refers to the row depends on the first of them.
            while let Some((_, other)) = self.queue.nth(number) {
                if other.intent.after.contains(&former.intent.op_id) {
                    return None;
                }
                number += 1;
            }
            return Some(Fold { places, text: String::new(), stands_for: Vec::new() });
        }
        let intent = &mut self.queue.get_mut(*first)?.intent;
        let mut exchange = |intent: &mut Intent| {
            if let Some(change) = intent.changes.first_mut() {
                swap(&mut change.kind, &mut kind);
                swap(&mut change.data, &mut data);
            }
        };
        exchange(intent);
        let text = intent.freeze();
        exchange(intent);
        Some(Fold { places, text: text.ok()?, stands_for: Vec::new() })
    }

    /// The disk has it, or there is none.
    fn folded(&mut self, fold: &Fold) {
        let [first, rest @ ..] = fold.places.as_slice() else { return };
        let rows = self.rows_of(*first);
        let (mut gone, mut survivor) = (fold.places.as_slice(), None);
        if let (Ok(intent), Some(mutation)) = (Intent::parse(&fold.text), self.queue.get_mut(*first)) {
            survivor = Some(intent.op_id.clone());
            mutation.intent = intent;
            mutation.text.clone_from(&fold.text);
            if !fold.stands_for.is_empty() {
                mutation.stands_for.clone_from(&fold.stands_for);
            }
            gone = rest;
        }
        for place in gone {
            let Some(mutation) = self.queue.remove(*place) else { continue };
            self.left_queue(mutation.key());
            for (key, record) in &mutation.replaces {
                self.discard_record(*key, record.clone(), mutation.mark(), None);
            }
            let op_id = mutation.intent.op_id;
            self.notify(match &survivor {
                Some(by) => Event::MutationReplaced { op_id, by: by.clone() },
                None => Event::MutationConfirmed { op_id, seq: 0 },
            });
        }
        self.refresh_rows(&rows);
    }
}

/// Whether a write can be folded into those before it, or begin such a run.
fn follows(before: Option<&Mutation>, mutation: &Mutation) -> bool {
    let [change] = mutation.intent.changes.as_slice() else { return false };
    if mutation.state != MutationState::Pending || mutation.parked != Parked::No {
        return false;
    }
    let Some((before, former)) = before.and_then(|before| Some((before, before.intent.changes.first()?))) else {
        return matches!(change.kind, ChangeKind::Insert | ChangeKind::Update);
    };
    former.kind != ChangeKind::Delete
        && matches!(change.kind, ChangeKind::Update | ChangeKind::Delete)
        && change.row_id == former.row_id
        && change.entity == former.entity
        && mutation.intent.schema == before.intent.schema
        && discriminant(&mutation.durability) == discriminant(&before.durability)
        && mutation.replaces.is_empty()
        && mutation.intent.after.iter().all(|op_id| *op_id == before.intent.op_id)
}
