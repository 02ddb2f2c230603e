//! Records of the `entities` store: commit records and merged segments. Format: `docs/storage.md`, "Segments".

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

use xxhash_rust::xxh64::xxh64;

use super::row_codec::{Bytes, Column};
use super::section_writer::SectionWriter;

const MAGIC: &[u8; 4] = b"SYS1";
const FORMAT: u8 = 1;
/// Magic, format, kind, reserved, from, to, count of sections: what the checksum is seeded with.
const HEADER_BYTES: usize = 28;
/// A row without fields: length, seq, an empty id, flags, count of fields.
const ROW_BYTES_MIN: usize = 16;

/// Why stored bytes are no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentError {
    /// A newer version wrote it.
    TooNew,
    /// Damaged.
    Corrupt,
}

/// What a record is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SegmentKind {
    /// The changes of one page or frame.
    Commit = 0,
    /// What compaction made of several.
    Merged = 1,
}

/// One entity's part of a segment.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) entity: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) row_count: u32,
    pub(crate) tombstone_count: u32,
    /// Where the rows begin; the tombstones follow them.
    pub(crate) rows_at: usize,
    pub(crate) end: usize,
}

/// What stands in the head of a segment and of its sections.
#[derive(Debug)]
pub(crate) struct SegmentHead {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) sections: Vec<Section>,
}

/// Puts sections together.
pub(crate) fn write_segment(kind: SegmentKind, from: u64, to: u64, sections: &[SectionWriter]) -> Vec<u8> {
    let mut bytes = 512;
    for section in sections {
        bytes += section.bytes();
    }
    let mut out = Vec::with_capacity(bytes);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[FORMAT, kind as u8, 0, 0]);
    out.extend_from_slice(&from.to_le_bytes());
    out.extend_from_slice(&to.to_le_bytes());
    out.extend_from_slice(&u32::try_from(sections.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    for section in sections {
        section.finish(&mut out);
    }
    let sum = checksum(&out).unwrap_or(0);
    if let Some(slot) = out.get_mut(HEADER_BYTES..HEADER_BYTES + 8) {
        slot.copy_from_slice(&sum.to_le_bytes());
    }
    out
}

/// Reads the heads and checks the checksum. Rows are walked by [`walk_rows`].
pub(crate) fn read_segment(bytes: &[u8]) -> Result<SegmentHead, SegmentError> {
    let mut reader = Bytes(bytes);
    if reader.take(4) != Some(MAGIC) {
        return Err(SegmentError::Corrupt);
    }
    if reader.u8().ok_or(SegmentError::Corrupt)? != FORMAT {
        // Only a whole record of another format is one from the future; a flipped bit is not.
        return Err(if checksum(bytes) == stored_checksum(bytes) { SegmentError::TooNew } else { SegmentError::Corrupt });
    }
    if checksum(bytes).is_none() || checksum(bytes) != stored_checksum(bytes) {
        return Err(SegmentError::Corrupt);
    }
    read_head(bytes).ok_or(SegmentError::Corrupt)
}

fn checksum(bytes: &[u8]) -> Option<u64> {
    let head = bytes.get(..HEADER_BYTES)?;
    let body = bytes.get(HEADER_BYTES + 8..)?;
    Some(xxh64(body, xxh64(head, 0)))
}

fn stored_checksum(bytes: &[u8]) -> Option<u64> {
    Bytes(bytes.get(HEADER_BYTES..)?).u64()
}

fn read_head(bytes: &[u8]) -> Option<SegmentHead> {
    let mut reader = Bytes(bytes.get(8..)?);
    let (from, to) = (reader.u64()?, reader.u64()?);
    let count = reader.u32()?;
    reader.u64()?;
    let mut sections = Vec::new();
    for _ in 0..count {
        let length = reader.u32()? as usize;
        let start = bytes.len() - reader.0.len();
        sections.push(read_section(reader.take(length)?, start)?);
    }
    Some(SegmentHead { from, to, sections })
}

fn read_section(body: &[u8], start: usize) -> Option<Section> {
    let mut reader = Bytes(body);
    let entity = read_short(&mut reader)?.to_owned();
    let mut columns = Vec::new();
    for _ in 0..reader.u16()? {
        columns.push(Column::new(read_short(&mut reader)?));
    }
    let (row_count, tombstone_count) = (reader.u32()?, reader.u32()?);
    // Memory is reserved for so many.
    if row_count as usize > reader.0.len() / ROW_BYTES_MIN || tombstone_count as usize > reader.0.len() {
        return None;
    }
    let rows_at = start + body.len() - reader.0.len();
    Some(Section { entity, columns, row_count, tombstone_count, rows_at, end: start + body.len() })
}

fn read_short<'a>(reader: &mut Bytes<'a>) -> Option<&'a str> {
    let length = reader.u8()?;
    core::str::from_utf8(reader.take(usize::from(length))?).ok()
}

