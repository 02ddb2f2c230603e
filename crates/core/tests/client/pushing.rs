//! Batches on their way and what their answers do, driven by hand.

use syncline_core::client::Input;
use syncline_protocol::{ChangeKind, Timestamp};

use crate::script::{Script, closed, frame, page};
use crate::tests;

tests! {
    fn a_push_without_an_answer_ends_the_socket_and_is_sent_again() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        script.expect(&["push 1"]);
        script.pass(30_000);
        assert!(script.log.contains("close 1000"), "{}", script.log);
        script.wait_for_retry();
        script.log.clear();
        script.give(Input::SocketOpened);
        script.welcome("stream", 5);
        assert!(script.log.contains("push 1"), "{}", script.log);
    }

    fn a_write_too_large_for_the_server_waits_and_the_others_pass() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        // Its dependents wait with it; there are enough of them to fill a batch.
        for _ in 0..60 {
            script.touch_first();
        }
        script.log.clear();
        script.give(closed(4413));
        script.expect(&["problem TRANSACTION_TOO_LARGE", "problem PAYLOAD_TOO_LARGE", "close 1000"]);
        script.write();
        script.wait_for_retry();
        script.log.clear();
        script.give(Input::SocketOpened);
        script.welcome("stream", 5);
        script.pass(100);
        script.expect(&["hello Some(\"t5\")", "synced 5", "push 1"]);
        let sent = script.pushed.clone();
        assert_eq!(sent.last().map(Vec::len), Some(1));
        let kinds = sent.iter().map(|push| syncline_protocol::Intent::parse(&push[0]).unwrap().changes[0].kind.clone());
        assert!(kinds.eq([ChangeKind::Insert, ChangeKind::Insert]), "what depends on the large one waits with it");
        assert_ne!(sent.first(), sent.last(), "the large one is not sent again");
        // The application may remove it, although it says `sent`.
        let large = syncline_protocol::Intent::parse(&sent[0][0]).unwrap().op_id;
        script.client.remove(Timestamp(script.now), &large).unwrap();
    }

    fn outcomes_that_do_not_fit_the_push_change_nothing() {
        let applied = r#""status":"applied","first_seq":6,"last_seq":6"#;
        for bad in ["none", "other", "twice", "without a seq", "another push"] {
            let mut script = Script::new();
            script.go_live();
            script.write();
            script.pass(100);
            let (sent, op_ids) = (script.pushed[0].clone(), script.sent());
            let op_id = op_ids[0].as_str();
            script.log.clear();
            match bad {
                "other" => script.outcomes(&[("00000000000000000000000000000001", applied)]),
                "twice" => script.outcomes(&[(op_id, applied), (op_id, applied)]),
                "without a seq" => script.outcomes(&[(op_id, r#""status":"applied""#)]),
                "another push" => {
                    script.last_push += 7;
                    script.outcomes(&[(op_id, applied)]);
                }
                _ => script.outcomes(&[]),
            }
            let status = script.client.status();
            assert_eq!((status.pending, status.failed), (1, 0), "{bad}");
            if bad == "another push" {
                script.expect(&[]);
                continue;
            }
            script.expect(&["problem INVALID_FRAME", "close 1000"]);
            script.wait_for_retry();
            script.give(Input::SocketOpened);
            script.welcome("stream", 5);
            assert_eq!(script.pushed.last(), Some(&sent), "it is sent again as it was: {bad}");
        }
    }

    fn a_write_waits_for_what_it_depends_on_while_that_is_undecided() {
        let dependency = r#""status":"not_evaluated","error":{"code":"DEPENDENCY_FAILED","message":"?"}"#;
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.write();
        script.touch_first();
        script.pass(100);
        let op_ids = script.sent();
        let [first, other, second] = [&op_ids[0], &op_ids[1], &op_ids[2]];
        script.log.clear();
        script.outcomes(&[(first, r#""status":"retry""#), (other, r#""status":"not_evaluated""#), (second, dependency)]);
        script.pass(1_000);
        script.expect(&["push 3"]);
        assert_eq!(script.sent(), op_ids);
        script.outcomes(&[
            (first, r#""status":"rejected","error":{"code":"POLICY_DENIED","message":"?"}"#),
            (other, r#""status":"applied","first_seq":6,"last_seq":6"#),
            (second, dependency),
        ]);
        script.expect(&["failed: POLICY_DENIED", "held"]);
        script.pass(60_000);
        assert!(!script.log.contains("push"), "a held write is not sent: {}", script.log);
    }

    fn a_write_that_is_confirmed_while_its_batch_is_marked_is_not_sent_again() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        let first = script.sent().remove(0);
        script.give(closed(1006));
        script.write();
        script.wait_for_retry();
        script.give(Input::SocketOpened);
        script.held = Some(Vec::new());
        script.welcome("stream", 5);
        script.log.clear();
        // Both are in the batch that is being marked. Now the stream shows that the first one was applied.
        let replica: serde_json::Value = serde_json::from_slice(script.disk.now.replica.as_ref().unwrap()).unwrap();
        let client_id = replica["client_id"].as_str().unwrap();
        let own = format!(
            r#"{{"op_id":"{first}","client_id":"{client_id}","issued_at":0,"committed_at":0,"schema":0,"first_seq":6,"last_seq":6}}"#
        );
        let more = format!(r#","type":"frame","transactions":[{own}]"#);
        script.give(Input::Received(page(5, 6, "").replace(r#","transactions":[]"#, &more)));
        script.store_held();
        script.expect(&["push 1"]);
        let second = script.sent().remove(0);
        assert_ne!(first, second);
        script.outcomes(&[(&second, r#""status":"applied","first_seq":7,"last_seq":7"#)]);
        script.expect(&[]);
    }

    fn a_write_whose_outcome_is_late_does_not_hide_a_later_one() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        // What was sent is not folded, so there are two of them.
        script.give(closed(1006));
        script.touch_first();
        script.wait_for_retry();
        script.give(Input::SocketOpened);
        script.welcome("stream", 5);
        script.pass(100);
        let second = script.sent().remove(1);
        script.give(closed(1006));
        script.wait_for_retry();
        outcome_is_late(script, &second);
    }

    fn nor_one_that_was_made_after_the_outcome_and_before_a_crash() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        let first = script.sent().remove(0);
        script.outcomes(&[(&first, r#""status":"applied","first_seq":6,"last_seq":6"#)]);
        script.touch_first();
        script.pass(100);
        let second = script.sent().remove(0);
        outcome_is_late(Script::restarted(script.disk), &second);
    }

    fn writes_leave_the_queue_by_the_seqs_of_their_outcomes() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.write();
        script.pass(100);
        let op_ids = script.sent();
        // The second one was applied by an earlier push, whose answer got lost.
        script.outcomes(&[
            (&op_ids[0], r#""status":"applied","first_seq":9,"last_seq":9"#),
            (&op_ids[1], r#""status":"applied","first_seq":7,"last_seq":7"#),
        ]);
        for (from, to, left) in [(5, 6, 2), (6, 8, 1), (8, 9, 0)] {
            script.give(frame(from, to, "", "0000000000000000"));
            assert_eq!(script.client.mutations_json().matches("op_id").count(), left, "at {to}");
        }
        assert!(script.disk.now.queue.is_empty());
    }

    fn a_write_the_server_does_not_understand_waits_for_another_server() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        let odd = script.sent();
        script.log.clear();
        script.outcomes(&[(&odd[0], r#""status":"not_evaluated","error":{"code":"UNKNOWN_KIND","message":"?"}"#)]);
        script.pass(1_000);
        script.expect(&["problem UNKNOWN_KIND"]);
        script.write();
        script.pass(100);
        script.expect(&["push 1"]);
        assert_ne!(script.sent(), odd, "the others flow");
        script.give(closed(1006));
        script.wait_for_retry();
        script.give(Input::SocketOpened);
        script.welcome("stream", 5);
        assert_eq!(script.sent().first(), odd.first(), "the next connection may reach a newer one");
    }

    fn an_error_for_the_push_under_way_is_acted_on_at_once() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        script.expect(&["push 1"]);
        let error = |script: &Script, code: &str| {
            let id = script.last_push;
            Input::Received(format!(r#"{{"type":"error","id":{id},"error":{{"code":"{code}","message":"?"}}}}"#))
        };
        script.give(error(&script, "BUSY"));
        script.pass(2_000);
        script.expect(&["problem BUSY", "push 1"]);
        script.give(error(&script, "PAYLOAD_TOO_LARGE"));
        script.pass(20_000);
        script.expect(&["problem TRANSACTION_TOO_LARGE", "problem PAYLOAD_TOO_LARGE", "heartbeat"]);
        assert_eq!(script.state(), "live");
    }

    fn writes_are_gathered_for_a_moment_and_full_batches_go_at_once() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.write();
        script.expect(&[]);
        script.pass(99);
        script.expect(&[]);
        script.pass(1);
        script.expect(&["push 2"]);
        let mut script = Script::new();
        script.go_live();
        for _ in 0..60 {
            script.write();
        }
        script.expect(&["push 50"]);
    }

    fn writes_whose_outcome_is_forgotten_are_not_sent_again() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        script.give(closed(1006));
        script.pass(1_000);
        script.give(Input::SocketOpened);
        script.log.clear();
        let welcome = r#"{"type":"welcome","protocol":1,"identity":{"user_id":"alice","tenant_id":null},"epoch":"e","head":5,"resume":"stream","outcome_floor":1800000000000,"server_time":0,"heartbeat_ms":20000}"#;
        script.give(Input::Received(welcome.to_owned()));
        script.expect(&["failed: OUTCOME_UNKNOWN", "synced 5"]);
        assert_eq!(script.client.status().failed, 1);
    }
}

/// The server applied an insert and an update of one row; its answers got lost. The device connects again.
fn outcome_is_late(mut script: Script, second: &str) {
    let row = |script: &mut Script| {
        let delta: serde_json::Value = serde_json::from_str(&script.client.delta_json("Todo", 0)).unwrap();
        (delta["rows"][0]["id"].as_str().unwrap().to_owned(), delta["rows"][0]["a"].clone())
    };
    let (id, _) = row(&mut script);
    let replica: serde_json::Value = serde_json::from_slice(script.disk.now.replica.as_ref().unwrap()).unwrap();
    let client_id = replica["client_id"].as_str().unwrap();
    let change = |seq: u64, kind: &str, a: u64| {
        let change = format!(r#"{{"seq":{seq},"entity":"Todo","row_id":"{id}","kind":"{kind}","data":{{"a":{a}}}}}"#);
        let sum = syncline_protocol::change_checksum("Todo", &id, seq);
        (format!(r#""changes":[{change}]"#), format!("{sum:016x}"))
    };
    // A snapshot holds the first and does not say whose it is.
    script.give(Input::SocketOpened);
    script.welcome("resync", 7);
    let (changes, sum) = change(6, "enter", 1);
    let body = page(6, 6, r#","snapshot":{"start":true,"end":true}"#).replace("has_more\":false", "has_more\":true");
    script.answer_pull_once(200, &body.replace(r#""changes":[]"#, &changes).replace("0000000000000000", &sum));
    // The log holds the second.
    let (changes, sum) = change(7, "update", 2);
    let own = format!(
        r#""transactions":[{{"op_id":"{second}","client_id":"{client_id}","issued_at":0,"committed_at":0,"schema":0,"first_seq":7,"last_seq":7}}]"#
    );
    let body = page(6, 7, "").replace(r#""changes":[]"#, &changes).replace(r#""transactions":[]"#, &own);
    script.answer_pull_once(200, &body.replace("0000000000000000", &sum));
    assert_eq!((script.client.status().seq, script.client.status().pending), (7, 1));
    assert_eq!(row(&mut script).1, 2, "what was shown stays shown");
    // Both were sent again with the greeting.
    let first = script.sent().remove(0);
    let applied = |seq: u64| format!(r#""status":"applied","first_seq":{seq},"last_seq":{seq}"#);
    script.outcomes(&[(&first, &applied(6)), (second, &applied(7))]);
    assert_eq!(row(&mut script).1, 2);
    assert_eq!(script.client.mutations_json(), "[]");
    assert!(script.disk.now.queue.is_empty());
}
