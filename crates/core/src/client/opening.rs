//! Taking over what lies on disk.

use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::{ErrorCode, OpId};

use super::base::Generation;
use super::connection::Phase;
use super::mirror::Departure;
use super::mutation_record::{Mutation, MutationRecordError, MutationState, Record};
use super::replica_record::{ReplicaRecord, ReplicaRecordError};
use super::segment::{SegmentError, read_segment};
use super::storage_flow::explain;
use super::{Client, Event, StorageFailure, StorageKind, StoredReplica};
use crate::planted;

/// Marks of discarded writes that stay on disk when a tab takes the lead.
const MARKS_KEPT: usize = 100;

/// What the records of a database turned out to be.
#[derive(Debug, Default)]
struct Findings {
    /// What sets damaged records of the generation that is shown aside.
    damaged: Vec<StorageKind>,
    /// Whether the snapshot under way is damaged.
    staging_damaged: bool,
    /// What deletes generations that nothing refers to, once for each run of their records.
    stale: Vec<StorageKind>,
}

impl Client {
    pub(super) fn opened(&mut self, stored: StoredReplica) {
        if self.identity.is_none() {
            return;
        }
        self.fence_seen(stored.fence);
        self.tabs.mirror.read_fence = self.tabs.mirror.read_fence.max(stored.fence);
        if self.storage.is_open() {
            return self.opened_again(stored);
        }
        let leads = stored.leads || stored.memory.is_some();
        self.tabs.leads = leads;
        if let Some(reason) = stored.memory {
            self.storage.open_memory(reason);
        } else if let Err(failure) = self.load(stored) {
            // Left alone: whoever understands it will want it as it is.
            let (code, reason) = explain(&failure);
            self.problem(code, &reason);
            self.base = Generation::new(0);
            self.staging = None;
            self.record = ReplicaRecord::new(self.rng.client_id());
            self.storage.open_memory(reason);
            self.tabs.leads = true;
        }
        if self.storage.is_on_disk() {
            if leads {
                self.lead();
            } else {
                // Also when this tab does not talk to the server: from now on the others tell it what they do.
                self.ask();
                self.ask_anew();
            }
        }
        self.finish_opening();
    }

    /// The disk was read again: because this tab takes the lead, or because it may have missed what others did.
    fn opened_again(&mut self, stored: StoredReplica) {
        if !self.storage.is_on_disk() {
            return;
        }
        let (leads, led) = (stored.leads, self.tabs.leads);
        if !leads && !self.tabs.mirror.is_answered() {
            return;
        }
        if led && !leads && stored.fence > self.storage.fence {
            return self.follow();
        }
        self.tabs.leads |= leads;
        if let Err(failure) = self.reload(stored, led && !leads) {
            return self.degrade(&failure);
        }
        self.read_ended();
        self.tell_followed();
        if leads {
            self.lead();
            self.advance();
        }
    }

    fn reload(&mut self, stored: StoredReplica, only_queue: bool) -> Result<(), StorageFailure> {
        let StoredReplica { replica, records, mut queue, fence, leads, is_known, .. } = stored;
        // What becomes of those is seen when this tab hears that they were stored.
        queue.retain(|(_, record)| !self.storage.is_withdrawn(record));
        let queue = decode_queue(&queue)?;
        let mut dirty = Vec::new();
        let mut findings = Findings::default();
        // The rows of a leader are ahead of the disk, and so is what it knows of its queue while something is on its way there.
        // But it may not have heard of every write.
        let only_new = only_queue && !self.storage.is_idle();
        if !only_queue {
            self.storage.open_disk(if leads { fence } else { 0 });
            // Rows that are not to be read are shown as long as another tab leads.
            let is_put_off = self.config.queue_only && !leads;
            self.config.queue_only &= leads;
            if planted::is(33) {
                self.storage.is_written(replica);
            } else if self.config.queue_only || !is_known {
                let replica = if is_known { self.storage.written().cloned() } else { replica };
                self.record = match replica.as_deref().map(ReplicaRecord::decode) {
                    Some(Ok(record)) => record,
                    Some(Err(ReplicaRecordError::TooNew)) => return Err(StorageFailure::TooNew),
                    Some(Err(ReplicaRecordError::Corrupt)) | None => ReplicaRecord::new(self.record.client_id.clone()),
                };
                let old = core::mem::take(&mut self.base);
                findings = self.load_records(records)?;
                self.storage.is_written(replica);
                self.compare_with(&old);
                self.doubt_rows();
            }
            self.config.queue_only = is_put_off;
            self.tabs.mirror.read_floor = self.record.queue_floor;
            dirty = self.overlay.touched();
        }
        // Whoever was given the lead read without having asked: what is not above the floor of then was there or had left.
        let (mut known, floor) = (self.known_when_read(), self.tabs.mirror.read_floor);
        known.extend(self.queue.keys().into_iter().filter(|key| *key <= floor));
        let found: Vec<u64> = queue.mutations.iter().filter_map(Mutation::key).collect();
        self.tabs.mirror.are_found(&found);
        for mutation in queue.mutations {
            if !only_new || self.queue.find(&mutation.intent.op_id).is_none() {
                self.revive(&mutation, leads, &mut dirty);
                self.take_mutation(mutation, &mut dirty);
            }
        }
        // What something else stands for has left already, and was not discarded.
        for (key, stood_for) in &queue.marks {
            self.mark_found(*key, stood_for, &mut dirty);
        }
        for key in known.into_iter().filter(|key| !only_new && found.binary_search(key).is_err()) {
            self.record_vanished(key, &mut dirty);
        }
        self.refresh_rows(&dirty);
        if leads {
            self.mend(findings);
            self.remove_marks(&queue.marks);
        }
        Ok(())
    }