/// Calls `visit` with where each row of the section begins; gives where the tombstones begin.
pub(crate) fn walk_rows(bytes: &[u8], section: &Section, visit: &mut dyn FnMut(usize)) -> usize {
    let mut at = section.rows_at;
    for _ in 0..section.row_count {
        let Some(length) = bytes.get(at..section.end).and_then(|rest| Bytes(rest).u32()) else { break };
        visit(at);
        at += 4 + length as usize;
    }
    at
}

/// The ids and seqs of a section's deletions, which begin at `at`.
pub(crate) fn tombstones<'a>(bytes: &'a [u8], section: &Section, at: usize) -> impl Iterator<Item = (&'a str, u64)> {
    let mut reader = Bytes(bytes.get(at..section.end).unwrap_or_default());
    (0..section.tombstone_count).map_while(move |_| {
        let seq = reader.u64()?;
        Some((read_short(&mut reader)?, seq))
    })
}

#[cfg(test)]
mod tests {
    use super::super::row_codec::RowRef;
    use super::*;

    fn sample() -> Vec<u8> {
        let mut todo = SectionWriter::new("Todo");
        todo.add_json("a", 4, r#"{"done":false,"n":-3,"t":"x\"y","w":1.5}"#, None).unwrap();
        todo.add_json("b", 9, r#"{"done":null,"tags":[1,{"b":2,"a":"\u00e9"}]}"#, Some(r#"{"done":5}"#)).unwrap();
        todo.add_tombstone("gone", 7);
        write_segment(SegmentKind::Commit, 3, 9, &[todo])
    }

    #[test]
    fn rows_read_back_as_they_were_written() {
        let bytes = sample();
        let head = read_segment(&bytes).unwrap();
        let section = &head.sections[0];
        let mut seen = Vec::new();
        let end = walk_rows(&bytes, section, &mut |at| {
            let row = RowRef::read(&bytes, at, &section.columns).unwrap();
            let mut json = Vec::new();
            row.write_json(&mut json);
            let seqs: Vec<_> = row.column_seqs().into_iter().map(|(column, seq)| (column.name.clone(), seq)).collect();
            seen.push((row.seq, String::from_utf8(json).unwrap(), seqs));
        });
        assert_eq!(
            seen,
            [
                (4, r#"{"id":"a","done":false,"n":-3,"t":"x\"y","w":1.5}"#.to_owned(), vec![]),
                (9, r#"{"id":"b","done":null,"tags":[1,{"a":"é","b":2}]}"#.to_owned(), vec![("done".to_owned(), 5)]),
            ]
        );
        assert_eq!(tombstones(&bytes, section, end).collect::<Vec<_>>(), [("gone", 7)]);
        assert_eq!((head.from, head.to), (3, 9));
    }

    #[test]
    fn counts_that_do_not_fit_are_damage() {
        for (before_rows, count) in [(8, u32::MAX), (8, 100), (4, u32::MAX)] {
            let mut bytes = sample();
            let at = read_segment(&bytes).unwrap().sections[0].rows_at - before_rows;
            bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
            let sum = checksum(&bytes).unwrap();
            bytes[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(read_segment(&bytes).err(), Some(SegmentError::Corrupt));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = sample();
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[index] ^= 1 << bit;
                assert_eq!(read_segment(&bad).unwrap_err(), SegmentError::Corrupt, "byte {index} bit {bit}");
            }
            assert!(read_segment(&good[..index]).is_err());
        }
        let mut newer = good;
        newer[4] = 2;
        let sum = checksum(&newer).unwrap();
        newer[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(read_segment(&newer).unwrap_err(), SegmentError::TooNew);
    }

    #[test]
    fn a_row_that_is_no_object_leaves_nothing_behind() {
        let mut section = SectionWriter::new("T");
        for bad in ["[1]", "{\"a\":", "7", "{\"a\":1e999}"] {
            assert!(section.add_json("x", 1, bad, None).is_err(), "{bad}");
        }
        assert!(section.is_empty() && section.bytes() == 0);
    }
}
