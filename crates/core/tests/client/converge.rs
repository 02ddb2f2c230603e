//! Many replicas, many faults: what must hold after every step, and where all must arrive once the faults stop.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use syncline_core::client::{Connection, Input, NewChange, StorageState};
use syncline_protocol::{ChangeKind, OpId, Row, Timestamp};

use crate::disk::Disk;
use crate::node::Node;
use crate::random::{Random, for_seeds};
use crate::server::{Rows, Server};
use crate::tests;

const ENTITIES: [&str; 2] = ["Note", "Todo"];

/// How often each fault happens, in per cent of the steps. Each seed draws its own.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    disconnect: u64,
    crash: u64,
    power_cut: bool,
    mangle: u64,
    truncate: u64,
    busy: u64,
    bad: u64,
    /// The device's clock is set to something else.
    clock: u64,
    /// The server goes back to a backup.
    restore: u64,
    /// The disk refuses what it is given for a while.
    full: u64,
    /// Another tab takes the database over.
    takeover: u64,
    /// The application asks for a pull or a resync.
    ask: u64,
}

const DAY_MS: i64 = 86_400_000;

struct World {
    random: Random,
    faults: Faults,
    server: Server,
    nodes: Vec<Node>,
    now: Timestamp,
    backup: Server,
    /// The rows at each seq in the server's former lives.
    histories: Vec<BTreeMap<u64, Rows>>,
    /// op_ids that the application discarded before they were sent, or that were told as failed.
    settled: BTreeSet<String>,
}

impl World {
    fn new(seed: u64, faults: bool) -> Self {
        let mut random = Random::new(seed);
        let mut chance = |most: usize| if faults && random.percent(60) { random.below(most + 1) as u64 } else { 0 };
        let faults = Faults {
            disconnect: chance(5),
            crash: chance(4),
            power_cut: chance(1) == 1,
            mangle: chance(6),
            truncate: chance(4),
            busy: chance(5),
            bad: chance(20),
            clock: chance(2),
            restore: chance(1),
            full: chance(1),
            takeover: chance(1),
            ask: chance(6),
        };
        let now = Timestamp(1_700_000_000_000);
        let count = 1 + random.below(3);
        let nodes = (0..count).map(|_| Node::new(&mut random, Disk::default(), now)).collect();
        let (server, backup) = (Server::new(), Server::new());
        Self { random, faults, server, nodes, now, backup, histories: Vec::new(), settled: BTreeSet::new() }
    }

    fn step(&mut self) {
        // A write whose mark the disk refused goes out unmarked: it could be sent again blindly, after 400 days.
        self.server.now = if self.faults.full > 0 { Timestamp(0) } else { self.now };
        let index = self.random.below(self.nodes.len());
        self.fault(index);
        let pick = self.random.below(100);
        let (now, server) = (self.now, &mut self.server);
        let node = &mut self.nodes[index];
        match pick {
            0..20 => self.write(index),
            20..40 => drop(node.store_one(now)),
            40..55 => drop(node.serve_one(now, server)),
            55..65 => drop(node.stream(server)),
            65..82 => drop(node.receive_one(now)),
            82..92 => drop(node.pull_one(now, server)),
            _ => self.pass_time(index),
        }
    }

    fn fault(&mut self, index: usize) {
        let (now, faults) = (self.now, self.faults);
        if self.random.percent(faults.disconnect) {
            self.nodes[index].disconnect(now);
        }
        if self.random.percent(faults.crash) {
            let lost = if faults.power_cut { self.random.below(4) } else { 0 };
            self.nodes[index].crash(&mut self.random, now, lost);
        }
        if self.random.percent(faults.truncate) {
            let back = self.random.below(6);
            self.server.truncate(back);
        }
        if self.random.percent(faults.busy) {
            self.server.busy = 1 + self.random.below(2);
        }
        if self.random.percent(faults.ask) {
            let asked = if self.random.percent(70) { Input::Pull } else { Input::Resync };
            self.nodes[index].asked_at = Some(self.server.head);
            self.nodes[index].input(now, asked);
        }
        if self.random.percent(faults.mangle) {
            self.mangle(index);
        }
        if self.random.percent(faults.clock) {
            let steps = [0, 5_000, -5_000, DAY_MS, -DAY_MS, 3_650 * DAY_MS, -3_650 * DAY_MS];
            self.nodes[index].clock_ahead_ms = steps[self.random.below(steps.len())];
        }
        if self.random.percent(faults.restore) {
            self.back_up_or_restore();
        }
        if self.random.percent(faults.full) {
            self.nodes[index].disk.failing = 1 + self.random.below(3);
        }
        if self.random.percent(faults.takeover) {
            self.nodes[index].disk.now.fence += 1;
        }
        if self.random.percent(20) {
            self.reload_if_useless(index);
        }
    }

