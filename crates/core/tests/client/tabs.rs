//! Several tabs of one device: one disk, one lock, lossy messages; and a second device, so that rows come from elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};
use syncline_core::client::{Event, Input, NewChange, StorageState, StoredValue, TabMessage};
use syncline_protocol::{ChangeKind, OpId, Timestamp};

use crate::disk::Disk;
use crate::node::{Node, Want};
use crate::random::{Random, for_seeds};
use crate::server::Server;
use crate::tests;

const START: Timestamp = Timestamp(1_700_000_000_000);

struct Tab {
    node: Node,
    number: u64,
    /// Messages of this tab so far.
    said: u64,
    /// What other tabs told it, by who did.
    mail: BTreeMap<u64, VecDeque<(u64, TabMessage)>>,
    is_frozen: bool,
    is_visible: bool,
    /// The lock was taken from it, and it has not heard so.
    has_lost_lock: bool,
}

struct Device {
    disk: Disk,
    tabs: Vec<Tab>,
    holder: Option<u64>,
    line: VecDeque<u64>,
    next_number: u64,
    has_locks: bool,
    /// op_ids that tabs which are gone were promised.
    promised: BTreeSet<String>,
    settled: BTreeSet<String>,
}

struct World {
    random: Random,
    server: Server,
    devices: Vec<Device>,
    now: Timestamp,
    faults: u64,
}

impl Device {
    fn new(has_locks: bool) -> Self {
        let (line, tabs) = (VecDeque::new(), Vec::new());
        let (promised, settled) = (BTreeSet::new(), BTreeSet::new());
        Self { disk: Disk::default(), tabs, holder: None, line, next_number: 1, has_locks, promised, settled }
    }

    fn open_tab(&mut self, random: &mut Random, now: Timestamp) {
        let number = self.next_number;
        self.next_number += 1;
        let node = Node::new(random, Disk::default(), now);
        self.tabs.push(Tab {
            node,
            number,
            said: 0,
            mail: BTreeMap::new(),
            is_frozen: false,
            is_visible: true,
            has_lost_lock: false,
        });
    }

    /// A tab ends, however it ends.
    fn close_tab(&mut self, index: usize) {
        let tab = self.tabs.remove(index);
        self.promised.extend(tab.node.durable);
        self.line.retain(|number| *number != tab.number);
        self.release(tab.number);
        for other in &mut self.tabs {
            other.mail.entry(tab.number).or_default();
        }
    }

    fn release(&mut self, number: u64) {
        if self.holder == Some(number) {
            self.holder = self.line.pop_front();
            if let Some(next) = self.holder
                && let Some(tab) = self.tabs.iter_mut().find(|tab| tab.number == next)
            {
                tab.node.wants.push_back((tab.node.stores.len(), Want::TakeLead));
            }
        }
    }

    /// Lets one thing happen between a tab and the database.
    fn store_one(&mut self, index: usize, now: Timestamp) -> bool {
        if self.tabs[index].is_frozen {
            return false;
        }
        let number = self.tabs[index].number;
        if std::mem::take(&mut self.tabs[index].has_lost_lock) {
            self.tabs[index].node.input(now, Input::LeadLost);
            return true;
        }
        if let Some(want) = self.tabs[index].node.next_want() {
            let stored = match want {
                Want::Open if self.has_locks && self.holder.is_none() => {
                    self.holder = Some(number);
                    self.disk.open()
                }
                Want::Open => {
                    self.line.push_back(number);
                    self.disk.read(None)
                }
                Want::Read(known) => self.disk.read(known.as_ref()),
                Want::TakeLead if self.holder == Some(number) => self.disk.open(),
                Want::TakeLead if self.tabs[index].is_visible => {
                    self.steal(number);
                    self.disk.open()
                }
                Want::TakeLead => return true,
                Want::Resign => {
                    // Whoever lost the lock stands in line already.
                    if self.holder == Some(number) {
                        self.line.push_back(number);
                        self.release(number);
                    }
                    return true;
                }
            };
            self.tabs[index].node.input(now, Input::Opened(Box::new(stored)));
            return true;
        }
        let Some(request) = self.tabs[index].node.next_store() else { return false };
        let result = self.disk.execute(request.kind.clone());
        if let Ok(value) = &result {
            let keys = if let StoredValue::Keys(keys) = value { keys.clone() } else { Vec::new() };
            self.tell(index, &TabMessage::Stored(request.kind, keys));
        }
        self.tabs[index].node.input(now, Input::Stored { request: request.id, result });
        self.post(index);
        true
    }

