//! The application's writes in the order in which they are sent: that of their keys on disk, then those that are not there
//! yet. The keys are given out by the database, so every tab has the same order; clocks and ids never order anything.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::{ChangeKind, Intent, OpId, limits};

use super::key_index::{KeyIndex, hash};
use super::mutation_record::{Durability, Mutation, MutationState};

/// Names a write within this client, and never another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueuePlace(u32);

/// Above every key that a database gives out.
const UNSTORED: u64 = 1 << 62;

/// The writes by place.
#[derive(Debug, Default)]
struct Slots {
    /// From the place `first` on.
    list: Vec<Option<Box<Mutation>>>,
    first: u32,
    /// How many at the beginning of the list are empty.
    empty: usize,
}

impl Slots {
    fn add(&mut self, mutation: Box<Mutation>) -> QueuePlace {
        let place = self.first + u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(Some(mutation));
        QueuePlace(place)
    }

    fn take(&mut self, place: QueuePlace) -> Option<Box<Mutation>> {
        let index = self.index(place);
        let mutation = self.list.get_mut(index).and_then(Option::take)?;
        // Writes go nearly in the order in which they came.
        while self.list.get(self.empty).is_some_and(Option::is_none) {
            self.empty += 1;
        }
        if self.empty * 2 > self.list.len() {
            self.list.drain(..self.empty);
            self.first += u32::try_from(self.empty).unwrap_or(u32::MAX);
            self.empty = 0;
        }
        Some(mutation)
    }

    const fn index(&self, place: QueuePlace) -> usize {
        place.0.wrapping_sub(self.first) as usize
    }

    fn get(&self, place: QueuePlace) -> Option<&Mutation> {
        self.list.get(self.index(place))?.as_deref()
    }

    fn get_mut(&mut self, place: QueuePlace) -> Option<&mut Mutation> {
        let index = self.index(place);
        self.list.get_mut(index)?.as_deref_mut()
    }
}

/// Every write that was not answered, or failed, or waits for the stream.
#[derive(Debug, Default)]
pub(crate) struct MutationQueue {
    slots: Slots,
    /// Places in order. Taking out the first of even 100,000 moves less than half a megabyte.
    order: Vec<QueuePlace>,
    by_op_id: KeyIndex,
    /// The open write that inserts a row with this id; for dependencies by reference.
    inserts: KeyIndex,
    /// Applied writes by the seq the stream must pass, in order.
    applied: Vec<(u64, QueuePlace)>,
    failed: usize,
}

impl MutationQueue {
    pub(crate) fn is_full(&self) -> bool {
        self.order.len() >= limits::QUEUE_TRANSACTIONS_MAX
    }