    /// A failure that did not reach the disk: whoever leads says what became of the write.
    fn revive(&mut self, stored: &Mutation, leads: bool, dirty: &mut Vec<(super::EntityIndex, String)>) {
        let Some(place) = self.queue.find(&stored.intent.op_id) else { return };
        let Some(known) = self.queue.get(place) else { return };
        if !stored.state.is_open() || !matches!(known.state, MutationState::Failed(_)) {
            return;
        }
        if leads {
            return self.store_failure(place);
        }
        self.queue.set_state(place, stored.state.clone());
        dirty.append(&mut self.overlay_insert(place));
    }

    /// A record is no longer on disk, and nobody said why. What failed was discarded or tried again. Anything else was applied:
    /// who discards leaves a mark.
    fn record_vanished(&mut self, key: u64, dirty: &mut Vec<(super::EntityIndex, String)>) {
        let Some(mutation) = self.queue.find_key(key).and_then(|place| self.queue.get(place)) else { return };
        let failed = matches!(mutation.state, MutationState::Failed(_)) || planted::is(42);
        let how = if failed { Departure::Removed } else { Departure::Applied(self.record.shown.seq) };
        self.record_is_gone(key, how, dirty);
    }

    /// Removes the oldest marks. The others stay for tabs that have not heard of them, however long these were frozen.
    fn remove_marks(&mut self, marks: &[(u64, Vec<OpId>)]) {
        let keys: Vec<u64> = marks.iter().map(|(key, _)| *key).take(marks.len().saturating_sub(MARKS_KEPT)).collect();
        self.remove_from_queue(&keys);
    }

    pub(super) fn open_failed(&mut self, failure: &StorageFailure) {
        if self.storage.is_open() {
            // The connection was taken away after it had been opened.
            return if *failure == StorageFailure::Outdated { self.become_outdated() } else { self.degrade(failure) };
        }
        if self.identity.is_none() {
            return;
        }
        let (code, reason) = explain(failure);
        self.problem(code, &reason);
        self.storage.open_memory(reason);
        self.finish_opening();
    }

    fn finish_opening(&mut self) {
        if let Some(identity) = self.identity.clone() {
            self.notify(Event::Opened { identity });
        }
        if self.link.phase == Phase::Opening {
            self.advance();
        }
    }

    fn load(&mut self, stored: StoredReplica) -> Result<(), StorageFailure> {
        let mut replica_damaged = false;
        match stored.replica.as_deref().map(ReplicaRecord::decode) {
            Some(Ok(record)) => self.record = record,
            Some(Err(ReplicaRecordError::TooNew)) => return Err(StorageFailure::TooNew),
            Some(Err(ReplicaRecordError::Corrupt)) => replica_damaged = true,
            None => {}
        }
        self.tabs.mirror.read_floor = self.record.queue_floor;
        let queue = decode_queue(&stored.queue)?;
        self.storage.fence = if stored.leads { stored.fence } else { 0 };
        // Who follows writes no rows, and shows those that the leader has: it waits until this one leads.
        let is_put_off = self.config.queue_only && !stored.leads;
        self.config.queue_only &= stored.leads;
        let findings = self.load_records(stored.records)?;
        // None of these is news.
        self.load_queue(queue.mutations);
        for (key, _) in &queue.marks {
            self.tabs.mirror.is_gone(*key, Departure::Removed);
        }
        self.storage.open_disk(self.storage.fence);
        self.storage.is_written(stored.replica);
        if replica_damaged {
            self.problem(ErrorCode::StorageCorrupt, "the replica record is damaged: everything is fetched again");
        }
        if queue.damaged {
            self.problem(ErrorCode::StorageCorrupt, "a stored write is damaged and was left where it is");
        }
        if stored.leads {
            self.mend(findings);
        }
        self.doubt_rows();
        self.config.queue_only = is_put_off;
        if stored.leads {
            self.remove_marks(&queue.marks);
        }
        for position in 0.. {
            let Some(entity) = self.names.at(position) else { break };
            self.log.record_all(entity);
            self.changed.insert(entity);
        }
        Ok(())
    }

