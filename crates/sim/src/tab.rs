//! One tab: a client core and the pump that a browser's driver is, with every effect an event.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use syncline_core::client::{
    Client, ClientConfig, Connection, Event as ClientEvent, Input, Output, StorageFailure, StorageKind, StorageRequest,
    StorageState, StoredValue, TabMessage,
};
use syncline_protocol::{Identity, Timestamp};

use crate::model::Key;
use crate::wire::Ask;
use crate::world::{Event, LinkId, TabId, World};

/// One tab.
#[derive(Debug)]
pub(crate) struct Tab {
    /// On which device.
    pub(crate) device: usize,
    /// The engine.
    pub(crate) client: Client,
    /// The token that its socket and requests carry.
    pub(crate) token: String,
    /// Its socket.
    pub(crate) link: Option<LinkId>,
    /// Whether an HTTP answer of the present socket or question may still count.
    pub(crate) asks: BTreeSet<u64>,
    timer: u64,
    device_wake_at: Option<Timestamp>,
    /// It hears nothing before this time.
    pub(crate) frozen_until: u64,
    /// What it will hear then.
    pub(crate) deferred: Vec<Event>,
    /// Its timers fire once a minute.
    pub(crate) throttled: bool,
    /// How many messages it sent to other tabs.
    pub(crate) told: u64,
    /// Requests to the database without an answer.
    pub(crate) storing: u64,
    /// What a JavaScript cache built of deltas holds: each entity's version and rows.
    pub(crate) mirror: BTreeMap<String, (u64, BTreeMap<String, Value>)>,
    /// Whether the view may be another one since it was looked at.
    pub(crate) dirty: bool,
    /// Where it stood when it was looked at.
    pub(crate) last_seq: u64,
    /// The writes that it showed then.
    pub(crate) shown_writes: BTreeMap<String, Vec<Key>>,
    /// What the server had when the application last asked for everything.
    pub(crate) asked_at: Option<u64>,
    /// How often it was looked at.
    pub(crate) looks: u64,
}

impl World {
    /// Opens a tab on a device.
    pub(crate) fn open_tab(&mut self, device: usize) {
        let open = self.tabs.values().filter(|tab| tab.device == device).count() as u64;
        if open >= self.options.tabs {
            return;
        }
        let id = self.new_id();
        let seed = self.ids.bytes();
        let here = &self.devices[device];
        let identity = here.known.get(&here.token).cloned();
        let tab = Tab {
            device,
            client: Client::new(ClientConfig::with_seed(seed)),
            token: here.token.clone(),
            link: None,
            asks: BTreeSet::new(),
            timer: 0,
            device_wake_at: None,
            frozen_until: 0,
            deferred: Vec::new(),
            throttled: false,
            told: 0,
            storing: 0,
            mirror: BTreeMap::new(),
            dirty: true,
            last_seq: 0,
            shown_writes: BTreeMap::new(),
            asked_at: None,
            looks: 0,
        };
        self.tabs.insert(id, tab);
        self.give(id, Input::Start { identity });
    }

    /// A tab ends without a word.
    pub(crate) fn crash_tab(&mut self, id: TabId) {
        let Some(tab) = self.tabs.remove(&id) else { return };
        self.trace.note(self.now, "tab ends", &id.to_string());
        if let Some(link) = tab.link {
            self.after(1, Event::Break(link));
        }
        self.leave_locks(id, tab.device);
        self.writes_of_tab_end(id);
    }

