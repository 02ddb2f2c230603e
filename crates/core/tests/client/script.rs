//! A client driven by hand, line by line.

use std::fmt::Write;

use syncline_core::client::{
    Client, ClientConfig, Event, Input, NewChange, Output, RequestId, StorageKind, StorageRequest, StoredReplica,
};
use syncline_protocol::{ChangeKind, ClientMessage, Timestamp};

use crate::disk::Disk;
use crate::node::alice;

/// A client whose every output is written down.
pub(crate) struct Script {
    pub(crate) client: Client,
    pub(crate) now: u64,
    pub(crate) log: String,
    /// What it was told of writes that were sent, applied, discarded or replaced.
    pub(crate) told: Vec<String>,
    pub(crate) disk: Disk,
    /// Requests that the disk was not given yet; without a list it gets each at once.
    pub(crate) held: Option<Vec<StorageRequest>>,
    /// The transactions of each push.
    pub(crate) pushed: Vec<Vec<String>>,
    pub(crate) last_push: u64,
    pub(crate) pull: Option<RequestId>,
}

impl Script {
    pub(crate) fn new() -> Self {
        let mut script = Self::unstarted(false);
        script.give(Input::Start { identity: Some(alice()) });
        script.give(opened());
        script.log.clear();
        script
    }

    /// The same device after a crash.
    pub(crate) fn restarted(mut disk: Disk) -> Self {
        let mut script = Self::unstarted(false);
        script.give(Input::Start { identity: Some(alice()) });
        script.give(Input::Opened(Box::new(disk.open())));
        script.disk = disk;
        script
    }

    pub(crate) fn unstarted(paused: bool) -> Self {
        let mut config = ClientConfig::with_seed([7; 32]);
        config.start_paused = paused;
        Self {
            client: Client::new(config),
            now: 1_700_000_000_000,
            log: String::new(),
            told: Vec::new(),
            disk: Disk::default(),
            held: None,
            pushed: Vec::new(),
            last_push: 0,
            pull: None,
        }
    }

    pub(crate) fn give(&mut self, input: Input) {
        self.client.handle_input(Timestamp(self.now), input);
        self.drain();
    }

