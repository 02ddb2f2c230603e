//! What must hold, looked at after every step. A message begins with the invariant's name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use syncline_core::client::{Event as ClientEvent, StorageState};
use syncline_protocol::{Identity, OpId, Row};

use crate::model::{ENTITIES, Key, Outcome, View, fold};
use crate::said::check_text;
use crate::tab::Tab;
use crate::world::{TabId, World};

/// One write of an application, and what it was told.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Write {
    /// Where it was made.
    pub(crate) device: usize,
    /// By which tab.
    pub(crate) tab: TabId,
    /// As whom.
    pub(crate) identity: Identity,
    /// Its place among all writes.
    pub(crate) issue: u64,
    /// What it touches.
    pub(crate) rows: Vec<Key>,
    /// Whether it was promised to be on disk.
    pub(crate) durable: bool,
    /// Whether it was said to be applied.
    pub(crate) confirmed: bool,
    /// Whether it came to nothing with another one before either was sent.
    pub(crate) undone: bool,
    /// Whether it was said to have failed.
    pub(crate) failed: bool,
    /// All that was ever said to stand for it.
    pub(crate) successors: BTreeSet<String>,
    /// What stands for it since.
    pub(crate) replaced_by: Option<String>,
    /// Whether an application discarded it.
    pub(crate) is_unwanted: bool,
    /// Whether it is what stands for another one: no application holds it in its hands.
    pub(crate) is_derived: bool,
    /// Whether the application discarded it, tried it again, or was told that it is lost.
    pub(crate) settled: bool,
}

impl Write {
    /// A write that was taken just now.
    pub(crate) fn new(device: usize, tab: TabId, identity: Identity, issue: u64, rows: Vec<Key>) -> Self {
        Self {
            device,
            tab,
            identity,
            issue,
            rows,
            durable: false,
            confirmed: false,
            undone: false,
            failed: false,
            successors: BTreeSet::new(),
            replaced_by: None,
            is_derived: false,
            is_unwanted: false,
            settled: false,
        }
    }
}

fn tenant_of(identity: &Identity) -> &str {
    identity.tenant_id.as_deref().unwrap_or_default()
}

