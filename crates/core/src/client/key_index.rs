//! Finds by its key where something is kept, without keeping the key.
//!
//! One table serves rows, writes and names alike: a map type for each of them would bring its own copy of the code along,
//! and the module is downloaded by every page. Nothing here depends on a random seed, so a client stays deterministic.

use alloc::vec;
use alloc::vec::Vec;

use xxhash_rust::xxh64::xxh64;

/// Stands for no position.
const NONE: u32 = u32::MAX;

/// Half of the hash stays with the position, so that growing reads no keys.
#[derive(Debug, Clone, Copy)]
struct Cell {
    hash: u32,
    position: u32,
}

/// Positions by the hashes of their keys. The number of cells is a power of two, or zero; at most four in five are taken.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    cells: Vec<Cell>,
    len: usize,
}

/// The upper half of a fixed hash.
#[inline(never)]
pub(crate) fn hash(key: &[u8]) -> u32 {
    u32::try_from(xxh64(key, 0) >> 32).unwrap_or(0)
}

impl KeyIndex {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Makes room for this many more.
    #[inline(never)]
    pub(crate) fn reserve(&mut self, more: usize) {
        let taken = self.len + more;
        let wanted = (taken + taken / 4 + 1).next_power_of_two();
        if wanted > self.cells.len() {
            let old = core::mem::replace(&mut self.cells, vec![Cell { hash: 0, position: NONE }; wanted]);
            for cell in old {
                if cell.position != NONE {
                    self.settle(cell);
                }
            }
        }
    }

    /// The position whose key has this hash and for which `is_it` says yes.
    #[inline(never)]
    pub(crate) fn find(&self, hash: u32, is_it: &dyn Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let cell = self.cells.get(at)?;
            if cell.position == NONE {
                return None;
            }
            if cell.hash == hash && is_it(cell.position) {
                return Some(cell.position);
            }
            at = self.wrap(at + 1);
        }
    }

    /// Adds a position; the caller has made sure that its key is not here.
    #[inline(never)]
    pub(crate) fn insert(&mut self, hash: u32, position: u32) {
        self.reserve(1);
        self.len += 1;
        self.settle(Cell { hash, position });
    }

    /// Takes a position out, if it is here.
    #[inline(never)]
    pub(crate) fn remove(&mut self, hash: u32, position: u32) {
        let mut hole = self.home(hash);
        loop {
            match self.cells.get(hole) {
                Some(cell) if cell.position == NONE => return,
                Some(cell) if cell.hash == hash && cell.position == position => break,
                Some(_) => hole = self.wrap(hole + 1),
                None => return,
            }
        }
        // Cells that settled further along because of this one move back, so that a search never stops too early.
        let mut next = self.wrap(hole + 1);
        while let Some(cell) = self.cells.get(next).copied().filter(|cell| cell.position != NONE) {
            let from_home = self.wrap(next.wrapping_sub(self.home(cell.hash)));
            if from_home >= self.wrap(next.wrapping_sub(hole)) {
                self.put(hole, cell);
                hole = next;
            }
            next = self.wrap(next + 1);
        }
        self.put(hole, Cell { hash: 0, position: NONE });
        self.len -= 1;
    }

    /// Every position, in no order.
    pub(crate) fn positions(&self) -> impl Iterator<Item = u32> {
        self.cells.iter().map(|cell| cell.position).filter(|position| *position != NONE)
    }

    fn settle(&mut self, cell: Cell) {
        let mut at = self.home(cell.hash);
        while self.cells.get(at).is_some_and(|taken| taken.position != NONE) {
            at = self.wrap(at + 1);
        }
        self.put(at, cell);
    }

    fn put(&mut self, at: usize, cell: Cell) {
        if let Some(place) = self.cells.get_mut(at) {
            *place = cell;
        }
    }

    const fn home(&self, hash: u32) -> usize {
        self.wrap(hash as usize)
    }

    const fn wrap(&self, at: usize) -> usize {
        at & self.cells.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that all want the same few cells.
    fn crowded(key: u32) -> u32 {
        key % 7 * 0x1000_0000 + key % 3
    }

    #[test]
    fn it_keeps_what_a_map_keeps() {
        let mut index = KeyIndex::default();
        let mut kept = std::collections::BTreeSet::new();
        assert_eq!(index.find(0, &|_| true), None);
        let mut state = 1_u32;
        for step in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = state >> 16 & 0x1ff;
            let of = if step < 10_000 { crowded(key) } else { hash(&key.to_le_bytes()) };
            if step == 10_000 {
                (index, kept) = (KeyIndex::default(), std::collections::BTreeSet::new());
            }
            if state & 0x8000 == 0 {
                index.remove(of, key);
                kept.remove(&key);
            } else if kept.insert(key) {
                index.insert(of, key);
            }
            assert_eq!(index.len(), kept.len());
            assert_eq!(index.find(of, &|position| position == key).is_some(), kept.contains(&key));
        }
        let mut positions: Vec<u32> = index.positions().collect();
        positions.sort_unstable();
        assert_eq!(positions, kept.into_iter().collect::<Vec<_>>());
    }
}
