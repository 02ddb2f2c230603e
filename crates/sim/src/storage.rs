//! What tabs ask of their device's disk, as `storage.js` carries it out: one transaction after another, and what becomes of
//! those whose tab stands still or is gone by then.

use syncline_core::client::{
    Input, RequestId, StorageFailure, StorageKind, StorageRequest, StoredReplica, StoredValue, TabMessage,
};
use syncline_protocol::Identity;

use crate::world::{Event, TabId, World};

/// What the driver of a tab learns of a request.
#[derive(Debug)]
pub(crate) struct Answer {
    request: RequestId,
    /// What the other tabs are told, when there are any.
    kind: Option<StorageKind>,
    result: Result<StoredValue, StorageFailure>,
}

impl World {
    pub(crate) fn disk_delay(&mut self) -> u64 {
        if self.disk.permille(30) { self.disk.between(20, 800) } else { self.disk.between(1, 12) }
    }

    /// What one device's tabs ask of its disk is done in order.
    pub(crate) fn on_disk(&mut self, id: TabId, event: Event) {
        let delay = self.disk_delay();
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        tab.storing += 1;
        let device = &mut self.devices[tab.device];
        device.disk_free_at = device.disk_free_at.max(self.now) + delay;
        let at = device.disk_free_at;
        self.at(at, event);
    }

    pub(crate) fn identity_of(&self, id: TabId) -> Identity {
        self.tabs.get(&id).and_then(|tab| tab.client.status().identity).unwrap_or_default()
    }

    pub(crate) fn request_store(&mut self, id: TabId, request: StorageRequest) {
        let identity = self.identity_of(id);
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.is_closed {
            tab.storing += 1;
            let result = Err(StorageFailure::Unavailable("the database is closed".to_owned()));
            return self.after(0, Event::Stored(id, Answer { request: request.id, kind: None, result }));
        }
        let device = tab.device;
        self.on_disk(id, Event::Store(id, device, identity, request));
    }

    pub(crate) fn request_read(&mut self, id: TabId, known: Option<Vec<u8>>) {
        let identity = self.identity_of(id);
        if self.tabs.get(&id).is_some_and(|tab| !tab.is_closed) {
            self.on_disk(id, Event::Read(id, identity, known));
        }
    }

    /// The device of a tab whose question to the disk is answered now.
    fn answered_by_disk(&mut self, id: TabId) -> Option<usize> {
        let tab = self.tabs.get_mut(&id)?;
        tab.storing -= 1;
        (!tab.is_closed).then_some(tab.device)
    }

    /// Opens the database of a tab's identity; it leads if nobody does.
    pub(crate) fn open_database(&mut self, id: TabId, identity: &Identity) {
        let hangs = self.strikes(self.options.open);
        let Some(number) = self.answered_by_disk(id) else { return };
        let device = &mut self.devices[number];
        if hangs || device.failing_opens > 0 {
            device.failing_opens = device.failing_opens.saturating_sub(1);
            self.give_up_storage(id);
            let failure = StorageFailure::Unavailable("opening took too long".to_owned());
            return self.after(if hangs { 5_000 } else { 5 }, Event::Input(id, Input::OpenFailed(failure)));
        }
        let lock = device.lock(identity);
        let leads = lock.holder.is_none();
        if leads {
            lock.holder = Some(id);
        } else {
            lock.line.push_back(id);
            if let Some(tab) = self.tabs.get_mut(&id) {
                tab.has_others = true;
            }
        }
        self.found(id, number, identity, leads, None);
    }

    /// Reads the database again, for a tab that may have missed something.
    pub(crate) fn read_database(&mut self, id: TabId, identity: &Identity, known: Option<&[u8]>) {
        if let Some(number) = self.answered_by_disk(id) {
            self.found(id, number, identity, false, known);
        }
    }

