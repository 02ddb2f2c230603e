//! What a write is checked for, what it carries, and how it ends.

use serde_json::{Value, json};
use syncline_core::client::{ClientError, Event, Input, NewChange, StorageKind, StorageState, StoredReplica};
use syncline_protocol::{ChangeKind, ErrorCode, OpId, Timestamp, limits};

use crate::disk::{Disk, is_mark};
use crate::node::Node;
use crate::random::Random;
use crate::server::Server;
use crate::tests;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) fn change(kind: &str, entity: &str, id: Option<&str>, data: Value) -> NewChange {
    let data = match data {
        Value::Object(data) => Some(Value::Object(data).to_string()),
        _ => None,
    };
    NewChange { entity: entity.to_owned(), row_id: id.map(str::to_owned), kind: ChangeKind::from(kind.to_owned()), data }
}

/// A client that opened its database and has no line to a server.
pub(crate) fn offline() -> Node {
    let mut node = Node::new(&mut Random::new(1), Disk::default(), NOW);
    node.store_one(NOW);
    node
}

pub(crate) fn write(node: &mut Node, changes: Vec<NewChange>) -> Result<OpId, ClientError> {
    let accepted = node.client.mutate(NOW, changes);
    node.drain();
    while node.store_one(NOW) {}
    accepted.map(|accepted| accepted.op_id)
}

pub(crate) fn settle(node: &mut Node, server: &mut Server) {
    loop {
        let moved = node.store_one(NOW) || node.serve_one(NOW, server) || node.receive_one(NOW);
        if !(moved || node.pull_one(NOW, server) || node.stream(server)) {
            let Some(at) = node.wake_at.filter(|at| at.0 <= NOW.0 + 100) else { return };
            node.input(at, Input::Tick);
            node.input(NOW, Input::Tick);
        }
    }
}

/// The op_ids of the writes the application was told are lost.
fn lost(node: &Node) -> Vec<&str> {
    let mut lost = Vec::new();
    for event in &node.events {
        if let Event::MutationLost { op_id, .. } = event {
            lost.push(op_id.as_str());
        }
    }
    lost
}

/// The intents on disk, in order.
pub(crate) fn intents(node: &Node) -> Vec<Value> {
    let intent = |record: &Vec<u8>| serde_json::from_slice::<Value>(record).unwrap()["intent"].take();
    node.disk.now.queue.values().map(intent).collect()
}

