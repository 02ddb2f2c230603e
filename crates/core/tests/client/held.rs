//! What becomes of writes that depend on a failed one: they wait, and go on when the application has dealt with it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use syncline_core::client::{ClientError, Event, Input, NewChange, StorageKind};
use syncline_protocol::{ErrorCode, OpId};

use crate::disk::Disk;
use crate::node::Node;
use crate::random::{Random, for_seeds};
use crate::server::Server;
use crate::tests;
use crate::writes::{NOW, change, intents, offline, write};

/// What can be said of each write of the queue in a line: its changes, where it stands, what it waits for.
fn lines(node: &Node) -> Vec<String> {
    let mutations = node.mutations();
    let name = |op_id: &Value| {
        let at = mutations.iter().position(|other| other["op_id"] == *op_id);
        at.map_or_else(|| "?".to_owned(), |at| at.to_string())
    };
    let line = |mutation: &Value| {
        let changes = mutation["changes"].as_array().unwrap().iter();
        let changes: Vec<String> =
            changes.map(|it| format!("{} {}", it["kind"].as_str().unwrap(), it["row_id"].as_str().unwrap())).collect();
        let waiting: Vec<String> = mutation["waiting_on"].as_array().unwrap().iter().map(name).collect();
        let error = mutation["error"]["code"].as_str().unwrap_or("");
        let line = format!("{} {} {error} {}", changes.join("+"), mutation["status"].as_str().unwrap(), waiting.join(","));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    mutations.iter().map(line).collect()
}

fn op_id(node: &Node, at: usize) -> OpId {
    OpId::parse(node.mutations()[at]["op_id"].as_str().unwrap()).unwrap()
}

fn insert(id: &str, data: Value) -> Vec<NewChange> {
    vec![change("insert", "Todo", Some(id), data)]
}

fn update(id: &str, data: Value) -> Vec<NewChange> {
    vec![change("update", "Todo", Some(id), data)]
}

/// The steps that the application was told of since the last call, without those of the disk.
fn steps(node: &mut Node) -> Vec<String> {
    let step = |event: Event| match event {
        Event::MutationSent { op_id } => Some(format!("sent {op_id}")),
        Event::MutationConfirmed { op_id, .. } => Some(format!("confirmed {op_id}")),
        Event::MutationFailed { op_id, error } => Some(format!("failed {op_id} {}", error.code)),
        Event::MutationRemoved { op_id } => Some(format!("removed {op_id}")),
        Event::MutationHeld { op_id, on } => Some(format!("held {op_id} on {on}")),
        Event::MutationReplaced { op_id, by } => Some(format!("replaced {op_id} by {by}")),
        _ => None,
    };
    std::mem::take(&mut node.events).into_iter().filter_map(step).collect()
}

fn settle(node: &mut Node, server: &mut Server) {
    node.drain();
    crate::writes::settle(node, server);
}

fn store_all(node: &mut Node) {
    node.drain();
    while node.store_one(NOW) {}
}

/// A reload.
fn reopened(node: &Node) -> Node {
    let mut reopened = Node::new(&mut Random::new(77), node.disk.clone(), NOW);
    reopened.store_one(NOW);
    reopened
}

/// A node with an insert that was refused, an update of it, an update of that, a reference, and something unrelated.
fn with_held(server: &mut Server) -> Node {
    let mut node = offline();
    write(&mut node, insert("a", json!({"bad": 1, "n": 0}))).unwrap();
    // What stands between two writes keeps them from being folded.
    write(&mut node, insert("b", json!({"n": 3}))).unwrap();
    write(&mut node, update("a", json!({"n": 1}))).unwrap();
    write(&mut node, insert("c", json!({}))).unwrap();
    write(&mut node, update("a", json!({"m": 2}))).unwrap();
    write(&mut node, vec![change("insert", "Note", Some("n"), json!({"about": ["a"]}))]).unwrap();
    settle(&mut node, server);
    node
}

const HELD: [&str; 4] = ["insert a failed POLICY_DENIED", "update a pending 0", "update a pending 1,0", "insert n pending 0"];

tests! {
    fn dependents_wait_and_say_on_what_and_the_rest_flows() {
        let mut server = Server::new();
        let mut node = with_held(&mut server);
        assert_eq!(lines(&node), HELD);
        assert_eq!(server.rows.len(), 2, "the unrelated ones are there");
        let (bad, held) = (op_id(&node, 0), op_id(&node, 1));
        let told = steps(&mut node);
        assert_eq!(told.iter().filter(|step| **step == format!("held {held} on {bad}")).count(), 1, "{told:#?}");
        // What is written while it waits waits too, and is not sent.
        write(&mut node, vec![change("delete", "Note", Some("n"), Value::Null)]).unwrap();
        settle(&mut node, &mut server);
        assert_eq!(lines(&node)[4], "delete n pending 3,0");
        // The disk alone says the same, and nothing of it is sent by whoever opens it.
        let mut again = reopened(&node);
        assert_eq!(lines(&again), lines(&node));
        settle(&mut again, &mut server);
        assert_eq!(lines(&again), lines(&node));
        assert_eq!(again.status().pending, 4);
        assert!(!steps(&mut again).iter().any(|step| step.starts_with("sent")));
    }

    fn a_retry_takes_along_what_waits_in_its_order_and_in_one_transaction() {
        let mut server = Server::new();
        let mut node = with_held(&mut server);
        let before: Vec<OpId> = (0..4).map(|at| op_id(&node, at)).collect();
        steps(&mut node);
        node.disconnect(NOW);
        node.client.retry(NOW, &before[0]).unwrap();
        node.drain();
        assert_eq!(lines(&node), ["insert a pending", "update a pending 0", "update a pending 1", "insert n pending 0"]);
        let after: Vec<OpId> = (0..4).map(|at| op_id(&node, at)).collect();
        let replaced = before.iter().zip(&after).map(|(old, new)| format!("replaced {old} by {new}"));
        assert_eq!(steps(&mut node), replaced.collect::<Vec<_>>());
        let [request] = Vec::from_iter(node.stores.clone()).try_into().unwrap();
        let StorageKind::Enqueue { records, formers } = request.kind else { panic!("{request:?}") };
        assert_eq!((records.len(), formers.len()), (4, 4));
        store_all(&mut node);
        let [first, second, third, about] = intents(&node).try_into().unwrap();
        assert_eq!(first.get("after"), None);
        assert_eq!([&second["after"], &third["after"], &about["after"]], [
            &json!([after[0].as_str()]),
            &json!([after[1].as_str()]),
            &json!([after[0].as_str()])
        ]);
        assert_eq!(third["changes"][0]["base"], json!({"op_id": after[1].as_str()}));
        assert_eq!(lines(&reopened(&node)), lines(&node));
        server.refuses = "nothing";
        node.input(NOW, Input::Wake);
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), Vec::<String>::new());
        assert_eq!(node.rows("Todo")["a"], json!({"id": "a", "bad": 1, "n": 1, "m": 2}));
        assert_eq!(node.rows("Note").len(), 1);
    }

    fn what_is_made_anew_twice_is_on_disk_all_the_time() {
        let mut server = Server::new();
        let mut node = with_held(&mut server);
        node.disconnect(NOW);
        let bad = op_id(&node, 0);
        let again = node.client.edit(NOW, &bad, insert("a", json!({"n": 5}))).unwrap().op_id;
        node.drain();
        // What stands for the held ones is on its way to the disk, and is made anew before it is there.
        node.client.edit(NOW, &again, insert("a", json!({"n": 6}))).unwrap();
        node.drain();
        while node.store_one(NOW) {
            let mut there = lines(&reopened(&node));
            there.retain(|line| line.contains("pending"));
            assert!(there.len() >= 3, "a crash here loses writes: {there:?}");
        }
        assert_eq!(lines(&reopened(&node)), lines(&node));
        node.input(NOW, Input::Wake);
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), [""; 0], "and all of it arrives");
    }

    fn an_edit_puts_other_changes_in_place_and_what_waits_goes_on() {
        let mut server = Server::new();
        let mut node = with_held(&mut server);
        let bad = op_id(&node, 0);
        // What does not fit is refused, and everything stays as it was.
        let before = (node.client.mutations_json(), node.rows("Todo"), node.rows("Note"));
        let error = node.client.edit(NOW, &bad, update("a", json!({"n": 9}))).unwrap_err();
        assert_eq!(error.code(), ErrorCode::RowNotFound);
        assert_eq!((node.client.mutations_json(), node.rows("Todo"), node.rows("Note")), before);
        store_all(&mut node);
        assert_eq!(lines(&reopened(&node)), HELD);
        node.client.edit(NOW, &bad, insert("a", json!({"n": 9}))).unwrap();
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), Vec::<String>::new());
        assert_eq!(node.rows("Todo")["a"], json!({"id": "a", "n": 1, "m": 2}));
        assert!(node.disk.now.queue.is_empty());
        let error = node.client.edit(NOW, &bad, insert("a", json!({}))).unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound);
    }

    fn a_held_write_may_be_edited_or_discarded_by_itself() {
        let mut server = Server::new();
        let mut node = with_held(&mut server);
        // The note is about something else now, so nothing keeps it.
        node.client.edit(NOW, &op_id(&node, 3), vec![change("insert", "Note", Some("n"), json!({"about": "b"}))]).unwrap();
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), HELD[..3]);
        assert_eq!(node.rows("Note").len(), 1);
        // Without the first update the second has nothing to wait for but the insert.
        node.client.remove(NOW, &op_id(&node, 1)).unwrap();
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), ["insert a failed POLICY_DENIED", "update a failed DEPENDENCY_FAILED"]);
    }

    fn discarding_a_failed_update_sends_what_came_after_it() {
        let mut server = Server::new();
        let mut node = offline();
        write(&mut node, insert("a", json!({"n": 0}))).unwrap();
        settle(&mut node, &mut server);
        node.disconnect(NOW);
        write(&mut node, update("a", json!({"n": 1, "bad": 1}))).unwrap();
        write(&mut node, insert("b", json!({}))).unwrap();
        write(&mut node, update("a", json!({"m": 2}))).unwrap();
        node.input(NOW, Input::Wake);
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), ["update a failed POLICY_DENIED", "update a pending 0"]);
        assert_eq!(node.rows("Todo")["a"], json!({"id": "a", "n": 0, "m": 2}), "the later edit survives");
        node.client.remove(NOW, &op_id(&node, 0)).unwrap();
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), Vec::<String>::new());
        assert_eq!(node.rows("Todo")["a"], json!({"id": "a", "n": 0, "m": 2}));
        assert_eq!(server.head, 3);
    }

    fn what_no_longer_fits_fails_and_what_depends_on_that_is_held() {
        let mut server = Server::new();
        let mut node = with_held(&mut server);
        let (bad, first) = (op_id(&node, 0), op_id(&node, 1));
        steps(&mut node);
        node.client.remove(NOW, &bad).unwrap();
        store_all(&mut node);
        // The note only names the row: it is sent as it would be had the row never been there.
        assert_eq!(lines(&node), ["update a failed DEPENDENCY_FAILED", "update a pending 0", "insert n pending"]);
        let told = steps(&mut node);
        assert_eq!(told[0], format!("failed {first} DEPENDENCY_FAILED"));
        // That one is gone is told when the disk has it.
        assert!(told.contains(&format!("removed {bad}")), "{told:?}");
        assert_eq!(lines(&reopened(&node)), lines(&node));
        settle(&mut node, &mut server);
        assert_eq!(lines(&node).len(), 2);
        // With the row there again the failed one can be tried again.
        write(&mut node, insert("a", json!({"n": 5}))).unwrap();
        node.client.retry(NOW, &first).unwrap();
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), Vec::<String>::new());
        assert_eq!(node.rows("Todo")["a"], json!({"id": "a", "n": 1, "m": 2}));
    }

    fn who_waits_for_two_goes_on_when_both_are_dealt_with() {
        let mut server = Server::new();
        let mut node = offline();
        for id in ["a", "b"] {
            write(&mut node, insert(id, json!({"bad": 1}))).unwrap();
        }
        write(&mut node, [update("a", json!({"n": 1})), update("b", json!({"n": 1}))].concat()).unwrap();
        write(&mut node, update("b", json!({"n": 2}))).unwrap();
        settle(&mut node, &mut server);
        let denied = |id: &str| format!("insert {id} failed POLICY_DENIED");
        assert_eq!(lines(&node), [denied("a"), denied("b"), "update a+update b pending 0,1".to_owned(), "update b pending 2,0".to_owned()]);
        server.refuses = "nothing";
        node.client.retry(NOW, &op_id(&node, 0)).unwrap();
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), [&denied("b"), "update a+update b pending 0", "update b pending 1,0"]);
        assert!(node.rows("Todo").contains_key("a"));
        assert_eq!(lines(&reopened(&node)), lines(&node));
        node.client.retry(NOW, &op_id(&node, 0)).unwrap();
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), Vec::<String>::new());
        assert_eq!(node.rows("Todo")["b"], json!({"id": "b", "bad": 1, "n": 2}));
    }

    fn a_write_whose_dependency_nobody_has_is_made_anew() {
        let mut server = Server::new();
        let mut node = offline();
        write(&mut node, insert("a", json!({"n": 0}))).unwrap();
        settle(&mut node, &mut server);
        node.disconnect(NOW);
        for n in 1..5 {
            write(&mut node, update("a", json!({(n.to_string()): n}))).unwrap();
        }
        // Another tab discarded the first.
        node.disk.now.queue.pop_first();
        let mut node = reopened(&node);
        let before: Vec<OpId> = (0..3).map(|at| op_id(&node, at)).collect();
        settle(&mut node, &mut server);
        assert_eq!(lines(&node), Vec::<String>::new());
        assert_eq!(node.rows("Todo")["a"], json!({"id": "a", "n": 0, "2": 2, "3": 3, "4": 4}));
        let told = steps(&mut node);
        for op_id in before {
            assert_eq!(told.iter().filter(|step| step.starts_with(&format!("replaced {op_id}"))).count(), 1, "{told:#?}");
        }
    }

    fn a_crash_between_any_two_storage_requests_leads_to_the_same_end() {
        for action in ["retry", "edit", "remove"] {
            let mut ends = Vec::new();
            for crash_after in 0..4 {
                let mut server = Server::new();
                let mut node = with_held(&mut server);
                server.refuses = "nothing";
                let bad = op_id(&node, 0);
                let act = |node: &mut Node| match action {
                    "retry" => node.client.retry(NOW, &bad).map(drop),
                    "edit" => node.client.edit(NOW, &bad, insert("a", json!({"n": 9}))).map(drop),
                    _ => node.client.remove(NOW, &bad),
                };
                act(&mut node).unwrap();
                node.drain();
                for _ in 0..crash_after {
                    node.store_one(NOW);
                }
                let mut node = reopened(&node);
                // It was not done: then the application does it again.
                if lines(&node).first().is_some_and(|line| line.starts_with("insert a failed")) {
                    act(&mut node).unwrap();
                    node.drain();
                }
                settle(&mut node, &mut server);
                // How many updates there are behind the one that does not fit depends on when they were folded.
                let failed: Vec<String> = lines(&node).into_iter().filter(|line| line.contains("failed")).collect();
                ends.push((failed, node.rows("Todo"), node.rows("Note")));
            }
            assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{action}: {ends:#?}");
        }
    }

    fn a_rejection_leaves_what_would_be_there_had_the_write_never_been() {
        for_seeds("a_rejection_leaves_what_would_be_there_had_the_write_never_been", 300, |seed| {
            let history = History::new(seed);
            let mut server = history.server();
            let (mut node, bad) = history.run(&mut server, false, true);
            let Some(bad) = bad else { return };
            let mut never = history.server();
            let (mut other, _) = history.run(&mut never, true, true);
            assert_eq!(views(&mut node), views(&mut other), "the view, with what is held");
            assert_eq!(views(&mut reopened(&node)), views(&mut other), "and after a reload");
            // Tried again where it is allowed, all is as if it had been allowed at once.
            let mut retried = reopened(&node);
            let mut lenient = server.clone();
            lenient.refuses = "nothing";
            retried.client.retry(NOW, &bad).unwrap();
            settle(&mut retried, &mut lenient);
            let mut allowed = history.server();
            allowed.refuses = "nothing";
            let (mut all, _) = history.run(&mut allowed, false, true);
            assert_eq!((views(&mut retried), rows_of(&lenient)), (views(&mut all), rows_of(&allowed)), "after a retry");
            // Discarded, with what does not fit without it, the rest is sent.
            node.client.remove(NOW, &bad).unwrap();
            settle(&mut node, &mut server);
            while node.status().failed > 0 {
                let list = node.mutations();
                let at = list.iter().position(|it| it["status"] == "failed").unwrap();
                assert_eq!(list[at]["error"]["code"], "DEPENDENCY_FAILED");
                let op_id = op_id(&node, at);
                node.client.remove(NOW, &op_id).unwrap();
                settle(&mut node, &mut server);
            }
            assert_eq!((views(&mut node), rows_of(&server)), (views(&mut other), rows_of(&never)), "after it was discarded");
            assert_eq!(lines(&node), Vec::<String>::new());
        });
    }
}