    /// Reads the database for a tab that was given the lock, and writes its fence; also when the lock was stolen since.
    pub(crate) fn lead(&mut self, id: TabId, identity: &Identity) {
        if let Some(number) = self.answered_by_disk(id) {
            self.found(id, number, identity, true, None);
        }
    }

    /// A full disk takes no new leader, but what is on it can be read.
    fn found(&mut self, id: TabId, device: usize, identity: &Identity, leads: bool, known: Option<&[u8]>) {
        let disk = self.devices[device].disk(identity);
        let failure = disk.failure(leads);
        let stored = match &failure {
            None if leads => Some(disk.open()),
            None | Some(StorageFailure::Full) => Some(disk.read(known)),
            Some(_) => None,
        };
        if failure.is_some() {
            self.give_up_storage(id);
        }
        if let Some(stored) = stored {
            self.give(id, Input::Opened(Box::new(StoredReplica { leads: stored.leads && failure.is_none(), ..stored })));
        }
        if let Some(failure) = failure {
            self.give(id, Input::OpenFailed(failure));
        }
    }

    /// Carries out one transaction. A tab that ended since it asked may have asked in time; when one comes too late, so do all
    /// after it.
    pub(crate) fn store(&mut self, id: TabId, device: usize, identity: &Identity, request: StorageRequest) {
        let is_open = self.tabs.contains_key(&id);
        if !is_open && (self.too_late.contains(&id) || self.disk.permille(300)) {
            self.too_late.insert(id);
            return;
        }
        let is_told = is_open && self.options.tabs > 1;
        let kind = is_told.then(|| request.kind.clone());
        self.devices[device].queue_records += queue_records(&request.kind);
        let result = self.devices[device].disk(identity).execute(request.kind);
        self.trace.note(self.now, "stored", &format!("{id} {:?} {result:?}", request.id));
        self.check_disk(device, identity);
        let delay = self.disk.between(0, 3);
        self.after(delay, Event::Stored(id, Answer { request: request.id, kind, result }));
    }

    /// The driver of a tab learns what became of a request, and tells the other tabs.
    pub(crate) fn stored(&mut self, id: TabId, answer: Answer) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.frozen_until > self.now {
            return tab.deferred.push(Event::Stored(id, answer));
        }
        tab.storing -= 1;
        let Answer { request, kind, result } = answer;
        if let (true, Some(kind), Ok(value)) = (tab.has_others, kind, &result) {
            let keys = if let StoredValue::Keys(keys) = value { keys.clone() } else { Vec::new() };
            self.tell_tabs(id, &TabMessage::Stored(kind, keys));
        }
        self.give(id, Input::Stored { request, result });
        self.leave_when_quiet(id);
    }

    /// A tab that is on its way out goes when nothing it began is left.
    pub(crate) fn leave_when_quiet(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get(&id).filter(|tab| tab.is_leaving && tab.storing == 0) else { return };
        if tab.is_stopped {
            let device = tab.device;
            self.crash_tab(id);
            if self.script.is_none() {
                let pause = self.app.between(5, 3_000);
                self.after(pause, Event::NewTab(device));
            }
        } else {
            self.give_up_storage(id);
        }
    }

    /// A driver lets go of its database for good: of the lock, of the channel, of its place in the line.
    pub(crate) fn give_up_storage(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        tab.is_closed = true;
        tab.channel = None;
        let device = tab.device;
        self.leave_locks(id, device);
    }
}

/// How many records of the queue a request writes, removes or rewrites.
const fn queue_records(kind: &StorageKind) -> u64 {
    let records = match kind {
        StorageKind::Enqueue { records, formers } => records.len() + formers.len(),
        StorageKind::UpdateQueue { put, remove, .. } | StorageKind::FoldQueue { put, remove, .. } => put.len() + remove.len(),
        StorageKind::Discard { .. } => 1,
        StorageKind::Commit { remove_queue, .. } => remove_queue.len(),
        StorageKind::Compact { .. } | StorageKind::DeleteGeneration { .. } | StorageKind::Quarantine { .. } => 0,
    };
    records as u64
}
