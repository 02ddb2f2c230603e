//! Unsent writes of one row that become one, and everything that keeps them apart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use syncline_core::client::{Event, Input, NewChange, StorageKind, StoredReplica};
use syncline_protocol::{Intent, OpId};

use crate::disk::Disk;
use crate::node::Node;
use crate::random::{Random, for_seeds};
use crate::server::Server;
use crate::tests;
use crate::writes::{NOW, change, intents, offline, write};

fn todo(kind: &str, id: &str, data: Value) -> Vec<NewChange> {
    vec![change(kind, "Todo", Some(id), data)]
}

fn settle(node: &mut Node, server: &mut Server) {
    node.drain();
    crate::writes::settle(node, server);
}

/// A node whose server has the row `r`, without a line to it.
fn with_row(server: &mut Server) -> Node {
    let mut node = offline();
    write(&mut node, todo("insert", "r", json!({"n": 0}))).unwrap();
    settle(&mut node, server);
    node.disconnect(NOW);
    node.events.clear();
    node
}

/// What the server has answered since it had this many answers, as it was sent.
fn answered(server: &Server, known: &BTreeSet<OpId>) -> BTreeMap<OpId, Intent> {
    let new = server.outcomes.iter().filter(|(op_id, _)| !known.contains(*op_id));
    new.map(|(op_id, (text, _))| (op_id.clone(), Intent::parse(text).unwrap())).collect()
}

/// What became of each write in the end: the op_id that the server confirmed, or none for what came to nothing.
fn ends(node: &Node, made: &[OpId]) -> Vec<Option<String>> {
    let mut replaced: BTreeMap<&OpId, &OpId> = BTreeMap::new();
    let mut confirmed: BTreeMap<&OpId, u64> = BTreeMap::new();
    for event in &node.events {
        match event {
            Event::MutationReplaced { op_id, by } => assert_eq!(replaced.insert(op_id, by), None, "told once"),
            Event::MutationConfirmed { op_id, seq } => assert_eq!(confirmed.insert(op_id, *seq), None, "told once"),
            Event::MutationFailed { op_id, error } => panic!("{op_id}: {error:?}"),
            _ => {}
        }
    }
    let end = |made: &OpId| {
        let mut last = made;
        while let Some(by) = replaced.get(last) {
            assert!(!confirmed.contains_key(last), "{last} is replaced and confirmed");
            last = by;
        }
        let seq = confirmed.get(last).unwrap_or_else(|| panic!("{last} has no end"));
        (*seq > 0).then(|| last.to_string())
    };
    made.iter().map(end).collect()
}

/// Kinds and data of what the server got after some writes of the row `r`, or of `new`.
fn sent(writes: Vec<Vec<NewChange>>, same_turn: bool) -> Vec<(String, Value)> {
    let mut server = Server::new();
    let mut node = with_row(&mut server);
    let known = server.outcomes.keys().cloned().collect();
    let mut made = Vec::new();
    for changes in writes {
        let accepted = node.client.mutate(NOW, changes).unwrap();
        made.push(accepted.op_id);
        if !same_turn {
            node.drain();
            while node.store_one(NOW) {}
        }
    }
    node.input(NOW, Input::Wake);
    settle(&mut node, &mut server);
    assert!(node.mutations().is_empty() && node.disk.now.queue.is_empty());
    ends(&node, &made);
    let line = |intent: Intent| {
        let changes = intent.changes.iter().map(|change| {
            let data = change.data.as_ref().map_or(Value::Null, |data| serde_json::from_str(data.get()).unwrap());
            (change.kind.as_str().to_owned(), data)
        });
        changes.collect::<Vec<_>>()
    };
    let mut in_order: Vec<Intent> = answered(&server, &known).into_values().collect();
    in_order.sort_by_key(|intent| server.outcomes[&intent.op_id].1.last_seq);
    in_order.into_iter().flat_map(line).collect()
}

