//! The application's writes in the order they were made. Clocks and ids never order anything.

use syncline_protocol::{ChangeKind, OpId, limits};

use super::key_index::{KeyIndex, hash};
use super::mutation_record::{Mutation, MutationState};

/// Place in the queue within this client; keys on disk follow the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueuePlace(u32);

/// One write at its place.
pub(crate) type Entry = (QueuePlace, Box<Mutation>);

/// Every write that was not answered, or failed, or waits for the stream.
#[derive(Debug, Default)]
pub(crate) struct MutationQueue {
    /// In order of the places. Entries are small, so that taking the first of even 100,000 moves less than a megabyte.
    entries: Vec<Entry>,
    by_op_id: KeyIndex,
    /// The open write that inserts a row with this id; for dependencies by reference.
    inserts: KeyIndex,
    /// Applied writes by the seq the stream must pass, in order.
    applied: Vec<(u64, QueuePlace)>,
    next_place: u32,
    failed: usize,
}

impl MutationQueue {
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= limits::QUEUE_TRANSACTIONS_MAX
    }

    pub(crate) const fn failed(&self) -> usize {
        self.failed
    }

    /// Writes the server has not answered.
    pub(crate) fn open(&self) -> usize {
        self.entries.len() - self.failed - self.applied.len()
    }

    /// Adds a write at the end; gives its place, or `None` when the same op_id is queued already.
    pub(crate) fn push(&mut self, mutation: Box<Mutation>) -> Option<QueuePlace> {
        if self.find(&mutation.intent.op_id).is_some() {
            return None;
        }
        let place = QueuePlace(self.next_place);
        self.next_place += 1;
        self.by_op_id.insert(hash(mutation.intent.op_id.as_str().as_bytes()), place.0);
        if mutation.state.is_open() {
            note_inserts(&mut self.inserts, &self.entries, place, &mutation);
        }
        self.failed += usize::from(matches!(mutation.state, MutationState::Failed(_)));
        self.entries.push((place, mutation));
        Some(place)
    }

    pub(crate) fn remove(&mut self, place: QueuePlace) -> Option<Box<Mutation>> {
        let (_, mutation) = self.entries.remove(self.position(place)?);
        self.by_op_id.remove(hash(mutation.intent.op_id.as_str().as_bytes()), place.0);
        forget_inserts(&mut self.inserts, place, &mutation);
        self.forget_state(place, &mutation.state);
        Some(mutation)
    }

    pub(crate) fn set_state(&mut self, place: QueuePlace, state: MutationState) {
        let Some(at) = self.position(place) else { return };
        let Some((_, mutation)) = self.entries.get_mut(at) else { return };
        let before = std::mem::replace(&mut mutation.state, state);
        let seq = match mutation.state {
            MutationState::Pending | MutationState::Sent => return,
            MutationState::Failed(_) => None,
            MutationState::Applied(seq) => Some(seq),
        };
        forget_inserts(&mut self.inserts, place, mutation);
        self.forget_state(place, &before);
        match seq {
            Some(seq) => {
                let at = self.applied.partition_point(|other| *other < (seq, place));
                self.applied.insert(at, (seq, place));
            }
            None => self.failed += 1,
        }
    }

    /// Makes applied writes sent ones again: what the server said of them no longer holds.
    pub(crate) fn reopen_applied(&mut self) {
        for (_, place) in std::mem::take(&mut self.applied) {
            if let Some(mutation) = self.get_mut(place) {
                mutation.state = MutationState::Sent;
            }
        }
        self.inserts = KeyIndex::default();
        for (place, mutation) in &self.entries {
            if mutation.state.is_open() {
                note_inserts(&mut self.inserts, &self.entries, *place, mutation);
            }
        }
    }

    /// Takes an entry out of the counts of its former state.
    fn forget_state(&mut self, place: QueuePlace, state: &MutationState) {
        match state {
            MutationState::Failed(_) => self.failed -= 1,
            MutationState::Applied(seq) => {
                if let Ok(at) = self.applied.binary_search(&(*seq, place)) {
                    self.applied.remove(at);
                }
            }
            MutationState::Pending | MutationState::Sent => {}
        }
    }

    /// The first applied write, if the stream has passed it.
    pub(crate) fn passed_by(&self, seq: u64) -> Option<QueuePlace> {
        self.applied.first().filter(|(last_seq, _)| *last_seq <= seq).map(|(_, place)| *place)
    }

    fn position(&self, place: QueuePlace) -> Option<usize> {
        position(&self.entries, place)
    }

    pub(crate) fn get(&self, place: QueuePlace) -> Option<&Mutation> {
        mutation_at(&self.entries, place)
    }

    /// For what no index counts: durability, first send, parking.
    pub(crate) fn get_mut(&mut self, place: QueuePlace) -> Option<&mut Mutation> {
        let at = self.position(place)?;
        self.entries.get_mut(at).map(|(_, mutation)| &mut **mutation)
    }

    pub(crate) fn find(&self, op_id: &OpId) -> Option<QueuePlace> {
        let is_it = |place: u32| self.get(QueuePlace(place)).is_some_and(|mutation| mutation.intent.op_id == *op_id);
        self.by_op_id.find(hash(op_id.as_str().as_bytes()), &is_it).map(QueuePlace)
    }

    /// The open write that inserts a row with this id.
    pub(crate) fn insert_of(&self, row_id: &str) -> Option<QueuePlace> {
        find_insert(&self.inserts, &self.entries, row_id).map(QueuePlace)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueuePlace, &Mutation)> {
        self.entries.iter().map(|(place, mutation)| (*place, &**mutation))
    }

    /// Where the writes stand for which `is_wanted` says yes.
    pub(crate) fn places(&self, is_wanted: &dyn Fn(&Mutation) -> bool) -> Vec<QueuePlace> {
        self.iter().filter(|(_, mutation)| is_wanted(mutation)).map(|(place, _)| place).collect()
    }

    /// Takes everything out, in order, to put writes from disk in front of what was written before the database opened.
    pub(crate) fn take_all(&mut self) -> Vec<Entry> {
        let next_place = self.next_place;
        let all = std::mem::take(self);
        self.next_place = next_place;
        all.entries
    }
}

