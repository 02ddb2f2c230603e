//! An engine that broke down is opened again with its queue alone: rows on the disk are left unread and fetched anew.

use serde_json::json;
use syncline_core::client::{Client, ClientConfig, Input, NewChange};
use syncline_protocol::{ChangeKind, Timestamp};

use crate::disk::Disk;
use crate::node::{Node, Want, alice};
use crate::random::{Random, for_seeds};
use crate::server::Server;
use crate::tests;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn write(node: &mut Node, kind: ChangeKind, id: &str, text: &str) {
    let data = Some(json!({"text": text}).to_string());
    let change = NewChange { entity: "Todo".to_owned(), row_id: Some(id.to_owned()), kind, data };
    node.client.mutate(NOW, vec![change]).unwrap();
    node.drain();
}

fn settle(node: &mut Node, server: &mut Server) {
    for _ in 0..10_000 {
        let moved = node.store_one(NOW) || node.serve_one(NOW, server) || node.receive_one(NOW);
        if !(moved || node.pull_one(NOW, server) || node.stream(server)) {
            let Some(at) = node.wake_at.filter(|at| at.0 <= NOW.0 + 100) else { return };
            node.input(at, Input::Tick);
            node.input(NOW, Input::Tick);
        }
    }
    panic!("it never comes to rest");
}

/// Opens with the queue alone; nothing of it was carried out yet.
fn with_queue_only(random: &mut Random, disk: &Disk) -> Node {
    let mut node = Node::new(random, disk.clone(), NOW);
    let mut config = ClientConfig::with_seed(random.bytes());
    config.queue_only = true;
    node.client = Client::new(config);
    node.input(NOW, Input::Start { identity: Some(alice()) });
    node
}

fn texts(node: &mut Node) -> Vec<(String, String)> {
    let text = |row: &serde_json::Value| row["text"].as_str().unwrap_or_default().to_owned();
    node.rows("Todo").iter().map(|(id, row)| (id.clone(), text(row))).collect()
}

/// A disk with rows of the server in it, and two writes that were never sent.
fn used_disk(random: &mut Random, server: &mut Server) -> Disk {
    let mut node = Node::new(random, Disk::default(), NOW);
    settle(&mut node, server);
    for index in 0..30 {
        write(&mut node, ChangeKind::Insert, &format!("r{index:02}"), "of the server");
        settle(&mut node, server);
    }
    node.disconnect(NOW);
    write(&mut node, ChangeKind::Update, "r00", "unsent");
    write(&mut node, ChangeKind::Insert, "new", "unsent");
    while node.store_one(NOW) {}
    node.disk
}

tests! {
    fn a_start_with_the_queue_alone_shows_it_and_fetches_the_rows_again() {
        let mut random = Random::new(3);
        let mut server = Server::new();
        let disk = used_disk(&mut random, &mut server);
        let mut node = with_queue_only(&mut random, &disk);
        node.store_one(NOW);
        // An update of a row that was not read has nothing to patch.
        assert_eq!(texts(&mut node), [("new".to_owned(), "unsent".to_owned())]);
        assert_eq!(node.mutations().len(), 2);
        assert!(!node.status().synced);
        settle(&mut node, &mut server);
        assert_eq!((node.mutations().len(), node.rows("Todo").len()), (0, 31));
        assert_eq!(texts(&mut node)[0], ("new".to_owned(), "unsent".to_owned()));
        assert_eq!(texts(&mut node)[1], ("r00".to_owned(), "unsent".to_owned()));
        // What the next start reads is the new copy, and nothing of the old one is left beside it.
        let rows = node.rows("Todo");
        let mut next = Node::new(&mut random, node.disk.clone(), NOW);
        while next.store_one(NOW) {}
        assert_eq!(next.rows("Todo"), rows);
        let generations: std::collections::BTreeSet<u64> = next.disk.now.entities.keys().map(|key| key >> 32).collect();
        assert_eq!(generations.len(), 1, "{generations:?}");
    }

    fn who_takes_the_lead_later_shows_the_rows_until_then_and_fetches_them_again() {
        let mut random = Random::new(4);
        let mut server = Server::new();
        let disk = used_disk(&mut random, &mut server);
        let mut node = with_queue_only(&mut random, &disk);
        // The tab that broke down has yet to let the lead go.
        assert!(matches!(node.next_want(), Some(Want::Open)));
        let read = node.disk.read(None);
        node.input(NOW, Input::Opened(Box::new(read)));
        assert_eq!(node.rows("Todo").len(), 31);
        let again = node.disk.open();
        node.input(NOW, Input::Opened(Box::new(again)));
        assert_eq!(texts(&mut node), [("new".to_owned(), "unsent".to_owned())]);
        settle(&mut node, &mut server);
        assert_eq!((node.mutations().len(), node.rows("Todo").len()), (0, 31));
    }

    fn a_crash_at_any_point_of_it_loses_neither_rows_nor_writes() {
        for_seeds("a_crash_at_any_point_of_it_loses_neither_rows_nor_writes", 40, |seed| {
            let mut random = Random::new(seed);
            let mut server = Server::new();
            let disk = used_disk(&mut random, &mut server);
            let mut node = with_queue_only(&mut random, &disk);
            for _ in 0..random.below(60) {
                let moved = node.store_one(NOW) || node.serve_one(NOW, &mut server) || node.receive_one(NOW);
                if !(moved || node.pull_one(NOW, &server) || node.stream(&server)) {
                    break;
                }
            }
            let lost = random.below(4);
            node.crash(&mut random, NOW, lost);
            settle(&mut node, &mut server);
            assert_eq!((node.mutations().len(), node.rows("Todo").len()), (0, 31));
            assert_eq!(texts(&mut node)[1], ("r00".to_owned(), "unsent".to_owned()));
        });
    }
}
