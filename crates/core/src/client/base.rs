//! The rows the server confirmed: segments as they lie on disk, and an index over them. Written by the stream alone.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::json::finish;

use super::names::{EntityIndex, Names};
use super::row_codec::{RowRef, id_at};
use super::row_index::{RowIndex, Slot};
use super::segment::{Section, SegmentHead, read_segment, tombstones, walk_rows};

/// One record of the `entities` store.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) key: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) sections: Vec<(EntityIndex, Section)>,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) rows: u32,
    /// Rows that no later record hides.
    pub(crate) live: u32,
}

impl Segment {
    /// How many of its bytes a merge would keep.
    pub(crate) fn live_bytes(&self) -> usize {
        if self.rows == 0 {
            return self.bytes.len();
        }
        // Both counts are below 2^32 and a segment below 2^32 bytes.
        usize::try_from(self.bytes.len() as u64 * u64::from(self.live) / u64::from(self.rows)).unwrap_or(self.bytes.len())
    }
}

/// The segments of a generation by their position, which never changes while they exist.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    places: Vec<Option<Segment>>,
}

impl Segments {
    pub(crate) fn get(&self, position: u32) -> Option<&Segment> {
        self.places.get(position as usize)?.as_ref()
    }

    fn get_mut(&mut self, position: u32) -> Option<&mut Segment> {
        self.places.get_mut(position as usize)?.as_mut()
    }

    pub(crate) fn id(&self, position: u32, offset: u32) -> &[u8] {
        self.get(position).map_or(&[], |segment| id_at(&segment.bytes, offset as usize))
    }

    fn row(&self, entity: EntityIndex, slot: Slot) -> Option<RowRef<'_>> {
        let segment = self.get(slot.segment)?;
        let (_, section) = segment.sections.iter().find(|(index, _)| *index == entity)?;
        RowRef::read(&segment.bytes, slot.offset as usize, &section.columns)
    }
}

/// What adding a segment did to one row.
#[derive(Debug)]
pub(crate) struct BaseChange {
    pub(crate) entity: EntityIndex,
    pub(crate) id: String,
    /// Whether the row shows what it showed before.
    pub(crate) same: bool,
}

/// One generation of the base.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    /// Rows were taken from this reader's sight, so no record may keep hidden copies until the next compaction is through.
    pub(crate) forgets: bool,
    segments: Segments,
    /// Key and position of each segment, in order of the keys.
    by_key: Vec<(u64, u32)>,
    indexes: Vec<RowIndex>,
}

impl Generation {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    /// Adds a record whose rows hide those of all records before it. Every row that changed gets `version`. `report` learns
    /// of each row; without it nothing is compared, which a start does not need.
    pub(crate) fn add_segment(
        &mut self,
        names: &mut Names,
        key: u64,
        bytes: Vec<u8>,
        head: SegmentHead,
        version: u64,
        mut report: Option<&mut Vec<BaseChange>>,
    ) {
        let position = self.place(names, key, bytes, head);
        let Self { segments, indexes, .. } = self;
        let mut hidden: Vec<u32> = Vec::new();
        let Some(segment) = segments.get(position) else { return };
        for (entity, section) in &segment.sections {
            let Some(index) = indexes.get_mut(entity.position()) else { continue };
            index.begin_batch(section.row_count as usize + section.tombstone_count as usize);
            index.reserve(section.row_count as usize);
            let end = walk_rows(&segment.bytes, section, &mut |at| {
                let id = id_at(&segment.bytes, at);
                let offset = u32::try_from(at).unwrap_or(u32::MAX);
                let (slot, old) = index.put(segments, id, Slot { segment: position, offset, version });
                hidden.extend(old.map(|old| old.segment));
                let Some(changes) = report.as_deref_mut() else { return };
                let mut same = false;
                if let (Some(old), Some(new)) = (old, RowRef::read(&segment.bytes, at, &section.columns)) {
                    same = segments.row(*entity, old).is_some_and(|row| row.shows_the_same(&new));
                    if same && let Some(place) = index.slot_mut(slot) {
                        place.version = old.version;
                    }
                }
                changes.push(BaseChange { entity: *entity, id: finish(id.to_vec()), same });
            });
            for (id, _) in tombstones(&segment.bytes, section, end) {
                let Some(old) = index.remove(segments, id.as_bytes()) else { continue };
                hidden.push(old.segment);
                match report.as_deref_mut() {
                    Some(changes) => changes.push(BaseChange { entity: *entity, id: id.to_owned(), same: false }),
                    // Read from disk, where a row that left and one that was deleted look the same: be rid of both.
                    None => self.forgets = true,
                }
            }
        }
        for old in hidden {
            if let Some(segment) = segments.get_mut(old) {
                segment.live = segment.live.saturating_sub(1);
            }
        }
    }