    /// Lets time pass in one step; every timer on the way fires.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Output::Idle { wake_at: Some(at) } = self.client.poll_output()
            && at.0 <= end
        {
            self.now = self.now.max(at.0);
            self.give(Input::Tick);
        }
        self.now = end;
        self.give(Input::Tick);
    }

    pub(crate) fn drain(&mut self) {
        loop {
            let line = match self.client.poll_output() {
                Output::Idle { .. } => return,
                Output::ResolveIdentity => "resolve".to_owned(),
                Output::OpenStorage { .. } => "open database".to_owned(),
                Output::OpenSocket => "open socket".to_owned(),
                Output::CloseSocket { code } => format!("close {code}"),
                Output::Send(text) => match ClientMessage::parse(&text).unwrap() {
                    ClientMessage::Hello(hello) => format!("hello {:?}", hello.cursor),
                    ClientMessage::Resume(resume) => format!("resume {}", resume.cursor),
                    ClientMessage::Push(push) => {
                        self.last_push = push.id;
                        self.pushed.push(push.transactions.iter().map(|raw| raw.get().to_owned()).collect());
                        format!("push {}", push.transactions.len())
                    }
                    ClientMessage::Heartbeat => "heartbeat".to_owned(),
                },
                Output::Pull { request, path_and_query } => {
                    self.pull = Some(request);
                    format!("pull {path_and_query}")
                }
                Output::Store(request) => {
                    match &mut self.held {
                        Some(held) => held.push(request),
                        None => self.store(request.kind, request.id),
                    }
                    continue;
                }
                Output::Notify(Event::TokenNeeded { code }) => format!("token needed: {code}"),
                Output::Notify(Event::IdentityFlipped) => "identity flipped".to_owned(),
                Output::Notify(Event::Problem { code, .. }) => format!("problem {}", code.code()),
                Output::Notify(Event::MutationLost { error, .. }) => format!("lost: {}", error.code),
                Output::Notify(Event::MutationFailed { error, .. }) => format!("failed: {}", error.code),
                Output::Notify(Event::MutationHeld { .. }) => "held".to_owned(),
                Output::Notify(Event::Synced { seq }) => format!("synced {seq}"),
                Output::TakeLead => "take the lead".to_owned(),
                Output::Resign => "resign".to_owned(),
                Output::Notify(Event::MutationSent { .. }) => {
                    self.told.push("sent".to_owned());
                    continue;
                }
                Output::Notify(Event::MutationConfirmed { op_id, seq }) => {
                    self.told.push(format!("{op_id} at {seq}"));
                    continue;
                }
                Output::Notify(Event::MutationRemoved { .. }) => {
                    self.told.push("removed".to_owned());
                    continue;
                }
                Output::Notify(Event::MutationReplaced { op_id, by }) => {
                    self.told.push(format!("{op_id} by {by}"));
                    continue;
                }
                Output::Notify(_) | Output::TellTabs(_) | Output::ReadStorage { .. } => continue,
            };
            writeln!(self.log, "{line}").unwrap();
        }
    }

    pub(crate) fn store(&mut self, kind: StorageKind, request: RequestId) {
        let result = self.disk.execute(kind);
        self.client.handle_input(Timestamp(self.now), Input::Stored { request, result });
    }

    /// Carries out what was held back, and holds back nothing more.
    pub(crate) fn store_held(&mut self) {
        for request in self.held.take().unwrap_or_default() {
            self.store(request.kind, request.id);
        }
        self.drain();
    }

    pub(crate) fn write(&mut self) {
        let data = r#"{"a":1}"#.to_owned();
        let change = NewChange { entity: "Todo".to_owned(), row_id: None, kind: ChangeKind::Insert, data: Some(data) };
        self.client.mutate(Timestamp(self.now), vec![change]).unwrap();
        self.drain();
    }

    /// The op_ids of the last push.
    pub(crate) fn sent(&self) -> Vec<String> {
        let op_id = |text: &String| syncline_protocol::Intent::parse(text).unwrap().op_id.to_string();
        self.pushed.last().unwrap().iter().map(op_id).collect()
    }

    /// Answers the last push: for each write its op_id and the other members of its outcome.
    pub(crate) fn outcomes(&mut self, list: &[(&str, &str)]) {
        let one = |(op_id, more): &(&str, &str)| format!(r#"{{"op_id":"{op_id}",{more},"replayed":false}}"#);
        let results: Vec<String> = list.iter().map(one).collect();
        let id = self.last_push;
        self.give(Input::Received(format!(r#"{{"type":"outcomes","id":{id},"results":[{}]}}"#, results.join(","))));
    }

    /// Changes the first row there is.
    pub(crate) fn touch_first(&mut self) {
        let delta: serde_json::Value = serde_json::from_str(&self.client.delta_json("Todo", 0)).unwrap();
        let row_id = delta["rows"][0]["id"].as_str().map(str::to_owned);
        let data = r#"{"a":2}"#.to_owned();
        let change = NewChange { entity: "Todo".to_owned(), row_id, kind: ChangeKind::Update, data: Some(data) };
        self.client.mutate(Timestamp(self.now), vec![change]).unwrap();
        self.drain();
    }

    /// Lets time pass until the client connects again; says how long that took.
    pub(crate) fn wait_for_retry(&mut self) -> u64 {
        let before = self.now;
        while self.state() == "waiting" {
            self.pass(50);
        }
        self.now - before
    }

    /// An empty snapshot at seq 5, so that there is a cursor.
    pub(crate) fn go_live(&mut self) {
        self.give(Input::SocketOpened);
        self.welcome("resync", 5);
        self.answer_pull(200, &page(5, 5, r#","snapshot":{"start":true,"end":true}"#));
        self.log.clear();
    }

    pub(crate) fn welcome(&mut self, resume: &str, head: u64) {
        self.give(Input::Received(format!(
            r#"{{"type":"welcome","protocol":1,"identity":{{"user_id":"alice","tenant_id":null}},"epoch":"e","head":{head},"resume":"{resume}","outcome_floor":0,"server_time":0,"heartbeat_ms":20000}}"#
        )));
    }

    pub(crate) fn answer_pull(&mut self, status: u16, body: &str) {
        // The client counts its requests; late and unknown ids do nothing, so every small number may be tried.
        for id in 0..40 {
            self.give(Input::PullAnswered { request: RequestId(id), status, body: body.to_owned(), retry_after_ms: None });
            if !self.client.status().syncing {
                return;
            }
        }
    }

    /// Answers the pull under way; another one may follow.
    pub(crate) fn answer_pull_once(&mut self, status: u16, body: &str) {
        let Some(request) = self.pull.take() else { panic!("no pull is under way") };
        self.give(Input::PullAnswered { request, status, body: body.to_owned(), retry_after_ms: None });
    }

    pub(crate) fn expect(&mut self, expected: &[&str]) {
        let log = std::mem::take(&mut self.log);
        assert_eq!(log.lines().collect::<Vec<_>>(), expected, "{:?}", self.client.status());
    }

    pub(crate) fn state(&self) -> String {
        let status = serde_json::from_str::<serde_json::Value>(&self.client.status().to_json()).unwrap();
        status["connection"]["state"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn page(from: u64, to: u64, more: &str) -> String {
    format!(
        r#"{{"scope":"all","from":{from},"to":{to},"cursor":{{"last_seq":{to},"token":"t{to}"}},"has_more":false,"changes":[],"transactions":[],"checksum":"0000000000000000"{more}}}"#
    )
}

pub(crate) fn frame(from: u64, to: u64, changes: &str, checksum: &str) -> Input {
    Input::Received(format!(
        r#"{{"type":"frame","scope":"all","from":{from},"to":{to},"cursor":{{"last_seq":{to},"token":"t{to}"}},"has_more":false,"changes":[{changes}],"checksum":"{checksum}"}}"#
    ))
}

pub(crate) fn closed(code: u16) -> Input {
    Input::SocketClosed { code, reason: String::new() }
}

/// An empty database, and this tab leads.
pub(crate) fn opened() -> Input {
    Input::Opened(Box::new(StoredReplica { leads: true, ..StoredReplica::default() }))
}