    fn steal(&mut self, number: u64) {
        if !self.has_locks {
            return;
        }
        self.line.retain(|other| *other != number);
        let former = self.holder.replace(number);
        if let Some(tab) = self.tabs.iter_mut().find(|tab| Some(tab.number) == former) {
            tab.has_lost_lock = true;
            self.line.push_back(tab.number);
        }
    }

    /// Sends what a tab said.
    fn post(&mut self, index: usize) {
        while let Some(text) = self.tabs[index].node.said.pop_front() {
            self.tell(index, &TabMessage::Said(text));
        }
    }

    fn tell(&mut self, index: usize, message: &TabMessage) {
        let (number, said) = (self.tabs[index].number, self.tabs[index].said + 1);
        self.tabs[index].said = said;
        for other in self.tabs.iter_mut().filter(|other| other.number != number) {
            other.mail.entry(number).or_default().push_back((said, message.clone()));
        }
    }

    fn hear_one(&mut self, random: &mut Random, index: usize, now: Timestamp) -> bool {
        let tab = &mut self.tabs[index];
        if tab.is_frozen {
            return false;
        }
        let senders: Vec<u64> = tab.mail.iter().filter(|(_, mail)| !mail.is_empty()).map(|(sender, _)| *sender).collect();
        if senders.is_empty() {
            return false;
        }
        let sender = senders[random.below(senders.len())];
        let (number, message) = tab.mail.get_mut(&sender).and_then(VecDeque::pop_front).unwrap();
        tab.node.input(now, Input::TabHeard { tab: sender, number, message });
        self.post(index);
        true
    }
}

impl World {
    fn new(seed: u64, faults: bool) -> Self {
        let mut random = Random::new(seed);
        let mut devices = Vec::new();
        for _ in 0..2 {
            let mut device = Device::new(random.percent(80));
            for _ in 0..=random.below(3) {
                device.open_tab(&mut random, START);
            }
            devices.push(device);
        }
        let faults = if faults { random.below(8) as u64 } else { 0 };
        Self { random, server: Server::new(), devices, now: START, faults }
    }

    fn step(&mut self) {
        let device = self.random.below(self.devices.len());
        if self.random.percent(self.faults) {
            return self.fault(device);
        }
        let (now, random) = (self.now, &mut self.random);
        let device = &mut self.devices[device];
        let index = random.below(device.tabs.len());
        match random.below(100) {
            0..15 => {
                write(random, device, index, now);
            }
            15..40 => drop(device.store_one(index, now)),
            40..60 => drop(device.hear_one(random, index, now)),
            pick => {
                let tab = &mut device.tabs[index];
                if tab.is_frozen {
                    return;
                }
                match pick {
                    60..70 => drop(tab.node.serve_one(now, &mut self.server)),
                    70..77 => drop(tab.node.stream(&self.server)),
                    77..87 => drop(tab.node.receive_one(now)),
                    87..92 => drop(tab.node.pull_one(now, &self.server)),
                    _ => self.pass_time(),
                }
            }
        }
        self.post_all();
    }

    fn post_all(&mut self) {
        for device in &mut self.devices {
            for index in 0..device.tabs.len() {
                device.post(index);
            }
        }
    }

    fn fault(&mut self, device: usize) {
        let (now, random) = (self.now, &mut self.random);
        let device = &mut self.devices[device];
        let index = random.below(device.tabs.len());
        match random.below(9) {
            0 | 1 => {
                let tab = &mut device.tabs[index];
                tab.is_frozen ^= true;
                if !tab.is_frozen {
                    tab.node.input(now, Input::Wake);
                }
            }
            2 => {
                let tab = &mut device.tabs[index];
                tab.is_visible ^= true;
                if tab.is_visible && !tab.is_frozen {
                    tab.node.input(now, Input::Wake);
                }
            }
            3 => {
                // What it had not handed over yet is gone; the browser may have carried out a part of the rest.
                for _ in 0..random.below(3) {
                    if let Some(request) = device.tabs[index].node.next_store() {
                        let _ = device.disk.execute(request.kind);
                    }
                }
                device.close_tab(index);
                if device.tabs.is_empty() {
                    device.open_tab(random, now);
                }
            }
            4 if device.tabs.len() < 4 => device.open_tab(random, now),
            5 => {
                // Only a tab that sleeps misses messages.
                device.tabs[index].is_frozen = true;
                device.tabs[index].mail.clear();
            }
            6 => device.tabs[index].node.disconnect(now),
            7 => device.tabs[index].node.input(now, Input::Wake),
            _ => device.tabs[index].node.input(now, Input::LeadLost),
        }
    }