    /// Gives a tab one input, or keeps it until the tab thaws.
    pub(crate) fn give(&mut self, id: TabId, input: Input) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.frozen_until > self.now {
            return tab.deferred.push(Event::Input(id, input));
        }
        self.trace.note(self.now, "input", &describe_input(id, &input));
        let clock = Timestamp(self.devices[tab.device].clock(self.now));
        tab.client.handle_input(clock, input);
        self.drain(id);
        self.look(id);
    }

    /// A tab stands still for a while: whatever comes meanwhile it hears afterwards.
    pub(crate) fn freeze(&mut self, id: TabId, ms: u64) {
        let until = self.now + ms;
        if let Some(tab) = self.tabs.get_mut(&id) {
            tab.frozen_until = until;
            self.at(until, Event::Thaw(id));
        }
    }

    /// A tab goes on.
    pub(crate) fn thaw(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.frozen_until <= self.now {
            for event in std::mem::take(&mut tab.deferred) {
                self.after(0, event);
            }
        }
    }

    /// A timer of a tab fires.
    pub(crate) fn tick(&mut self, id: TabId, timer: u64) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.timer != timer {
            return;
        }
        if tab.frozen_until > self.now {
            return tab.deferred.push(Event::Tick(id, timer));
        }
        tab.device_wake_at = None;
        self.give(id, Input::Tick);
    }

    /// Carries out what a tab's engine asks for.
    pub(crate) fn drain(&mut self, id: TabId) {
        loop {
            let Some(tab) = self.tabs.get_mut(&id) else { return };
            match tab.client.poll_output() {
                Output::Idle { wake_at } => return self.set_timer(id, wake_at),
                output => self.perform(id, output),
            }
        }
    }

    fn set_timer(&mut self, id: TabId, wake_at: Option<Timestamp>) {
        const THROTTLE_MS: u64 = 60_000;
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if std::mem::replace(&mut tab.device_wake_at, wake_at) == wake_at {
            return;
        }
        tab.timer += 1;
        if let Some(wake_at) = wake_at {
            // A browser's timer runs on when the device's clock is set.
            let mut delay = wake_at.0.saturating_sub(self.devices[tab.device].clock(self.now));
            if tab.throttled {
                delay = delay.div_ceil(THROTTLE_MS) * THROTTLE_MS;
            }
            let timer = tab.timer;
            self.after(delay, Event::Tick(id, timer));
        }
    }

    fn perform(&mut self, id: TabId, output: Output) {
        let now = self.now;
        if !matches!(output, Output::Notify(_)) {
            self.trace.note(now, "output", &describe_output(id, &output));
        }
        match output {
            Output::ResolveIdentity => self.ask(id, Ask::Identity),
            Output::OpenStorage { identity } => self.on_disk(id, Event::Open(id, identity)),
            Output::ReadStorage { known } => {
                let identity = self.identity_of(id);
                self.on_disk(id, Event::Read(id, identity, known));
            }
            Output::TakeLead => self.take_lead(id),
            Output::Resign => self.resign(id),
            Output::TellTabs(text) => self.tell_tabs(id, &TabMessage::Said(text)),
            Output::Store(request) => self.request_store(id, request),
            Output::OpenSocket => self.open_socket(id),
            Output::CloseSocket { .. } => self.close_socket(id),
            Output::Send(text) => self.send(id, text),
            Output::Pull { request, path_and_query } => self.ask(id, Ask::Pull(request, path_and_query)),
            Output::Notify(event) => self.hear(id, &event),
            Output::Idle { .. } => {}
        }
    }

    fn disk_delay(&mut self) -> u64 {
        if self.disk.permille(30) { self.disk.between(20, 800) } else { self.disk.between(1, 12) }
    }

    /// What one device's tabs ask of its disk is done in order.
    fn on_disk(&mut self, id: TabId, event: Event) {
        let delay = self.disk_delay();
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        tab.storing += 1;
        let device = &mut self.devices[tab.device];
        device.disk_free_at = device.disk_free_at.max(self.now) + delay;
        let at = device.disk_free_at;
        self.at(at, event);
    }

    fn request_store(&mut self, id: TabId, request: StorageRequest) {
        let identity = self.identity_of(id);
        self.on_disk(id, Event::Store(id, identity, request));
    }

    fn identity_of(&self, id: TabId) -> Identity {
        self.tabs.get(&id).and_then(|tab| tab.client.status().identity).unwrap_or_default()
    }

    /// The device of a tab whose question to the disk is answered now.
    fn answered_by_disk(&mut self, id: TabId) -> Option<usize> {
        let tab = self.tabs.get_mut(&id)?;
        tab.storing -= 1;
        Some(tab.device)
    }

    /// Opens the database of a tab's identity; it leads if nobody does.
    pub(crate) fn open_database(&mut self, id: TabId, identity: &Identity) {
        let hangs = self.strikes(self.options.open);
        let Some(number) = self.answered_by_disk(id) else { return };
        let device = &mut self.devices[number];
        if hangs || device.failing_opens > 0 {
            device.failing_opens = device.failing_opens.saturating_sub(1);
            let failure = StorageFailure::Unavailable("opening took too long".to_owned());
            return self.after(if hangs { 5_000 } else { 5 }, Event::Input(id, Input::OpenFailed(failure)));
        }
        let lock = device.lock(identity);
        let leads = lock.holder.is_none();
        if leads {
            lock.holder = Some(id);
        } else {
            lock.line.push_back(id);
        }
        let stored = if leads { device.disk(identity).open() } else { device.disk(identity).read(None) };
        self.give(id, Input::Opened(Box::new(stored)));
    }

    /// Reads the database again, for a tab that may have missed something.
    pub(crate) fn read_database(&mut self, id: TabId, identity: &Identity, known: Option<&[u8]>) {
        let Some(number) = self.answered_by_disk(id) else { return };
        let stored = self.devices[number].disk(identity).read(known);
        self.give(id, Input::Opened(Box::new(stored)));
    }

    /// A tab got the lock.
    pub(crate) fn lead(&mut self, id: TabId, identity: &Identity) {
        let Some(number) = self.answered_by_disk(id) else { return };
        let device = &mut self.devices[number];
        if device.lock(identity).holder == Some(id) {
            let stored = device.disk(identity).open();
            self.give(id, Input::Opened(Box::new(stored)));
        }
    }

    /// Takes the lock by force, if somebody looks at the tab. Whoever had it goes on until it hears so.
    fn take_lead(&mut self, id: TabId) {
        let identity = self.identity_of(id);
        let Some(tab) = self.tabs.get(&id).filter(|tab| !tab.throttled) else { return };
        let lock = self.devices[tab.device].lock(&identity);
        lock.line.retain(|other| *other != id);
        let former = lock.holder.replace(id).filter(|former| *former != id);
        lock.line.extend(former);
        if let Some(former) = former {
            let delay = self.disk.between(0, 5);
            self.after(delay, Event::Input(former, Input::LeadLost));
        }
        self.on_disk(id, Event::Lead(id, identity));
    }

    /// Lets the lock go and stands in line.
    fn resign(&mut self, id: TabId) {
        let identity = self.identity_of(id);
        let Some(device) = self.tabs.get(&id).map(|tab| tab.device) else { return };
        let lock = self.devices[device].lock(&identity);
        if !lock.line.contains(&id) {
            lock.line.push_back(id);
        }
        if lock.holder == Some(id) {
            lock.holder = None;
            self.grant(device, &identity);
        }
    }

    fn grant(&mut self, device: usize, identity: &Identity) {
        let lock = self.devices[device].lock(identity);
        if let (None, Some(next)) = (lock.holder, lock.line.pop_front()) {
            lock.holder = Some(next);
            self.on_disk(next, Event::Lead(next, identity.clone()));
        }
    }

    /// A tab that ends holds nothing and waits for nothing.
    fn leave_locks(&mut self, id: TabId, device: usize) {
        let mut free = Vec::new();
        for ((user_id, tenant_id), lock) in &mut self.devices[device].locks {
            lock.line.retain(|other| *other != id);
            if lock.holder == Some(id) {
                lock.holder = None;
                free.push(Identity { user_id: user_id.clone(), tenant_id: tenant_id.clone() });
            }
        }
        for identity in free {
            self.grant(device, &identity);
        }
    }

    /// Tells the other tabs of the same replica, in order; a tab that stands still may never hear it.
    fn tell_tabs(&mut self, id: TabId, message: &TabMessage) {
        let identity = self.identity_of(id);
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        tab.told += 1;
        let (number, device) = (tab.told, tab.device);
        let others: Vec<(TabId, bool)> = self
            .tabs
            .iter()
            .filter(|(other, tab)| {
                **other != id && tab.device == device && tab.client.status().identity.as_ref() == Some(&identity)
            })
            .map(|(other, tab)| (*other, tab.frozen_until > self.now))
            .collect();
        for (other, is_frozen) in others {
            if is_frozen && self.disk.permille(300) {
                continue;
            }
            // One channel: what one tab says arrives in the order in which it was said.
            self.after(1, Event::Input(other, Input::TabHeard { tab: id.into(), number, message: message.clone() }));
        }
    }

    /// Carries out one transaction, also of a tab that stands still.
    pub(crate) fn store(&mut self, id: TabId, identity: &Identity, request: StorageRequest) {
        let Some(device) = self.answered_by_disk(id) else { return };
        let result = self.devices[device].disk(identity).execute(request.kind.clone());
        self.trace.note(self.now, "stored", &format!("{id} {:?} {result:?}", request.id));
        self.check_disk(device, identity);
        if let Ok(value) = &result {
            let keys = if let StoredValue::Keys(keys) = value { keys.clone() } else { Vec::new() };
            self.tell_tabs(id, &TabMessage::Stored(request.kind, keys));
        }
        let delay = self.disk.between(0, 3);
        self.after(delay, Event::Input(id, Input::Stored { request: request.id, result }));
    }

    /// What the application of a tab learns.
    fn hear(&mut self, id: TabId, event: &ClientEvent) {
        self.trace.note(self.now, "event", &describe_event(id, event));
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        let device = tab.device;
        match event {
            ClientEvent::Changed { .. } | ClientEvent::Opened { .. } => tab.dirty = true,
            ClientEvent::StatusChanged { status } => {
                if let (Connection::Live, Some(identity)) = (&status.connection, &status.identity) {
                    let (token, identity) = (tab.token.clone(), identity.clone());
                    self.devices[device].known.insert(token, identity);
                }
            }
            ClientEvent::TokenNeeded { .. } if !std::mem::replace(&mut self.devices[device].awaits_token, true) => {
                let delay = self.app.between(20, 2_000);
                self.after(delay, Event::NewToken(device));
            }
            ClientEvent::IdentityFlipped => {
                let token = tab.token.clone();
                self.devices[device].known.remove(&token);
                self.crash_tab(id);
                return self.after(5, Event::NewTab(device));
            }
            _ => {}
        }
        self.learn(id, event);
    }

    /// The application got the token that it asked for.
    pub(crate) fn change_token(&mut self, number: usize) {
        let mut device = std::mem::replace(&mut self.devices[number], crate::device::Device::new("", ""));
        device.awaits_token = false;
        device.token = self.new_token(&device);
        self.devices[number] = device;
        let tabs: Vec<TabId> = self.tabs.iter().filter(|(_, tab)| tab.device == number).map(|(id, _)| *id).collect();
        for id in tabs {
            if let Some(tab) = self.tabs.get_mut(&id) {
                tab.token.clone_from(&self.devices[number].token);
            }
            self.give(id, Input::TokenChanged);
        }
    }

    /// Whether a tab waits for nothing but its timers.
    pub(crate) fn is_idle(&self, id: TabId) -> bool {
        self.tabs.get(&id).is_some_and(|tab| tab.storing == 0 && tab.asks.is_empty() && tab.frozen_until <= self.now)
    }

    /// Whether a tab's writes are promised to be on disk.
    pub(crate) fn promises_disk(tab: &Tab) -> bool {
        tab.client.status().storage == StorageState::Indexeddb
    }
}

