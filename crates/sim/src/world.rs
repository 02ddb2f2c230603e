//! One server, some devices, a network between them and a clock: everything that happens is an event in one queue.

use std::collections::{BTreeMap, BTreeSet};

use syncline_core::client::{Connection, Input, StorageRequest, StorageState};
use syncline_protocol::Identity;
use syncline_server::local_server::Said;

use crate::byzantine::Mallory;
use crate::checks::Write;
use crate::device::Device;
use crate::disk::Queued;
use crate::options::Options;
use crate::random::Random;
use crate::script::Script;
use crate::service::Service;
use crate::storage::Answer;
use crate::tab::Tab;
use crate::trace::Trace;
use crate::wire::{Ask, Link};

/// When every run begins, in milliseconds since 1970.
pub(crate) const START_MS: u64 = 1_700_000_000_000;
/// The organisations; the empty name is none.
pub(crate) const TENANTS: [&str; 2] = ["t1", "t2"];
/// Who signs in, and last who does not keep to the protocol.
pub(crate) const USERS: [&str; 3] = ["u1", "u2", "mallory"];

/// Number of a tab; never used twice.
pub(crate) type TabId = u32;
/// Number of a socket; never used twice.
pub(crate) type LinkId = u32;

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A tab opens on a device.
    NewTab(usize),
    /// A tab hears something.
    Input(TabId, Input),
    /// A frozen tab goes on.
    Thaw(TabId),
    /// A timer of a tab fires, unless another was set since.
    Tick(TabId, u64),
    /// A tab's database is opened.
    Open(TabId, Identity),
    /// A tab's database is read again.
    Read(TabId, Identity, Option<Vec<u8>>),
    /// A tab that was granted the lock takes the lead.
    Lead(TabId, Identity),
    /// A tab has the lock that it stood in line for.
    Granted(TabId, Identity),
    /// A transaction that a tab of this device asked for begins.
    Store(TabId, usize, Identity, StorageRequest),
    /// A tab learns what became of its transaction.
    Stored(TabId, Answer),
    /// A tab leaves its session, or is reloaded.
    Leave(TabId),
    /// A newer version wants the database of a tab.
    Outdated(TabId),
    /// A person edits or discards in a tab what was written just now.
    Undo(TabId, String),
    /// A socket reaches the server.
    Connect(LinkId),
    /// A message reaches the server.
    Up(LinkId, String),
    /// A message reaches the tab.
    Down(LinkId, Said),
    /// The server has something to say by itself.
    Say(LinkId),
    /// A socket breaks for both ends.
    Break(LinkId),
    /// A request over HTTP reaches the server.
    Http(TabId, Ask),
    /// A device's application has a new token.
    NewToken(usize),
    /// The application of a device does something.
    App(usize),
    /// Something goes wrong, perhaps.
    Fault,
    /// Whoever does not keep to the protocol does something.
    Byzantine,
}

/// Everything there is in one run.
#[derive(Debug)]
pub(crate) struct World {
    /// What the run is like.
    pub(crate) options: Options,
    /// Milliseconds since 1970, as the sun has it.
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    /// Delays and losses on the way.
    pub(crate) net: Random,
    /// What applications do.
    pub(crate) app: Random,
    /// What goes wrong.
    pub(crate) fault: Random,
    /// How long disks take.
    pub(crate) disk: Random,
    /// Seeds of clients.
    pub(crate) ids: Random,
    /// The server.
    pub(crate) service: Service,
    /// Devices by number.
    pub(crate) devices: Vec<Device>,
    /// Open tabs.
    pub(crate) tabs: BTreeMap<TabId, Tab>,
    /// Sockets.
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) last_id: u32,
    /// Tabs that ended before their next transaction began.
    pub(crate) too_late: BTreeSet<TabId>,
    /// Every write that was taken, by its op_id.
    pub(crate) writes: BTreeMap<String, Write>,
    /// Somebody hostile.
    pub(crate) mallory: Mallory,
    /// What happened.
    pub(crate) trace: Trace,
    /// Whether the faults have stopped.
    pub(crate) healing: bool,
    /// Whether the checkers look.
    pub(crate) checking: bool,
    /// Events so far.
    pub(crate) steps: u64,
    /// What is to happen, when that is written down and not drawn.
    pub(crate) script: Option<Box<Script>>,
}