tests! {
    fn a_full_queue_takes_no_more_and_loses_nothing() {
        let mut node = offline();
        for number in 0..limits::QUEUE_TRANSACTIONS_MAX {
            node.client.mutate(NOW, vec![change("insert", "Todo", Some(&number.to_string()), json!({"n": 1}))]).unwrap();
        }
        let one_more = || vec![change("insert", "Todo", Some("one-more"), json!({"n": 1}))];
        assert_eq!(write(&mut node, one_more()).unwrap_err().code(), ErrorCode::QueueFull);
        assert_eq!(node.client.status().pending, limits::QUEUE_TRANSACTIONS_MAX);
        assert_eq!(node.disk.now.queue.len(), limits::QUEUE_TRANSACTIONS_MAX);
        // One that leaves makes room for another.
        let listed: Value = serde_json::from_str(&node.client.mutations_json()).unwrap();
        let oldest = OpId::parse(listed[0]["op_id"].as_str().unwrap()).unwrap();
        node.client.remove(NOW, &oldest).unwrap();
        write(&mut node, one_more()).unwrap();
        assert_eq!(write(&mut node, one_more()).unwrap_err().code(), ErrorCode::QueueFull);
    }

    fn what_does_not_fit_is_refused_with_a_code() {
        let mut node = offline();
        write(&mut node, vec![change("insert", "Todo", Some("a"), json!({"n": 1}))]).unwrap();
        let long = "x".repeat(129);
        let large = "x".repeat(1024 * 1024);
        let cases = [
            (vec![], ErrorCode::TransactionTooLarge),
            (vec![change("insert", "Todo", Some("a"), json!({}))], ErrorCode::RowExists),
            (vec![change("update", "Todo", Some("b"), json!({"n": 1}))], ErrorCode::RowNotFound),
            (vec![change("delete", "Todo", Some("b"), Value::Null)], ErrorCode::RowNotFound),
            (vec![change("delete", "Todo", Some("a"), json!({"n": 1}))], ErrorCode::InvalidValue),
            (vec![change("update", "Todo", Some("a"), json!({}))], ErrorCode::InvalidValue),
            (vec![change("update", "Todo", Some("a"), json!({"id": "b"}))], ErrorCode::InvalidValue),
            (vec![change("insert", "Todo", Some("c"), Value::Null)], ErrorCode::InvalidValue),
            (vec![change("update", "Todo", None, json!({"n": 1}))], ErrorCode::InvalidRowId),
            (vec![change("insert", "Todo", Some(&long), json!({}))], ErrorCode::InvalidRowId),
            (vec![change("insert", "$todo", Some("c"), json!({}))], ErrorCode::InvalidName),
            (vec![change("teleport", "Todo", Some("a"), json!({"n": 1}))], ErrorCode::UnknownKind),
            (vec![change("enter", "Todo", Some("a"), json!({"n": 1}))], ErrorCode::UnknownKind),
            (vec![change("insert", "Todo", Some("c"), json!({"n": 9_007_199_254_740_992_u64}))], ErrorCode::ValueOutOfRange),
            (vec![change("insert", "Todo", Some("c"), json!({"t": "\u{0}"}))], ErrorCode::InvalidText),
            (vec![change("insert", "Todo", Some("c"), json!({"t": large}))], ErrorCode::RowTooLarge),
            (vec![change("insert", "Todo", Some("c"), json!({"o": {"__proto__": 1}}))], ErrorCode::ReservedKey),
            (
                vec![change("insert", "Todo", Some("c"), json!({})), change("insert", "Todo", Some("c"), json!({}))],
                ErrorCode::RowExists,
            ),
            (
                vec![change("delete", "Todo", Some("a"), Value::Null), change("update", "Todo", Some("a"), json!({"n": 1}))],
                ErrorCode::RowNotFound,
            ),
        ];
        for (changes, code) in cases {
            let shown = format!("{changes:.200?}");
            let error = write(&mut node, changes).unwrap_err();
            assert_eq!(error.code(), code, "{shown}: {error}");
            assert!(!error.is_retryable());
        }
        assert_eq!(node.disk.now.writes(), 1);
        assert_eq!(node.rows("Todo").len(), 1);
    }

    fn a_client_that_was_not_started_takes_nothing() {
        let mut client = syncline_core::client::Client::new(syncline_core::client::ClientConfig::with_seed([1; 32]));
        let refused = client.mutate(NOW, vec![change("insert", "Todo", None, json!({}))]);
        assert_eq!(refused.unwrap_err().code(), ErrorCode::NotStarted);
    }

    fn an_intent_says_what_its_writer_had_seen_and_what_it_needs() {
        let mut node = offline();
        let channel = write(&mut node, vec![change("insert", "Channel", Some("ch"), json!({"name": "x"}))]).unwrap();
        let message =
            write(&mut node, vec![change("insert", "Message", Some("m"), json!({"to": {"channels": ["ch"]}}))]).unwrap();
        write(&mut node, vec![change("update", "Message", Some("m"), json!({"body": "y"}))]).unwrap();
        let [_, second, third] = intents(&node).try_into().unwrap();
        assert_eq!(second["after"], json!([channel.as_str()]));
        assert_eq!(second["changes"][0].get("base"), None);
        assert_eq!(third["after"], json!([message.as_str()]));
        assert_eq!(third["changes"][0]["base"], json!({"op_id": message.as_str()}));
        // Once the server has it, the row's seq is what was seen.
        let mut server = Server::new();
        settle(&mut node, &mut server);
        node.disconnect(NOW);
        write(&mut node, vec![change("update", "Message", Some("m"), json!({"body": "z"}))]).unwrap();
        let [last] = intents(&node).try_into().unwrap();
        assert_eq!(last["changes"][0]["base"], json!({"seq": server.head}));
        assert_eq!(last.get("after"), None);
        // Of several changes to one row the first says what was seen; what is inserted was not.
        let twice = ["x", "y"].map(|body| change("update", "Message", Some("m"), json!({"body": body})));
        write(&mut node, twice.to_vec()).unwrap();
        write(&mut node, vec![change("delete", "Message", Some("m"), Value::Null)]).unwrap();
        write(&mut node, vec![change("insert", "Message", Some("m"), json!({}))]).unwrap();
        let bases: Vec<Vec<bool>> = intents(&node)
            .iter()
            .map(|intent| intent["changes"].as_array().unwrap().iter().map(|change| change.get("base").is_some()).collect())
            .collect();
        assert_eq!(bases, [vec![true], vec![true, false], vec![true], vec![false]]);
    }

    fn a_write_may_touch_more_unsent_rows_than_it_can_name() {
        let mut node = offline();
        let ids: Vec<String> = (0..1_100).map(|index| format!("r{index}")).collect();
        for id in &ids {
            node.client.mutate(NOW, vec![change("insert", "Todo", Some(id), json!({}))]).unwrap();
        }
        let all = ids.iter().map(|id| change("update", "Todo", Some(id), json!({"done": true}))).collect();
        write(&mut node, all).unwrap();
        let last = intents(&node).pop().unwrap();
        assert_eq!(last["after"].as_array().unwrap().len(), 1_000);
        let mut server = Server::new();
        server.page_changes = 5_000;
        settle(&mut node, &mut server);
        assert!(node.mutations().is_empty());
        assert!(node.rows("Todo").values().all(|row| row["done"] == true));
    }

    fn a_reference_to_a_row_whose_insert_has_ended_is_no_dependency() {
        for ended in ["applied", "failed"] {
            let mut node = offline();
            let mut server = Server::new();
            settle(&mut node, &mut server);
            let data = if ended == "applied" { json!({}) } else { json!({"bad": 1}) };
            write(&mut node, vec![change("insert", "Channel", Some("ch"), data)]).unwrap();
            node.input(NOW.plus_ms(100), Input::Tick);
            // The outcome comes, the rows do not.
            while node.store_one(NOW) || node.serve_one(NOW, &mut server) || node.receive_one(NOW) {}
            assert_eq!(node.mutations()[0]["status"], ended);
            write(&mut node, vec![change("insert", "Message", Some("m"), json!({"to": "ch"}))]).unwrap();
            assert_eq!(intents(&node).pop().unwrap().get("after"), None, "{ended}");
        }
    }

    fn a_confirmed_row_is_the_same_row_to_the_application() {
        let mut node = offline();
        let mut server = Server::new();
        write(&mut node, vec![change("insert", "Todo", Some("a"), json!({"n": 1}))]).unwrap();
        let version = node.client.row_version("Todo", "a");
        node.events.clear();
        settle(&mut node, &mut server);
        assert_eq!(node.client.row_version("Todo", "a"), version);
        assert!(!node.events.iter().any(|event| matches!(event, Event::Changed { .. })), "{:?}", node.events);
        assert!(node.events.iter().any(|event| matches!(event, Event::MutationConfirmed { seq: 1, .. })));
        assert!(node.disk.now.queue.is_empty());
    }

    fn a_refused_write_is_undone_and_holds_its_dependents_but_nothing_else() {
        let mut node = offline();
        let mut server = Server::new();
        let bad = write(&mut node, vec![change("insert", "Todo", Some("a"), json!({"bad": true}))]).unwrap();
        write(&mut node, vec![change("insert", "Todo", Some("b"), json!({"n": 3}))]).unwrap();
        let dependent = write(&mut node, vec![change("update", "Todo", Some("a"), json!({"n": 2}))]).unwrap();
        settle(&mut node, &mut server);
        assert_eq!(node.rows("Todo").into_keys().collect::<Vec<_>>(), ["b"]);
        let left: Vec<[Value; 4]> = node.mutations().iter().map(|it| {
            [&it["op_id"], &it["status"], &it["error"]["code"], &it["waiting_on"]].map(Value::clone)
        }).collect();
        assert_eq!(left, [
            [json!(bad.as_str()), json!("failed"), json!("POLICY_DENIED"), json!([])],
            [json!(dependent.as_str()), json!("pending"), Value::Null, json!([bad.as_str()])],
        ]);
        // It outlives a reload, shows its reason, and goes when the application says so.
        let mut reopened = Node::new(&mut Random::new(2), node.disk.clone(), NOW);
        reopened.store_one(NOW);
        assert_eq!((reopened.status().failed, reopened.status().pending), (1, 1));
        assert_eq!(reopened.mutations(), node.mutations());
        assert_eq!(reopened.rows("Todo").len(), 1);
        reopened.client.remove(NOW, &dependent).unwrap();
        let error = reopened.client.retry(NOW, &dependent).unwrap_err();
        assert!(matches!(error, ClientError::UnknownMutation(_)));
        let again = reopened.client.retry(NOW, &bad).unwrap();
        assert_ne!(again, bad);
        reopened.drain();
        while reopened.store_one(NOW) {}
        assert_eq!(reopened.disk.now.writes(), 1);
        assert_eq!(reopened.mutations()[0]["status"], "pending");
    }

    fn a_retry_keeps_the_failed_record_until_the_new_one_is_on_disk() {
        let mut node = offline();
        let mut server = Server::new();
        let bad = write(&mut node, vec![change("insert", "Todo", Some("a"), json!({"bad": true}))]).unwrap();
        settle(&mut node, &mut server);
        node.disconnect(NOW);
        let disk = node.disk.clone();
        let again = node.client.retry(NOW, &bad).unwrap();
        node.drain();
        // In memory the new one stands for the old one at once; on disk there is never neither.
        assert_eq!(node.mutations().len(), 1);
        while node.store_one(NOW) {
            assert_eq!(node.disk.now.writes(), 1, "a stop here would lose the write, or bring both back");
        }
        let [kept] = intents(&node).try_into().unwrap();
        assert_eq!(kept["op_id"], again.as_str());
        // The quota is used up: the failed one is still there after a reload.
        let mut full = Node::new(&mut Random::new(3), disk, NOW);
        full.store_one(NOW);
        full.disk.failing = 1;
        let again = full.client.retry(NOW, &bad).unwrap();
        full.drain();
        while full.store_one(NOW) {}
        let [kept] = intents(&full).try_into().unwrap();
        assert_eq!(kept["op_id"], bad.as_str());
        assert_eq!(full.mutations().len(), 1);
        // And so on, however often it is tried.
        let mut often = Node::new(&mut Random::new(3), full.disk.clone(), NOW);
        often.store_one(NOW);
        often.disk.failing = 1;
        let mut last = bad.clone();
        for _ in 0..3 {
            last = often.client.retry(NOW, &last).unwrap();
            often.drain();
            settle(&mut often, &mut server);
            assert_eq!(often.mutations()[0]["status"], "failed");
        }
        often.client.remove(NOW, &last).unwrap();
        often.drain();
        while often.store_one(NOW) {}
        assert!(often.disk.now.writes() == 0);
        // So does the end of what never reached the disk, good or bad, for what it stood for.
        let mut confirmed = Node::new(&mut Random::new(3), full.disk.clone(), NOW);
        confirmed.store_one(NOW);
        confirmed.disk.failing = 1;
        confirmed.client.retry(NOW, &bad).unwrap();
        confirmed.drain();
        while confirmed.store_one(NOW) {}
        let mut lenient = Server::new();
        lenient.refuses = "nothing";
        settle(&mut confirmed, &mut lenient);
        assert!(confirmed.mutations().is_empty() && lenient.head == 1);
        assert_eq!(confirmed.disk.now.writes(), 0);
        full.client.remove(NOW, &again).unwrap();
        full.drain();
        while full.store_one(NOW) {}
        assert!(full.disk.now.writes() == 0);
    }

    fn a_stored_failure_is_reported_as_processed_once() {
        let mut node = offline();
        let mut server = Server::new();
        write(&mut node, vec![change("insert", "Todo", Some("a"), json!({}))]).unwrap();
        let bad = write(&mut node, vec![change("insert", "Todo", Some("b"), json!({"bad": true}))]).unwrap();
        settle(&mut node, &mut server);
        for id in ["c", "d"] {
            write(&mut node, vec![change("insert", "Todo", Some(id), json!({}))]).unwrap();
            settle(&mut node, &mut server);
        }
        assert_eq!(server.processed, [vec![], vec![bad], vec![]]);
    }

    fn a_discarded_write_that_the_disk_kept_is_removed_later() {
        let mut node = offline();
        let op_ids = ["a", "b"].map(|id| write(&mut node, vec![change("insert", "Todo", Some(id), json!({}))]).unwrap());
        node.disk.failing = 2;
        for op_id in &op_ids {
            node.client.remove(NOW, op_id).unwrap();
            node.drain();
        }
        while node.store_one(NOW) {}
        assert_eq!(node.disk.now.writes(), 2);
        let told = node.events.iter().any(
            |event| matches!(event, Event::Problem { code: ErrorCode::StorageFull, message } if message.contains("after a reload")),
        );
        assert!(told, "{:?}", node.events);
        let mut server = Server::new();
        settle(&mut node, &mut server);
        assert_eq!(node.disk.now.writes(), 0, "the next connection asks the disk again");
        assert_eq!(server.head, 0);
    }

    fn a_record_is_not_written_and_removed_in_one_request() {
        let mut node = offline();
        let mut server = Server::new();
        let bad = write(&mut node, vec![change("insert", "Todo", Some("a"), json!({"bad": true}))]).unwrap();
        node.input(NOW.plus_ms(100), Input::Tick);
        while node.mutations()[0]["status"] != "failed" {
            let moved = node.store_one(NOW) || node.serve_one(NOW, &mut server) || node.receive_one(NOW);
            assert!(moved || node.pull_one(NOW, &server));
        }
        // Its end cannot be stored, and then the application discards it.
        node.disk.failing = 1;
        while node.store_one(NOW) {}
        node.client.remove(NOW, &bad).unwrap();
        node.drain();
        let [request] = Vec::from_iter(node.stores.clone()).try_into().unwrap();
        let StorageKind::UpdateQueue { put, remove, .. } = request.kind else { panic!("{request:?}") };
        let [(_, record)] = put.try_into().unwrap();
        assert!(remove.is_empty() && is_mark(&record), "the order within a request is nothing to rely on");
    }

    fn a_write_whose_record_another_tab_discarded_is_not_sent() {
        let mut node = offline();
        let mut server = Server::new();
        let gone = write(&mut node, vec![change("insert", "Todo", Some("a"), json!({}))]).unwrap();
        write(&mut node, vec![change("insert", "Todo", Some("b"), json!({}))]).unwrap();
        *node.disk.now.queue.values_mut().next().unwrap() = br#"{"format":1,"state":"discarded"}"#.to_vec();
        settle(&mut node, &mut server);
        assert_eq!(node.rows("Todo").into_keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(server.rows.len(), 1);
        assert!(node.events.contains(&Event::MutationRemoved { op_id: gone }));
        assert!(node.mutations().is_empty());
    }

    fn rows_that_do_not_fit_leave_the_queue_its_disk() {
        let mut server = Server::new();
        let mut other = offline();
        write(&mut other, vec![change("insert", "Todo", Some("a"), json!({"n": 1}))]).unwrap();
        settle(&mut other, &mut server);

        let mut node = Node::new(&mut Random::new(2), Disk::default(), NOW);
        node.store_one(NOW);
        node.disk.failing = 1;
        settle(&mut node, &mut server);
        assert_eq!(node.rows("Todo").len(), 1, "shown from memory");
        let full = |event: &&Event| matches!(event, Event::Problem { code: ErrorCode::StorageFull, .. });
        assert_eq!(node.events.iter().filter(full).count(), 1);
        assert!(matches!(node.status().storage, StorageState::Memory { .. }));

        node.disconnect(NOW);
        let small = write(&mut node, vec![change("insert", "Todo", Some("b"), json!({"n": 2}))]).unwrap();
        assert_eq!(node.disk.now.writes(), 1);
        // Not even that fits: from here on nothing is promised, so that nothing on disk follows what is missing there.
        node.disk.failing = 1;
        write(&mut node, vec![change("insert", "Todo", Some("c"), json!({"n": 3}))]).unwrap();
        write(&mut node, vec![change("update", "Todo", Some("c"), json!({"n": 4}))]).unwrap();
        let [kept] = intents(&node).try_into().unwrap();
        assert_eq!(kept["op_id"], small.as_str());
        assert_eq!(node.events.iter().filter(full).count(), 2);

        // With room again everything is where it was.
        let mut again = Node::new(&mut Random::new(3), node.disk.clone(), NOW);
        again.store_one(NOW);
        settle(&mut again, &mut server);
        assert_eq!(again.rows("Todo").len(), 2);
        assert_eq!(again.status().storage, StorageState::Indexeddb);
        assert!(again.disk.now.queue.is_empty() && again.mutations().is_empty());
    }

    fn stopping_in_memory_tells_what_is_lost() {
        let mut node = Node::new(&mut Random::new(1), Disk::default(), NOW);
        node.input(NOW, Input::Opened(Box::new(StoredReplica { memory: Some("off".to_owned()), ..StoredReplica::default() })));
        let op_id = write(&mut node, vec![change("insert", "Todo", Some("a"), json!({}))]).unwrap();
        node.input(NOW, Input::Stop);
        assert_eq!(lost(&node), [op_id.as_str()]);
        // The same when the disk refuses the write only after the stop.
        let mut node = offline();
        let op_id = node.client.mutate(NOW, vec![change("insert", "Todo", Some("a"), json!({}))]).unwrap().op_id;
        node.input(NOW, Input::Stop);
        assert!(lost(&node).is_empty());
        node.disk.failing = 1;
        while node.store_one(NOW) {}
        assert_eq!(lost(&node), [op_id.as_str()]);
        assert!(node.durable.is_empty(), "and it is not called durable");
    }

    fn an_applied_write_that_a_restored_backup_lacks_is_sent_again() {
        let mut node = offline();
        let mut server = Server::new();
        settle(&mut node, &mut server);
        write(&mut node, vec![change("insert", "Todo", Some("a"), json!({"n": 1}))]).unwrap();
        node.input(NOW.plus_ms(100), Input::Tick);
        // The outcome comes, the rows do not.
        while node.store_one(NOW) || node.serve_one(NOW, &mut server) || node.receive_one(NOW) {}
        assert_eq!((server.head, node.mutations()[0]["status"].clone()), (1, json!("applied")));
        node.disconnect(NOW);
        let mut restored = Server::new();
        restored.epoch = 2;
        node.input(NOW, Input::Wake);
        settle(&mut node, &mut restored);
        assert!(restored.rows.contains_key(&("Todo".to_owned(), "a".to_owned())), "the write is not lost");
        assert_eq!(node.rows("Todo").len(), 1);
        assert!(node.mutations().is_empty() && node.disk.now.queue.is_empty());
    }

    fn a_write_is_discarded_only_before_it_leaves() {
        let mut node = offline();
        let mut server = Server::new();
        let first = node.client.mutate(NOW, vec![change("insert", "Todo", Some("a"), json!({}))]).unwrap().op_id;
        node.drain();
        // On its way to the disk: it is removed there as soon as its key is known.
        node.client.remove(NOW, &first).unwrap();
        node.drain();
        while node.store_one(NOW) {}
        assert!(node.disk.now.writes() == 0 && node.rows("Todo").is_empty());
        let second = write(&mut node, vec![change("insert", "Todo", Some("b"), json!({}))]).unwrap();
        server.busy = 1;
        // On its way to its mark on disk it may have left when the answer comes.
        while !node.stores.iter().any(|request| matches!(request.kind, StorageKind::UpdateQueue { .. })) {
            let moved = node.store_one(NOW) || node.serve_one(NOW, &mut server) || node.receive_one(NOW);
            if !(moved || node.pull_one(NOW, &server)) {
                node.input(NOW.plus_ms(100), Input::Tick);
                node.input(NOW, Input::Tick);
            }
        }
        assert!(matches!(node.client.remove(NOW, &second), Err(ClientError::WrongState { .. })));
        settle(&mut node, &mut server);
        assert_eq!(node.mutations()[0]["status"], "sent");
        assert!(matches!(node.client.remove(NOW, &second), Err(ClientError::WrongState { .. })));
        assert!(matches!(node.client.retry(NOW, &second), Err(ClientError::WrongState { .. })));
        node.input(NOW.plus_ms(30_000), Input::Wake);
        settle(&mut node, &mut server);
        node.disconnect(NOW);
    }

    fn writes_before_the_database_is_open_come_after_those_in_it() {
        let mut node = offline();
        write(&mut node, vec![change("insert", "Todo", Some("old"), json!({}))]).unwrap();
        let mut early = Node::new(&mut Random::new(9), node.disk.clone(), NOW);
        early.client.mutate(NOW, vec![change("insert", "Todo", Some("new"), json!({}))]).unwrap();
        early.drain();
        assert_eq!(early.rows("Todo").len(), 1);
        while early.store_one(NOW) {}
        assert_eq!(early.rows("Todo").len(), 2);
        let order: Vec<Value> = early.mutations().iter().map(|it| it["changes"][0]["row_id"].clone()).collect();
        assert_eq!(order, [json!("old"), json!("new")]);
        assert_eq!(intents(&early).len(), 2);
    }

    fn minted_ids_are_uuids_and_writes_of_one_task_share_a_transaction() {
        let mut node = offline();
        for _ in 0..20 {
            let accepted = node.client.mutate(NOW, vec![change("insert", "Todo", None, json!({"n": 1}))]).unwrap();
            assert_eq!(accepted.row_ids[0].as_str().len(), 36);
        }
        node.drain();
        assert_eq!(node.stores.len(), 1);
        node.store_one(NOW);
        assert_eq!(node.durable.len(), 20);
        assert_eq!(node.rows("Todo").len(), 20);
    }

    fn stopping_leaves_no_write_behind() {
        let mut node = offline();
        for id in ["a", "b", "c"] {
            node.client.mutate(NOW, vec![change("insert", "Todo", Some(id), json!({}))]).unwrap();
            node.drain();
        }
        node.input(NOW, Input::Stop);
        while node.store_one(NOW) {}
        let order: Vec<Value> = intents(&node).into_iter().map(|mut intent| intent["changes"][0]["row_id"].take()).collect();
        assert_eq!(order, [json!("a"), json!("b"), json!("c")]);
        assert_eq!(node.durable.len(), 3, "and the application is told");
    }

    fn a_restored_backup_is_pulled_again_and_what_waits_is_kept() {
        let mut node = offline();
        let mut server = Server::new();
        for id in ["a", "b", "c"] {
            write(&mut node, vec![change("insert", "Todo", Some(id), json!({}))]).unwrap();
        }
        settle(&mut node, &mut server);
        node.disconnect(NOW);
        let mut restored = Server::new();
        restored.epoch = 2;
        write(&mut node, vec![change("insert", "Todo", Some("d"), json!({}))]).unwrap();
        node.input(NOW, Input::Wake);
        assert_eq!(node.rows("Todo").len(), 4, "the old rows stay until the new ones are in");
        // It is applied at a seq that the rows shown have long passed, in another history.
        while node.store_one(NOW) || node.serve_one(NOW, &mut restored) || node.receive_one(NOW) {}
        assert_eq!((restored.head, node.status().seq), (1, 3));
        assert!(node.rows("Todo").contains_key("d"), "it must not blink");
        settle(&mut node, &mut restored);
        assert_eq!(node.rows("Todo").into_keys().collect::<Vec<_>>(), ["d"]);
        assert!(node.mutations().is_empty());
        assert_eq!(node.disk.now.entities.len(), 1, "nothing of the old generation is left on disk");
    }
}