    fn pass_time(&mut self) {
        let ahead = self.random.below(4_000) as u64;
        self.now = self.now.plus_ms(ahead);
        self.tick();
    }

    fn tick(&mut self) {
        for device in &mut self.devices {
            for tab in device.tabs.iter_mut().filter(|tab| !tab.is_frozen) {
                if tab.node.wake_at.is_some_and(|at| at <= self.now) {
                    tab.node.input(self.now, Input::Tick);
                }
            }
        }
    }

    fn check(&mut self) {
        for device in &mut self.devices {
            for tab in device.tabs.iter_mut().filter(|tab| !tab.is_frozen) {
                let status = tab.node.status();
                let mutations = tab.node.mutations();
                let shown: BTreeMap<String, Value> = tab.node.rows("Note");
                tab.node.check_mirror("Note");
                let history = self.server.history.get(&status.seq);
                let history = history.expect("a replica stands where a transaction ended");
                let mut rows: BTreeMap<String, Value> = BTreeMap::new();
                for ((_, id), (_, row)) in history {
                    let mut row = row.clone();
                    row.insert("id".to_owned(), json!(id));
                    rows.insert(id.clone(), Value::Object(row));
                }
                fold(&mut rows, &mutations);
                assert_eq!(shown, rows, "the view is the base at {} with the open writes over it", status.seq);
            }
            let stored: Vec<String> =
                device.disk.now.queue.values().map(|record| String::from_utf8_lossy(record).into_owned()).collect();
            for tab in &device.tabs {
                for event in &tab.node.events {
                    if let Event::MutationReplaced { op_id, .. } = event {
                        device.settled.insert(op_id.to_string());
                    }
                }
            }
            let promised = device.tabs.iter().flat_map(|tab| tab.node.durable.iter()).chain(&device.promised);
            for op_id in promised.filter_map(|op_id| device.disk.stands_for(op_id)) {
                if device.settled.contains(op_id) {
                    continue;
                }
                let on_disk = || stored.iter().any(|record| record.contains(op_id));
                let at_server = || self.server.has_answered(&OpId::parse(op_id).unwrap());
                assert!(at_server() || on_disk(), "{op_id} was durable and is nowhere");
            }
        }
    }

    fn heal(&mut self) {
        for device in &mut self.devices {
            for tab in &mut device.tabs {
                tab.node.disconnect(self.now);
                if std::mem::take(&mut tab.is_frozen) || !tab.is_visible {
                    tab.is_visible = true;
                    tab.node.input(self.now, Input::Wake);
                }
            }
        }
        for _ in 0..60 {
            self.run_until_quiet();
            let has_all = |device: &Device| {
                let writes = device.disk.now.writes();
                device.tabs.iter().all(|tab| self.has_arrived(&tab.node) && tab.node.mutations().len() == writes)
            };
            if self.devices.iter().all(has_all) {
                return;
            }
            let next = self.devices.iter().flat_map(|device| &device.tabs).filter_map(|tab| tab.node.wake_at).min();
            self.now = next.unwrap_or(self.now).max(self.now);
            self.tick();
            // Without locks a tab learns that the leader is gone when it needs it, or when somebody looks at it.
            for device in self.devices.iter_mut().filter(|device| !device.has_locks) {
                if !device.tabs.iter().any(|tab| tab.node.status().leads) {
                    device.tabs[0].node.input(self.now, Input::Wake);
                }
            }
        }
        let tabs = self.devices.iter().flat_map(|device| &device.tabs);
        let stuck: Vec<_> = tabs.map(|tab| (tab.number, tab.node.status(), tab.node.client.mutations_json())).collect();
        let texts = |record: &Vec<u8>| String::from_utf8_lossy(record).into_owned();
        let disks: Vec<Vec<String>> =
            self.devices.iter().map(|device| device.disk.now.queue.values().map(texts).collect()).collect();
        let locks: Vec<_> = self.devices.iter().map(|device| (device.has_locks, device.holder, &device.line)).collect();
        panic!("no progress to {}: {stuck:?}, on disk: {disks:?}, locks: {locks:?}", self.server.head);
    }