impl World {
    /// Builds the world of these options.
    pub(crate) fn new(options: Options, checking: bool, shown: bool) -> Self {
        let users = usize::try_from(options.users).unwrap_or(1).min(2);
        let mut world = Self::empty(options, [&USERS, &TENANTS], checking, shown);
        for tenant in TENANTS {
            for number in 0..world.options.bulk {
                world.service.write_large(tenant, number, START_MS);
            }
        }
        for number in 0..usize::try_from(world.options.devices).unwrap_or(1) {
            let user = USERS[number % users];
            let mut device = Device::new(user, TENANTS[usize::from(world.app.permille(200))]);
            device.token = world.new_token(&device);
            world.devices.push(device);
            world.after(1, Event::NewTab(number));
            world.after(50, Event::App(number));
        }
        world.after(500, Event::Fault);
        if world.options.byzantine > 0 {
            world.after(700, Event::Byzantine);
        }
        world
    }

    /// Builds a world with a server and nobody else, where each of these users is a member of each of these tenants.
    pub(crate) fn empty(options: Options, [users, tenants]: [&[&str]; 2], checking: bool, shown: bool) -> Self {
        let seed = options.seed;
        #[cfg(feature = "planted")]
        syncline_core::planted::plant(u32::try_from(options.bug).unwrap_or(0));
        let stream = |name| Random::stream(seed, name);
        Self {
            now: START_MS + 1_000,
            queue: BTreeMap::new(),
            scheduled: 0,
            net: stream("net"),
            app: stream("app"),
            fault: stream("fault"),
            disk: stream("disk"),
            ids: stream("ids"),
            service: Service::new(seed, options.page, users, tenants, START_MS),
            devices: Vec::new(),
            tabs: BTreeMap::new(),
            links: BTreeMap::new(),
            last_id: 0,
            too_late: BTreeSet::new(),
            writes: BTreeMap::new(),
            mallory: Mallory::new(seed),
            trace: Trace::new(shown),
            healing: false,
            checking,
            steps: 0,
            script: None,
            options,
        }
    }

    /// Makes a token for whoever sits at a device.
    pub(crate) fn new_token(&mut self, device: &Device) -> String {
        const LONG_MS: u64 = 90 * 86_400_000;
        let short = !self.healing && self.fault.permille(self.options.token * 5);
        let ttl = if short { self.fault.between(2_000, 120_000) } else { LONG_MS };
        let ttl = device.token_ms.unwrap_or(ttl);
        self.service.sign_in(&device.user, &device.tenant, ttl, self.now)
    }