tests! {
    fn neighbours_of_one_row_become_one() {
        let update = |data| todo("update", "r", data);
        let insert = || todo("insert", "new", json!({"n": 1}));
        let cases = [
            (vec![update(json!({"a": 1})), update(json!({"b": 2})), update(json!({"a": 3}))], vec![("update", json!({"a": 3, "b": 2}))]),
            (vec![insert(), todo("update", "new", json!({"m": 2}))], vec![("insert", json!({"m": 2, "n": 1}))]),
            (vec![insert(), todo("update", "new", json!({"m": 2})), todo("delete", "new", Value::Null)], vec![]),
            (vec![insert(), todo("delete", "new", Value::Null)], vec![]),
            (vec![update(json!({"a": 1})), todo("delete", "r", Value::Null)], vec![("delete", Value::Null)]),
            // A row that is made anew is another one.
            (
                vec![todo("delete", "r", Value::Null), todo("insert", "r", json!({"n": 1})), update(json!({"m": 2}))],
                vec![("delete", Value::Null), ("insert", json!({"m": 2, "n": 1}))],
            ),
        ];
        for (writes, wanted) in cases {
            for same_turn in [true, false] {
                let wanted: Vec<(String, Value)> = wanted.iter().map(|(kind, data)| ((*kind).to_owned(), data.clone())).collect();
                assert_eq!(sent(writes.clone(), same_turn), wanted, "same turn: {same_turn}");
            }
        }
    }

    fn what_others_depend_on_or_what_is_no_neighbour_stays() {
        let update = |n: u64| todo("update", "r", json!({"n": n}));
        let cases = [
            vec![update(1), todo("insert", "x", json!({})), update(2)],
            vec![[update(1), todo("insert", "x", json!({}))].concat(), update(2)],
            vec![update(1), [update(2), todo("insert", "x", json!({}))].concat()],
            vec![todo("insert", "x", json!({})), todo("insert", "y", json!({"of": "x"})), todo("delete", "x", Value::Null)],
        ];
        for writes in cases {
            let changes: usize = writes.iter().map(Vec::len).sum();
            for same_turn in [true, false] {
                assert_eq!(sent(writes.clone(), same_turn).len(), changes, "{writes:?}");
            }
        }
        // Who comes later depends on the last of them, so that one stays; those after it fold.
        let later = [update(3), todo("insert", "x", json!({}))].concat();
        assert_eq!(sent(vec![update(1), update(2), later, update(4), update(5)], false).len(), 5);
    }

    fn what_was_sent_or_has_failed_or_is_held_stays() {
        let mut server = Server::new();
        let mut node = with_row(&mut server);
        server.busy = 1;
        write(&mut node, todo("update", "r", json!({"a": 1}))).unwrap();
        node.input(NOW, Input::Wake);
        settle(&mut node, &mut server);
        assert_eq!(node.mutations()[0]["status"], "sent");
        write(&mut node, todo("update", "r", json!({"bad": 2}))).unwrap();
        node.disconnect(NOW);
        node.input(NOW.plus_ms(60_000), Input::Wake);
        settle(&mut node, &mut server);
        assert_eq!(node.mutations().len(), 1, "the first was applied and the second refused: {:?}", node.mutations());
        write(&mut node, todo("update", "r", json!({"c": 3}))).unwrap();
        settle(&mut node, &mut server);
        assert!(node.mutations()[0]["changes"][0]["data"].get("c").is_none());
        assert_eq!(node.rows("Todo")["r"], json!({"id": "r", "n": 0, "a": 1, "c": 3}));
    }

    fn one_strict_transaction_folds_and_only_when_all_records_are_there() {
        for removed in [None, Some(0), Some(1), Some(2)] {
            let mut server = Server::new();
            let mut node = with_row(&mut server);
            let fields = ["a", "b", "c"];
            let made = fields.map(|field| write(&mut node, todo("update", "r", json!({(field): 1}))).unwrap());
            node.input(NOW, Input::Wake);
            // Up to the request, and then another tab discards one of the records.
            while !node.stores.iter().any(|request| matches!(request.kind, StorageKind::FoldQueue { .. })) {
                let moved = node.store_one(NOW) || node.serve_one(NOW, &mut server) || node.receive_one(NOW);
                if !(moved || node.pull_one(NOW, &server) || node.stream(&server)) {
                    node.input(NOW.plus_ms(100), Input::Tick);
                    node.input(NOW, Input::Tick);
                }
            }
            assert!(node.client.remove(NOW, &made[1]).is_err(), "it is on its way");
            if let Some(removed) = removed {
                let key = *node.disk.now.queue.keys().nth(removed).unwrap();
                node.disk.now.queue.remove(&key);
            }
            let shown = node.rows("Todo");
            node.store_one(NOW);
            if removed.is_none() {
                let [folded] = intents(&node).try_into().unwrap();
                assert_eq!(folded["op_id"], made[0].as_str());
                assert_eq!(folded["changes"][0]["data"], json!({"a": 1, "b": 1, "c": 1}));
                assert_eq!(node.mutations().len(), 1);
                assert_eq!(node.rows("Todo"), shown, "nothing changes in the view");
            }
            settle(&mut node, &mut server);
            assert!(node.mutations().is_empty() && node.disk.now.queue.is_empty());
            let mut wanted = json!({"id": "r", "n": 0});
            for (at, field) in fields.into_iter().enumerate() {
                if removed != Some(at) {
                    wanted[field] = json!(1);
                }
            }
            assert_eq!(node.rows("Todo")["r"], wanted, "removed: {removed:?}");
        }
    }

    fn a_long_run_folds_whatever_its_length_and_in_memory_too() {
        for memory in [false, true] {
            let mut server = Server::new();
            let mut node = Node::new(&mut Random::new(1), Disk::default(), NOW);
            if memory {
                let stored = StoredReplica { memory: Some("off".to_owned()), ..StoredReplica::default() };
                node.input(NOW, Input::Opened(Box::new(stored)));
            }
            node.store_one(NOW);
            write(&mut node, todo("insert", "r", json!({"n": 0}))).unwrap();
            settle(&mut node, &mut server);
            node.disconnect(NOW);
            node.events.clear();
            let mut made = Vec::new();
            for n in 0..2_500 {
                made.push(write(&mut node, todo("update", "r", json!({"n": n}))).unwrap());
            }
            node.input(NOW, Input::Wake);
            settle(&mut node, &mut server);
            assert_eq!((server.head, node.mutations().len()), (2, 0));
            assert_eq!(node.rows("Todo")["r"], json!({"id": "r", "n": 2_499}));
            let first = Some(made[0].to_string());
            assert!(ends(&node, &made).iter().all(|end| *end == first));
        }
    }

    fn folded_and_unfolded_writes_lead_to_the_same_rows() {
        for_seeds("folded_and_unfolded_writes_lead_to_the_same_rows", 400, |seed| {
            let (folded, view) = run(seed, true, None);
            let (unfolded, other) = run(seed, false, None);
            assert_eq!(rows_of(&folded), rows_of(&unfolded));
            assert_eq!(view, other);
        });
    }

    fn a_crash_anywhere_leads_to_the_same_rows() {
        for_seeds("a_crash_anywhere_leads_to_the_same_rows", 200, |seed| {
            let (whole, view) = run(seed, true, None);
            let crash_at = Random::new(seed + 1).below(30);
            let (crashed, other) = run(seed, true, Some(crash_at));
            assert_eq!(rows_of(&whole), rows_of(&crashed), "crash at {crash_at}");
            assert_eq!(view, other);
        });
    }
}