    fn has_arrived(&self, node: &Node) -> bool {
        let status = node.status();
        status.seq == self.server.head && status.pending == node.held().len() && status.storage == StorageState::Indexeddb
    }

    fn run_until_quiet(&mut self) {
        loop {
            let mut moved = false;
            for device in &mut self.devices {
                for index in 0..device.tabs.len() {
                    device.post(index);
                    moved |= device.store_one(index, self.now) || device.hear_one(&mut self.random, index, self.now);
                    let node = &mut device.tabs[index].node;
                    moved |= node.serve_one(self.now, &mut self.server) || node.receive_one(self.now);
                    moved |= node.pull_one(self.now, &self.server) || node.stream(&self.server);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn check_arrival(&mut self) {
        self.check();
        for device in &mut self.devices {
            let leaders = device.tabs.iter().filter(|tab| tab.node.status().leads).count();
            assert!(leaders <= 1 && leaders >= usize::from(device.has_locks), "{leaders} tabs lead");
            let (first, others) = device.tabs.split_first_mut().unwrap();
            for other in others {
                assert_eq!(first.node.rows("Note"), other.node.rows("Note"), "all tabs show the same");
                assert_eq!(first.node.client.mutations_json(), other.node.client.mutations_json(), "and wait for the same");
            }
            assert_eq!(device.disk.now.writes(), first.node.mutations().len(), "which is what lies on the disk");
        }
    }
}

fn write(random: &mut Random, device: &mut Device, index: usize, now: Timestamp) {
    if device.tabs[index].is_frozen {
        return;
    }
    let node = &mut device.tabs[index].node;
    let mutations = node.mutations();
    if random.percent(15) && !mutations.is_empty() {
        let op_id = mutations[random.below(mutations.len())]["op_id"].as_str().unwrap().to_owned();
        let parsed = OpId::parse(op_id.as_str()).unwrap();
        let done = if random.percent(50) { node.client.retry(now, &parsed).map(drop) } else { node.client.remove(now, &parsed) };
        if done.is_ok() {
            device.settled.insert(op_id);
        }
        return node.drain();
    }
    let id = format!("r{}", random.below(6));
    let kind = [ChangeKind::Insert, ChangeKind::Update, ChangeKind::Update, ChangeKind::Delete][random.below(4)].clone();
    let refused = if random.percent(10) { "bad" } else { "a" };
    let data = (kind != ChangeKind::Delete).then(|| json!({ refused: random.below(1000) }).to_string());
    let change = NewChange { entity: "Note".to_owned(), row_id: Some(id), kind, data };
    // Refused when it does not fit the view.
    let _ = node.client.mutate(now, vec![change]);
    node.drain();
}

fn fold(rows: &mut BTreeMap<String, Value>, mutations: &[Value]) {
    for mutation in mutations.iter().filter(|mutation| mutation["status"] != "failed") {
        for change in mutation["changes"].as_array().unwrap() {
            let id = change["row_id"].as_str().unwrap().to_owned();
            let mut data = change["data"].as_object().cloned().unwrap_or_default();
            match change["kind"].as_str().unwrap() {
                "insert" => {
                    data.insert("id".to_owned(), json!(id));
                    rows.insert(id, Value::Object(data));
                }
                "update" => {
                    if let Some(Value::Object(row)) = rows.get_mut(&id) {
                        row.extend(data);
                    }
                }
                _ => drop(rows.remove(&id)),
            }
        }
    }
}

fn run(seed: u64, faults: bool, steps: usize) {
    let mut world = World::new(seed, faults);
    for step in 0..steps {
        world.step();
        if step % 4 == 0 {
            world.check();
        }
    }
    world.heal();
    world.check_arrival();
}

tests! {
    fn tabs_show_the_same_without_faults() {
        for_seeds("tabs_show_the_same_without_faults", 100, |seed| run(seed, false, 300));
    }

    fn tabs_show_the_same_through_faults() {
        for_seeds("tabs_show_the_same_through_faults", 300, |seed| run(seed, true, 500));
    }
}
