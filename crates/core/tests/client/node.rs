//! One client with its disk, its line to the server and what its application was told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;
use syncline_core::client::{Client, ClientConfig, Event, Input, Output, RequestId, Status, StorageRequest, StorageState};
use syncline_protocol::{ClientMessage, ErrorBody, Identity, PushAnswer, ServerMessage, Timestamp};

use crate::disk::Disk;
use crate::random::Random;
use crate::server::Server;

#[derive(Debug, Default)]
pub(crate) struct Line {
    open: bool,
    pub(crate) up: VecDeque<String>,
    pub(crate) down: VecDeque<String>,
    /// Where the server has sent to; `None` before it streams.
    place: Option<u64>,
}

pub(crate) struct Node {
    pub(crate) client: Client,
    pub(crate) disk: Disk,
    pub(crate) stores: VecDeque<StorageRequest>,
    pub(crate) line: Option<Line>,
    pub(crate) pull: Option<(RequestId, String)>,
    /// By the world's clock, as a browser's timers count: a step of the device's clock does not move it.
    pub(crate) wake_at: Option<Timestamp>,
    device_wake_at: Option<Timestamp>,
    /// By how much the device's clock is ahead of the world's, in milliseconds.
    pub(crate) clock_ahead_ms: i64,
    pub(crate) events: Vec<Event>,
    /// op_ids the application was promised, by a replica that called its store durable.
    pub(crate) durable: BTreeSet<String>,
    /// op_ids whose end it was told.
    pub(crate) ended: BTreeSet<String>,
    /// op_ids that another one stands for.
    pub(crate) replaced: BTreeMap<String, String>,
    /// What the server had when the application last asked for it.
    pub(crate) asked_at: Option<u64>,
    /// What a JavaScript cache built of deltas holds.
    mirror: BTreeMap<String, (u64, BTreeMap<String, Value>)>,
    /// Each with the number of transactions that were begun before it.
    pub(crate) wants: VecDeque<(usize, Want)>,
    /// What it told the other tabs.
    pub(crate) said: VecDeque<String>,
}

/// What it wants of its database besides transactions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Want {
    Open,
    Read(Option<Vec<u8>>),
    TakeLead,
    Resign,
}

pub(crate) fn alice() -> Identity {
    Identity { user_id: Some("alice".to_owned()), tenant_id: None }
}

impl Node {
    pub(crate) fn new(random: &mut Random, disk: Disk, now: Timestamp) -> Self {
        Self::with_clock(random, disk, now, 0)
    }

    fn with_clock(random: &mut Random, disk: Disk, now: Timestamp, clock_ahead_ms: i64) -> Self {
        let config = ClientConfig::with_seed(random.bytes());
        let mut node = Self {
            client: Client::new(config),
            disk,
            stores: VecDeque::new(),
            line: None,
            pull: None,
            wake_at: None,
            device_wake_at: None,
            clock_ahead_ms,
            events: Vec::new(),
            durable: BTreeSet::new(),
            ended: BTreeSet::new(),
            replaced: BTreeMap::new(),
            asked_at: None,
            mirror: BTreeMap::new(),
            wants: VecDeque::new(),
            said: VecDeque::new(),
        };
        node.input(now, Input::Start { identity: Some(alice()) });
        node
    }

    pub(crate) fn input(&mut self, now: Timestamp, input: Input) {
        if matches!(input, Input::Tick) {
            self.device_wake_at = None;
            self.wake_at = None;
        }
        self.client.handle_input(self.device_time(now), input);
        self.drain();
    }

