//! What the application wrote and the stream has not brought back yet, folded over the base row by row.

use std::collections::BTreeMap;

use syncline_protocol::{ChangeKind, IntentChange, Row};

use super::mutation_queue::{MutationQueue, QueuePlace};
use super::names::EntityIndex;

/// One row that open writes touch.
#[derive(Debug, Default)]
pub(crate) struct OverlayRow {
    /// The changes that touch it, in queue order: which write, which of its changes.
    pub(crate) steps: Vec<(QueuePlace, usize)>,
    /// What the view shows; `None`: no row.
    pub(crate) row: Option<Row>,
    pub(crate) version: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    entities: BTreeMap<EntityIndex, BTreeMap<String, OverlayRow>>,
}

impl Overlay {
    pub(crate) fn row(&self, entity: EntityIndex, id: &str) -> Option<&OverlayRow> {
        self.entities.get(&entity)?.get(id)
    }

    pub(crate) fn row_mut(&mut self, entity: EntityIndex, id: &str) -> &mut OverlayRow {
        self.entities.entry(entity).or_default().entry(id.to_owned()).or_default()
    }

    pub(crate) fn remove(&mut self, entity: EntityIndex, id: &str) -> Option<OverlayRow> {
        let rows = self.entities.get_mut(&entity)?;
        let row = rows.remove(id);
        if rows.is_empty() {
            self.entities.remove(&entity);
        }
        row
    }

    pub(crate) fn rows(&self, entity: EntityIndex) -> impl Iterator<Item = (&str, &OverlayRow)> {
        self.entities.get(&entity).into_iter().flatten().map(|(id, row)| (id.as_str(), row))
    }

    pub(crate) fn touched(&self) -> Vec<(EntityIndex, String)> {
        let ids = |(entity, rows): (&EntityIndex, &BTreeMap<String, OverlayRow>)| {
            let entity = *entity;
            rows.keys().map(move |id| (entity, id.clone())).collect::<Vec<_>>()
        };
        self.entities.iter().flat_map(ids).collect()
    }

    pub(crate) fn clear(&mut self) {
        self.entities.clear();
    }
}

/// What a row looks like after one more change: the same rule for every open write.
///
/// An insert shows its fields whatever was there; an update patches a row that is there; a delete removes it. What the
/// server will make of it is the server's business.
pub(crate) fn fold(row: Option<Row>, change: &IntentChange) -> Option<Row> {
    match &change.kind {
        ChangeKind::Insert => Some(change.data.clone().unwrap_or_default()),
        ChangeKind::Update => {
            let mut row = row?;
            for (name, value) in change.data.iter().flatten() {
                row.insert(name.clone(), value.clone());
            }
            Some(row)
        }
        ChangeKind::Delete => None,
        ChangeKind::Enter | ChangeKind::Leave | ChangeKind::Increment | ChangeKind::Append | ChangeKind::Unknown(_) => row,
    }
}

/// Folds all steps of a row over its base, leaving out those whose write no longer shows.
pub(crate) fn fold_steps(base: Option<Row>, steps: &mut Vec<(QueuePlace, usize)>, queue: &MutationQueue) -> Option<Row> {
    steps.retain(|(place, _)| queue.get(*place).is_some_and(|mutation| mutation.state.shows()));
    steps.iter().filter_map(|(place, index)| queue.get(*place)?.intent.changes.get(*index)).fold(base, fold)
}