impl World {
    /// The application hears something about its writes.
    pub(crate) fn learn(&mut self, id: TabId, event: &ClientEvent) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        match event {
            ClientEvent::MutationDurable { op_id } if Self::promises_disk(tab) => self.promised(op_id),
            ClientEvent::MutationConfirmed { op_id, seq } => {
                tab.dirty = true;
                let is_exact = tab.client.status().leads && !tab.is_reading;
                self.confirmed(op_id, *seq, is_exact);
            }
            ClientEvent::MutationRemoved { op_id } => {
                tab.dirty = true;
                // What failed was discarded or tried again: a tab that slept meanwhile cannot tell which.
                let failed = self.writes.get(op_id.as_str()).is_some_and(|write| write.failed);
                assert!(failed || self.is_unwanted(op_id), "I21: {op_id} is said to be discarded, and nobody did that");
                self.check_removed(op_id);
                self.is_settled(op_id);
            }
            ClientEvent::MutationLost { op_id, .. } => {
                tab.dirty = true;
                let write = self.writes.get(op_id.as_str());
                assert!(
                    !write.is_some_and(|write| write.durable),
                    "I20: {op_id} was promised to be on disk and is said to be lost"
                );
                self.is_settled(op_id);
            }
            ClientEvent::MutationReplaced { op_id, by } => {
                tab.dirty = true;
                // Its status says that what it does now does not reach the disk.
                self.devices[tab.device].remembers |= matches!(tab.client.status().storage, StorageState::Memory { .. });
                self.replaced(id, op_id, by);
            }
            ClientEvent::MutationFailed { op_id, .. } => {
                tab.dirty = true;
                if let Some(write) = self.writes.get_mut(op_id.as_str()) {
                    write.failed = true;
                }
            }
            ClientEvent::MutationHeld { .. } => tab.dirty = true,
            ClientEvent::Synced { seq } => {
                let asked = tab.asked_at.take();
                assert!(asked.is_none_or(|head| head <= *seq), "I20: synced at {seq}, and there was more when it was asked");
            }
            _ => {}
        }
        self.told_fate(id, event);
    }

    /// I20: what is said to be discarded is not in the log.
    fn check_removed(&self, op_id: &OpId) {
        let Some(write) = self.writes.get(op_id.as_str()).filter(|_| self.service.lives.len() == 1) else { return };
        let outcome = self.service.lives[0].outcome(tenant_of(&write.identity), op_id.as_str());
        // Of one that was sent years ago nobody knows, nor of one that was sent while the disk refused the mark; and somebody
        // hostile may have used its number before it was sent.
        let options = &self.options;
        let is_marked = options.forget + options.full + options.broken == 0;
        let is_known = |outcome: &&Outcome| outcome.user == write.identity.user_id && is_marked;
        assert!(
            !outcome.filter(is_known).is_some_and(|outcome| outcome.applied),
            "I20: {op_id} is said to be discarded, and was applied"
        );
    }

    fn is_settled(&mut self, op_id: &OpId) {
        if let Some(write) = self.writes.get_mut(op_id.as_str()) {
            write.settled = true;
        }
    }

    /// Whether an application discarded a write, or what stands for it; or that one was applied where this tab does not see it.
    fn is_unwanted(&self, op_id: &OpId) -> bool {
        let mut next = Some(op_id.as_str());
        let mut is_unwanted = false;
        while let Some(write) = next.filter(|_| !is_unwanted).and_then(|op_id| self.writes.get(op_id)) {
            let is_applied = |by: &str| self.writes.get(by).is_some_and(|by| by.confirmed);
            next = write.replaced_by.as_deref();
            is_unwanted = write.is_unwanted || next.is_some_and(is_applied);
        }
        is_unwanted
    }

    fn promised(&mut self, op_id: &OpId) {
        let Some(write) = self.writes.get_mut(op_id.as_str()) else { return };
        write.durable = true;
        let (device, identity) = (write.device, write.identity.clone());
        if self.checking {
            self.check_kept(op_id.as_str(), device, &identity, "I20");
        }
    }

    /// What becomes of `by` becomes of `op_id` from now on.
    fn replaced(&mut self, tab: TabId, op_id: &OpId, by: &OpId) {
        let issue = self.writes.len() as u64;
        let mut last = by.as_str();
        while let Some(next) = self.writes.get(last).and_then(|write| write.replaced_by.as_deref())
            && last != op_id.as_str()
        {
            last = next;
        }
        if last == op_id.as_str()
            && let Some(former) = self.writes.get_mut(by.as_str())
        {
            // Another tab was faster: what was to be replaced counts again.
            former.replaced_by = None;
        }
        let Some(write) = self.writes.get_mut(op_id.as_str()) else { return };
        write.replaced_by = Some(by.to_string());
        write.successors.insert(by.to_string());
        let (device, identity, rows) = (write.device, write.identity.clone(), write.rows.clone());
        // Made by the tab that is told first.
        let made = || Write { is_derived: true, ..Write::new(device, tab, identity, issue, rows) };
        self.writes.entry(by.to_string()).or_insert_with(made);
    }

    /// A tab that finds it on disk may know only of a seq that is not before the write's own.
    fn confirmed(&mut self, op_id: &OpId, seq: u64, is_exact: bool) {
        let Some(write) = self.writes.get_mut(op_id.as_str()) else { return };
        write.confirmed = true;
        if seq == 0 {
            write.undone = true;
            write.settled = true;
            return;
        }
        let (tenant, device, identity) = (tenant_of(&write.identity).to_owned(), write.device, write.identity.clone());
        let restored = self.service.lives.len() > 1;
        let mut is_true = false;
        let mut next = Some(op_id.to_string());
        while let Some(one) = next.filter(|_| !is_true) {
            let applied = self.service.lives.iter().filter_map(|life| life.outcome(&tenant, &one));
            let mut places = applied.filter(|outcome| outcome.applied).map(|outcome| outcome.last_seq);
            // A tab that slept sees that the write has left the queue, and knows no more than what the rows contain now: also of
            // one that a restored backup has lost since, or that came to nothing with another one.
            is_true = places.any(|place| place == seq || (!is_exact && (place < seq || restored)))
                || (!is_exact && self.writes.get(&one).is_some_and(|write| write.undone));
            // It finds neither a write nor what stood for it, and knows that this was applied.
            next = self.stands_for(device, &identity, &one);
        }
        assert!(is_true, "I20: {op_id} is said to be applied at {seq}, and is not");
    }

    /// A tab ended: what it had not promised may go with it.
    pub(crate) fn writes_of_tab_end(&mut self, id: TabId) {
        let open = |write: &Write| write.tab == id && !write.durable && !write.settled;
        let mut gone: Vec<String> = self.writes.iter().filter(|(_, write)| open(write)).map(|(op_id, _)| op_id.clone()).collect();
        // It may have reached the disk without a word, or something else stands for it there.
        gone.retain(|op_id| {
            let place = self.writes.get(op_id).map(|write| (write.device, write.identity.clone()));
            place.is_some_and(|(device, identity)| !self.is_kept(op_id, device, &identity))
        });
        for op_id in &gone {
            if let Some(write) = self.writes.get_mut(op_id) {
                write.settled = true;
            }
        }
        // What it should have stood for lies on disk as it was.
        for write in self.writes.values_mut() {
            write.replaced_by.take_if(|by| gone.contains(by));
        }
    }

    /// I2 for every database.
    pub(crate) fn check_all_disks(&mut self) {
        let all: Vec<(usize, Identity)> = self
            .devices
            .iter()
            .enumerate()
            .flat_map(|(number, device)| {
                let identity = |(user_id, tenant_id): &(Option<String>, Option<String>)| {
                    (number, Identity { user_id: user_id.clone(), tenant_id: tenant_id.clone() })
                };
                device.disks.keys().map(identity).collect::<Vec<_>>()
            })
            .collect();
        for (device, identity) in all {
            self.check_disk(device, &identity);
        }
    }

    /// I2: what was promised is on disk, or at the server, or the application knows what became of it.
    pub(crate) fn check_disk(&mut self, device: usize, identity: &Identity) {
        if !self.checking {
            return;
        }
        let promised = |write: &Write| write.durable && !write.settled && write.device == device && write.identity == *identity;
        let ids: Vec<String> = self.writes.iter().filter(|(_, write)| promised(write)).map(|(id, _)| id.clone()).collect();
        for op_id in ids {
            self.check_kept(&op_id, device, identity, "I2");
        }
    }

    fn check_kept(&mut self, op_id: &str, device: usize, identity: &Identity, invariant: &str) {
        let kept = self.is_kept(op_id, device, identity);
        assert!(kept, "{invariant}: {op_id} was promised to be on disk and is nowhere");
    }

    /// Whether a write, or what stands for it, is on disk or at the server, or the application knows what became of it.
    fn is_kept(&mut self, op_id: &str, device: usize, identity: &Identity) -> bool {
        // What a backup does not have any more the application was told of.
        let restored = self.service.lives.len() > 1;
        let mut next = Some(op_id.to_owned());
        let (mut is_marked, mut is_unwanted) = (false, false);
        while let Some(one) = next {
            let write = self.writes.get(&one);
            is_unwanted |= write.is_some_and(|write| write.is_unwanted);
            let was_told = write.is_some_and(|write| write.settled || (restored && write.confirmed));
            let disk = self.devices[device].disk(identity);
            // A tab may end between a fold and the word about it; and what another one made of the write may have ended with that.
            let folded = disk.folded.get(&one);
            next = folded.cloned().flatten().or_else(|| write.and_then(|write| write.replaced_by.clone()));
            let mut at_server = |op_id: &String| self.service.life().outcome(tenant_of(identity), op_id).is_some();
            // Two tabs whose disk failed can each have put something else in its place.
            let stood_for = write.filter(|_| self.options.full + self.options.broken > 0).map(|write| &write.successors);
            let is_decided = at_server(&one) || stood_for.is_some_and(|others| others.iter().any(&mut at_server));
            // Whoever discarded it is told when the mark is on disk, in the place of what was sent or failed.
            is_marked |= disk.discarded.contains(&one) || write.is_some_and(|write| write.failed);
            let is_discarded = is_marked && is_unwanted;
            if is_decided || was_told || is_discarded || folded == Some(&None) || disk.now_holds(&one) {
                return true;
            }
        }
        false
    }

    /// I9: writes of one tab to one row are applied in the order in which they were made.
    pub(crate) fn check_order(&mut self) {
        let mut last: BTreeMap<TabId, u64> = BTreeMap::new();
        for op_id in std::mem::take(&mut self.service.pushed) {
            let Some(write) = self.writes.get(op_id.as_str()) else { continue };
            let before = last.insert(write.tab, write.issue).unwrap_or(0);
            assert!(before <= write.issue, "I9: {op_id} is pushed behind a later write of the same tab");
        }
        for (replica, op_id) in std::mem::take(&mut self.service.applied) {
            let Some(write) = self.writes.get(op_id.as_str()) else { continue };
            let is_revenant = self.devices[write.device].remembers && write.replaced_by.is_some();
            if is_revenant || write.confirmed && self.service.lives.len() > 1 {
                // A backup lost it, and a tab whose disk failed for a while still has it; or that disk kept what was edited, as
                // the application was told: it comes back as late as it does.
                continue;
            }
            let (issue, tab, rows) = (write.issue, write.tab, write.rows.clone());
            let key = (write.identity.user_id.clone(), write.identity.tenant_id.clone());
            let disk = self.devices[write.device].disks.get(&key);
            let was_discarded = disk.is_some_and(|disk| disk.discarded.contains(op_id.as_str()));
            let was_discarded = was_discarded && self.options.full + self.options.broken == 0;
            assert!(!was_discarded, "I2: {op_id} was applied, and had been discarded before");
            for row in rows {
                let place = (format!("{replica} {tab}"), row);
                let last = self.service.life().order.insert(place, issue).unwrap_or(0);
                assert!(last <= issue, "I9: {op_id} was applied after a later write of the same tab to the same row");
            }
        }
    }

    /// Looks at a tab after something happened to it: I1, I4 to I7, I10, I11, I21.
    pub(crate) fn look(&mut self, id: TabId) {
        if !self.checking {
            return;
        }
        let Some(mut tab) = self.tabs.remove(&id) else { return };
        tab.looks += 1;
        let status = tab.client.status();
        if (tab.dirty || tab.last_seq != status.seq || tab.looks.is_multiple_of(32))
            && let Some(identity) = status.identity
        {
            tab.dirty = false;
            self.look_at(&mut tab, &identity, status.seq);
        }
        self.tabs.insert(id, tab);
    }

    fn look_at(&mut self, tab: &mut Tab, identity: &Identity, seq: u64) {
        let mutations: Vec<Value> = serde_json::from_str(&tab.client.mutations_json()).expect("a list");
        let shown = shown_by(tab);
        let mut expected = Vec::new();
        // Of the server's lives only the replica knows which it stands in; several may have been the same so far.
        let mut fitting = Vec::new();
        for (number, life) in self.service.lives.iter_mut().enumerate().rev() {
            let Some(view) = life.view(identity, seq) else { continue };
            let mut view = View::clone(&view);
            fold(&mut view, &mutations);
            if view == shown {
                fitting.push(number);
            } else {
                expected.push(view);
            }
        }
        let wrong = expected.first().filter(|_| fitting.is_empty()).map(|view| difference(&shown, view));
        assert!(
            wrong.is_none(),
            "I6: at {seq} the view is not the base with the open writes over it: {}",
            wrong.unwrap_or_default()
        );
        assert!(!fitting.is_empty(), "I10: no transaction ends at {seq}");
        self.check_writes_stay(tab, identity, seq, &mutations, &fitting);
        tab.last_seq = seq;
    }

    /// What holds once everybody has arrived.
    pub(crate) fn check_arrival(&mut self) {
        if !self.checking {
            return;
        }
        let ids: Vec<TabId> = self.tabs.keys().copied().collect();
        for id in ids {
            let Some(tab) = self.tabs.get_mut(&id) else { continue };
            tab.dirty = true;
            self.look(id);
            let Some(tab) = self.tabs.get_mut(&id) else { continue };
            let identity = tab.client.status().identity.expect("it has arrived");
            let queue = &self.devices[tab.device].disk(&identity).now.queue;
            let queue = queue.values().filter(|record| !record.is_mark()).count();
            assert_eq!(queue, 0, "I1: nothing is left in the queue on disk");
        }
        self.check_everybody_was_told();
        self.check_successors();
        self.check_stored_rows();
    }

    /// I5 and I8 on disk: what is there is what its own user may have.
    fn check_stored_rows(&mut self) {
        for device in &self.devices {
            for ((user_id, tenant_id), disk) in &device.disks {
                let identity = Identity { user_id: user_id.clone(), tenant_id: tenant_id.clone() };
                let queue = disk.now.queue.values().map(|record| &record.bytes);
                for bytes in disk.now.entities.values().chain(queue) {
                    check_text(&identity, &String::from_utf8_lossy(bytes));
                }
            }
        }
    }
}