    /// Exchanges a run of records for what compaction made of them, under the last one's key. Rows that changed meanwhile keep
    /// their newer place.
    pub(crate) fn replace_run(&mut self, names: &mut Names, run: &[u64], merged: Option<Vec<u8>>) {
        let mut old: Vec<u32> = Vec::new();
        self.by_key.retain(|(key, position)| {
            let stays = !run.contains(key);
            if !stays {
                old.push(*position);
            }
            stays
        });
        if let (Some(key), Some(bytes)) = (run.last(), merged)
            && let Ok(head) = read_segment(&bytes)
        {
            let position = self.place(names, *key, bytes, head);
            let Self { segments, indexes, .. } = self;
            let mut live = 0;
            let Some(segment) = segments.get(position) else { return };
            for (entity, section) in &segment.sections {
                let Some(index) = indexes.get_mut(entity.position()) else { continue };
                walk_rows(&segment.bytes, section, &mut |at| {
                    let Some(slot) = index.find(segments, id_at(&segment.bytes, at)) else { return };
                    let Some(place) = index.slot_mut(slot) else { return };
                    if old.contains(&place.segment) {
                        place.segment = position;
                        place.offset = u32::try_from(at).unwrap_or(u32::MAX);
                        live += 1;
                    }
                });
            }
            if let Some(segment) = segments.get_mut(position) {
                segment.live = live;
            }
        }
        for position in old {
            if let Some(place) = self.segments.places.get_mut(position as usize) {
                *place = None;
            }
        }
    }

    /// Puts the segment in a free place and makes indexes for its entities.
    fn place(&mut self, names: &mut Names, key: u64, bytes: Vec<u8>, head: SegmentHead) -> u32 {
        let mut sections = Vec::with_capacity(head.sections.len());
        let mut rows = 0;
        for section in head.sections {
            let entity = names.intern(&section.entity);
            while self.indexes.len() <= entity.position() {
                self.indexes.push(RowIndex::default());
            }
            rows += section.row_count;
            sections.push((entity, section));
        }
        let segment = Segment { key, bytes, sections, from: head.from, to: head.to, rows, live: rows };
        let places = &mut self.segments.places;
        let free = places.iter().position(Option::is_none).unwrap_or(places.len());
        match places.get_mut(free) {
            Some(place) => *place = Some(segment),
            None => places.push(Some(segment)),
        }
        let position = u32::try_from(free).unwrap_or(u32::MAX);
        let at = self.by_key.partition_point(|(other, _)| *other < key);
        self.by_key.insert(at, (key, position));
        position
    }

    pub(crate) fn row(&self, entity: EntityIndex, id: &str) -> Option<(RowRef<'_>, u64)> {
        let index = self.indexes.get(entity.position())?;
        let slot = index.slot(index.find(&self.segments, id.as_bytes())?)?;
        Some((self.segments.row(entity, slot)?, slot.version))
    }

    pub(crate) fn set_version(&mut self, entity: EntityIndex, id: &str, version: u64) {
        let Some(index) = self.indexes.get_mut(entity.position()) else { return };
        let Some(slot) = index.find(&self.segments, id.as_bytes()) else { return };
        if let Some(place) = index.slot_mut(slot) {
            place.version = version;
        }
    }

    pub(crate) fn len(&self, entity: EntityIndex) -> usize {
        self.indexes.get(entity.position()).map_or(0, RowIndex::len)
    }

    pub(crate) fn entities(&self) -> usize {
        self.indexes.len()
    }

    /// Calls `visit` for each row of an entity, in order of the ids.
    pub(crate) fn visit_ordered(&mut self, entity: EntityIndex, mut visit: impl FnMut(&RowRef<'_>)) {
        let Self { segments, indexes, .. } = self;
        let Some(index) = indexes.get_mut(entity.position()) else { return };
        let order = index.ordered(segments).to_vec();
        for slot in order {
            if let Some(row) = index.slot(slot).and_then(|slot| segments.row(entity, slot)) {
                visit(&row);
            }
        }
    }

    /// The ids of an entity, in no order.
    pub(crate) fn ids(&self, entity: EntityIndex) -> Vec<String> {
        let Some(index) = self.indexes.get(entity.position()) else { return Vec::new() };
        let id = |slot: Slot| finish(self.segments.id(slot.segment, slot.offset).to_vec());
        index.slots().filter_map(|slot| index.slot(slot)).map(id).collect()
    }

    /// The records in order of their keys.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Segment> {
        self.by_key.iter().filter_map(|(_, position)| self.segments.get(*position))
    }

    /// Whether this very copy of the row is the one that shows.
    pub(crate) fn shows_copy(&self, entity: EntityIndex, id: &[u8], key: u64, at: usize) -> bool {
        let place = || {
            let index = self.indexes.get(entity.position())?;
            index.slot(index.find(&self.segments, id)?)
        };
        place().is_some_and(|slot| {
            slot.offset as usize == at && self.segments.get(slot.segment).is_some_and(|segment| segment.key == key)
        })
    }

    pub(crate) fn contains(&self, entity: EntityIndex, id: &[u8]) -> bool {
        self.indexes.get(entity.position()).is_some_and(|index| index.find(&self.segments, id).is_some())
    }
}
