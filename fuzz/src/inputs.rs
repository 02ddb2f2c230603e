//! A client that everything happens to, in any order: bytes are read as a list of events.

use syncline_core::client::{Input, RequestId, StorageFailure, StoredValue};
use syncline_protocol::{ChangeKind, Identity, OpId, Timestamp};

use crate::device::{Device, alice, change, page, welcome};
use crate::disk::Disk;

/// Events of one run; a longer one finds nothing that a shorter one does not.
const EVENTS_MAX: usize = 400;

/// Runs a client through the events that the bytes name.
pub fn client_inputs(data: &[u8]) {
    let mut bytes = Bytes { data, at: 0 };
    let mut world = World { device: Device::new(Disk::default(), 1_700_000_000_000), head: 5 };
    for _ in 0..EVENTS_MAX {
        let Some(event) = bytes.next() else { break };
        world.happen(event, &mut bytes);
        world.device.look();
    }
    // Whatever happened, a start from the disk shows rows and takes a write.
    world.crash();
    world.device.write(ChangeKind::Insert, None);
    world.device.store_all();
    world.device.look();
}

struct Bytes<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.data.get(self.at).copied();
        self.at += 1;
        byte
    }

    /// The next byte, or zero after the end.
    fn small(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.small() % bound
    }
}

struct World {
    device: Device,
    /// How far the server's log goes.
    head: u64,
}

