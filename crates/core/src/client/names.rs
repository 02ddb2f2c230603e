//! Numbers for the names of entities, so that a row does not carry its entity's name.

use std::collections::BTreeMap;

/// Stands for an entity's name within one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntityIndex(u32);

impl EntityIndex {
    pub(crate) const fn position(self) -> usize {
        self.0 as usize
    }
}

/// Every entity name this client has met.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: Vec<String>,
    by_name: BTreeMap<String, EntityIndex>,
}

impl Names {
    pub(crate) fn intern(&mut self, name: &str) -> EntityIndex {
        if let Some(index) = self.find(name) {
            return index;
        }
        let index = EntityIndex(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(name.to_owned());
        self.by_name.insert(name.to_owned(), index);
        index
    }

    pub(crate) fn find(&self, name: &str) -> Option<EntityIndex> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn name(&self, index: EntityIndex) -> &str {
        self.names.get(index.position()).map_or("", String::as_str)
    }
}

impl Names {
    pub(crate) fn at(&self, position: usize) -> Option<EntityIndex> {
        (position < self.names.len()).then(|| EntityIndex(u32::try_from(position).unwrap_or(u32::MAX)))
    }
}