/// What a JavaScript cache shows that follows the deltas; now and then compared with a fresh read.
fn shown_by(tab: &mut Tab) -> View {
    let mut view = View::new();
    for entity in ENTITIES {
        let (at, rows) = tab.mirror.entry(entity.to_owned()).or_default();
        let delta: Value = serde_json::from_str(&tab.client.delta_json(entity, *at)).expect("a delta is JSON");
        if delta["full"] == true {
            rows.clear();
        }
        for row in delta["rows"].as_array().into_iter().flatten() {
            rows.insert(row["id"].as_str().unwrap_or_default().to_owned(), row.clone());
        }
        for id in delta["removed"].as_array().into_iter().flatten() {
            rows.remove(id.as_str().unwrap_or_default());
        }
        *at = delta["at"].as_u64().unwrap_or(0);
        if tab.looks.is_multiple_of(16) {
            let fresh: Value = serde_json::from_str(&tab.client.delta_json(entity, 0)).expect("a delta is JSON");
            let fresh: Vec<&Value> = fresh["rows"].as_array().into_iter().flatten().collect();
            assert_eq!(rows.values().collect::<Vec<_>>(), fresh, "I6: deltas lead elsewhere than a fresh read");
        }
        for (id, row) in rows {
            let mut row: Row = row.as_object().cloned().unwrap_or_default();
            row.remove("id");
            view.insert((entity.to_owned(), id.clone()), row);
        }
    }
    view
}

fn difference(shown: &View, expected: &View) -> String {
    let mut lines = Vec::new();
    for key in shown.keys().chain(expected.keys()) {
        if shown.get(key) != expected.get(key) {
            lines.push(format!("{key:?}: shown {:?}, expected {:?}", shown.get(key), expected.get(key)));
        }
    }
    lines.dedup();
    lines.join("; ")
}
