//! Which rows of the view changed when, so that JavaScript fetches only those.

use alloc::boxed::Box;
use alloc::vec::Vec;

use syncline_protocol::{positions, sort_positions};

use super::names::EntityIndex;

/// Above this many remembered changes of an entity a reader gets everything instead.
const LOG_ENTRIES_MAX: usize = 20_000;

/// The recent changes of every entity's view.
#[derive(Debug)]
pub(crate) struct ViewLog {
    /// Grows with every change; never zero, which means "never read".
    version: u64,
    /// By the numbers of the entities.
    entities: Vec<EntityLog>,
}

#[derive(Debug, Default)]
struct EntityLog {
    /// Readers that stand below get everything.
    floor: u64,
    /// Version and id of each change, by version.
    entries: Vec<(u64, Box<str>)>,
}

impl ViewLog {
    pub(crate) const fn new() -> Self {
        Self { version: 1, entities: Vec::new() }
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// Begins a change: every row it touches gets the version returned.
    pub(crate) const fn advance(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    pub(crate) fn record(&mut self, entity: EntityIndex, id: &str) {
        let version = self.version;
        let log = self.log_of(entity);
        if log.entries.len() >= LOG_ENTRIES_MAX {
            // A reader that keeps up never has to read everything because of many changes in a row.
            let kept = log.entries.split_off(LOG_ENTRIES_MAX / 2);
            log.floor = log.entries.last().map_or(version, |(last, _)| *last);
            log.entries = kept;
        }
        if log.floor < version {
            log.entries.push((version, id.into()));
        }
    }

    /// Says that everything about the entity may be different.
    pub(crate) fn record_all(&mut self, entity: EntityIndex) {
        let version = self.version;
        let log = self.log_of(entity);
        log.entries = Vec::new();
        log.floor = version;
    }

    #[expect(clippy::indexing_slicing, reason = "a place is made first")]
    fn log_of(&mut self, entity: EntityIndex) -> &mut EntityLog {
        let position = entity.position();
        if self.entities.len() <= position {
            self.entities.resize_with(position + 1, EntityLog::default);
        }
        &mut self.entities[position]
    }

    /// The ids that changed after `since`, sorted; `None`: read everything.
    pub(crate) fn changed_since(&self, entity: EntityIndex, since: u64) -> Option<Vec<&str>> {
        if since == 0 || since > self.version {
            return None;
        }
        let Some(log) = self.entities.get(entity.position()) else { return Some(Vec::new()) };
        if since < log.floor {
            return None;
        }
        let from = log.entries.partition_point(|(version, _)| *version <= since);
        let entries = log.entries.get(from..).unwrap_or_default();
        let id = |position: u32| entries.get(position as usize).map_or("", |(_, id)| id);
        let mut order = positions(entries.len());
        sort_positions(&mut order, &mut |left, right| id(left).cmp(id(right)));
        let mut ids: Vec<&str> = order.into_iter().map(id).collect();
        ids.dedup();
        Some(ids)
    }
}
