//! A client with a database, as a driver runs it; the other end of its socket is whoever fuzzes it.

use std::collections::VecDeque;

use syncline_core::client::{Client, ClientConfig, Input, NewChange, Output, RequestId, StorageRequest};
use syncline_protocol::{ChangeKind, ClientMessage, Identity, Intent, OpId, Timestamp};

use crate::disk::Disk;

/// The entity of the rows that these clients write.
pub(crate) const ENTITY: &str = "Todo";
/// Outputs in answer to one input; a client that asks for more goes round in circles.
const OUTPUTS_MAX: usize = 100_000;

pub(crate) fn alice() -> Identity {
    Identity { user_id: Some("alice".to_owned()), tenant_id: None }
}

pub(crate) struct Device {
    pub(crate) client: Client,
    pub(crate) disk: Disk,
    pub(crate) now: u64,
    /// What the database was asked and has not answered.
    pub(crate) requests: VecDeque<StorageRequest>,
    pub(crate) pulls: VecDeque<RequestId>,
    /// The last push and its op_ids.
    pub(crate) push: Option<(u64, Vec<OpId>)>,
}

impl Device {
    /// A client that was not started.
    pub(crate) fn new(disk: Disk, now: u64) -> Self {
        let client = Client::new(ClientConfig::with_seed([7; 32]));
        Self { client, disk, now, requests: VecDeque::new(), pulls: VecDeque::new(), push: None }
    }

    /// One that has read its database and waits for its socket.
    pub(crate) fn open(disk: Disk) -> Self {
        let mut device = Self::new(disk, 1_700_000_000_000);
        device.give(Input::Start { identity: Some(alice()) });
        let stored = device.disk.open();
        device.give(Input::Opened(Box::new(stored)));
        device.store_all();
        device
    }

    /// One that is connected and has two rows of the server and a write of its own.
    pub(crate) fn live() -> Self {
        let mut device = Self::open(Disk::default());
        device.give(Input::SocketOpened);
        device.give(Input::Received(welcome("resync", 5)));
        let rows = [("a", 3), ("b", 5)].map(|(id, seq)| change(seq, id, "enter", Some(r#"{"n":1}"#)));
        let body = page(5, 5, &rows, r#","snapshot":{"start":true,"end":true}"#);
        device.answer_pull(200, body);
        device.store_all();
        device.write(ChangeKind::Insert, None);
        device.store_all();
        device
    }

    pub(crate) fn give(&mut self, input: Input) {
        self.client.handle_input(Timestamp(self.now), input);
        self.drain();
    }

    pub(crate) fn drain(&mut self) {
        for _ in 0..OUTPUTS_MAX {
            match self.client.poll_output() {
                Output::Idle { .. } => return,
                Output::Store(request) => self.requests.push_back(request),
                Output::Pull { request, .. } => self.pulls.push_back(request),
                Output::Send(text) => {
                    let message = ClientMessage::parse(&text).expect("a client speaks the protocol");
                    if let ClientMessage::Push(push) = message {
                        let op_id = |text: &str| Intent::parse(text).expect("an intent is frozen as it must be").op_id;
                        self.push = Some((push.id, push.transactions.iter().map(|raw| op_id(raw.get())).collect()));
                    }
                }
                _ => {}
            }
        }
        panic!("the client asks for more and more");
    }

    /// Carries out the oldest request; says whether there was one.
    pub(crate) fn store_one(&mut self) -> bool {
        let Some(StorageRequest { id, kind }) = self.requests.pop_front() else { return false };
        let result = self.disk.execute(kind);
        self.give(Input::Stored { request: id, result });
        true
    }

    pub(crate) fn store_all(&mut self) {
        for _ in 0..OUTPUTS_MAX {
            if !self.store_one() {
                return;
            }
        }
        panic!("the client stores more and more");
    }

    pub(crate) fn answer_pull(&mut self, status: u16, body: String) {
        let Some(request) = self.pulls.pop_front() else { return };
        self.give(Input::PullAnswered { request, status, body, retry_after_ms: None });
    }

    /// A write of the application; it may be refused.
    pub(crate) fn write(&mut self, kind: ChangeKind, row_id: Option<String>) {
        let data = (kind != ChangeKind::Delete).then(|| r#"{"n":2,"t":"x"}"#.to_owned());
        let change = NewChange { entity: ENTITY.to_owned(), row_id, kind, data };
        let _ = self.client.mutate(Timestamp(self.now), vec![change]);
        self.drain();
    }

    /// Reads the rows, whatever they are.
    pub(crate) fn glance(&mut self) -> String {
        self.client.delta_json(ENTITY, 0)
    }

    /// What the application sees, read in two ways that must agree; gives the ids of the rows.
    pub(crate) fn look(&mut self) -> Vec<String> {
        let delta = self.client.delta_json(ENTITY, 0);
        let delta: serde_json::Value = serde_json::from_str(&delta).expect("rows are JSON");
        let mut ids = Vec::new();
        for row in delta["rows"].as_array().expect("rows are a list") {
            let id = row["id"].as_str().expect("a row has its id");
            let alone = self.client.row_json(ENTITY, id).expect("a listed row is there");
            let alone: serde_json::Value = serde_json::from_str(&alone).expect("a row is JSON");
            assert_eq!(&alone, row);
            ids.push(id.to_owned());
        }
        assert!(ids.is_sorted(), "rows come by id");
        for text in [self.client.mutations_json(), self.client.status().to_json()] {
            serde_json::from_str::<serde_json::Value>(&text).expect("queue and status are JSON");
        }
        ids
    }
}

pub(crate) fn welcome(resume: &str, head: u64) -> String {
    format!(
        r#"{{"type":"welcome","protocol":1,"identity":{{"user_id":"alice","tenant_id":null}},"epoch":"e","head":{head},"resume":"{resume}","outcome_floor":0,"server_time":1700000000000,"heartbeat_ms":20000}}"#
    )
}

/// One change of a page, and what it adds to the page's checksum.
pub(crate) fn change(seq: u64, id: &str, kind: &str, data: Option<&str>) -> (String, u64) {
    let data = data.map(|data| format!(r#","data":{data}"#)).unwrap_or_default();
    let text = format!(r#"{{"seq":{seq},"entity":"{ENTITY}","row_id":"{id}","kind":"{kind}"{data}}}"#);
    (text, syncline_protocol::change_checksum(ENTITY, id, seq))
}

/// A page as a server sends it.
pub(crate) fn page(from: u64, to: u64, changes: &[(String, u64)], more: &str) -> String {
    let texts: Vec<&str> = changes.iter().map(|(text, _)| text.as_str()).collect();
    let sum = changes.iter().fold(0_u64, |sum, (_, part)| sum.wrapping_add(*part));
    format!(
        r#"{{"scope":"all","from":{from},"to":{to},"cursor":{{"last_seq":{to},"token":"t{to}"}},"has_more":false,"changes":[{}],"checksum":"{sum:016x}"{more}}}"#,
        texts.join(",")
    )
}
