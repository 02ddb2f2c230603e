//! The application's writes in the order they were made. Clocks and ids never order anything.

use std::collections::{BTreeMap, BTreeSet};

use syncline_protocol::{ChangeKind, OpId, limits};

use super::mutation_record::{Durability, Mutation, MutationState};

/// Place in the queue within this client; keys on disk follow the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueuePlace(pub(crate) u64);

/// Every write that was not answered, or failed, or waits for the stream.
#[derive(Debug, Default)]
pub(crate) struct MutationQueue {
    entries: BTreeMap<QueuePlace, Mutation>,
    by_op_id: BTreeMap<OpId, QueuePlace>,
    /// The open write that inserts a row with this id; for dependencies by reference.
    inserts: BTreeMap<String, QueuePlace>,
    /// Applied writes by the seq the stream must pass.
    applied: BTreeSet<(u64, QueuePlace)>,
    next_place: u64,
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
    pub(crate) fn push(&mut self, mutation: Mutation) -> Option<QueuePlace> {
        if self.by_op_id.contains_key(&mutation.intent.op_id) {
            return None;
        }
        let place = QueuePlace(self.next_place);
        self.next_place += 1;
        self.by_op_id.insert(mutation.intent.op_id.clone(), place);
        if mutation.state.is_open() {
            for change in mutation.intent.changes.iter().filter(|change| change.kind == ChangeKind::Insert) {
                self.inserts.insert(change.row_id.as_str().to_owned(), place);
            }
        }
        self.failed += usize::from(matches!(mutation.state, MutationState::Failed(_)));
        self.entries.insert(place, mutation);
        Some(place)
    }

    pub(crate) fn remove(&mut self, place: QueuePlace) -> Option<Mutation> {
        let mutation = self.entries.remove(&place)?;
        self.by_op_id.remove(&mutation.intent.op_id);
        self.forget_state(place, &mutation);
        Some(mutation)
    }

    pub(crate) fn set_state(&mut self, place: QueuePlace, state: MutationState) {
        let Some(mut mutation) = self.entries.remove(&place) else { return };
        if state.is_open() {
            mutation.state = state;
        } else {
            self.forget_state(place, &mutation);
            match &state {
                MutationState::Failed(_) => self.failed += 1,
                MutationState::Applied(seq) => {
                    self.applied.insert((*seq, place));
                }
                MutationState::Pending | MutationState::Sent => {}
            }
            mutation.state = state;
        }
        self.entries.insert(place, mutation);
    }

    /// Takes everything that counts the entry's present state out of the indexes.
    fn forget_state(&mut self, place: QueuePlace, mutation: &Mutation) {
        for change in &mutation.intent.changes {
            if self.inserts.get(change.row_id.as_str()) == Some(&place) {
                self.inserts.remove(change.row_id.as_str());
            }
        }
        match &mutation.state {
            MutationState::Failed(_) => self.failed -= 1,
            MutationState::Applied(seq) => {
                self.applied.remove(&(*seq, place));
            }
            MutationState::Pending | MutationState::Sent => {}
        }
    }

    /// Applied writes that the stream has passed.
    pub(crate) fn passed_by(&self, seq: u64) -> Vec<QueuePlace> {
        self.applied.iter().take_while(|(last_seq, _)| *last_seq <= seq).map(|(_, place)| *place).collect()
    }

    pub(crate) fn get(&self, place: QueuePlace) -> Option<&Mutation> {
        self.entries.get(&place)
    }

    /// For what no index counts: durability, first send, parking.
    pub(crate) fn get_mut(&mut self, place: QueuePlace) -> Option<&mut Mutation> {
        self.entries.get_mut(&place)
    }

    pub(crate) fn find(&self, op_id: &OpId) -> Option<QueuePlace> {
        self.by_op_id.get(op_id).copied()
    }

    /// The open write that inserts a row with this id.
    pub(crate) fn insert_of(&self, row_id: &str) -> Option<QueuePlace> {
        self.inserts.get(row_id).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueuePlace, &Mutation)> {
        self.entries.iter().map(|(place, mutation)| (*place, mutation))
    }

    pub(crate) fn places_with(&self, durability: Durability) -> Vec<QueuePlace> {
        self.iter().filter(|(_, mutation)| mutation.durability == durability).map(|(place, _)| place).collect()
    }

    /// Takes everything out, in order, to put writes from disk in front of what was written before the database opened.
    pub(crate) fn take_all(&mut self) -> Vec<Mutation> {
        let next_place = self.next_place;
        let all = std::mem::take(self);
        self.next_place = next_place;
        all.entries.into_values().collect()
    }
}