/// Writes made offline, one of which the server refuses.
struct History {
    writes: Vec<Vec<NewChange>>,
    bad: usize,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = 4 + random.below(12);
        let bad = random.below(count);
        // Without a row that it inserts, a transaction may fit in part; of an update nothing depends on whether it fits.
        let inserts = random.percent(50);
        let mut writes = Vec::new();
        for at in 0..count {
            let changes = if inserts { 1 } else { 1 + random.below(2) };
            let mut write = Vec::new();
            for _ in 0..changes {
                let id = format!("r{}", random.below(4));
                let mut data = json!({(["a", "b"][random.below(2)]): random.below(100)});
                if random.percent(30) {
                    data["refers_to"] = json!(format!("r{}", random.below(4)));
                }
                if at == bad {
                    data["bad"] = json!(true);
                }
                let kinds: &[&str] = match (at == bad, inserts) {
                    (true, true) => &["insert"],
                    (true, false) => &["update"],
                    (false, _) => &["insert", "update", "update", "delete"],
                };
                let kind = kinds[random.below(kinds.len())];
                write.push(change(kind, "Todo", Some(&id), if kind == "delete" { Value::Null } else { data }));
            }
            writes.push(write);
        }
        Self { writes, bad }
    }

    /// A server that has two of the rows.
    fn server(&self) -> Server {
        let mut server = Server::new();
        let mut node = offline();
        for id in ["r0", "r1"] {
            write(&mut node, insert(id, json!({"a": -1}))).unwrap();
        }
        settle(&mut node, &mut server);
        assert!(self.bad < self.writes.len());
        server
    }

    /// Makes the writes offline, then meets the server. Only those that are accepted with the bad one are made without it.
    fn run(&self, server: &mut Server, without_bad: bool, connect: bool) -> (Node, Option<OpId>) {
        let fresh = |server: &mut Server| {
            let mut node = Node::new(&mut Random::new(5), Disk::default(), NOW);
            settle(&mut node, server);
            node.disconnect(NOW);
            node
        };
        let (mut node, mut bad) = (fresh(server), None);
        let mut twin = fresh(server);
        for (at, changes) in self.writes.iter().enumerate() {
            let accepted = write(&mut twin, changes.clone());
            let fits = accepted.is_ok();
            if !fits || (without_bad && at == self.bad) {
                continue;
            }
            let made: Result<OpId, ClientError> = write(&mut node, changes.clone());
            // What stands between two writes keeps them from being folded.
            write(&mut node, vec![change("insert", "Spacer", None, json!({}))]).unwrap();
            if at == self.bad {
                bad = made.ok();
            }
        }
        if connect {
            node.input(NOW, Input::Wake);
            settle(&mut node, server);
        }
        (node, bad)
    }
}

fn views(node: &mut Node) -> [BTreeMap<String, Value>; 2] {
    ["Todo", "Note"].map(|entity| node.rows(entity))
}

fn rows_of(server: &Server) -> Vec<(String, Value)> {
    let rows = server.rows.iter().filter(|((entity, _), _)| entity != "Spacer");
    rows.map(|((_, id), (_, row))| (id.clone(), json!(row))).collect()
}
