//! Taking over what lies on disk.

use syncline_protocol::ErrorCode;

use super::base::Generation;
use super::connection::Phase;
use super::mutation_record::{Mutation, MutationRecordError};
use super::replica_record::{ReplicaRecord, ReplicaRecordError};
use super::segment::{SegmentError, read_segment};
use super::storage_flow::explain;
use super::{Client, Event, StorageFailure, StorageKind, StoredReplica};

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
        if self.storage.is_open() || self.identity.is_none() {
            return;
        }
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
        }
        self.finish_opening();
    }

    pub(super) fn open_failed(&mut self, failure: &StorageFailure) {
        if self.storage.is_open() {
            // The connection was taken away after it had been opened.
            return self.degrade(failure);
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
        let queue = decode_queue(&stored.queue)?;
        self.storage.fence = stored.fence;
        let findings = self.load_records(stored.records)?;
        self.storage.open_disk(stored.replica);
        if replica_damaged {
            self.problem(ErrorCode::StorageCorrupt, "the replica record is damaged: everything is fetched again");
        }
        if queue.damaged {
            self.problem(ErrorCode::StorageCorrupt, "a stored write is damaged and was left where it is");
        }
        self.mend(findings);
        self.load_queue(queue.mutations);
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

    /// Puts the stored writes in front of those made before the database was open, and folds all of them anew.
    fn load_queue(&mut self, stored: Vec<Mutation>) {
        let mut dirty = self.overlay.touched();
        for mutation in stored {
            if let Some(place) = self.queue.push(Box::new(mutation)) {
                dirty.append(&mut self.overlay_insert(place));
            }
        }
        self.refresh_rows(&dirty);
    }
}

#[derive(Debug, Default)]
struct StoredQueue {
    mutations: Vec<Mutation>,
    damaged: bool,
}

fn decode_queue(queue: &[(u64, Vec<u8>)]) -> Result<StoredQueue, StorageFailure> {
    let mut found = StoredQueue::default();
    for (key, bytes) in queue {
        match Mutation::decode(*key, bytes) {
            Ok(mutation) => found.mutations.push(mutation),
            Err(MutationRecordError::TooNew) => return Err(StorageFailure::TooNew),
            Err(MutationRecordError::Corrupt) => found.damaged = true,
        }
    }
    Ok(found)
}