/// What a request writes in short: whole records would take longer to print than to make.
fn describe_output(id: TabId, output: &Output) -> String {
    match output {
        Output::Send(text) => format!("{id} send {text}"),
        Output::Store(StorageRequest { id: request, kind }) => format!("{id} store {} {}", request.0, describe_kind(kind)),
        output => format!("{id} {output:?}"),
    }
}

fn describe_kind(kind: &StorageKind) -> String {
    let keys = |put: &[(u64, Vec<u8>)]| {
        let list = put.iter().map(|(key, bytes)| format!("{key}:{:08x}", xxh32(bytes)));
        list.collect::<Vec<_>>().join(" ")
    };
    match kind {
        StorageKind::Enqueue { records, formers } => {
            let sums: Vec<String> = records.iter().map(|record| format!("{:08x}", xxh32(record))).collect();
            let formers: Vec<(usize, u64)> = formers.iter().map(|former| (former.number, former.key)).collect();
            format!("enqueue {} for {formers:?}", sums.join(" "))
        }
        StorageKind::UpdateQueue { fence, put, remove } => format!("update queue as {fence}: {} without {remove:?}", keys(put)),
        StorageKind::FoldQueue { fence, put, remove } => format!("fold queue as {fence}: {} without {remove:?}", keys(put)),
        StorageKind::Commit { fence, replica, put, delete, remove_queue, .. } => {
            let replica = String::from_utf8_lossy(replica);
            format!("commit as {fence}: {} without {delete:?} unqueue {remove_queue:?} {replica}", keys(put))
        }
        StorageKind::Compact { fence, generation, put, delete } => {
            format!("compact {generation} as {fence}: {} without {delete:?}", keys(put))
        }
        kind => format!("{kind:?}"),
    }
}

fn xxh32(bytes: &[u8]) -> u32 {
    u32::try_from(xxhash_rust::xxh64::xxh64(bytes, 0) >> 32).unwrap_or(0)
}

fn describe_input(id: TabId, input: &Input) -> String {
    match input {
        Input::Received(text) => format!("{id} received {text}"),
        Input::PullAnswered { request, status, body, .. } => format!("{id} pull {} answered {status} {body}", request.0),
        Input::Opened(stored) => {
            let replica = stored.replica.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let (records, queue) = (stored.records.len(), stored.queue.len());
            format!("{id} opened: {records} records, {queue} writes, fence {:?}, {replica}", stored.fence)
        }
        input => format!("{id} {input:?}"),
    }
}

fn describe_event(id: TabId, event: &ClientEvent) -> String {
    format!("{id} {}", ClientEvent::list_to_json(std::slice::from_ref(event)))
}
