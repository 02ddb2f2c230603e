//! Takes pages and frames into the base: whole, in order, or not at all.

use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::{Change, ChangeKind, ErrorCode, Page, RawJson, positions, sort_positions};

use super::Client;
use super::base::{BaseChange, Generation};
use super::connection::Phase;
use super::key_index::{KeyIndex, hash};
use super::mutation_record::MutationState;
use super::names::Names;
use super::replica_record::Position;
use super::section_writer::{SectionWriter, section_of};
use super::segment::{SegmentKind, read_segment, write_segment};
use super::storage_flow::Records;
use crate::planted;

/// Pages that fit together only once a later one has come, in bytes; above this everything is pulled again.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Pages that wait for the seq at which everything fits together.
#[derive(Debug, Default)]
pub(crate) struct HeldPages {
    pages: Vec<Page>,
    consistent_at: u64,
    bytes: usize,
}

impl HeldPages {
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Why a page is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageFault {
    /// It begins after the place the replica stands at.
    Gap,
    /// Its checksum is not that of its changes.
    Checksum,
    /// A change of a kind this version does not know.
    UnknownKind,
    /// Anything else that the documentation rules out.
    Shape,
}

impl Client {
    pub(super) fn frame_received(&mut self, page: Page) {
        // While a pull is under way the frames would leave a gap; `resume` brings them again.
        if self.link.phase == Phase::Live && self.take_page(page) {
            self.tell_synced();
        }
    }

    /// The token to continue from, and the seq the stream stands at.
    fn stream_place(&self) -> (Option<&str>, u64) {
        match self.held.pages.last() {
            Some(page) if self.record.staging.is_none() => (Some(&page.cursor.token), page.to),
            Some(_) | None => {
                let position = self.record.stream();
                (position.token.as_deref(), position.seq)
            }
        }
    }

    pub(super) fn stream_token(&self) -> Option<&str> {
        self.stream_place().0
    }

    /// Takes a page, or decides what to do about one that does not fit; says whether it was taken.
    pub(super) fn take_page(&mut self, page: Page) -> bool {
        let (code, message) = match self.check_page(&page) {
            Ok(()) => {
                self.link.server_head = self.link.server_head.max(Some(page.to));
                if self.accept_page(page) {
                    return true;
                }
                (ErrorCode::InvalidFrame, "a page's rows are not of the documented shape")
            }
            Err(PageFault::UnknownKind) => {
                self.become_incompatible(ErrorCode::UnknownKind, "the server sent a kind of change this version does not know");
                return false;
            }
            Err(PageFault::Gap) => (ErrorCode::InvalidFrame, "a frame was missed"),
            Err(PageFault::Checksum) => (ErrorCode::ChecksumMismatch, "a page does not match its checksum"),
            Err(PageFault::Shape) => (ErrorCode::InvalidFrame, "a page is not of the documented shape"),
        };
        self.problem(code, message);
        self.lose_socket(message);
        false
    }

