//! Two servers with different histories behind one name: a balancer that was set up wrongly, or a failover half done.

use std::collections::BTreeSet;

use serde_json::json;
use syncline_core::client::{Connection, Event, Input, NewChange};
use syncline_protocol::{ChangeKind, ErrorCode, Timestamp};

use crate::disk::Disk;
use crate::node::Node;
use crate::random::{Random, for_seeds};
use crate::server::Server;
use crate::tests;

const START: Timestamp = Timestamp(1_700_000_000_000);
const HOUR_MS: u64 = 3_600_000;

/// Two servers with rows enough for several pages of a snapshot.
fn servers() -> [Server; 2] {
    [1, 2].map(|epoch| {
        let mut server = Server::new();
        server.epoch = epoch;
        let mut node = Node::new(&mut Random::new(epoch), Disk::default(), START);
        let mut mirror = [server.clone(), server.clone()];
        drive(&mut node, &mut mirror, START.plus_ms(1), &mut |_| (0, 0));
        for index in 0..9 {
            insert(&mut node, START, &format!("s{epoch}-{index}"));
            drive(&mut node, &mut mirror, START.plus_ms(200), &mut |_| (0, 0));
        }
        server = mirror[0].clone();
        assert_eq!(server.head, 9);
        server
    })
}

fn insert(node: &mut Node, now: Timestamp, id: &str) {
    let data = Some(json!({"text": id}).to_string());
    let change = NewChange { entity: "Note".to_owned(), row_id: Some(id.to_owned()), kind: ChangeKind::Insert, data };
    node.client.mutate(now, vec![change]).unwrap();
    node.drain();
}

/// Runs until `end`; `choose` says for each step which server has the socket and which one answers pulls. Counts the pulls.
fn drive(node: &mut Node, servers: &mut [Server; 2], end: Timestamp, choose: &mut dyn FnMut(&Node) -> (usize, usize)) -> usize {
    let mut now = START;
    let mut pulls = 0;
    for _ in 0..200_000 {
        let (socket, pull) = choose(node);
        let moved = node.store_one(now) || node.serve_one(now, &mut servers[socket]) || node.receive_one(now);
        if moved || node.stream(&servers[socket]) {
            continue;
        }
        if node.pull_one(now, &servers[pull]) {
            pulls += 1;
            continue;
        }
        match node.wake_at.filter(|at| *at < end) {
            Some(at) => now = at.max(now),
            None => return pulls,
        }
        node.input(now, Input::Tick);
    }
    panic!("it never comes to rest: {pulls} pulls until {now:?} of {end:?}");
}

fn told_of_refusal(node: &Node) -> bool {
    node.events.iter().any(|event| matches!(event, Event::Problem { code: ErrorCode::ResyncRequired, .. }))
}

tests! {
    fn a_socket_and_pulls_that_reach_different_servers_are_not_asked_without_end() {
        let mut servers = servers();
        let mut node = Node::new(&mut Random::new(5), Disk::default(), START);
        let pulls = drive(&mut node, &mut servers, START.plus_ms(HOUR_MS), &mut |_| (0, 1));
        // Three pages each time, about every fifteen seconds.
        assert!(pulls < 1_500, "{pulls} pulls in an hour");
        assert!(told_of_refusal(&node));
        // The balancer is mended.
        insert(&mut node, START.plus_ms(HOUR_MS), "late");
        drive(&mut node, &mut servers, START.plus_ms(2 * HOUR_MS), &mut |_| (0, 0));
        assert_eq!(node.status().connection, Connection::Live);
        assert_eq!(node.rows("Note").len(), 10);
        assert_eq!(servers[0].head, 10);
    }

    fn pages_that_come_from_different_servers_are_not_asked_for_without_end() {
        let mut servers = servers();
        let mut node = Node::new(&mut Random::new(5), Disk::default(), START);
        let mut turn = 0;
        let pulls = drive(&mut node, &mut servers, START.plus_ms(HOUR_MS), &mut |node| {
            turn = if node.pull.is_some() { 1 - turn } else { turn };
            (0, turn)
        });
        assert!(pulls < 1_500, "{pulls} pulls in an hour");
        assert!(told_of_refusal(&node));
        drive(&mut node, &mut servers, START.plus_ms(2 * HOUR_MS), &mut |_| (0, 0));
        assert_eq!(node.status().connection, Connection::Live);
        assert_eq!(node.rows("Note").len(), 9);
    }

    fn connections_that_go_to_one_server_or_the_other_lose_no_write() {
        for_seeds("connections_that_go_to_one_server_or_the_other_lose_no_write", 30, |seed| {
            let mut random = Random::new(seed);
            let mut servers = servers();
            let mut node = Node::new(&mut Random::new(5), Disk::default(), START);
            let mut written = BTreeSet::new();
            for round in 0..20 {
                let present = random.below(2);
                let id = format!("w{round}");
                insert(&mut node, START, &id);
                written.insert(id);
                // Cut off somewhere on the way.
                for _ in 0..random.below(30) {
                    let server = &mut servers[present];
                    let _ = node.store_one(START) || node.serve_one(START, server) || node.receive_one(START);
                    let _ = node.stream(server) || node.pull_one(START, server);
                    if random.percent(10) {
                        node.input(START.plus_ms(100), Input::Tick);
                        node.input(START, Input::Tick);
                    }
                }
                node.disconnect(START);
                node.input(START, Input::Wake);
            }
            drive(&mut node, &mut servers, START.plus_ms(HOUR_MS), &mut |_| (0, 0));
            let holds = |server: &Server, id: &String| server.rows.contains_key(&("Note".to_owned(), id.clone()));
            let lost: Vec<_> = written.iter().filter(|id| !servers.iter().any(|server| holds(server, id))).collect();
            assert!(lost.is_empty(), "{lost:?}");
            let here: Vec<_> = servers[0].rows.keys().map(|(_, id)| id.clone()).collect();
            assert_eq!(node.rows("Note").into_keys().collect::<Vec<_>>(), here);
            assert!(node.mutations().is_empty() && node.disk.now.queue.is_empty());
        });
    }
}