    /// What the device's clock says.
    pub(crate) fn device_time(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.strict_add_signed(self.clock_ahead_ms))
    }

    pub(crate) fn drain(&mut self) {
        loop {
            match self.client.poll_output() {
                Output::Idle { wake_at } => {
                    // As in the browser: a timer that runs is left alone, and one that has fired is set again.
                    if std::mem::replace(&mut self.device_wake_at, wake_at) != wake_at {
                        self.wake_at = wake_at.map(|at| Timestamp(at.0.saturating_add_signed(-self.clock_ahead_ms)));
                    }
                    return;
                }
                Output::ResolveIdentity => panic!("the identity is known"),
                Output::OpenStorage { .. } => self.want(Want::Open),
                Output::ReadStorage { known } => self.want(Want::Read(known)),
                Output::TakeLead => self.want(Want::TakeLead),
                Output::Resign => self.want(Want::Resign),
                Output::TellTabs(text) => self.said.push_back(text),
                Output::Store(request) => self.stores.push_back(request),
                Output::OpenSocket => self.line = Some(Line::default()),
                Output::CloseSocket { .. } => self.line = None,
                Output::Send(text) => {
                    if let Some(line) = &mut self.line {
                        line.up.push_back(text);
                    }
                }
                Output::Pull { request, path_and_query } => self.pull = Some((request, path_and_query)),
                Output::Notify(event) => self.learn(event),
            }
        }
    }

    fn learn(&mut self, event: Event) {
        match &event {
            Event::MutationDurable { op_id } if self.status().storage == StorageState::Indexeddb => {
                self.durable.insert(op_id.to_string());
            }
            Event::Synced { seq } => {
                assert!(
                    self.asked_at.take().is_none_or(|head| head <= *seq),
                    "less is here than there was when it was asked for"
                );
            }
            Event::MutationConfirmed { op_id, .. } | Event::MutationRemoved { op_id } => {
                self.ended.insert(op_id.to_string());
            }
            Event::MutationReplaced { op_id, by } => {
                self.replaced.insert(op_id.to_string(), by.to_string());
            }
            _ => {}
        }
        self.events.push(event);
    }

    fn want(&mut self, want: Want) {
        self.wants.push_back((self.stores.len(), want));
    }

    /// What comes next, if no transaction was begun before it.
    pub(crate) fn next_want(&mut self) -> Option<Want> {
        self.wants.pop_front_if(|(before, _)| *before == 0).map(|(_, want)| want)
    }

    pub(crate) fn next_store(&mut self) -> Option<StorageRequest> {
        for (before, _) in &mut self.wants {
            *before = before.saturating_sub(1);
        }
        self.stores.pop_front()
    }

    /// Lets one storage transaction happen.
    pub(crate) fn store_one(&mut self, now: Timestamp) -> bool {
        if let Some(want) = self.next_want() {
            // It is the only tab there is: whenever it stands in line for the lead it gets it.
            let stored = if let Want::Read(known) = want { self.disk.read(known.as_ref()) } else { self.disk.open() };
            self.input(now, Input::Opened(Box::new(stored)));
            return true;
        }
        let Some(request) = self.next_store() else { return false };
        let result = self.disk.execute(request.kind);
        self.input(now, Input::Stored { request: request.id, result });
        true
    }

    /// Lets the server take one message, or the socket open.
    pub(crate) fn serve_one(&mut self, now: Timestamp, server: &mut Server) -> bool {
        let Some(line) = &mut self.line else { return false };
        if !line.open {
            line.open = true;
            self.input(now, Input::SocketOpened);
            return true;
        }
        let Some(text) = line.up.pop_front() else { return false };
        match ClientMessage::parse(&text).expect("clients send what is documented") {
            ClientMessage::Hello(hello) => {
                let (welcome, place) = server.hello(&hello);
                line.place = place;
                line.down.push_back(ServerMessage::Welcome(welcome).encode());
            }
            ClientMessage::Resume(resume) => {
                line.place = server.resume(&resume.cursor);
                if line.place.is_none() {
                    let error = server.pull(Some("useless")).unwrap_err();
                    line.down.push_back(ServerMessage::Resync { error }.encode());
                }
            }
            ClientMessage::Push(push) => {
                let results = server.push(&push);
                line.down.push_back(ServerMessage::Outcomes(PushAnswer { id: push.id, results, frame: None }).encode());
            }
            ClientMessage::Heartbeat => {}
        }
        true
    }

    /// Lets the server send what its log has more.
    pub(crate) fn stream(&mut self, server: &Server) -> bool {
        let Some(Line { place: Some(place), down, .. }) = &mut self.line else { return false };
        if *place >= server.head {
            return false;
        }
        if *place < server.floor {
            let error = server.pull(Some("useless")).unwrap_err();
            down.push_back(ServerMessage::Resync { error }.encode());
            if let Some(line) = &mut self.line {
                line.place = None;
            }
            return true;
        }
        let page = server.log_page(*place);
        *place = page.to;
        down.push_back(ServerMessage::Frame(page).encode());
        true
    }

    pub(crate) fn receive_one(&mut self, now: Timestamp) -> bool {
        let Some(text) = self.line.as_mut().and_then(|line| line.down.pop_front()) else { return false };
        self.input(now, Input::Received(text));
        true
    }

    pub(crate) fn pull_one(&mut self, now: Timestamp, server: &Server) -> bool {
        let Some((request, path)) = self.pull.take() else { return false };
        assert!(path.contains("user_id=alice"), "{path}");
        let token = path.split(['?', '&']).find_map(|part| part.strip_prefix("cursor=")).map(|token| token.replace("%3A", ":"));
        let (status, body) = match server.pull(token.as_deref()) {
            Ok(page) => (200, serde_json::to_string(&page).unwrap()),
            Err(error) => (410, serde_json::to_string(&ErrorBody { error }).unwrap()),
        };
        self.input(now, Input::PullAnswered { request, status, body, retry_after_ms: None });
        true
    }

    pub(crate) fn disconnect(&mut self, now: Timestamp) {
        if self.line.take().is_some() {
            self.input(now, Input::SocketClosed { code: 1006, reason: String::new() });
        }
    }

    /// The process ends between two inputs, and the power with it when `lost` says so.
    pub(crate) fn crash(&mut self, random: &mut Random, now: Timestamp, lost: usize) {
        // Requests that were on their way may have been carried out or not.
        for _ in 0..random.below(self.stores.len() + 1) {
            if let Some(request) = self.next_store() {
                let _ = self.disk.execute(request.kind);
            }
        }
        self.disk.cut_power(lost);
        let (durable, ended) = (std::mem::take(&mut self.durable), std::mem::take(&mut self.ended));
        let replaced = std::mem::take(&mut self.replaced);
        *self = Self::with_clock(random, std::mem::take(&mut self.disk), now, self.clock_ahead_ms);
        (self.durable, self.ended, self.replaced) = (durable, ended, replaced);
    }

    pub(crate) fn status(&self) -> Status {
        self.client.status()
    }

    pub(crate) fn mutations(&self) -> Vec<Value> {
        serde_json::from_str(&self.client.mutations_json()).unwrap()
    }

    /// Those of the queue that wait for one that failed, told from the list alone.
    pub(crate) fn held(&self) -> BTreeSet<String> {
        let (mut failed, mut held) = (BTreeSet::new(), BTreeSet::new());
        for mutation in self.mutations() {
            let op_id = mutation["op_id"].as_str().unwrap().to_owned();
            let waits = mutation["waiting_on"].as_array().unwrap().iter().map(|other| other.as_str().unwrap());
            let is_held = waits.clone().any(|other| failed.contains(other));
            if mutation["status"] == "failed" {
                failed.insert(op_id);
            } else if is_held && mutation["status"] == "pending" {
                assert!(waits.clone().any(|other| !held.contains(other)), "it names what the application has to deal with");
                failed.insert(op_id.clone());
                held.insert(op_id);
            }
        }
        held
    }

    /// The whole view of an entity, read fresh, by id.
    pub(crate) fn rows(&mut self, entity: &str) -> BTreeMap<String, Value> {
        let delta: Value = serde_json::from_str(&self.client.delta_json(entity, 0)).unwrap();
        let rows = delta["rows"].as_array().unwrap();
        let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert!(ids.is_sorted(), "rows come in order of their ids: {ids:?}");
        rows.iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row.clone())).collect()
    }

    /// Follows the deltas as JavaScript does and compares the result, and each row's version, with a fresh read.
    pub(crate) fn check_mirror(&mut self, entity: &str) {
        let fresh = self.rows(entity);
        let (at, mirror) = self.mirror.entry(entity.to_owned()).or_default();
        let delta: Value = serde_json::from_str(&self.client.delta_json(entity, *at)).unwrap();
        if delta["full"] == true {
            mirror.clear();
        }
        for row in delta["rows"].as_array().unwrap() {
            let id = row["id"].as_str().unwrap().to_owned();
            mirror.insert(id, row.clone());
        }
        for id in delta["removed"].as_array().unwrap() {
            mirror.remove(id.as_str().unwrap());
        }
        *at = delta["at"].as_u64().unwrap();
        assert_eq!(*mirror, fresh, "deltas lead where a fresh read leads");
        for (id, row) in &fresh {
            assert_eq!(
                self.client.row_json(entity, id).map(|json| serde_json::from_str::<Value>(&json).unwrap()).as_ref(),
                Some(row)
            );
            assert_ne!(self.client.row_version(entity, id), 0);
        }
    }
}