    fn check_page(&self, page: &Page) -> Result<(), PageFault> {
        if !page.checksum_matches() {
            return Err(PageFault::Checksum);
        }
        for change in &page.changes {
            let full = match &change.kind {
                ChangeKind::Insert | ChangeKind::Update | ChangeKind::Enter => true,
                ChangeKind::Delete | ChangeKind::Leave => false,
                ChangeKind::Increment | ChangeKind::Append | ChangeKind::Unknown(_) => return Err(PageFault::UnknownKind),
            };
            if full != change.data.is_some() {
                return Err(PageFault::Shape);
            }
        }
        if page.to < page.from || page.cursor.last_seq != page.to {
            return Err(PageFault::Shape);
        }
        match (page.snapshot, &self.record.staging) {
            (Some(mark), None) if !mark.start => Err(PageFault::Shape),
            // Half a copy would show.
            (None, Some(staging)) if !staging.ended => Err(PageFault::Shape),
            (None, _) if page.from > self.stream_place().1 && !planted::is(8) => Err(PageFault::Gap),
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn accept_page(&mut self, page: Page) -> bool {
        if page.snapshot.is_some() || self.record.staging.is_some() {
            return self.stage_page(&page);
        }
        let place = self.stream_place().1;
        if page.to < place || (page.to == place && page.from < place) {
            // A repetition. A page that begins and ends here only renews the token.
            return true;
        }
        self.held.consistent_at = self.held.consistent_at.max(page.consistent_at.unwrap_or(0));
        let complete = page.to >= self.held.consistent_at;
        if complete && self.held.pages.is_empty() {
            return self.show_pages(&[page]);
        }
        for change in &page.changes {
            self.held.bytes += change.data.as_ref().map_or(0, |data| data.get().len()) + 128;
        }
        self.held.pages.push(page);
        if !complete {
            if self.held.bytes > HELD_BYTES_MAX {
                self.restart_snapshot();
            }
            return true;
        }
        let held = core::mem::take(&mut self.held);
        self.show_pages(&held.pages)
    }

    /// Makes pages visible in one step.
    fn show_pages(&mut self, pages: &[Page]) -> bool {
        if pages.len() > 1 && !pages.iter().all(can_be_encoded) {
            return false;
        }
        let mut position = self.record.shown.clone();
        let mut put = Records::new();
        let mut changes = Vec::new();
        let version = self.log.advance();
        for page in pages {
            if !add_page(&mut self.base, &mut self.names, &mut position, page, version, Some(&mut changes), &mut put) {
                // Of several pages each was tried before, and a single one is added whole or not at all.
                return false;
            }
        }
        self.record.shown = position;
        let dirty = self.base_changed(changes);
        for page in pages {
            self.confirm_own(page);
        }
        let removed = self.leave_passed(dirty);
        self.queue_commit(put, removed, Vec::new());
        true
    }

    /// Notes which rows of the view changed with the base; gives those that open writes touch.
    pub(super) fn base_changed(&mut self, changes: Vec<BaseChange>) -> Vec<(super::EntityIndex, String)> {
        let mut dirty = Vec::new();
        for change in changes {
            if self.overlay.row(change.entity, &change.id).is_some() {
                dirty.push((change.entity, change.id));
            } else if !change.same {
                self.changed.insert(change.entity);
                self.log.record(change.entity, &change.id);
            }
        }
        dirty
    }

    /// The stream itself proves that a write was applied, even when its outcome got lost.
    pub(super) fn confirm_own(&mut self, page: &Page) {
        for transaction in &page.transactions {
            if transaction.client_id.as_ref() != Some(&self.record.client_id) {
                continue;
            }
            let Some(place) = self.queue.find(&transaction.op_id) else { continue };
            if self.queue.get(place).is_some_and(|mutation| mutation.state == MutationState::Sent) {
                self.confirm_mutation(place, transaction.last_seq);
            }
        }
    }
}

/// Adds one page to a generation as one record, also to those to `put`, and moves the position behind it. There is no record
/// when nothing changed. Says whether every row is of the documented shape; if not, nothing was added.
pub(crate) fn add_page(
    generation: &mut Generation,
    names: &mut Names,
    position: &mut Position,
    page: &Page,
    version: u64,
    report: Option<&mut Vec<BaseChange>>,
    put: &mut Records,
) -> bool {
    let Some(sections) = encode_changes(generation, names, position.seq, page) else { return false };
    if !sections.is_empty() {
        let bytes = write_segment(SegmentKind::Commit, position.seq, page.to, &sections);
        let Ok(head) = read_segment(&bytes) else { return false };
        let key = position.take_key();
        generation.add_segment(names, key, bytes.clone(), head, version, report);
        generation.forgets |= page.changes.iter().any(|change| matches!(change.kind, ChangeKind::Leave));
        put.push((key, bytes));
    }
    position.seq = page.to;
    position.token = Some(page.cursor.token.clone());
    true
}

/// Picks the last word about each row of the page and encodes it.
fn encode_changes(generation: &Generation, names: &mut Names, seen_seq: u64, page: &Page) -> Option<Vec<SectionWriter>> {
    let mut last: Vec<&Change> = Vec::new();
    let mut by_row = KeyIndex::default();
    for change in &page.changes {
        let moves = matches!(change.kind, ChangeKind::Enter | ChangeKind::Leave);
        if !moves && change.seq <= seen_seq {
            continue;
        }
        let row = row_of(change);
        let hash = hash(row.1.as_bytes());
        let found = by_row.find(hash, &|position| last.get(position as usize).is_some_and(|other| row_of(other) == row));
        let earlier = found.and_then(|position| last.get_mut(position as usize));
        let held_seq = match &earlier {
            Some(earlier) => earlier.data.as_ref().map(|_| earlier.seq),
            None => names.find(row.0).and_then(|entity| generation.row(entity, row.1)).map(|(held, _)| held.seq),
        };
        if held_seq.is_some_and(|held| change.seq < held) {
            continue;
        }
        if let Some(earlier) = earlier {
            *earlier = change;
        } else {
            by_row.insert(hash, u32::try_from(last.len()).unwrap_or(u32::MAX));
            last.push(change);
        }
    }
    let mut order = positions(last.len());
    let change = |position: u32| last.get(position as usize).copied();
    sort_positions(&mut order, &mut |left, right| change(left).map(row_of).cmp(&change(right).map(row_of)));
    let mut sections: Vec<SectionWriter> = Vec::new();
    for change in order.into_iter().filter_map(change) {
        let (entity, id) = row_of(change);
        match &change.data {
            Some(data) => section_of(&mut sections, entity)
                .add_json(id, change.seq, data.get(), change.column_seqs.as_ref().map(RawJson::get))
                .ok()?,
            // A deletion matters only where an earlier record holds the row.
            None if generation.contains(names.intern(entity), id.as_bytes()) => {
                section_of(&mut sections, entity).add_tombstone(id, change.seq);
            }
            None => {}
        }
    }
    sections.iter().all(SectionWriter::fits).then_some(sections)
}

/// Whether every row of the page is of the documented shape. Pages that show together are tried before any is added.
fn can_be_encoded(page: &Page) -> bool {
    let mut sections: Vec<SectionWriter> = Vec::new();
    page.changes.iter().all(|change| {
        let entity = change.entity.as_str();
        let at = sections.iter().position(|section| section.entity == entity).unwrap_or(sections.len());
        if at == sections.len() {
            sections.push(SectionWriter::new(entity));
        }
        let (Some(section), Some(data)) = (sections.get_mut(at), &change.data) else { return true };
        section.add_json(change.row_id.as_str(), change.seq, data.get(), change.column_seqs.as_ref().map(RawJson::get)).is_ok()
            && section.fits()
    })
}

fn row_of(change: &Change) -> (&str, &str) {
    (change.entity.as_str(), change.row_id.as_str())
}
