//! What lies on disk: taken over, damaged, from the future, merged, and cut off at every point.

use serde_json::{Value, json};
use syncline_core::client::{Input, NewChange, StorageFailure, StorageKind};
use syncline_protocol::{ChangeKind, Timestamp};

use crate::disk::Disk;
use crate::node::Node;
use crate::random::{Random, for_seeds};
use crate::server::Server;
use crate::tests;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn insert(id: &str, fields: Value) -> NewChange {
    change(ChangeKind::Insert, id, Some(fields))
}

fn change(kind: ChangeKind, id: &str, fields: Option<Value>) -> NewChange {
    let data = fields.map(|fields| fields.to_string());
    NewChange { entity: "Todo".to_owned(), row_id: Some(id.to_owned()), kind, data }
}

fn settle(node: &mut Node, server: &mut Server) {
    for _ in 0..10_000 {
        let moved = node.store_one(NOW) || node.serve_one(NOW, server) || node.receive_one(NOW);
        if !(moved || node.pull_one(NOW, server) || node.stream(server)) {
            let Some(at) = node.wake_at.filter(|at| at.0 <= NOW.0 + 100) else { return };
            node.input(at, Input::Tick);
            // The clock of these tests stands still but for the gathering window.
            node.input(NOW, Input::Tick);
        }
    }
    panic!("it never comes to rest");
}

/// A replica with several records on disk: rows written one by one, changed, some of them removed.
fn grown(random: &mut Random, server: &mut Server, rounds: usize) -> Node {
    let mut node = Node::new(random, Disk::default(), NOW);
    settle(&mut node, server);
    for round in 0..rounds {
        let id = format!("r{}", random.below(12));
        let fields = json!({"round": round, "text": "x".repeat(random.below(40))});
        let exists = node.rows("Todo").contains_key(&id);
        let written = match (exists, random.below(3)) {
            (false, _) => insert(&id, fields),
            (true, 0) => change(ChangeKind::Delete, &id, None),
            (true, _) => change(ChangeKind::Update, &id, Some(fields)),
        };
        let accepted = node.client.mutate(NOW, vec![written]).unwrap();
        assert_eq!(accepted.row_ids[0].as_str(), id);
        node.drain();
        settle(&mut node, server);
    }
    node
}

fn reopen(random: &mut Random, disk: &Disk) -> Node {
    let mut node = Node::new(random, disk.clone(), NOW);
    while node.store_one(NOW) {}
    node
}