/// Writes offline, some in one turn, then meets the server; gives it and the view. With a crash after so many steps.
fn run(seed: u64, folds: bool, crash_at: Option<usize>) -> (Server, BTreeMap<String, Value>) {
    let mut random = Random::new(seed);
    let mut server = Server::new();
    let mut node = with_row(&mut server);
    let mut made = Vec::new();
    for _ in 0..4 + random.below(16) {
        // Few rows, so that neighbours are common.
        let id = ["r", "x", "y"][random.below(3)];
        let kind = ["insert", "update", "update", "update", "delete"][random.below(5)];
        let mut data = json!({(["a", "b"][random.below(2)]): random.below(100)});
        if random.percent(10) {
            data["of"] = json!(["r", "x", "y"][random.below(3)]);
        }
        let mut changes = todo(kind, id, if kind == "delete" { Value::Null } else { data });
        if random.percent(10) {
            changes.extend(todo("update", "y", json!({"c": random.below(100)})));
        }
        let stores = random.percent(70);
        let Ok(accepted) = node.client.mutate(NOW, changes) else { continue };
        made.push(accepted.op_id);
        if !folds {
            node.client.mutate(NOW, vec![change("insert", "Spacer", None, json!({}))]).unwrap();
        }
        if stores {
            node.drain();
            while node.store_one(NOW) {}
        }
    }
    node.drain();
    while node.store_one(NOW) {}
    let shown = node.rows("Todo");
    node.input(NOW, Input::Wake);
    if let Some(steps) = crash_at {
        for _ in 0..steps {
            let moved = node.store_one(NOW) || node.serve_one(NOW, &mut server) || node.receive_one(NOW);
            if !(moved || node.pull_one(NOW, &server) || node.stream(&server)) {
                node.input(NOW.plus_ms(100), Input::Tick);
                node.input(NOW, Input::Tick);
            }
            assert_eq!(node.rows("Todo"), shown, "nobody sees that writes are folded");
        }
        node.crash(&mut random, NOW, 0);
        node.store_one(NOW);
        assert_eq!(node.rows("Todo"), shown, "nor does a reload");
    }
    settle(&mut node, &mut server);
    assert!(node.mutations().is_empty() && node.disk.now.queue.is_empty(), "{:?}", node.mutations());
    if crash_at.is_none() {
        for end in ends(&node, &made).into_iter().flatten() {
            assert!(server.has_answered(&OpId::parse(end).unwrap()));
        }
    }
    assert_eq!(node.rows("Todo"), shown);
    (server, shown)
}

fn rows_of(server: &Server) -> BTreeMap<String, Value> {
    let rows = server.rows.iter().filter(|((entity, _), _)| entity == "Todo");
    rows.map(|((_, id), (_, row))| (id.clone(), json!(row))).collect()
}
