//! Finds the rows of one entity by id, without keeping the ids: they are compared where they lie in the segments.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh64::xxh64;

use super::base::Segments;

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

/// What the table holds for a row. Half of the hash stays with it, so that growing reads no ids.
#[derive(Debug, Clone, Copy)]
struct Held {
    slot: u32,
    hash: u32,
}

impl Held {
    /// The table's own hash: it takes its buckets from the low bits and its tags from the high ones.
    const fn table_hash(hash: u32) -> u64 {
        (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The rows of one entity.
#[derive(Debug, Default)]
pub(crate) struct RowIndex {
    table: HashTable<Held>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots in order of their ids; `None` until somebody asks, or after many changes at once.
    order: Option<Vec<u32>>,
    order_steps: usize,
}

/// The upper half of a fixed hash.
fn hash(id: &[u8]) -> u32 {
    u32::try_from(xxh64(id, 0) >> 32).unwrap_or(0)
}

impl RowIndex {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn reserve(&mut self, count: usize) {
        self.slots.reserve(count);
        self.table.reserve(count, |entry| Held::table_hash(entry.hash));
    }

    /// Announces how many rows are about to be added or removed.
    pub(crate) fn begin_batch(&mut self, rows: usize) {
        self.order_steps = 0;
        if rows > ORDER_STEPS_MAX {
            self.order = None;
        }
    }

    pub(crate) fn find(&self, segments: &Segments, id: &[u8]) -> Option<u32> {
        let hash = hash(id);
        let equal = |entry: &Held| entry.hash == hash && id_of(segments, &self.slots, entry.slot) == id;
        self.table.find(Held::table_hash(hash), equal).map(|entry| entry.slot)
    }

    pub(crate) fn slot(&self, slot: u32) -> Option<Slot> {
        self.slots.get(slot as usize).copied()
    }

    pub(crate) fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)
    }

    /// Adds a row, or points its slot elsewhere; gives what the slot held before.
    pub(crate) fn put(&mut self, segments: &Segments, id: &[u8], new: Slot) -> (u32, Option<Slot>) {
        let Self { table, slots, free, .. } = self;
        let hash = hash(id);
        let equal = |entry: &Held| entry.hash == hash && id_of(segments, slots, entry.slot) == id;
        let found = match table.entry(Held::table_hash(hash), equal, |entry| Held::table_hash(entry.hash)) {
            Entry::Occupied(entry) => Ok(entry.get().slot),
            Entry::Vacant(entry) => {
                let slot = free.last().copied().unwrap_or_else(|| u32::try_from(slots.len()).unwrap_or(u32::MAX));
                entry.insert(Held { slot, hash });
                Err(slot)
            }
        };
        match found {
            Ok(slot) => {
                let old = slots.get_mut(slot as usize).map(|place| std::mem::replace(place, new));
                (slot, old)
            }
            Err(slot) => {
                free.pop();
                match slots.get_mut(slot as usize) {
                    Some(place) => *place = new,
                    None => slots.push(new),
                }
                self.order_insert(segments, slot, id);
                (slot, None)
            }
        }
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
        if let Ok(entry) = self.table.find_entry(Held::table_hash(hash(id)), |other| other.slot == slot) {
            entry.remove();
        }
        let old = self.slots.get(slot as usize).copied();
        self.free.push(slot);
        old
    }

    /// Every slot in order of the rows' ids.
    pub(crate) fn ordered(&mut self, segments: &Segments) -> &[u32] {
        let Self { order, slots, table, .. } = self;
        order.get_or_insert_with(|| {
            let mut all: Vec<u32> = table.iter().map(|entry| entry.slot).collect();
            // Slots are filled in the order of the segments, whose rows are sorted: mostly in order already.
            all.sort_unstable();
            all.sort_by(|left, right| id_of(segments, slots, *left).cmp(id_of(segments, slots, *right)));
            all
        })
    }

    /// Every slot, in no order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.table.iter().map(|entry| entry.slot)
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