/// Whether a text stands anywhere on the disk.
fn stores(disk: &Disk, text: &str) -> bool {
    let mut records = disk.now.entities.values().chain(disk.now.queue.values());
    records.any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

tests! {
    fn many_small_records_are_merged_and_say_the_same() {
        for_seeds("many_small_records_are_merged_and_say_the_same", 8, |seed| {
            let mut random = Random::new(seed);
            let mut server = Server::new();
            let mut node = grown(&mut random, &mut server, 150);
            assert!(node.disk.now.entities.len() < 40, "{} records", node.disk.now.entities.len());
            let rows = node.rows("Todo");
            node.check_mirror("Todo");
            assert_eq!(reopen(&mut random, &node.disk).rows("Todo"), rows);
        });
    }

    fn rows_that_left_are_in_no_record_on_disk() {
        let mut random = Random::new(7);
        let mut server = Server::new();
        let mut node = Node::new(&mut random, Disk::default(), NOW);
        settle(&mut node, &mut server);
        let writes = [
            insert("r1", json!({"text": "secret one"})),
            insert("r2", json!({"text": "open"})),
            // The first text is now hidden in an older record rather than removed.
            change(ChangeKind::Update, "r1", Some(json!({"text": "secret two"}))),
        ];
        for write in writes {
            node.client.mutate(NOW, vec![write]).unwrap();
            node.drain();
            settle(&mut node, &mut server);
        }
        assert!(stores(&node.disk, "secret one") && stores(&node.disk, "secret two"));
        server.hide("Todo", "r1");
        let mut gone = 0;
        while !node.rows("Todo").is_empty() && (node.store_one(NOW) || node.stream(&server) || node.receive_one(NOW)) {
            // A stop here: the next start goes on with the cleaning.
            let mut again = reopen(&mut random, &node.disk);
            let hidden = !again.rows("Todo").contains_key("r1");
            gone += usize::from(hidden);
            assert!(!hidden || !stores(&again.disk, "secret"), "a start left what the reader may not see");
        }
        assert!(gone > 1, "{gone}");
        settle(&mut node, &mut server);
        assert!(!stores(&node.disk, "secret"), "the disk still holds what the reader may not see");
        assert!(stores(&node.disk, "open"));
        let rows = node.rows("Todo");
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["r2"]);
        assert_eq!(reopen(&mut random, &node.disk).rows("Todo"), rows);
    }

    fn a_deletion_that_was_merged_still_hides_a_row_in_an_older_record() {
        let mut random = Random::new(4);
        let mut server = Server::new();
        let mut node = Node::new(&mut random, Disk::default(), NOW);
        settle(&mut node, &mut server);
        // Too large to be merged with what comes after it.
        let large = "x".repeat(300 * 1024);
        let rows = (0..5).map(|index| insert(&format!("large{index}"), json!({"text": large}))).collect();
        node.client.mutate(NOW, rows).unwrap();
        node.drain();
        settle(&mut node, &mut server);
        let mut write = |node: &mut Node, written: NewChange| {
            node.client.mutate(NOW, vec![written]).unwrap();
            node.drain();
            settle(node, &mut server);
        };
        write(&mut node, change(ChangeKind::Delete, "large0", None));
        // Removed and there again: what is merged must not hide it.
        write(&mut node, change(ChangeKind::Delete, "large1", None));
        write(&mut node, insert("large1", json!({"text": "small now"})));
        for index in 0..40 {
            write(&mut node, insert(&format!("small{index}"), json!({"n": index})));
        }
        assert!(node.disk.now.entities.len() < 20, "{} records", node.disk.now.entities.len());
        let ids: Vec<String> = node.rows("Todo").into_keys().collect();
        assert_eq!(ids.len(), 44);
        // Read as it lies: a start rewrites what holds hidden rows only afterwards.
        let mut opened = Node::new(&mut random, node.disk.clone(), NOW);
        opened.store_one(NOW);
        assert_eq!(opened.rows("Todo").into_keys().collect::<Vec<_>>(), ids);
        assert_eq!(opened.rows("Todo")["large1"]["text"], "small now");
    }

    fn a_row_that_changes_while_records_are_merged_keeps_its_newer_place() {
        let mut random = Random::new(6);
        let mut server = Server::new();
        let mut other = Node::new(&mut random, Disk::default(), NOW);
        settle(&mut other, &mut server);
        let mut node = grown(&mut random, &mut server, 0);
        let is_merging = |node: &Node| node.stores.iter().any(|request| matches!(request.kind, StorageKind::Compact { .. }));
        let mut ids = Vec::new();
        while !is_merging(&node) {
            ids.push(format!("r{:03}", ids.len()));
            other.client.mutate(NOW, vec![insert(ids.last().unwrap(), json!({"n": 1}))]).unwrap();
            other.drain();
            settle(&mut other, &mut server);
            while !is_merging(&node) && (node.stream(&server) || node.receive_one(NOW) || node.store_one(NOW)) {}
        }
        let changes = [change(ChangeKind::Update, &ids[3], Some(json!({"n": 2}))), change(ChangeKind::Delete, &ids[4], None)];
        other.client.mutate(NOW, changes.to_vec()).unwrap();
        other.drain();
        settle(&mut other, &mut server);
        while node.stream(&server) || node.receive_one(NOW) {}
        assert!(is_merging(&node), "the disk has not answered yet");
        let rows = node.rows("Todo");
        assert_eq!((rows.len(), &rows[&ids[3]]["n"]), (ids.len() - 1, &json!(2)));
        settle(&mut node, &mut server);
        assert!(node.disk.now.entities.len() < 5);
        assert_eq!(node.rows("Todo"), rows);
        assert_eq!(reopen(&mut random, &node.disk).rows("Todo"), rows);
    }

    fn a_stop_before_or_after_any_single_request_loses_nothing() {
        let mut random = Random::new(1);
        let mut server = Server::new();
        let mut node = grown(&mut random, &mut server, 20);
        let mut requests = 0;
        for round in 0..60 {
            let id = format!("s{round}");
            node.client.mutate(NOW, vec![insert(&id, json!({"round": round}))]).unwrap();
            node.drain();
            // One request at a time; at every point another process opens what is there.
            for _ in 0..200 {
                let before = node.stores.len();
                if !(node.store_one(NOW) || node.serve_one(NOW, &mut server) || node.receive_one(NOW) || node.stream(&server)) {
                    let Some(at) = node.wake_at.filter(|at| at.0 <= NOW.0 + 100) else { break };
                    node.input(at, Input::Tick);
                    node.input(NOW, Input::Tick);
                }
                if node.stores.len() != before {
                    requests += 1;
                    let mut other = reopen(&mut random, &node.disk);
                    let seq = other.status().seq;
                    let expected: Vec<&String> =
                        server.history[&seq].keys().filter(|(entity, _)| entity == "Todo").map(|(_, id)| id).collect();
                    let pending: Vec<String> = other.mutations().iter().map(|it| it["changes"][0]["row_id"].to_string()).collect();
                    let rows = other.rows("Todo");
                    assert!(expected.into_iter().all(|id| rows.contains_key(id)), "at {seq}");
                    assert!(pending.iter().all(|id| rows.contains_key(id.trim_matches('"'))));
                }
            }
        }
        assert!(requests > 200, "{requests}");
    }

    fn damage_anywhere_in_a_record_is_noticed_and_healed_and_the_queue_kept() {
        for_seeds("damage_anywhere_in_a_record_is_noticed_and_healed_and_the_queue_kept", 60, |seed| {
            let mut random = Random::new(seed);
            let mut server = Server::new();
            let mut node = grown(&mut random, &mut server, 25);
            node.disconnect(NOW);
            node.client.mutate(NOW, vec![insert("unsent", json!({"a": 1}))]).unwrap();
            node.drain();
            while node.store_one(NOW) {}
            let mut disk = node.disk.clone();
            let keys: Vec<u64> = disk.now.entities.keys().copied().collect();
            let key = keys[random.below(keys.len())];
            let record = disk.now.entities.get_mut(&key).unwrap();
            match random.below(3) {
                0 => record.truncate(random.below(record.len())),
                1 => record.extend([0; 3]),
                _ => {
                    let at = random.below(record.len());
                    record[at] ^= 1 << random.below(8);
                }
            }
            let mut healed = reopen(&mut random, &disk);
            assert_eq!(healed.disk.now.journal.len(), 1, "the damaged record is kept for whoever wants to look");
            assert!(healed.rows("Todo").contains_key("unsent"));
            settle(&mut healed, &mut server);
            node.input(NOW, Input::Wake);
            assert_eq!(healed.status().pending, 0);
            let ids: Vec<String> = server.rows.keys().map(|(_, id)| id.clone()).collect();
            assert_eq!(healed.rows("Todo").into_keys().collect::<Vec<_>>(), ids);
        });
    }

    fn a_damaged_snapshot_under_way_begins_again() {
        let mut random = Random::new(8);
        let mut server = Server::new();
        let mut writer = Node::new(&mut random, Disk::default(), NOW);
        settle(&mut writer, &mut server);
        let rows = (0..40).map(|index| insert(&format!("r{index:02}"), json!({"n": index}))).collect();
        writer.client.mutate(NOW, rows).unwrap();
        writer.drain();
        settle(&mut writer, &mut server);
        let mut node = Node::new(&mut random, Disk::default(), NOW);
        while node.disk.now.entities.len() < 4 {
            let moved = node.store_one(NOW) || node.serve_one(NOW, &mut server) || node.receive_one(NOW);
            assert!(moved || node.pull_one(NOW, &server));
        }
        for key in node.disk.now.entities.keys().copied().collect::<Vec<_>>() {
            let mut disk = node.disk.clone();
            disk.now.entities.get_mut(&key).unwrap().truncate(40);
            let mut healed = reopen(&mut random, &disk);
            assert_eq!(healed.status().last_error.unwrap().code, "STORAGE_CORRUPT");
            assert!(healed.disk.now.entities.is_empty(), "nothing of it is of use");
            settle(&mut healed, &mut server);
            assert_eq!(healed.rows("Todo"), writer.rows("Todo"));
        }
    }

    fn pages_are_fetched_no_faster_than_the_disk_takes_them() {
        let mut random = Random::new(9);
        let mut server = Server::new();
        let mut writer = Node::new(&mut random, Disk::default(), NOW);
        settle(&mut writer, &mut server);
        let large = "x".repeat(1000 * 1024);
        for index in 0..14 {
            writer.client.mutate(NOW, vec![insert(&format!("r{index:02}"), json!({"text": large}))]).unwrap();
            writer.drain();
        }
        settle(&mut writer, &mut server);
        server.page_changes = 1;
        let mut node = Node::new(&mut random, Disk::default(), NOW);
        node.store_one(NOW);
        let mut pulled = 0;
        let mut fetch = |node: &mut Node, server: &mut Server| {
            while node.serve_one(NOW, server) || node.receive_one(NOW) {}
            while node.pull_one(NOW, server) {
                pulled += 1;
            }
            pulled
        };
        // One megabyte is on its way to the disk, eight wait, and the last one may go beyond that.
        let waiting = fetch(&mut node, &mut server);
        assert!((8..=11).contains(&waiting), "{waiting}");
        node.store_one(NOW);
        assert_eq!(fetch(&mut node, &mut server), waiting + 1);
        settle(&mut node, &mut server);
        assert_eq!(node.rows("Todo").len(), 14);
    }

    fn damaged_rows_stay_until_the_disk_knows_that_they_are_missing() {
        let mut random = Random::new(5);
        let mut server = Server::new();
        let mut node = grown(&mut random, &mut server, 5);
        node.disconnect(NOW);
        let mut disk = node.disk.clone();
        disk.now.entities.values_mut().next().unwrap().truncate(9);
        let records = disk.now.entities.clone();
        let mut refused = Node::new(&mut random, disk, NOW);
        refused.store_one(NOW);
        refused.disk.failing = 1;
        while refused.store_one(NOW) {}
        assert_eq!(refused.disk.now.entities, records, "a cursor without its rows would hide what is missing");
        let mut healed = reopen(&mut random, &refused.disk);
        assert_eq!(healed.disk.now.journal.len(), 1);
        settle(&mut healed, &mut server);
        assert_eq!(healed.rows("Todo").len(), server.rows.len());
    }

    fn random_bytes_in_every_store_never_panic() {
        for_seeds("random_bytes_in_every_store_never_panic", 200, |seed| {
            let mut random = Random::new(seed);
            let mut disk = Disk::default();
            let mut junk = |most: usize| (0..random.below(most)).map(|_| u8::try_from(random.below(256)).unwrap()).collect::<Vec<u8>>();
            disk.now.entities.insert(0, junk(200));
            disk.now.entities.insert(1 << 33, junk(200));
            disk.now.queue.insert(1, junk(100));
            disk.now.replica = Some(junk(100));
            let queue = disk.now.queue.clone();
            let mut node = reopen(&mut Random::new(seed), &disk);
            let mut server = Server::new();
            settle(&mut node, &mut server);
            assert_eq!(node.disk.now.queue, queue, "what cannot be read is left where it is");
        });
    }

    fn a_newer_version_s_records_are_left_alone() {
        let mut random = Random::new(3);
        let mut server = Server::new();
        let node = grown(&mut random, &mut server, 5);
        for store in ["replica", "queue"] {
            let mut disk = node.disk.clone();
            let newer = br#"{"format":2,"anything":true}"#.to_vec();
            match store {
                "replica" => disk.now.replica = Some(newer),
                _ => drop(disk.now.queue.insert(99, newer)),
            }
            let mut opened = reopen(&mut random, &disk);
            let status = serde_json::from_str::<Value>(&opened.status().to_json()).unwrap();
            assert_eq!(status["storage"]["kind"], "memory");
            assert_eq!(status["last_error"]["code"], "STORAGE_TOO_NEW");
            settle(&mut opened, &mut server);
            assert_eq!(opened.disk.now.entities, disk.now.entities);
            assert_eq!(opened.disk.now.replica, disk.now.replica);
        }
    }

    fn a_full_disk_degrades_to_memory_and_every_write_still_arrives() {
        for_seeds("a_full_disk_degrades_to_memory_and_every_write_still_arrives", 20, |seed| {
            let mut random = Random::new(seed);
            let mut server = Server::new();
            let mut node = grown(&mut random, &mut server, 5);
            let disconnected = random.percent(50);
            if disconnected {
                node.disconnect(NOW);
            }
            node.disk.failing = 1 + random.below(40);
            for index in 0..5 {
                node.client.mutate(NOW, vec![insert(&format!("f{index}"), json!({"n": index}))]).unwrap();
                node.drain();
                node.store_one(NOW);
            }
            node.input(NOW, Input::Wake);
            settle(&mut node, &mut server);
            assert_eq!(node.status().pending, 0);
            assert!((0..5).all(|index| server.rows.contains_key(&("Todo".to_owned(), format!("f{index}")))));
            let status = serde_json::from_str::<Value>(&node.status().to_json()).unwrap();
            assert_eq!(status["storage"]["kind"], "memory");
        });
    }

    fn late_and_repeated_replies_do_nothing() {
        let mut random = Random::new(5);
        let mut server = Server::new();
        let mut node = grown(&mut random, &mut server, 5);
        node.client.mutate(NOW, vec![insert("late", json!({"a": 1}))]).unwrap();
        node.drain();
        let request = node.stores.pop_front().unwrap();
        assert!(matches!(request.kind, StorageKind::Enqueue { .. }));
        let result = node.disk.execute(request.kind);
        for _ in 0..3 {
            node.input(NOW, Input::Stored { request: request.id, result: result.clone() });
        }
        node.input(NOW, Input::Stored { request: request.id, result: Err(StorageFailure::Conflict) });
        settle(&mut node, &mut server);
        assert_eq!(node.status().pending, 0);
        assert_eq!(serde_json::from_str::<Value>(&node.status().to_json()).unwrap()["storage"]["kind"], "indexeddb");
    }
}