fn position(entries: &[Entry], place: QueuePlace) -> Option<usize> {
    entries.binary_search_by(|(other, _)| other.cmp(&place)).ok()
}

fn mutation_at(entries: &[Entry], place: QueuePlace) -> Option<&Mutation> {
    entries.get(position(entries, place)?).map(|(_, mutation)| &**mutation)
}

fn find_insert(inserts: &KeyIndex, entries: &[Entry], row_id: &str) -> Option<u32> {
    let is_it = |place: u32| {
        mutation_at(entries, QueuePlace(place)).is_some_and(|mutation| inserted_rows(mutation).any(|inserted| inserted == row_id))
    };
    inserts.find(hash(row_id.as_bytes()), &is_it)
}

/// The last write that inserts a row counts.
fn note_inserts(inserts: &mut KeyIndex, entries: &[Entry], place: QueuePlace, mutation: &Mutation) {
    for row_id in inserted_rows(mutation) {
        let hash = hash(row_id.as_bytes());
        if let Some(earlier) = find_insert(inserts, entries, row_id) {
            inserts.remove(hash, earlier);
        }
        inserts.insert(hash, place.0);
    }
}

fn inserted_rows(mutation: &Mutation) -> impl Iterator<Item = &str> {
    let inserts = mutation.intent.changes.iter().filter(|change| change.kind == ChangeKind::Insert);
    inserts.map(|change| change.row_id.as_str())
}

fn forget_inserts(inserts: &mut KeyIndex, place: QueuePlace, mutation: &Mutation) {
    for row_id in inserted_rows(mutation) {
        inserts.remove(hash(row_id.as_bytes()), place.0);
    }
}
