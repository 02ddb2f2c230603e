//! Merging neighbouring records, so that a replica which receives many small frames starts as fast as a fresh one.

use alloc::vec;
use alloc::vec::Vec;

use syncline_protocol::{limits, positions, sort_positions};

use super::Client;
use super::base::{Generation, Segment};
use super::row_codec::RowRef;
use super::section_writer::{SectionWriter, section_of};
use super::segment::{SegmentKind, tombstones, walk_rows, write_segment};
use crate::planted;

/// A run this long is worth merging whatever its size.
const RUN_RECORDS: usize = 32;
/// A record below this many bytes is not rewritten for its hidden rows alone.
const MOSTLY_HIDDEN_BYTES_MIN: usize = 64 * 1024;

/// A merge under way.
#[derive(Debug)]
pub(crate) struct Compaction {
    generation: u64,
    run: Vec<u64>,
    /// To be kept under the key of the last record; `None`: nothing is left.
    merged: Option<Vec<u8>>,
}

impl Client {
    /// Merges one run when the disk has nothing else to do. The records in memory stay until the disk has exchanged them.
    pub(super) fn pump_compaction(&mut self) {
        if !self.tabs.leads || !self.storage.may_compact() || self.staging.is_some() {
            return;
        }
        let Some(run) = choose_run(&self.base) else {
            self.base.forgets = false;
            return self.storage.compaction_is_done();
        };
        let Ok(merged) = merge(&self.base, &run) else {
            return self.storage.compaction_is_off();
        };
        let mut delete = run.clone();
        let mut put = Vec::new();
        if let Some(bytes) = &merged {
            // What the run becomes takes the key of its last record.
            put.extend(delete.pop().map(|last| (last, bytes.clone())));
        }
        let generation = self.base.number;
        self.request_compaction(Compaction { generation, run, merged }, put, delete);
    }

    /// The disk exchanged the records: so does memory.
    pub(super) fn compacted(&mut self, compaction: Compaction) {
        if compaction.generation == self.base.number {
            self.base.replace_run(&mut self.names, &compaction.run, compaction.merged);
        }
    }
}

/// Picks neighbouring records to merge into one of at most a segment's size, or one record to be rid of its hidden rows.
fn choose_run(base: &Generation) -> Option<Vec<u64>> {
    let records: Vec<&Segment> = base.records().collect();
    if base.forgets
        && let Some(record) = records.iter().find(|record| record.live < record.rows)
    {
        // Whoever lost sight of rows must not find them on disk. An ordinary deletion can wait for the thresholds below.
        return Some(vec![record.key]);
    }
    for end in (1..=records.len()).rev() {
        let run = run_before(&records, end);
        if run.len() >= RUN_RECORDS {
            return Some(run.iter().map(|record| record.key).collect());
        }
    }
    let mostly_hidden =
        |record: &&&Segment| record.bytes.len() >= MOSTLY_HIDDEN_BYTES_MIN && record.rows > 0 && record.live * 2 < record.rows;
    records.iter().find(mostly_hidden).map(|record| vec![record.key])
}

/// The records before `end` that are worth merging together. Beyond the first few an older one joins only when it is not much
/// larger than what is merged anyway, so that each row is rewritten a logarithmic number of times.
fn run_before<'a, 's>(records: &'a [&'s Segment], end: usize) -> &'a [&'s Segment] {
    let mut bytes = 0;
    let mut start = end;
    while let Some(before) = start.checked_sub(1) {
        let Some(record) = records.get(before) else { break };
        let size = record.live_bytes();
        let worth_it = end - before <= RUN_RECORDS || size <= bytes * 2;
        if bytes + size > limits::SEGMENT_BYTES_MAX || !worth_it {
            break;
        }
        bytes += size;
        start = before;
    }
    records.get(start..end).unwrap_or_default()
}

/// The rows of a run have more names of fields than one record can number.
#[derive(Debug)]
struct TooManyNames;

/// A row or a deletion that a merge keeps.
#[derive(Debug)]
struct Piece<'a> {
    entity: &'a str,
    id: &'a str,
    seq: u64,
    /// `None`: a deletion.
    row: Option<RowRef<'a>>,
}

/// What the run says: the rows that show, and the deletions that older records need. In the order of the records.
fn gather<'a>(base: &'a Generation, run: &[u64]) -> Vec<Piece<'a>> {
    let is_oldest = base.records().next().map(|record| record.key) == run.first().copied();
    let mut pieces = Vec::new();
    for record in base.records().filter(|record| run.contains(&record.key)) {
        for (index, section) in &record.sections {
            let entity = section.entity.as_str();
            let end = walk_rows(&record.bytes, section, &mut |at| {
                let Some(row) = RowRef::read(&record.bytes, at, &section.columns) else { return };
                if base.shows_copy(*index, row.id, record.key, at) {
                    pieces.push(Piece { entity, id: row.id_text(), seq: row.seq, row: Some(row) });
                }
            });
            for (id, seq) in tombstones(&record.bytes, section, end) {
                if !is_oldest && !planted::is(14) && !base.contains(*index, id.as_bytes()) {
                    pieces.push(Piece { entity, id, seq, row: None });
                }
            }
        }
    }
    pieces
}

/// One record that says what the run says.
fn merge(base: &Generation, run: &[u64]) -> Result<Option<Vec<u8>>, TooManyNames> {
    let pieces = gather(base, run);
    let piece = |position: u32| pieces.get(position as usize);
    let key = |position: u32| piece(position).map(|piece| (piece.entity, piece.id));
    let mut order = positions(pieces.len());
    sort_positions(&mut order, &mut |left, right| key(left).cmp(&key(right)));
    let mut sections: Vec<SectionWriter> = Vec::new();
    for (at, position) in order.iter().enumerate() {
        let Some(Piece { entity, id, seq, row }) = piece(*position) else { continue };
        let section = section_of(&mut sections, entity);
        match row {
            Some(row) => section.add_row(row),
            // Of several deletions of one row the newest counts; they lie side by side, in the order of the records.
            None if order.get(at + 1).is_none_or(|next| key(*next) != key(*position)) => section.add_tombstone(id, *seq),
            None => {}
        }
    }
    if !sections.iter().all(SectionWriter::fits) {
        return Err(TooManyNames);
    }
    let mut records = base.records().filter(|record| run.contains(&record.key));
    let (Some(first), false) = (records.next(), sections.is_empty()) else { return Ok(None) };
    let to = records.last().map_or(first.to, |last| last.to);
    Ok(Some(write_segment(SegmentKind::Merged, first.from, to, &sections)))
}
