//! Writes that a guest made and an account takes over.

use serde_json::{Value, json};
use syncline_core::client::NewChange;
use syncline_protocol::{ChangeKind, Timestamp};

use crate::disk::Disk;
use crate::node::Node;
use crate::random::Random;
use crate::tests;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn opened(random: &mut Random) -> Node {
    let mut node = Node::new(random, Disk::default(), NOW);
    while node.store_one(NOW) {}
    node
}

fn write(node: &mut Node, kind: ChangeKind, id: &str, text: &str) {
    let data = Some(json!({"text": text}).to_string());
    let change = NewChange { entity: "Todo".to_owned(), row_id: Some(id.to_owned()), kind, data };
    node.client.mutate(NOW, vec![change]).unwrap();
    node.drain();
    while node.store_one(NOW) {}
}

/// The intents on a disk, in order.
fn intents(disk: &Disk) -> Vec<String> {
    let intent = |bytes: &Vec<u8>| {
        let record = String::from_utf8(bytes.clone()).unwrap();
        let end = record.find(",\"error\":").unwrap();
        record[record.find("\"intent\":").unwrap() + 9..end].to_owned()
    };
    disk.now.queue.values().map(intent).collect()
}

fn adopt(node: &mut Node, list: &str, is_other_log: bool) {
    node.client.adopt(NOW, list, is_other_log).unwrap();
    node.drain();
    while node.store_one(NOW) {}
}

fn op_ids(node: &Node) -> Vec<Value> {
    node.mutations().iter().map(|mutation| mutation["op_id"].clone()).collect()
}

tests! {
    fn a_list_is_taken_over_in_order_and_once() {
        let mut random = Random::new(5);
        let mut guest = opened(&mut random);
        write(&mut guest, ChangeKind::Insert, "r1", "one");
        write(&mut guest, ChangeKind::Insert, "r2", "two");
        write(&mut guest, ChangeKind::Update, "r1", "one, changed");
        let list = intents(&guest.disk);
        let mut account = opened(&mut random);
        write(&mut account, ChangeKind::Insert, "r0", "of the account");
        // Half of it was there when the page died; the second time the whole list is given.
        adopt(&mut account, &list[0], true);
        adopt(&mut account, &list.join("\n!"), true);
        assert_eq!(op_ids(&account)[1..], op_ids(&guest));
        let states: Vec<Value> = account.mutations().iter().map(|mutation| mutation["status"].clone()).collect();
        assert_eq!(states, ["pending", "pending", "sent", "sent"]);
        assert_eq!(account.rows("Todo")["r1"]["text"], "one, changed");
        // What depends on what came with it still does.
        assert_eq!(account.mutations()[3]["waiting_on"], json!([op_ids(&guest)[0]]));
        assert_eq!(intents(&account.disk)[1..], list);
        let before = intents(&account.disk);
        adopt(&mut account, &["no intent", &list.join("\n")].join("\n"), true);
        assert_eq!(intents(&account.disk), before);
    }

    fn another_log_knows_neither_places_nor_writes_that_stay_behind() {
        let mut random = Random::new(6);
        let mut guest = opened(&mut random);
        write(&mut guest, ChangeKind::Insert, "r1", "stays");
        write(&mut guest, ChangeKind::Update, "r1", "goes");
        let list = intents(&guest.disk);
        assert!(list[1].contains("\"base\":{") || list[1].contains("\"base\":\""), "{}", list[1]);
        for (is_other_log, goes_as_it_is) in [(false, true), (true, false)] {
            let mut account = opened(&mut random);
            adopt(&mut account, &list[1], is_other_log);
            let [taken] = &intents(&account.disk)[..] else { panic!("one was given") };
            assert_eq!(*taken == list[1], goes_as_it_is, "{taken}");
            let taken: Value = serde_json::from_str(taken).unwrap();
            assert_eq!(taken["op_id"], op_ids(&guest)[1]);
            assert_eq!(taken["after"].as_array().is_none_or(Vec::is_empty), is_other_log);
        }
    }
}
