//! Which rows of the view changed when, so that JavaScript fetches only those.

use std::collections::BTreeMap;

use super::names::EntityIndex;

/// Above this many remembered changes of an entity a reader gets everything instead.
const LOG_ENTRIES_MAX: usize = 20_000;

/// The recent changes of every entity's view.
#[derive(Debug)]
pub(crate) struct ViewLog {
    /// Grows with every change; never zero, which means "never read".
    version: u64,
    entities: BTreeMap<EntityIndex, EntityLog>,
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
        Self { version: 1, entities: BTreeMap::new() }
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
        let log = self.entities.entry(entity).or_default();
        if log.entries.len() >= LOG_ENTRIES_MAX {
            log.entries = Vec::new();
            log.floor = self.version;
            return;
        }
        if log.floor < self.version {
            log.entries.push((self.version, id.into()));
        }
    }

    /// Says that everything about the entity may be different.
    pub(crate) fn record_all(&mut self, entity: EntityIndex) {
        let log = self.entities.entry(entity).or_default();
        log.entries = Vec::new();
        log.floor = self.version;
    }

    /// The ids that changed after `since`, sorted; `None`: read everything.
    pub(crate) fn changed_since(&self, entity: EntityIndex, since: u64) -> Option<Vec<&str>> {
        if since == 0 || since > self.version {
            return None;
        }
        let Some(log) = self.entities.get(&entity) else { return Some(Vec::new()) };
        if since < log.floor {
            return None;
        }
        let from = log.entries.partition_point(|(version, _)| *version <= since);
        let mut ids: Vec<&str> = log.entries.iter().skip(from).map(|(_, id)| id.as_ref()).collect();
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }
}