    /// What a lossy follower, a broken proxy or a captive portal does to what the server says.
    fn mangle(&mut self, index: usize) {
        let (now, node) = (self.now, &mut self.nodes[index]);
        let pick = self.random.below(6);
        if let (3.., Some((request, _))) = (pick, &node.pull) {
            let request = *request;
            let answer =
                |status, body: &str| Input::PullAnswered { request, status, body: body.to_owned(), retry_after_ms: None };
            node.input(
                now,
                match pick {
                    3 => answer(502, "<html>"),
                    4 => answer(200, r#"{"scope":"all","from":0,"to"#),
                    _ => Input::PullFailed { request },
                },
            );
            return;
        }
        let Some(line) = &mut node.line else { return };
        match pick {
            0 => drop(line.down.pop_front()),
            1 => line.down.extend(line.down.front().cloned()),
            2 => line.down.rotate_left(line.down.len().min(1)),
            _ => {
                if let Some(text) = line.down.front_mut() {
                    text.truncate(text.floor_char_boundary(text.len() / 2));
                }
            }
        }
    }

    fn back_up_or_restore(&mut self) {
        if self.random.percent(50) {
            self.backup = self.server.clone();
            return;
        }
        let epoch = self.server.epoch + 1;
        let lost = std::mem::replace(&mut self.server, self.backup.clone());
        self.histories.push(lost.history);
        self.server.epoch = epoch;
        for node in &mut self.nodes {
            node.disconnect(self.now);
            // What was there when it was asked for may be gone.
            node.asked_at = None;
        }
    }

    /// A person reloads a page that says it was taken over, or keeps everything in memory only.
    fn reload_if_useless(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let status = node.status();
        if status.connection == Connection::Paused || matches!(status.storage, StorageState::Memory { .. }) {
            node.crash(&mut self.random, self.now, 0);
        }
    }

    fn pass_time(&mut self, index: usize) {
        let most = if self.random.percent(3) { 300_000 } else { 3_000 };
        let ahead = self.random.below(most) as u64;
        self.now = self.nodes[index].wake_at.unwrap_or(self.now).max(self.now).min(self.now.plus_ms(ahead + 500));
        self.tick();
    }

    fn tick(&mut self) {
        for node in &mut self.nodes {
            if node.wake_at.is_some_and(|at| at <= self.now) {
                node.input(self.now, Input::Tick);
            }
        }
    }

    fn write(&mut self, index: usize) {
        let count = 1 + self.random.below(3);
        let changes: Vec<NewChange> = (0..count).map(|_| self.change()).collect();
        let node = &mut self.nodes[index];
        if self.random.percent(10) {
            return self.settle_one(index);
        }
        // Refused when it does not fit the view, which is most of the time fine: nothing may have happened then.
        let (before, now) = (node.client.mutations_json(), node.device_time(self.now));
        if node.client.mutate(now, changes).is_err() {
            assert_eq!(node.client.mutations_json(), before, "a refused write leaves nothing behind");
        }
        node.drain();
    }

    fn change(&mut self) -> NewChange {
        let entity = ENTITIES[self.random.below(2)].to_owned();
        let id = format!("r{}", self.random.below(8));
        let kind = [ChangeKind::Insert, ChangeKind::Update, ChangeKind::Delete][self.random.below(3)].clone();
        let fields = ["a", "b", "c"];
        let mut data = Row::new();
        for field in fields.into_iter().take(1 + self.random.below(3)) {
            let value = [json!(self.random.below(100)), json!("text \"quoted\" é"), json!(null), json!({"deep": [1, 2.5]})];
            data.insert(field.to_owned(), value[self.random.below(4)].clone());
        }
        if self.random.percent(self.faults.bad) {
            data.insert("bad".to_owned(), json!(true));
        }
        if self.random.percent(20) {
            data.insert("refers_to".to_owned(), json!(format!("r{}", self.random.below(8))));
        }
        let data = (kind != ChangeKind::Delete).then(|| Value::Object(data).to_string());
        NewChange { entity, row_id: Some(id), kind, data }
    }

    /// Retries, edits or discards something of the queue.
    fn settle_one(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let mutations = node.mutations();
        if mutations.is_empty() {
            return;
        }
        let mutation = &mutations[self.random.below(mutations.len())];
        let op_id = OpId::parse(mutation["op_id"].as_str().unwrap()).unwrap();
        let (before, now) = (node.client.mutations_json(), node.device_time(self.now));
        let result = match self.random.below(4) {
            0 | 1 => node.client.retry(now, &op_id).map(drop),
            2 => node.client.remove(now, &op_id),
            _ => {
                let changes = vec![self.change()];
                let node = &mut self.nodes[index];
                node.client.edit(now, &op_id, changes).map(drop)
            }
        };
        let node = &mut self.nodes[index];
        if result.is_ok() {
            self.settled.insert(op_id.to_string());
        } else {
            assert_eq!(node.client.mutations_json(), before, "a refused call leaves nothing behind");
        }
        node.drain();
    }

    /// What holds at every moment.
    fn check(&mut self) {
        for node in &mut self.nodes {
            let status = node.status();
            let mutations = node.mutations();
            let mut shown = View::new();
            for entity in ENTITIES {
                let fields = node.rows(entity).into_iter().map(|(id, row)| ((entity.to_owned(), id), fields_of(row)));
                shown.extend(fields);
                node.check_mirror(entity);
            }
            // A former life of the server has the same seqs; only the client knows which life it stands in.
            let lives = self.histories.iter().chain([&self.server.history]);
            let views = lives.filter_map(|life| life.get(&status.seq)).map(|rows| {
                let mut view: View = rows.iter().map(|(key, (_, row))| (key.clone(), row.clone())).collect();
                fold(&mut view, &mutations);
                view
            });
            let views: Vec<View> = views.collect();
            assert!(!views.is_empty(), "a replica stands where a transaction ended, not at {}", status.seq);
            if !views.contains(&shown) {
                assert_eq!(Some(&shown), views.last(), "the view is the base at {} with the open writes over it", status.seq);
            }
            let is_open = |mutation: &&Value| matches!(mutation["status"].as_str(), Some("pending" | "sent"));
            assert_eq!(status.pending, mutations.iter().filter(is_open).count());
            node.held();
            // I2: what was promised is on disk, or at the server, or the application was told what became of it.
            let stored: Vec<String> =
                node.disk.now.queue.values().map(|record| String::from_utf8_lossy(record).into_owned()).collect();
            for op_id in node.durable.difference(&self.settled) {
                let is_somewhere = |op_id: &str| {
                    let on_disk = stored.iter().any(|record| record.contains(&format!(r#""op_id":"{op_id}""#)));
                    let at_server = || self.server.has_answered(&OpId::parse(op_id).unwrap());
                    // A backup need not have what the application was told to be confirmed, and what it discarded is gone.
                    let was_told = || (!self.histories.is_empty() && node.ended.contains(op_id)) || self.settled.contains(op_id);
                    let came_to_nothing = node.disk.folded.get(op_id) == Some(&None);
                    on_disk || came_to_nothing || at_server() || was_told()
                };
                let mut stands_for = Some(op_id);
                while let Some(op_id) = stands_for.filter(|op_id| !is_somewhere(op_id.as_str())) {
                    let folded = node.disk.folded.get(op_id).and_then(Option::as_ref);
                    stands_for = folded.or_else(|| node.replaced.get(op_id));
                }
                assert!(stands_for.is_some(), "{op_id} was durable and is nowhere");
            }
        }
    }

    /// The faults stop: everybody must arrive at the server's rows with nothing left to send.
    fn heal(&mut self) {
        self.faults = Faults::default();
        self.server.busy = 0;
        for node in &mut self.nodes {
            node.disk.failing = 0;
            node.disconnect(self.now);
        }
        for _ in 0..400 {
            for index in 0..self.nodes.len() {
                // A takeover shows when the disk is asked next.
                self.reload_if_useless(index);
            }
            self.run_until_quiet();
            let done = |node: &Node| {
                let status = node.status();
                let arrived = status.seq == self.server.head && status.pending == node.held().len();
                arrived && status.connection == Connection::Live && status.storage == StorageState::Indexeddb
            };
            if self.nodes.iter().all(done) {
                return;
            }
            if let Some(next) = self.nodes.iter().filter_map(|node| node.wake_at).min() {
                self.now = next.max(self.now);
            }
            self.tick();
        }
        let stuck: Vec<_> = self.nodes.iter().map(|node| (node.status(), node.client.mutations_json())).collect();
        panic!("no progress: {stuck:#?}");
    }

    fn run_until_quiet(&mut self) {
        let (now, server) = (self.now, &mut self.server);
        loop {
            let mut moved = false;
            for node in &mut self.nodes {
                moved |= node.store_one(now) || node.serve_one(now, server) || node.receive_one(now);
                moved |= node.pull_one(now, server) || node.stream(server);
            }
            if !moved {
                return;
            }
        }
    }

    /// What holds once everybody has arrived.
    fn check_arrival(&mut self) {
        self.check();
        for node in &mut self.nodes {
            let failed = node.mutations().iter().filter(|mutation| mutation["status"] == "failed").count();
            let left = failed + node.held().len();
            assert_eq!(node.mutations().len(), left, "what is left in the queue has failed, or waits for one that has");
            assert_eq!(node.disk.now.writes(), left, "and so on disk");
            // I5: what is on disk is what is shown.
            let mut reopened = Node::new(&mut self.random, node.disk.clone(), self.now);
            reopened.store_one(self.now);
            assert_eq!(reopened.status().seq, self.server.head);
            let states = |node: &Node| -> Vec<String> {
                let state = |it: &Value| format!("{} {} {} {}", it["op_id"], it["status"], it["error"]["code"], it["waiting_on"]);
                node.mutations().iter().map(state).collect()
            };
            assert_eq!(states(&reopened), states(node));
            for entity in ENTITIES {
                assert_eq!(reopened.rows(entity), node.rows(entity));
            }
        }
    }

    /// The application deals with what failed, until nothing is left of the queue: then everybody shows the server's rows.
    fn deal_with_failures(&mut self) {
        for index in 0..self.nodes.len() {
            for _ in 0..1_000 {
                let node = &mut self.nodes[index];
                let mutations = node.mutations();
                let Some(failed) = mutations.iter().find(|mutation| mutation["status"] == "failed") else { break };
                let op_id = OpId::parse(failed["op_id"].as_str().unwrap()).unwrap();
                let now = node.device_time(self.now);
                if self.random.percent(80) || node.client.retry(now, &op_id).is_err() {
                    node.client.remove(now, &op_id).unwrap();
                }
                node.drain();
                self.settled.insert(op_id.to_string());
                self.heal();
                self.check_arrival();
            }
        }
        for node in &mut self.nodes {
            assert_eq!(node.mutations(), Vec::<Value>::new());
            assert!(node.disk.now.writes() == 0);
            for entity in ENTITIES {
                let there = self.server.rows.iter().filter(|((of, _), _)| of == entity);
                let there: BTreeMap<String, Row> = there.map(|((_, id), (_, row))| (id.clone(), row.clone())).collect();
                let shown: BTreeMap<String, Row> = node.rows(entity).into_iter().map(|(id, row)| (id, fields_of(row))).collect();
                assert_eq!(shown, there);
            }
        }
    }
}

/// Rows by entity and id.
type View = BTreeMap<(String, String), Row>;

/// The rule of the overlay, in its plainest form.
fn fold(view: &mut View, mutations: &[Value]) {
    for mutation in mutations.iter().filter(|mutation| mutation["status"] != "failed") {
        for change in mutation["changes"].as_array().unwrap() {
            let key = ["entity", "row_id"].map(|name| change[name].as_str().unwrap().to_owned()).into();
            let data = change["data"].as_object().cloned().unwrap_or_default();
            match change["kind"].as_str().unwrap() {
                "insert" => drop(view.insert(key, data)),
                "update" => {
                    if let Some(row) = view.get_mut(&key) {
                        row.extend(data);
                    }
                }
                _ => drop(view.remove(&key)),
            }
        }
    }
}

fn fields_of(row: Value) -> Row {
    let Value::Object(mut row) = row else { panic!("a row is an object") };
    row.remove("id");
    row
}

fn run(seed: u64, faults: bool, steps: usize) {
    let mut world = World::new(seed, faults);
    for step in 0..steps {
        world.step();
        // The oracle reads whole views: every few steps keeps many seeds affordable.
        if step % 4 == 0 {
            world.check();
        }
    }
    world.heal();
    world.check_arrival();
    world.deal_with_failures();
}

tests! {
    fn replicas_converge_without_faults() {
        for_seeds("replicas_converge_without_faults", 60, |seed| run(seed, false, 300));
    }

    fn replicas_converge_through_faults() {
        for_seeds("replicas_converge_through_faults", 300, |seed| run(seed, true, 400));
    }
}
