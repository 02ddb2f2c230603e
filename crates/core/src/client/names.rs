//! Numbers for the names of entities, so that a row does not carry its entity's name.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::sort_positions;

use super::key_index::{KeyIndex, hash};

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
    by_name: KeyIndex,
}

impl Names {
    pub(crate) fn intern(&mut self, name: &str) -> EntityIndex {
        if let Some(index) = self.find(name) {
            return index;
        }
        let index = EntityIndex(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(name.to_owned());
        self.by_name.insert(hash(name.as_bytes()), index.0);
        index
    }

    pub(crate) fn find(&self, name: &str) -> Option<EntityIndex> {
        let is_it = |position: u32| self.names.get(position as usize).is_some_and(|known| known == name);
        self.by_name.find(hash(name.as_bytes()), &is_it).map(EntityIndex)
    }

    pub(crate) fn name(&self, index: EntityIndex) -> &str {
        self.names.get(index.position()).map_or("", String::as_str)
    }

    pub(crate) fn at(&self, position: usize) -> Option<EntityIndex> {
        (position < self.names.len()).then(|| EntityIndex(u32::try_from(position).unwrap_or(u32::MAX)))
    }
}

/// Some of the entities.
#[derive(Debug, Default)]
pub(crate) struct EntitySet {
    members: Vec<u32>,
}

impl EntitySet {
    pub(crate) fn insert(&mut self, entity: EntityIndex) {
        if !self.members.contains(&entity.0) {
            self.members.push(entity.0);
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes them out, as names in order.
    pub(crate) fn take_names(&mut self, names: &Names) -> Vec<String> {
        let mut positions = core::mem::take(&mut self.members);
        let name = |position: u32| names.name(EntityIndex(position));
        sort_positions(&mut positions, &mut |left, right| name(left).cmp(name(right)));
        positions.into_iter().map(|position| name(position).to_owned()).collect()
    }
}
