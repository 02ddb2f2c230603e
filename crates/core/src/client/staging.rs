//! A snapshot beside the rows that are shown: filled page by page, shown at once when it is complete.

use alloc::vec;
use alloc::vec::Vec;

use syncline_protocol::Page;

use super::Client;
use super::apply::add_page;
use super::base::Generation;
use super::connection::Phase;
use super::names::EntityIndex;
use super::replica_record::{Position, StagingPosition};
use super::storage_flow::Records;
use super::timer::Timer;
use crate::planted;

impl Client {
    /// The server says the cursor is of no use. The rows stay shown until a new copy is complete.
    pub(super) fn resync_demanded(&mut self) {
        if !self.link.is_greeted() && self.link.phase != Phase::Greeting {
            return;
        }
        let is_greeting = self.link.phase == Phase::Greeting;
        if self.record.staging.is_none() {
            self.forget_cursor();
        }
        // A snapshot under way is tried first; if it is of no use either, its pull says so.
        self.link.phase = Phase::Pulling(None);
        if !is_greeting {
            self.place_refused();
        }
    }

    /// The place the stream stood at is of no use: begin a new snapshot.
    pub(super) fn restart_snapshot(&mut self) {
        self.drop_staging();
        self.forget_cursor();
        self.link.phase = Phase::Pulling(None);
    }

    /// The application wants every row anew. The rows stay shown until the new copy is complete; one that is under way
    /// already is no other.
    pub(super) fn resync(&mut self) {
        if self.command_leader("resync") {
            return;
        }
        if self.record.shown.token.is_some() {
            self.drop_staging();
            self.forget_cursor();
            if self.link.is_greeted() {
                // An answer on its way continues what is forgotten.
                self.timers.clear(Timer::Pull);
                self.link.phase = Phase::Pulling(None);
            }
        }
        self.pull_now();
    }

    fn forget_cursor(&mut self) {
        self.held.clear();
        if self.record.shown.token.take().is_some() {
            self.queue_commit(Vec::new(), Vec::new(), Vec::new());
        }
    }

    /// Forgets the snapshot under way, in memory and on disk.
    pub(super) fn drop_staging(&mut self) {
        if planted::is(9) {
            return;
        }
        self.staging = None;
        if let Some(staging) = self.record.staging.take() {
            self.queue_commit(Vec::new(), Vec::new(), vec![self.without_generation(staging.position.generation)]);
        }
    }

    /// Takes a page into the snapshot under way, which a first page begins.
    pub(super) fn stage_page(&mut self, page: &Page) -> bool {
        if page.snapshot.is_some_and(|mark| mark.start) {
            self.drop_staging();
            let number = self.record.shown.generation.max(self.storage.last_generation) + 1;
            self.storage.last_generation = number;
            let position = Position { seq: page.from, ..Position::start(number) };
            self.record.staging = Some(StagingPosition { position, consistent_at: 0, ended: false });
            self.staging = Some(Generation::new(number));
        }
        let (Some(staging), Some(generation)) = (&mut self.record.staging, &mut self.staging) else { return false };
        if page.snapshot.is_none() && page.to < staging.position.seq {
            return true;
        }
        let version = self.log.advance();
        let mut records = Records::new();
        if !add_page(generation, &mut self.names, &mut staging.position, page, version, None, &mut records) {
            return false;
        }
        staging.consistent_at = staging.consistent_at.max(page.consistent_at.unwrap_or(0));
        staging.ended |= page.snapshot.is_some_and(|mark| mark.end);
        let complete = staging.ended && staging.position.seq >= staging.consistent_at;
        self.confirm_own(page);
        if complete {
            self.show_staging(records);
        } else {
            self.queue_commit(records, Vec::new(), Vec::new());
        }
        true
    }

    /// Shows the new copy instead of the old one. Rows that are equal in both keep their version.
    fn show_staging(&mut self, records: Records) {
        let (Some(staging), Some(generation)) = (self.record.staging.take(), self.staging.take()) else { return };
        let old = core::mem::replace(&mut self.base, generation);
        self.record.shown = staging.position;
        self.compare_with(&old);
        let removed = self.leave_passed(self.overlay.touched());
        // Queued as it is: the rows of the last page and the exchange are one transaction.
        self.queue_commit(records, removed, vec![self.without_generation(old.number)]);
    }

    /// Notes what the base shows that another one did not show.
    pub(super) fn compare_with(&mut self, old: &Generation) {
        self.log.advance();
        let entities = old.entities().max(self.base.entities());
        for position in 0..entities {
            if let Some(entity) = self.names.at(position) {
                self.compare_entity(old, entity);
            }
        }
    }

    fn compare_entity(&mut self, old: &Generation, entity: EntityIndex) {
        if old.len(entity) == 0 && self.base.len(entity) > self.overlay.rows(entity).len() {
            // Nearly all of it is new: a reader gets everything, and nothing is compared.
            self.changed.insert(entity);
            self.log.record_all(entity);
            return;
        }
        for id in self.base.ids(entity) {
            let kept = match (old.row(entity, &id), self.base.row(entity, &id)) {
                (Some((before, version)), Some((after, _))) if before.shows_the_same(&after) => Some(version),
                _ => None,
            };
            match kept {
                Some(version) => self.base.set_version(entity, &id, version),
                None => self.note_changed(entity, &id),
            }
        }
        for id in old.ids(entity) {
            if !self.base.contains(entity, id.as_bytes()) {
                self.note_changed(entity, &id);
            }
        }
    }

    fn note_changed(&mut self, entity: EntityIndex, id: &str) {
        if self.overlay.row(entity, id).is_none() {
            self.changed.insert(entity);
            self.log.record(entity, id);
        }
    }
}
