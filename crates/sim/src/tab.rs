//! One tab: a client core and the pump that a browser's driver is, with every effect an event.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use syncline_core::client::{Connection, Event as ClientEvent, Input, Output, StorageState, TabMessage};
use syncline_protocol::{ErrorCode, Identity, Timestamp};
use syncline_replay::Settings;

use crate::describe::{describe_event, describe_input, describe_output};
use crate::engine::Engine;
use crate::fates::Fate;
use crate::model::Key;
use crate::wire::Ask;
use crate::world::{Event, LinkId, TabId, World};

/// One tab.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Tab {
    /// What a script calls it.
    pub(crate) name: String,
    /// On which device.
    pub(crate) device: usize,
    /// The engine.
    pub(crate) client: Engine,
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
    /// Whose session it is in.
    pub(crate) owner: String,
    /// Which version of the application it runs.
    pub(crate) version: u32,
    /// Of which replica it hears the other tabs.
    pub(crate) channel: Option<Identity>,
    /// How many messages it sent to other tabs.
    pub(crate) told: u64,
    /// Whether its driver knows of other tabs: rows are not copied for nobody.
    pub(crate) has_others: bool,
    /// When the last message of each other tab arrives.
    pub(crate) hears_at: BTreeMap<TabId, u64>,
    /// Its driver has let go of the database for good.
    pub(crate) is_closed: bool,
    /// It lets go of the database, or ends, when nothing that it began is left.
    pub(crate) is_leaving: bool,
    /// Its application stopped the engine.
    pub(crate) is_stopped: bool,
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
    /// What it learns now it learns from its disk.
    pub(crate) is_reading: bool,
    /// The writes that its application discarded; whether they are is told later.
    pub(crate) discarded: BTreeSet<String>,
    /// What it was told about each write.
    pub(crate) fates: BTreeMap<String, Fate>,
    /// What the server had when the application last asked for everything.
    pub(crate) asked_at: Option<u64>,
    /// How often it was looked at.
    pub(crate) looks: u64,
    /// What it was told about writes, in order; kept for scripts.
    pub(crate) told_of_writes: Vec<(String, String)>,
    /// The problems it was told of, in order; kept for scripts.
    pub(crate) problems: Vec<&'static str>,
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
        let here = &mut self.devices[device];
        let name = here.returning.pop_front().unwrap_or_else(|| format!("tab {id}"));
        let identity = here.known.get(&here.token).cloned();
        let settings = Settings { seed, schema: here.version, ..Settings::default() };
        let tape = self.script.as_ref().and_then(|script| script.tape.clone());
        let tab = Tab {
            name,
            device,
            client: Engine::new(settings, tape),
            token: here.token.clone(),
            link: None,
            asks: BTreeSet::new(),
            timer: 0,
            device_wake_at: None,
            frozen_until: 0,
            deferred: Vec::new(),
            throttled: false,
            owner: here.user.clone(),
            version: here.version,
            channel: None,
            told: 0,
            has_others: false,
            hears_at: BTreeMap::new(),
            is_closed: false,
            is_leaving: false,
            is_stopped: false,
            storing: 0,
            mirror: BTreeMap::new(),
            dirty: true,
            last_seq: 0,
            shown_writes: BTreeMap::new(),
            is_reading: false,
            discarded: BTreeSet::new(),
            fates: BTreeMap::new(),
            asked_at: None,
            looks: 0,
            told_of_writes: Vec::new(),
            problems: Vec::new(),
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

    /// A tab ends, and the next one that opens on its device is it again.
    pub(crate) fn reload_tab(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get(&id) else { return };
        let (name, device) = (tab.name.clone(), tab.device);
        self.devices[device].returning.push_back(name);
        self.crash_tab(id);
    }

    /// Gives a tab one input, or keeps it until the tab thaws.
    pub(crate) fn give(&mut self, id: TabId, input: Input) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.frozen_until > self.now {
            return tab.deferred.push(Event::Input(id, input));
        }
        self.trace.note(self.now, "input", &describe_input(id, &input));
        tab.has_others |= matches!(input, Input::TabHeard { .. });
        tab.is_reading = matches!(input, Input::Opened(_));
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

    /// A tab goes on: it hears what came meanwhile, and then that it is seen again.
    pub(crate) fn thaw(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.frozen_until <= self.now {
            for event in std::mem::take(&mut tab.deferred) {
                self.happen(event);
            }
            if self.tabs.get(&id).is_some_and(|tab| !tab.throttled) {
                self.give(id, Input::Wake);
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
            Output::OpenStorage { identity } => {
                if let Some(tab) = self.tabs.get_mut(&id) {
                    tab.channel = Some(identity.clone());
                }
                self.on_disk(id, Event::Open(id, identity));
            }
            Output::ReadStorage { known } => self.request_read(id, known),
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

    /// What the application of a tab learns.
    fn hear(&mut self, id: TabId, event: &ClientEvent) {
        self.trace.note(self.now, "event", &describe_event(id, event));
        self.note_told(id, event);
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
                self.devices[device].tokens_asked += 1;
                if self.devices[device].renews {
                    let delay = self.app.between(20, 2_000);
                    self.after(delay, Event::NewToken(device));
                }
            }
            ClientEvent::IdentityFlipped => {
                let token = tab.token.clone();
                self.devices[device].known.remove(&token);
                // What it showed is gone from its memory at once.
                self.reload_tab(id);
                self.after(5, Event::NewTab(device));
                return self.leave_session(device, &token);
            }
            ClientEvent::Problem { message, .. } if message.contains("may come back") => self.devices[device].remembers = true,
            ClientEvent::Problem { code: ErrorCode::ReloadRequired, .. } => {
                let delay = self.app.between(10, 10_000);
                self.after(delay, Event::Leave(id));
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
        // A tab that has not heard yet that somebody else signed in is not given their token.
        let owner = self.devices[number].user.clone();
        let is_theirs = |tab: &Tab| tab.device == number && tab.owner == owner;
        let tabs: Vec<TabId> = self.tabs.iter().filter(|(_, tab)| is_theirs(tab)).map(|(id, _)| *id).collect();
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
