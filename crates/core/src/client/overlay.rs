//! What the application wrote and the stream has not brought back yet, folded over the base row by row.

use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::{ChangeKind, IntentChange, RowText, positions, sort_positions};

use super::key_index::{KeyIndex, hash};
use super::mutation_queue::{MutationQueue, QueuePlace};
use super::mutation_record::Mutation;
use super::names::EntityIndex;

/// One row that open writes touch.
#[derive(Debug)]
pub(crate) struct OverlayRow {
    pub(crate) entity: EntityIndex,
    pub(crate) id: String,
    /// The changes that touch it, in queue order: which write, which of its changes.
    pub(crate) steps: Vec<(QueuePlace, usize)>,
    /// What the view shows; `None`: no row.
    pub(crate) row: Option<RowText>,
    pub(crate) version: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// In no order, without gaps.
    rows: Vec<OverlayRow>,
    by_id: KeyIndex,
}

impl Overlay {
    fn find(&self, entity: EntityIndex, id: &str) -> Option<u32> {
        let is_it = |position: u32| self.rows.get(position as usize).is_some_and(|row| row.entity == entity && row.id == id);
        self.by_id.find(hash(id.as_bytes()), &is_it)
    }

    pub(crate) fn row(&self, entity: EntityIndex, id: &str) -> Option<&OverlayRow> {
        self.rows.get(self.find(entity, id)? as usize)
    }

    pub(crate) fn row_mut(&mut self, entity: EntityIndex, id: &str) -> Option<&mut OverlayRow> {
        let position = self.find(entity, id)?;
        self.rows.get_mut(position as usize)
    }

    /// Adds a row that is not here yet.
    pub(crate) fn add(&mut self, row: OverlayRow) {
        self.by_id.insert(hash(row.id.as_bytes()), u32::try_from(self.rows.len()).unwrap_or(u32::MAX));
        self.rows.push(row);
    }

    pub(crate) fn remove(&mut self, entity: EntityIndex, id: &str) -> Option<OverlayRow> {
        let position = self.find(entity, id)?;
        self.by_id.remove(hash(id.as_bytes()), position);
        let row = self.rows.swap_remove(position as usize);
        if let Some(moved) = self.rows.get(position as usize) {
            let hash = hash(moved.id.as_bytes());
            self.by_id.remove(hash, u32::try_from(self.rows.len()).unwrap_or(u32::MAX));
            self.by_id.insert(hash, position);
        }
        Some(row)
    }

    /// The rows of an entity, in order of their ids.
    pub(crate) fn rows(&self, entity: EntityIndex) -> Vec<&OverlayRow> {
        let mut order = positions(self.rows.len());
        let row = |position: u32| self.rows.get(position as usize).filter(|row| row.entity == entity);
        order.retain(|position| row(*position).is_some());
        let id = |position: u32| row(position).map(|row| row.id.as_str());
        sort_positions(&mut order, &mut |left, right| id(left).cmp(&id(right)));
        order.into_iter().filter_map(row).collect()
    }

    pub(crate) fn touched(&self) -> Vec<(EntityIndex, String)> {
        self.rows.iter().map(|row| (row.entity, row.id.clone())).collect()
    }
}

/// What a row looks like after more changes: the same rule for every open write.
///
/// An insert shows its fields whatever was there; an update patches a row that is there; a delete removes it. What the
/// server will make of it is the server's business.
pub(crate) fn fold(base: Option<RowText>, changes: &[&IntentChange]) -> Option<RowText> {
    // Nothing before the last insert or delete shows, and the updates after it are one patch: thousands of them on one row,
    // a text typed offline, cost no more than their bytes.
    let start = changes.iter().rposition(|change| matches!(change.kind, ChangeKind::Insert | ChangeKind::Delete));
    let (row, updates) = match start.and_then(|start| changes.get(start..)) {
        Some([first, updates @ ..]) if first.kind == ChangeKind::Insert => {
            (Some(first.data.clone().unwrap_or_default()), updates)
        }
        Some([_, updates @ ..]) => (None, updates),
        Some([]) | None => (base, changes),
    };
    if updates.is_empty() {
        return row;
    }
    // What a newer version made does not show.
    let is_update = |change: &&&IntentChange| change.kind == ChangeKind::Update;
    row.map(|row| row.patched(&mut updates.iter().filter(is_update).filter_map(|change| change.data.as_ref())))
}

/// Folds all steps of a row over its base, leaving out those whose write no longer shows.
pub(crate) fn fold_steps(base: Option<RowText>, steps: &mut Vec<(QueuePlace, usize)>, queue: &MutationQueue) -> Option<RowText> {
    steps.retain(|(place, _)| queue.get(*place).is_some_and(Mutation::shows));
    // A write of another tab may have come in between: all but one stand in order.
    let rank = |steps: &[(QueuePlace, usize)], at: usize| steps.get(at).map(|(place, index)| (queue.rank(*place), *index));
    for end in 1..steps.len() {
        let mut at = end;
        while at > 0 && rank(steps, at) < rank(steps, at - 1) {
            steps.swap(at, at - 1);
            at -= 1;
        }
    }
    let change = |(place, index): &(QueuePlace, usize)| queue.get(*place)?.intent.changes.get(*index);
    let mut changes = Vec::with_capacity(steps.len());
    for step in steps.iter() {
        changes.extend(change(step));
    }
    fold(base, &changes)
}
