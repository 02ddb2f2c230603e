//! Merging neighbouring records, so that a replica which receives many small frames starts as fast as a fresh one.

use syncline_protocol::{limits, positions, sort_positions};

use super::Client;
use super::base::{Generation, Segment};
use super::row_codec::RowRef;
use super::section_writer::SectionWriter;
use super::segment::{SegmentKind, read_segment, tombstones, walk_rows, write_segment};

/// A run this long is worth merging whatever its size.
const RUN_RECORDS: usize = 32;
/// A record below this many bytes is not rewritten for its hidden rows alone.
const MOSTLY_HIDDEN_BYTES_MIN: usize = 64 * 1024;

/// A merge under way.
#[derive(Debug)]
pub(crate) struct Compaction {
    generation: u64,
    run: Vec<u64>,
    merged: Option<(u64, Vec<u8>)>,
}

impl Client {
    /// Merges one run when the disk has nothing else to do. The records in memory stay until the disk has exchanged them.
    pub(super) fn pump_compaction(&mut self) {
        if !self.storage.may_compact() || self.staging.is_some() {
            return;
        }
        let Some(run) = choose_run(&self.base) else {
            self.base.forgets = false;
            return self.storage.compaction_is_done();
        };
        let Ok(merged) = merge(&self.base, &run) else {
            return self.storage.compaction_is_off();
        };
        let last = run.last().copied().unwrap_or_default();
        let kept = merged.as_ref().map(|_| last);
        let delete = run.iter().copied().filter(|key| Some(*key) != kept).collect();
        let merged = merged.map(|bytes| (last, bytes));
        let put = merged.clone().into_iter().collect();
        let generation = self.base.number;
        self.request_compaction(Compaction { generation, run, merged }, put, delete);
    }

    /// The disk exchanged the records: so does memory.
    pub(super) fn compacted(&mut self, compaction: Compaction) {
        if compaction.generation != self.base.number {
            return;
        }
        let read = |(key, bytes): (u64, Vec<u8>)| read_segment(&bytes).ok().map(|head| (key, bytes, head));
        let merged = compaction.merged.and_then(read).into_iter().collect();
        self.base.replace_run(&mut self.names, &compaction.run, merged);
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

/// One record that says what the run says: the rows that show, and the deletions that older records need.
fn merge(base: &Generation, run: &[u64]) -> Result<Option<Vec<u8>>, TooManyNames> {
    let records: Vec<&Segment> = base.records().filter(|record| run.contains(&record.key)).collect();
    let is_oldest = base.records().next().map(|record| record.key) == run.first().copied();
    let mut sections: Vec<Gathered<'_>> = Vec::new();
    for record in &records {
        for (entity, section) in &record.sections {
            let at = sections.iter().position(|gathered| gathered.entity == section.entity).unwrap_or(sections.len());
            if at == sections.len() {
                sections.push(Gathered { entity: &section.entity, rows: Vec::new(), tombstones: Vec::new() });
            }
            let Some(gathered) = sections.get_mut(at) else { continue };
            let end = walk_rows(&record.bytes, section, |at| {
                let Some(row) = RowRef::read(&record.bytes, at, &section.columns) else { return };
                if base.shows_copy(*entity, row.id, record.key, at) {
                    gathered.rows.push(row);
                }
            });
            for (id, seq) in tombstones(&record.bytes, section, end) {
                if !is_oldest && !base.contains(*entity, id.as_bytes()) {
                    gathered.tombstones.push((id, seq));
                }
            }
        }
    }
    let mut writers = Vec::new();
    let mut order = positions(sections.len());
    let section = |position: u32| sections.get(position as usize);
    let entity = |position: u32| section(position).map(|gathered| gathered.entity);
    sort_positions(&mut order, &mut |left, right| entity(left).cmp(&entity(right)));
    for gathered in order.into_iter().filter_map(section) {
        let writer = gathered.write();
        if !writer.fits() {
            return Err(TooManyNames);
        }
        if !writer.is_empty() {
            writers.push(writer);
        }
    }
    let (Some(first), Some(last), false) = (records.first(), records.last(), writers.is_empty()) else { return Ok(None) };
    Ok(Some(write_segment(SegmentKind::Merged, first.from, last.to, writers)))
}

/// What a run says about one entity.
#[derive(Debug)]
struct Gathered<'a> {
    entity: &'a str,
    rows: Vec<RowRef<'a>>,
    /// In the order of the records.
    tombstones: Vec<(&'a str, u64)>,
}

impl Gathered<'_> {
    fn write(&self) -> SectionWriter {
        let mut writer = SectionWriter::new(self.entity);
        let row = |position: u32| self.rows.get(position as usize);
        let row_id = |position: u32| row(position).map(|row| row.id);
        let mut order = positions(self.rows.len());
        sort_positions(&mut order, &mut |left, right| row_id(left).cmp(&row_id(right)));
        for row in order.into_iter().filter_map(row) {
            writer.add_row(row);
        }
        let tombstone = |position: u32| self.tombstones.get(position as usize).copied();
        let gone_id = |position: u32| tombstone(position).map(|(id, _)| id);
        let mut order = positions(self.tombstones.len());
        sort_positions(&mut order, &mut |left, right| gone_id(left).cmp(&gone_id(right)));
        for (at, position) in order.iter().enumerate() {
            // Of several about one row the newest counts; they lie side by side, in the order of the records.
            let is_last = order.get(at + 1).is_none_or(|next| gone_id(*next) != gone_id(*position));
            if let (Some((id, seq)), true) = (tombstone(*position), is_last) {
                writer.add_tombstone(id, seq);
            }
        }
        writer
    }
}