    fn load_records(&mut self, records: Vec<(u64, Vec<u8>)>) -> Result<Findings, StorageFailure> {
        let mut findings = Findings::default();
        let shown = self.record.shown.generation;
        let staged = self.record.staging.as_ref().map(|staging| staging.position.generation);
        self.base = Generation::new(shown);
        self.staging = staged.map(Generation::new);
        self.storage.last_generation = shown.max(staged.unwrap_or(0));
        let version = self.log.advance();
        let mut last_stale = None;
        for (key, bytes) in records {
            let generation = key >> 32;
            self.storage.last_generation = self.storage.last_generation.max(generation);
            let target = match &mut self.staging {
                Some(staging) if Some(generation) == staged => staging,
                _ if generation == shown => &mut self.base,
                _ => {
                    if last_stale.replace(generation) != Some(generation) {
                        findings.stale.push(self.without_generation(generation));
                    }
                    continue;
                }
            };
            if self.config.queue_only {
                continue;
            }
            match read_segment(&bytes) {
                Ok(head) => target.add_segment(&mut self.names, key, bytes, head, version, None),
                Err(SegmentError::TooNew) => return Err(StorageFailure::TooNew),
                Err(SegmentError::Corrupt) if generation == shown => {
                    findings.damaged.push(StorageKind::Quarantine { fence: self.storage.fence, key });
                }
                Err(SegmentError::Corrupt) => findings.staging_damaged = true,
            }
        }
        Ok(findings)
    }

    /// Sets damaged records aside and has everything fetched again. The queue is not touched.
    fn mend(&mut self, findings: Findings) {
        if findings.staging_damaged {
            self.problem(ErrorCode::StorageCorrupt, "a snapshot under way is damaged: it begins again");
            self.drop_staging();
        }
        if !findings.damaged.is_empty() {
            self.problem(ErrorCode::StorageCorrupt, "stored rows are damaged: everything is fetched again");
            self.record.shown.token = None;
            // The damaged records go once that is on disk: without them a cursor would promise rows that are not there.
            self.queue_commit(Vec::new(), Vec::new(), findings.damaged);
        }
        self.tidy(findings.stale);
    }

    /// Has everything fetched again where the rows on the disk were left unread. They go when the new copy is complete.
    fn doubt_rows(&mut self) {
        if core::mem::take(&mut self.config.queue_only) {
            self.drop_staging();
            self.record.shown.token = None;
            self.queue_commit(Vec::new(), Vec::new(), Vec::new());
        }
    }

    /// Puts the stored writes in front of those made before the database was open, and folds all of them anew.
    fn load_queue(&mut self, stored: Vec<Mutation>) {
        let mut dirty = self.overlay.touched();
        for mutation in stored {
            self.take_mutation(mutation, &mut dirty);
        }
        self.refresh_rows(&dirty);
    }
}

#[derive(Debug, Default)]
struct StoredQueue {
    mutations: Vec<Mutation>,
    /// The keys of discarded writes, with those they stood for.
    marks: Vec<(u64, Vec<OpId>)>,
    damaged: bool,
}

fn decode_queue(queue: &[(u64, Vec<u8>)]) -> Result<StoredQueue, StorageFailure> {
    let mut found = StoredQueue::default();
    for (key, bytes) in queue {
        match Mutation::decode(*key, bytes) {
            Ok(Record::Write(mutation)) => found.mutations.push(*mutation),
            Ok(Record::Discarded(stood_for)) => found.marks.push((*key, stood_for)),
            Err(MutationRecordError::TooNew) => return Err(StorageFailure::TooNew),
            Err(MutationRecordError::Corrupt) => found.damaged = true,
        }
    }
    Ok(found)
}
