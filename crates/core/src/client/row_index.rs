//! Finds the rows of one entity by id, without keeping the ids: they are compared where they lie in the segments.

use alloc::vec;
use alloc::vec::Vec;

use syncline_protocol::sort_positions;

use super::base::Segments;
use super::key_index::{KeyIndex, hash};

/// Where a row lies, and what changes when it changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    /// Position among the generation's segments.
    pub(crate) segment: u32,
    /// Where the row begins in the segment's bytes.
    pub(crate) offset: u32,
    pub(crate) version: u64,
}

/// Above this many new or removed rows at once the order is made anew instead of being kept.
const ORDER_STEPS_MAX: usize = 64;

/// The rows of one entity.
#[derive(Debug, Default)]
pub(crate) struct RowIndex {
    by_id: KeyIndex,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots in order of their ids; `None` until somebody asks, or after many changes at once.
    order: Option<Vec<u32>>,
    order_steps: usize,
}

impl RowIndex {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn reserve(&mut self, count: usize) {
        self.slots.reserve(count);
        self.by_id.reserve(count);
    }

    /// Announces how many rows are about to be added or removed.
    pub(crate) fn begin_batch(&mut self, rows: usize) {
        self.order_steps = 0;
        if rows > ORDER_STEPS_MAX {
            self.order = None;
        }
    }

    pub(crate) fn find(&self, segments: &Segments, id: &[u8]) -> Option<u32> {
        self.by_id.find(hash(id), &|slot| id_of(segments, &self.slots, slot) == id)
    }

    pub(crate) fn slot(&self, slot: u32) -> Option<Slot> {
        self.slots.get(slot as usize).copied()
    }

    pub(crate) fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)
    }

    /// Adds a row, or points its slot elsewhere; gives what the slot held before.
    pub(crate) fn put(&mut self, segments: &Segments, id: &[u8], new: Slot) -> (u32, Option<Slot>) {
        if let Some(slot) = self.find(segments, id) {
            let old = self.slots.get_mut(slot as usize).map(|place| core::mem::replace(place, new));
            return (slot, old);
        }
        let slot = self.free.pop().unwrap_or_else(|| u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = new,
            None => self.slots.push(new),
        }
        self.by_id.insert(hash(id), slot);
        self.order_insert(segments, slot, id);
        (slot, None)
    }

    /// Removes a row; gives what its slot held.
    pub(crate) fn remove(&mut self, segments: &Segments, id: &[u8]) -> Option<Slot> {
        let slot = self.find(segments, id)?;
        if let Some(order) = &mut self.order {
            let slots = &self.slots;
            if let Ok(at) = order.binary_search_by(|other| id_of(segments, slots, *other).cmp(id)) {
                order.remove(at);
            }
        }
        self.by_id.remove(hash(id), slot);
        let old = self.slots.get(slot as usize).copied();
        self.free.push(slot);
        old
    }

    /// Every slot in order of the rows' ids.
    pub(crate) fn ordered(&mut self, segments: &Segments) -> &[u32] {
        let Self { order, slots, free, .. } = self;
        order.get_or_insert_with(|| {
            // Slots are filled in the order of the segments, whose rows are sorted: mostly in order already.
            let mut used = vec![true; slots.len()];
            for slot in free.iter() {
                if let Some(used) = used.get_mut(*slot as usize) {
                    *used = false;
                }
            }
            let mut all = Vec::with_capacity(slots.len());
            for (slot, used) in (0..).zip(used) {
                if used {
                    all.push(slot);
                }
            }
            sort_positions(&mut all, &mut |left, right| id_of(segments, slots, left).cmp(id_of(segments, slots, right)));
            all
        })
    }

    /// Every slot, in no order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.by_id.positions()
    }

    fn order_insert(&mut self, segments: &Segments, slot: u32, id: &[u8]) {
        self.order_steps += 1;
        if self.order_steps > ORDER_STEPS_MAX {
            self.order = None;
        }
        let slots = &self.slots;
        if let Some(order) = &mut self.order {
            let at = order.partition_point(|other| id_of(segments, slots, *other) < id);
            order.insert(at, slot);
        }
    }
}

fn id_of<'a>(segments: &'a Segments, slots: &[Slot], slot: u32) -> &'a [u8] {
    slots.get(slot as usize).map_or(&[], |place| segments.id(place.segment, place.offset))
}