    /// Lets something happen later.
    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now + ms, event);
    }

    /// Lets something happen at a time.
    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at.max(self.now), self.scheduled), event);
    }

    /// A number that nothing else has.
    pub(crate) const fn new_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// True so often, as long as there are faults.
    pub(crate) fn strikes(&mut self, rate: u64) -> bool {
        !self.healing && self.net.permille(rate)
    }

    /// Lets the next thing happen; false when nothing is left, or nothing before `until`.
    pub(crate) fn step(&mut self, until: u64) -> bool {
        let Some((&(at, number), _)) = self.queue.first_key_value() else { return false };
        if at > until {
            return false;
        }
        let event = self.queue.remove(&(at, number)).expect("it was there");
        self.now = at;
        self.steps += 1;
        self.happen(event);
        true
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::NewTab(device) => self.open_tab(device),
            Event::Input(tab, input) => self.give(tab, input),
            Event::Thaw(tab) => self.thaw(tab),
            Event::Tick(tab, timer) => self.tick(tab, timer),
            Event::Open(tab, identity) => self.open_database(tab, &identity),
            Event::Read(tab, identity, known) => self.read_database(tab, &identity, known.as_deref()),
            Event::Lead(tab, identity) => self.lead(tab, &identity),
            Event::Granted(tab, identity) => self.granted(tab, identity),
            Event::Store(tab, device, identity, request) => self.store(tab, device, &identity, request),
            Event::Stored(tab, answer) => self.stored(tab, answer),
            Event::Leave(tab) => self.leave(tab),
            Event::Outdated(tab) => self.outdated(tab),
            Event::Undo(tab, op_id) => self.think_better(tab, &op_id),
            Event::Connect(link) => self.connect(link),
            Event::Up(link, text) => self.message_up(link, &text),
            Event::Down(link, said) => self.message_down(link, said),
            Event::Say(link) => self.server_says(link),
            Event::Break(link) => self.break_link(link),
            Event::Http(tab, ask) => self.http(tab, &ask),
            Event::NewToken(device) => self.change_token(device),
            Event::App(device) => self.application(device),
            Event::Fault => self.something_goes_wrong(),
            Event::Byzantine => self.byzantine(),
        }
    }

    /// Runs the whole story: faults, then none, then everybody must arrive.
    pub(crate) fn run(&mut self) {
        while self.steps < self.options.steps && self.step(u64::MAX) {}
        self.heal();
        self.check_arrival();
    }

    /// The faults stop, and whoever sits at a device does what the page says.
    pub(crate) fn heal(&mut self) {
        self.trace.note(self.now, "heal", "");
        self.healing = true;
        self.service.busy = 0;
        self.service.down_until = self.now;
        for device in &mut self.devices {
            device.heal(self.now);
        }
        let tabs: Vec<TabId> = self.tabs.keys().copied().collect();
        for id in tabs {
            let Some(tab) = self.tabs.get_mut(&id) else { continue };
            tab.frozen_until = tab.frozen_until.min(self.now);
            let was_away = tab.throttled || !tab.deferred.is_empty();
            self.thaw(id);
            // Whoever looks at a tab again mends what was lost on the way to it; nothing else does when nothing follows.
            if was_away || self.options.channel > 0 {
                self.show(id);
            }
        }
        let deadline = self.now + ARRIVAL_MS_MAX;
        for number in 0..self.devices.len() {
            let is_there = self.tabs.values().any(|tab| tab.device == number);
            if !is_there {
                self.after(1, Event::NewTab(number));
            }
        }
        while self.now < deadline {
            let until = self.now + 1_000;
            while self.step(until) {}
            self.now = until;
            let ids: Vec<TabId> = self.tabs.keys().copied().collect();
            for tab in ids {
                self.mend(tab);
            }
            if self.has_arrived() {
                return;
            }
        }
        let states: Vec<String> = self.tabs.values().map(|tab| tab.client.status().to_json()).collect();
        panic!("I16: no progress within {ARRIVAL_MS_MAX} ms after the faults stopped: {states:#?}");
    }

    /// A person reloads a page that says that it is of no use, and settles what failed.
    fn mend(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get(&id) else { return };
        let (status, device) = (tab.client.status(), tab.device);
        let is_useless = matches!(status.connection, Connection::Paused | Connection::Incompatible | Connection::Stopped)
            || matches!(status.storage, StorageState::Memory { .. });
        if status.connection == Connection::Unauthorized && !self.devices[tab.device].awaits_token {
            // An application is asked once; after that a person signs in again.
            return self.change_token(tab.device);
        }
        if is_useless {
            self.trace.note(self.now, "reload", &format!("{id}: {}", status.to_json()));
            self.reload_tab(id);
            self.after(10, Event::NewTab(device));
            return;
        }
        if self.tabs.iter().find(|(_, other)| other.device == device).is_some_and(|(first, _)| *first == id) {
            self.discard_failed(id);
        }
    }

    fn has_arrived(&mut self) -> bool {
        let mut all = self.tabs.len() >= self.devices.len();
        let ids: Vec<TabId> = self.tabs.keys().copied().collect();
        for id in ids {
            let Some(tab) = self.tabs.get(&id) else { continue };
            let status = tab.client.status();
            let Some(identity) = status.identity else { return false };
            // What another tab left on the disk without a word, the leader finds when it looks again.
            let is_left = self.devices[tab.device].disks.get(&(identity.user_id.clone(), identity.tenant_id.clone()));
            all &= is_left.is_none_or(|disk| disk.now.queue.values().all(Queued::is_mark));
            let head = self.service.life().head(identity.tenant_id.as_deref().unwrap_or_default());
            let done = status.connection == Connection::Live
                && status.storage == StorageState::Indexeddb
                && status.seq == head
                && status.pending == 0
                && status.failed == 0;
            all &= done && self.is_idle(id);
        }
        all
    }
}

/// By then everybody has arrived: two missed heartbeats, a handshake that fails, the longest delay between two attempts, the
/// longest `Retry-After` of the simulated proxies, and some pages.
pub(crate) const ARRIVAL_MS_MAX: u64 = 240_000;