impl World {
    fn happen(&mut self, event: u8, bytes: &mut Bytes<'_>) {
        match event % 26 {
            0 => self.give(Input::Start { identity: (bytes.below(4) > 0).then(alice) }),
            1 => {
                let stored = self.device.disk.open();
                self.give(Input::Opened(Box::new(stored)));
            }
            2 => self.give(Input::OpenFailed(failure(bytes.small()))),
            3 => self.give(Input::IdentityResolved(identity(bytes.small()))),
            4 => {
                let status = [None, Some(401), Some(429), Some(503)][usize::from(bytes.below(4))];
                let code = (bytes.below(2) == 0).then(|| "TOKEN_EXPIRED".to_owned());
                self.give(Input::IdentityUnavailable { status, code, retry_after_ms: Some(u64::from(bytes.small())) });
            }
            5 | 6 => drop(self.device.store_one()),
            7 => self.fail_storage(bytes.small()),
            8 => self.give(Input::SocketOpened),
            9 => {
                let code = [1000, 1006, 1012, 4400, 4401, 4409, 4413, 4414, 4426, 4429, 4430][usize::from(bytes.below(11))];
                self.give(Input::SocketClosed { code, reason: String::new() });
            }
            10 => {
                let resume = ["stream", "pull", "resync"][usize::from(bytes.below(3))];
                self.give(Input::Received(welcome(resume, self.head)));
            }
            11 | 12 => {
                let frame = self.log_page(bytes);
                self.give(Input::Received(frame.replacen('{', r#"{"type":"frame","#, 1)));
            }
            13 => self.answer_push(bytes),
            14 => {
                let text = [
                    r#"{"type":"heartbeat"}"#,
                    r#"{"type":"resync","oldest_seq":9}"#,
                    r#"{"type":"error","code":"RATE_LIMITED","message":"?"}"#,
                    r#"{"type":"error","code":"PAYLOAD_TOO_LARGE","message":"?"}"#,
                    "<html>",
                ];
                self.give(Input::Received(text[usize::from(bytes.below(5))].to_owned()));
            }
            15 => self.answer_pull(bytes),
            16 => {
                if let Some(request) = self.device.pulls.pop_front() {
                    self.give(Input::PullFailed { request });
                }
            }
            17 => self.give([Input::TokenChanged, Input::TokenUnavailable][usize::from(bytes.below(2))].clone()),
            18 => self.give([Input::Pause, Input::Resume][usize::from(bytes.below(2))].clone()),
            19 => self.give([Input::Wake, Input::Pull, Input::Resync][usize::from(bytes.below(3))].clone()),
            20 => self.pass(bytes),
            21..=23 => self.write(bytes),
            24 => self.touch_queue(bytes),
            _ => match bytes.below(8) {
                0 => self.give(Input::Stop),
                1 => self.give(Input::Stored { request: RequestId(u64::from(bytes.small())), result: Ok(StoredValue::Done) }),
                _ => self.crash(),
            },
        }
    }

    fn give(&mut self, input: Input) {
        self.device.give(input);
    }

    /// The process ends; another one begins with what is on disk.
    fn crash(&mut self) {
        let now = self.device.now;
        self.device = Device::open(std::mem::take(&mut self.device.disk));
        self.device.now = self.device.now.max(now);
    }

    fn fail_storage(&mut self, kind: u8) {
        if let Some(request) = self.device.requests.pop_front() {
            self.give(Input::Stored { request: request.id, result: Err(failure(kind)) });
        }
    }

    fn pass(&mut self, bytes: &mut Bytes<'_>) {
        let ms = [1, 100, 1_000, 45_000, 3_600_000][usize::from(bytes.below(5))];
        let back = bytes.below(8) == 0;
        let now = self.device.now;
        self.device.now = if back { now.saturating_sub(ms) } else { now + ms };
        self.give(Input::Tick);
    }

    /// Some pages follow on what the client has, some do not.
    fn log_page(&mut self, bytes: &mut Bytes<'_>) -> String {
        let from = self.device.client.status().seq.saturating_sub(u64::from(bytes.below(4) / 3)) + u64::from(bytes.below(6) / 5);
        let count = u64::from(bytes.below(4));
        let changes: Vec<_> = (1..=count).map(|place| row_change(from + place, bytes)).collect();
        self.head = self.head.max(from + count);
        let mine = self.transaction(from, from + count, bytes);
        page(from, from + count, &changes, &mine)
    }

    /// Says whose work a page is: often the client's own.
    fn transaction(&self, from: u64, to: u64, bytes: &mut Bytes<'_>) -> String {
        let replica = self.device.disk.replica.as_deref().unwrap_or(b"{}");
        let replica: serde_json::Value = serde_json::from_slice(replica).expect("a replica record is JSON");
        let pushed = self.device.push.as_ref().map(|(_, op_ids)| op_ids.as_slice()).unwrap_or_default();
        let op_id = pushed.get(usize::from(bytes.below(4)));
        let (Some(client_id), Some(op_id), true) = (replica["client_id"].as_str(), op_id, to > from) else {
            return r#","transactions":[]"#.to_owned();
        };
        format!(
            r#","transactions":[{{"op_id":"{op_id}","client_id":"{client_id}","issued_at":0,"committed_at":0,"schema":0,"first_seq":{},"last_seq":{to}}}]"#,
            from + 1
        )
    }

    fn answer_pull(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.below(8) {
            0 => self.device.answer_pull(410, r#"{"error":{"code":"RESYNC_REQUIRED","message":"?","oldest_seq":3}}"#.to_owned()),
            1 => self.device.answer_pull(401, r#"{"error":{"code":"UNAUTHENTICATED","message":"?"}}"#.to_owned()),
            2 => self.device.answer_pull(503, "busy".to_owned()),
            3 | 4 => {
                let body = self.log_page(bytes);
                self.device.answer_pull(200, body);
            }
            _ => {
                let rows: Vec<_> =
                    (0..bytes.below(4)).map(|row| change(u64::from(row) + 1, &name(row), "enter", Some(r#"{"n":0}"#))).collect();
                let (start, end) = (bytes.below(3) > 0, bytes.below(3) > 0);
                let later = if bytes.below(4) == 0 { format!(r#","consistent_at":{}"#, self.head + 1) } else { String::new() };
                let more = format!(r#","snapshot":{{"start":{start},"end":{end}}}{later}"#);
                let body = page(self.head, self.head, &rows, &more);
                let body = if end { body } else { body.replace(r#""has_more":false"#, r#""has_more":true"#) };
                self.device.answer_pull(200, body);
            }
        }
    }

    fn answer_push(&mut self, bytes: &mut Bytes<'_>) {
        let Some((id, op_ids)) = self.device.push.clone() else { return };
        let dependency = r#""status":"not_evaluated","error":{"code":"DEPENDENCY_FAILED","message":"?"}"#;
        let mut results = Vec::new();
        for op_id in &op_ids {
            let more = match bytes.below(7) {
                0 => r#""status":"rejected","error":{"code":"POLICY_DENIED","message":"?"}"#.to_owned(),
                1 => r#""status":"retry""#.to_owned(),
                2 => dependency.to_owned(),
                3 => r#""status":"rejected","error":{"code":"UNKNOWN_ENTITY","message":"?"}"#.to_owned(),
                _ => {
                    self.head += 1;
                    let seq = self.head;
                    format!(r#""status":"applied","first_seq":{seq},"last_seq":{seq}"#)
                }
            };
            results.push(format!(r#"{{"op_id":"{op_id}",{more},"replayed":false}}"#));
        }
        self.give(Input::Received(format!(r#"{{"type":"outcomes","id":{id},"results":[{}]}}"#, results.join(","))));
    }

    fn write(&mut self, bytes: &mut Bytes<'_>) {
        let kind = [ChangeKind::Insert, ChangeKind::Update, ChangeKind::Delete][usize::from(bytes.below(3))].clone();
        let row_id = (bytes.below(4) > 0).then(|| name(bytes.below(4)));
        self.device.write(kind, row_id);
    }

    /// Retries or removes a write of the queue.
    fn touch_queue(&mut self, bytes: &mut Bytes<'_>) {
        let queue: serde_json::Value = serde_json::from_str(&self.device.client.mutations_json()).expect("the queue is JSON");
        let place = usize::from(bytes.below(4));
        let Some(op_id) = queue[place]["op_id"].as_str().and_then(|op_id| OpId::parse(op_id).ok()) else { return };
        let now = Timestamp(self.device.now);
        if bytes.below(2) == 0 {
            let _ = self.device.client.retry(now, &op_id);
        } else {
            let _ = self.device.client.remove(now, &op_id);
        }
        self.device.drain();
    }
}

fn name(row: u8) -> String {
    format!("row-{row}")
}

fn row_change(seq: u64, bytes: &mut Bytes<'_>) -> (String, u64) {
    let row = name(bytes.below(4));
    match bytes.below(5) {
        0 => change(seq, &row, "delete", None),
        1 => change(seq, &row, "leave", None),
        2 => change(seq, &row, "enter", Some(r#"{"n":1}"#)),
        3 => change(seq, &row, "insert", Some(r#"{"n":2,"t":"y"}"#)),
        _ => change(seq, &row, "update", Some(r#"{"n":3}"#)),
    }
}

fn failure(kind: u8) -> StorageFailure {
    match kind % 4 {
        0 => StorageFailure::Conflict,
        1 => StorageFailure::Full,
        2 => StorageFailure::Unavailable("?".to_owned()),
        _ => StorageFailure::Corrupt("?".to_owned()),
    }
}

fn identity(which: u8) -> Identity {
    let user_id = ["alice", "bob"][usize::from(which % 2)];
    Identity { user_id: Some(user_id.to_owned()), tenant_id: None }
}