    pub(crate) const fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) const fn failed(&self) -> usize {
        self.failed
    }

    /// Writes the server has not answered.
    pub(crate) fn open(&self) -> usize {
        self.order.len() - self.failed - self.applied.len()
    }

    /// Adds a write where its key puts it, or at the end; gives its place, or `None` when the same op_id is queued already.
    pub(crate) fn push(&mut self, mutation: Box<Mutation>) -> Option<QueuePlace> {
        if self.find(&mutation.intent.op_id).is_some() {
            return None;
        }
        self.failed += usize::from(matches!(mutation.state, MutationState::Failed(_)));
        let op_id = hash(mutation.intent.op_id.as_str().as_bytes());
        let place = self.slots.add(mutation);
        self.by_op_id.insert(op_id, place.0);
        note_inserts(&mut self.inserts, &self.slots, place);
        let at = self.position(self.rank(place));
        self.order.insert(at, place);
        Some(place)
    }

    /// What the order goes by.
    pub(crate) fn rank(&self, place: QueuePlace) -> u64 {
        self.get(place).and_then(Mutation::key).unwrap_or(UNSTORED + u64::from(place.0))
    }

    /// The first position whose rank is not below this one.
    fn position(&self, rank: u64) -> usize {
        self.order.partition_point(|place| self.rank(*place) < rank)
    }

    /// Takes note of where a write is kept; says whether that moved it past others.
    pub(crate) fn set_durability(&mut self, place: QueuePlace, durability: Durability) -> bool {
        let before = self.position(self.rank(place));
        if self.order.get(before) != Some(&place) {
            return false;
        }
        self.order.remove(before);
        if let Some(mutation) = self.get_mut(place) {
            mutation.durability = durability;
        }
        let after = self.position(self.rank(place));
        self.order.insert(after, place);
        before != after
    }

    pub(crate) fn remove(&mut self, place: QueuePlace) -> Option<Box<Mutation>> {
        let at = self.position(self.rank(place));
        let mutation = self.slots.take(place)?;
        self.order.remove(at);
        self.by_op_id.remove(hash(mutation.intent.op_id.as_str().as_bytes()), place.0);
        forget_inserts(&mut self.inserts, place, &mutation);
        self.forget_state(place, &mutation.state);
        Some(mutation)
    }

    pub(crate) fn set_state(&mut self, place: QueuePlace, state: MutationState) {
        let Some(mutation) = self.slots.get_mut(place) else { return };
        let before = core::mem::replace(&mut mutation.state, state);
        if before.is_open() && mutation.state.is_open() {
            return;
        }
        forget_inserts(&mut self.inserts, place, mutation);
        match mutation.state {
            MutationState::Pending | MutationState::Sent => note_inserts(&mut self.inserts, &self.slots, place),
            MutationState::Failed(_) => self.failed += 1,
            MutationState::Applied(seq) => {
                let at = self.applied.partition_point(|other| *other < (seq, place));
                self.applied.insert(at, (seq, place));
            }
        }
        self.forget_state(place, &before);
    }

    /// Makes applied writes sent ones again: what the server said of them no longer holds.
    pub(crate) fn reopen_applied(&mut self) {
        for (_, place) in core::mem::take(&mut self.applied) {
            if let Some(mutation) = self.get_mut(place) {
                mutation.state = MutationState::Sent;
            }
        }
        self.inserts = KeyIndex::default();
        for place in &self.order {
            note_inserts(&mut self.inserts, &self.slots, *place);
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

    /// The first applied write that the stream has passed and that stands on no other.
    pub(crate) fn passed_by(&self, seq: u64, stands: &dyn Fn(QueuePlace) -> bool) -> Option<(u64, QueuePlace)> {
        self.applied.iter().take_while(|(last_seq, _)| *last_seq <= seq).find(|(_, place)| !stands(*place)).copied()
    }

    pub(crate) fn get(&self, place: QueuePlace) -> Option<&Mutation> {
        self.slots.get(place)
    }

    /// For what no index counts: first send, parking, what it replaces.
    pub(crate) fn get_mut(&mut self, place: QueuePlace) -> Option<&mut Mutation> {
        self.slots.get_mut(place)
    }

    pub(crate) fn find(&self, op_id: &OpId) -> Option<QueuePlace> {
        let is_it = |place: u32| self.get(QueuePlace(place)).is_some_and(|mutation| mutation.intent.op_id == *op_id);
        self.by_op_id.find(hash(op_id.as_str().as_bytes()), &is_it).map(QueuePlace)
    }

    /// The write that lies on disk under a key.
    pub(crate) fn find_key(&self, key: u64) -> Option<QueuePlace> {
        let place = self.order.get(self.position(key)).copied();
        place.filter(|place| self.rank(*place) == key)
    }

    /// The keys of those on disk, in order.
    pub(crate) fn keys(&self) -> Vec<u64> {
        self.iter().filter_map(|(_, mutation)| mutation.key()).collect()
    }

    /// Gives an unsent write another content.
    pub(crate) fn rewrite(&mut self, place: QueuePlace, intent: Intent, text: String) {
        let Some(mutation) = self.slots.get_mut(place) else { return };
        forget_inserts(&mut self.inserts, place, mutation);
        mutation.intent = intent;
        mutation.text = text;
        note_inserts(&mut self.inserts, &self.slots, place);
    }

    /// The open write that inserts a row with this id.
    pub(crate) fn insert_of(&self, row_id: &str) -> Option<QueuePlace> {
        find_insert(&self.inserts, &self.slots, row_id).map(QueuePlace)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueuePlace, &Mutation)> {
        self.order.iter().filter_map(|place| Some((*place, self.get(*place)?)))
    }

    /// How many writes come before one.
    pub(crate) fn number(&self, place: QueuePlace) -> usize {
        self.position(self.rank(place))
    }

    /// The write before which so many others come.
    #[inline(never)]
    pub(crate) fn nth(&self, number: usize) -> Option<(QueuePlace, &Mutation)> {
        let place = *self.order.get(number)?;
        Some((place, self.get(place)?))
    }

    /// Where the writes stand for which `is_wanted` says yes.
    pub(crate) fn places(&self, is_wanted: &dyn Fn(&Mutation) -> bool) -> Vec<QueuePlace> {
        self.iter().filter(|(_, mutation)| is_wanted(mutation)).map(|(place, _)| place).collect()
    }
}

fn find_insert(inserts: &KeyIndex, slots: &Slots, row_id: &str) -> Option<u32> {
    let is_it = |place: u32| {
        slots.get(QueuePlace(place)).is_some_and(|mutation| inserted_rows(mutation).any(|inserted| inserted == row_id))
    };
    inserts.find(hash(row_id.as_bytes()), &is_it)
}

/// The last open write that inserts a row counts.
fn note_inserts(inserts: &mut KeyIndex, slots: &Slots, place: QueuePlace) {
    let Some(mutation) = slots.get(place).filter(|mutation| mutation.state.is_open()) else { return };
    for row_id in inserted_rows(mutation) {
        let hash = hash(row_id.as_bytes());
        if let Some(earlier) = find_insert(inserts, slots, row_id) {
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
