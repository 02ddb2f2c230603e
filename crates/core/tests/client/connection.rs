//! The line to the server, driven by hand: each test is a table of what happens and what the client does about it.

use syncline_core::client::{Input, StoredReplica};
use syncline_protocol::Timestamp;

use crate::node::alice;
use crate::script::{Script, closed, frame, opened, page};
use crate::tests;

tests! {
    fn an_empty_replica_pulls_and_then_streams() {
        let mut script = Script::unstarted(false);
        script.give(Input::Start { identity: Some(alice()) });
        script.give(opened());
        script.give(Input::SocketOpened);
        script.welcome("resync", 5);
        script.answer_pull(200, &page(5, 5, r#","snapshot":{"start":true,"end":true}"#));
        script.expect(&[
            "open database", "open socket", "hello None", "pull /api/sync/pull?user_id=alice", "resume t5", "synced 5",
        ]);
        assert_eq!(script.state(), "live");
    }

    fn an_unknown_token_is_resolved_before_anything_is_shown() {
        let mut script = Script::unstarted(false);
        script.give(Input::Start { identity: None });
        script.expect(&["resolve"]);
        script.give(Input::IdentityUnavailable { status: None, code: None, retry_after_ms: None });
        assert_eq!(script.state(), "waiting");
        script.pass(1_000);
        script.expect(&["resolve"]);
        script.give(Input::IdentityUnavailable { status: Some(401), code: Some("TOKEN_EXPIRED".to_owned()), retry_after_ms: None });
        script.expect(&["token needed: TOKEN_EXPIRED"]);
        script.give(Input::TokenUnavailable);
        script.pass(600_000);
        script.expect(&[]);
        script.give(Input::TokenChanged);
        // No server takes it later, and the application was asked once.
        script.give(Input::IdentityUnavailable { status: Some(400), code: Some("TOKEN_TOO_LONG".to_owned()), retry_after_ms: None });
        script.expect(&["resolve"]);
        assert_eq!(script.state(), "unauthorized");
        script.give(Input::TokenChanged);
        script.give(Input::IdentityResolved(alice()));
        script.expect(&["resolve", "open database"]);
    }

    fn an_answer_about_a_former_token_is_not_taken_for_the_present_one() {
        let mut script = Script::unstarted(false);
        script.give(Input::Start { identity: None });
        script.give(Input::Pause);
        script.give(Input::TokenChanged);
        script.give(Input::IdentityResolved(alice()));
        script.give(Input::Resume);
        script.expect(&["resolve", "resolve"]);
        assert_eq!(script.client.status().identity, None);
        // A slow answer about the present one is as good as a quick one.
        script.pass(15_000);
        assert_eq!(script.state(), "waiting");
        script.give(Input::IdentityResolved(alice()));
        script.expect(&["open database"]);
    }

    fn each_close_code_has_its_answer() {
        let cases: [(u16, &str, &[&str]); 9] = [
            (1006, "waiting", &["close 1000"]),
            (1012, "waiting", &["close 1000"]),
            (4400, "incompatible", &["problem INVALID_FRAME", "close 1000"]),
            (4401, "unauthorized", &["close 1000", "token needed: UNAUTHENTICATED"]),
            (4409, "stopped", &["close 1000", "identity flipped"]),
            (4413, "waiting", &["problem PAYLOAD_TOO_LARGE", "close 1000"]),
            (4414, "waiting", &["close 1000"]),
            (4426, "incompatible", &["problem PROTOCOL_MISMATCH", "close 1000"]),
            (4430, "connecting", &["close 1000", "resign"]),
        ];
        for (code, state, expected) in cases {
            let mut script = Script::new();
            script.go_live();
            script.give(closed(code));
            assert_eq!(script.state(), state, "{code}");
            script.expect(expected);
            assert_eq!(script.client.status().seq, 5, "nothing is lost");
        }
    }

    fn delays_are_capped_and_start_again_after_a_stable_connection() {
        let mut script = Script::new();
        let mut longest = 0;
        for _ in 0..40 {
            script.give(closed(1006));
            longest = longest.max(script.wait_for_retry());
        }
        assert!((10_000..=30_050).contains(&longest), "{longest}");
        script.go_live();
        script.pass(4_000);
        script.give(closed(1006));
        script.wait_for_retry();
        script.go_live();
        script.pass(5_000);
        script.log.clear();
        script.give(closed(1006));
        assert!(script.wait_for_retry() <= 1_050);
    }

    fn silence_is_noticed_and_heartbeats_are_sent() {
        let mut script = Script::new();
        script.go_live();
        script.pass(20_000);
        script.expect(&["heartbeat"]);
        script.give(Input::Received(r#"{"type":"heartbeat"}"#.to_owned()));
        script.pass(39_000);
        script.expect(&["heartbeat"]);
        script.pass(1_000);
        script.expect(&["heartbeat", "close 1000"]);
        assert_eq!(script.state(), "waiting");
    }

    fn what_is_no_syncline_answer_waits_and_loses_nothing() {
        for (status, body, code) in [
            (200, "<html>sign in</html>", "UNEXPECTED_RESPONSE"),
            (502, "<html>bad gateway</html>", "UNEXPECTED_RESPONSE"),
            (503, r#"{"error":{"code":"BUSY","message":"later"}}"#, "BUSY"),
            (410, r#"{"error":{"code":"RESYNC_REQUIRED","message":"?"}}"#, "RESYNC_REQUIRED"),
        ] {
            let mut script = Script::new();
            script.write();
            script.give(Input::SocketOpened);
            script.welcome("resync", 5);
            script.answer_pull(status, body);
            assert_eq!(script.state(), "waiting", "{status}");
            let status = script.client.status();
            assert_eq!(status.last_error.unwrap().code, code);
            assert_eq!(status.pending, 1);
        }
    }

    fn a_server_of_another_version_is_left_alone_until_the_application_resumes() {
        let newer = r#"{"type":"welcome","protocol":2,"identity":{"user_id":"alice","tenant_id":null},"epoch":"e","head":5,"resume":"stream","outcome_floor":0,"server_time":0,"heartbeat_ms":20000,"more":[{}]}"#;
        let mut script = Script::new();
        script.write();
        script.give(Input::SocketOpened);
        script.log.clear();
        script.give(Input::Received(newer.to_owned()));
        script.give(Input::Wake);
        script.pass(3_600_000);
        script.expect(&["problem PROTOCOL_MISMATCH", "close 1000"]);
        assert_eq!((script.state().as_str(), script.client.status().pending), ("incompatible", 1));
        script.give(Input::Resume);
        script.expect(&["open socket"]);
        // The same said about a pull.
        script.give(Input::SocketOpened);
        script.welcome("resync", 5);
        script.log.clear();
        script.answer_pull_once(426, r#"{"error":{"code":"PROTOCOL_MISMATCH","message":"?"}}"#);
        script.pass(3_600_000);
        script.expect(&["problem PROTOCOL_MISMATCH", "close 1000"]);
    }

    fn a_greeting_for_somebody_else_ends_the_client() {
        for identity in [r#""user_id":"bob","tenant_id":null"#, r#""user_id":"alice","tenant_id":"acme""#, r#""user_id":null"#] {
            let mut script = Script::new();
            script.give(Input::SocketOpened);
            script.log.clear();
            script.give(Input::Received(format!(
                r#"{{"type":"welcome","protocol":1,"identity":{{{identity}}},"epoch":"e","head":5,"resume":"resync","outcome_floor":0,"server_time":0,"heartbeat_ms":20000}}"#
            )));
            script.expect(&["close 1000", "identity flipped"]);
        }
    }

    fn a_replica_without_a_place_pulls_whatever_the_greeting_says() {
        for resume in ["stream", "pull", "resync"] {
            let mut script = Script::new();
            script.give(Input::SocketOpened);
            script.log.clear();
            script.welcome(resume, 5);
            script.expect(&["pull /api/sync/pull?user_id=alice"]);
        }
    }

    fn what_the_server_asks_to_wait_is_waited_up_to_a_bound() {
        for (asked, from, to) in [(120_000, 120_000, 120_100), (3_600_000, 600_000, 600_100)] {
            let mut script = Script::new();
            script.give(Input::SocketOpened);
            script.welcome("resync", 5);
            let request = script.pull.take().unwrap();
            let body = r#"{"error":{"code":"RATE_LIMITED","message":"later"}}"#.to_owned();
            script.give(Input::PullAnswered { request, status: 429, body, retry_after_ms: Some(asked) });
            script.give(Input::Wake);
            let waited = script.wait_for_retry();
            assert!((from..to).contains(&waited), "{waited}");
            // Said on the socket it is the same.
            script.give(Input::SocketOpened);
            script.welcome("resync", 5);
            let secs = asked / 1_000;
            script.give(Input::Received(format!(
                r#"{{"type":"error","error":{{"code":"RATE_LIMITED","message":"later","retry_after_secs":{secs}}}}}"#
            )));
            script.give(closed(4429));
            let waited = script.wait_for_retry();
            assert!((from..to).contains(&waited), "{waited}");
        }
    }

    fn an_answer_to_a_pull_that_was_given_up_does_nothing() {
        let mut script = Script::new();
        script.go_live();
        script.give(Input::Pull);
        let first = script.pull.take().unwrap();
        script.give(Input::Resync);
        let late = |body: String| Input::PullAnswered { request: first, status: 200, body, retry_after_ms: None };
        script.log.clear();
        script.give(late(page(5, 7, "")));
        script.give(Input::PullFailed { request: first });
        script.give(Input::PullAnswered { request: first, status: 410, body: String::new(), retry_after_ms: None });
        script.expect(&[]);
        assert_eq!(script.client.status().seq, 5);
        script.answer_pull(200, &page(9, 9, r#","snapshot":{"start":true,"end":true}"#));
        script.give(late(page(9, 10, "")));
        assert_eq!((script.client.status().seq, script.state().as_str()), (9, "live"));
    }

    fn a_page_that_leads_nowhere_is_not_asked_for_again_and_again() {
        let mut script = Script::new();
        script.go_live();
        script.give(Input::Pull);
        script.log.clear();
        script.answer_pull_once(200, &page(5, 5, "").replace(r#""has_more":false"#, r#""has_more":true"#));
        script.expect(&["problem INVALID_FRAME", "close 1000"]);
        assert_eq!(script.state(), "waiting");
    }

    fn an_identity_flip_over_http_ends_the_client() {
        let mut script = Script::new();
        script.give(Input::SocketOpened);
        script.welcome("resync", 5);
        script.log.clear();
        script.answer_pull(409, r#"{"error":{"code":"IDENTITY_CHANGED","message":"?"}}"#);
        script.expect(&["close 1000", "identity flipped"]);
        script.give(closed(1006));
        script.pass(600_000);
        script.expect(&[]);
    }

    fn unstored_writes_are_lost_aloud_when_the_identity_flips() {
        let mut script = Script::unstarted(false);
        script.give(Input::Start { identity: Some(alice()) });
        script.write();
        script.log.clear();
        script.give(Input::Opened(Box::new(StoredReplica { memory: Some("off".to_owned()), ..StoredReplica::default() })));
        script.give(Input::SocketOpened);
        script.log.clear();
        script.give(closed(4409));
        script.expect(&["close 1000", "lost: IDENTITY_CHANGED", "identity flipped"]);
    }

    fn gaps_repetitions_and_bad_checksums_in_frames() {
        let row = r#"{"seq":6,"entity":"Todo","row_id":"r","kind":"insert","data":{"a":1}}"#;
        let sum = format!("{:016x}", syncline_protocol::change_checksum("Todo", "r", 6));
        let mut script = Script::new();
        script.go_live();
        script.give(frame(5, 6, row, &sum));
        assert_eq!(script.client.row_json("Todo", "r").as_deref(), Some(r#"{"id":"r","a":1}"#));
        let version = script.client.row_version("Todo", "r");
        script.give(frame(5, 6, row, &sum));
        assert_eq!((script.client.row_version("Todo", "r"), script.state().as_str()), (version, "live"));
        script.give(frame(8, 9, "", "0000000000000000"));
        script.expect(&["problem INVALID_FRAME", "close 1000"]);
        let another_cursor = Input::Received(
            r#"{"type":"frame","scope":"all","from":5,"to":6,"cursor":{"last_seq":7,"token":"t7"},"has_more":false,"changes":[],"checksum":"0000000000000000"}"#
                .to_owned(),
        );
        for (bad, code) in [
            (frame(5, 6, row, "0000000000000000"), "problem CHECKSUM_MISMATCH"),
            (frame(5, 6, &row.replace(r#"{"a":1}"#, "[1]"), &sum), "problem INVALID_FRAME"),
            (frame(6, 5, "", "0000000000000000"), "problem INVALID_FRAME"),
            (another_cursor, "problem INVALID_FRAME"),
            (Input::Received("<html>".to_owned()), "problem INVALID_FRAME"),
        ] {
            let mut script = Script::new();
            script.go_live();
            script.give(bad);
            script.expect(&[code, "close 1000"]);
            assert_eq!(script.client.status().seq, 5);
        }
    }

    fn an_unknown_kind_stops_the_stream_where_it_stands() {
        let row = r#"{"seq":6,"entity":"Todo","row_id":"r","kind":"teleport","data":{"a":1}}"#;
        let sum = format!("{:016x}", syncline_protocol::change_checksum("Todo", "r", 6));
        let mut script = Script::new();
        script.go_live();
        script.give(frame(5, 6, row, &sum));
        script.expect(&["problem UNKNOWN_KIND", "close 1000"]);
        assert_eq!((script.state().as_str(), script.client.status().seq), ("incompatible", 5));
        script.pass(600_000);
        script.expect(&[]);
    }

    fn pausing_closes_and_resuming_connects() {
        let mut script = Script::unstarted(true);
        script.give(Input::Start { identity: Some(alice()) });
        script.give(opened());
        script.expect(&["open database"]);
        script.write();
        assert_eq!(script.state(), "paused");
        script.give(Input::Resume);
        script.expect(&["open socket"]);
        script.go_live();
        script.give(Input::Pause);
        script.give(Input::Wake);
        script.expect(&["close 1000"]);
    }

    fn waking_up_cuts_a_wait_short_and_distrusts_an_old_socket() {
        let mut script = Script::new();
        script.give(closed(1006));
        script.log.clear();
        script.give(Input::Wake);
        script.expect(&["open socket"]);
        script.go_live();
        script.give(Input::Wake);
        script.expect(&["heartbeat"]);
        // The timers of a frozen page did not fire.
        script.now += 30_000;
        script.client.handle_input(Timestamp(script.now), Input::Wake);
        script.drain();
        script.expect(&["close 1000", "open socket"]);
    }

    fn pulling_on_demand_asks_and_goes_on_from_there() {
        let mut script = Script::new();
        script.go_live();
        script.give(Input::Pull);
        script.expect(&["heartbeat", "pull /api/sync/pull?cursor=t5&user_id=alice"]);
        script.write();
        script.pass(100);
        script.answer_pull(200, &page(5, 9, ""));
        script.expect(&["push 1", "resume t9", "synced 9"]);
        script.give(closed(1006));
        script.log.clear();
        script.give(Input::Pull);
        script.expect(&["open socket"]);
        // The server may have read its log before it was asked.
        script.give(Input::SocketOpened);
        script.give(Input::Pull);
        script.welcome("stream", 9);
        script.expect(&["hello Some(\"t9\")", "pull /api/sync/pull?cursor=t9&user_id=alice", "push 1"]);
        script.answer_pull(200, &page(9, 9, ""));
        script.expect(&["resume t9", "synced 9"]);
    }

    fn pulls_faster_than_their_answers_come_to_an_end() {
        let mut script = Script::new();
        script.go_live();
        script.give(Input::Pull);
        script.expect(&["heartbeat", "pull /api/sync/pull?cursor=t5&user_id=alice"]);
        for _ in 0..3 {
            script.give(Input::Pull);
        }
        script.expect(&["heartbeat"; 3]);
        script.answer_pull_once(200, &page(5, 7, ""));
        script.expect(&["resume t7", "pull /api/sync/pull?cursor=t7&user_id=alice"]);
        assert_eq!(script.client.status().seq, 7);
        script.answer_pull(200, &page(7, 8, ""));
        script.expect(&["resume t8", "synced 8"]);
    }

    fn a_resync_on_demand_fetches_everything_and_keeps_the_queue() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        script.log.clear();
        let everything = "pull /api/sync/pull?user_id=alice";
        script.give(Input::Pull);
        script.give(Input::Resync);
        script.expect(&["heartbeat", "pull /api/sync/pull?cursor=t5&user_id=alice", "heartbeat", everything]);
        // A second one is the same one.
        script.give(Input::Resync);
        script.expect(&["heartbeat"]);
        let status = script.client.status();
        assert_eq!((status.synced, status.pending), (false, 1));
        script.answer_pull_once(200, &page(8, 8, r#","snapshot":{"start":true,"end":true}"#));
        script.answer_pull(200, &page(8, 8, ""));
        let status = script.client.status();
        assert_eq!((status.synced, status.pending, status.seq), (true, 1, 8));
        // Offline, and on a disk that is read again before there is a network.
        script.give(closed(1006));
        script.give(Input::Resync);
        script.give(closed(1006));
        let stored = script.disk.open();
        let mut again = Script::unstarted(false);
        again.give(Input::Start { identity: Some(alice()) });
        again.give(Input::Opened(Box::new(stored)));
        again.log.clear();
        again.give(Input::SocketOpened);
        again.expect(&["hello None"]);
        assert_eq!(again.client.status().pending, 1);
    }

    fn a_clock_set_back_does_not_stretch_a_wait() {
        let mut script = Script::new();
        script.give(closed(1006));
        script.now -= 86_400_000;
        script.log.clear();
        script.give(Input::Tick);
        script.pass(1_000);
        script.expect(&["open socket"]);
    }

    fn a_clock_set_back_makes_nothing_seem_younger_than_it_is() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        script.now -= 86_400_000;
        let mut seconds = 0;
        while script.state() == "live" {
            script.give(Input::Received(r#"{"type":"heartbeat"}"#.to_owned()));
            assert_eq!(script.client.status().last_heard_at, Some(Timestamp(script.now)));
            script.pass(10_000);
            seconds += 10;
            assert!(seconds < 100, "a push is not waited for however alive the server is");
        }
        let mut script = Script::new();
        script.go_live();
        script.now -= 86_400_000;
        script.give(Input::Tick);
        assert!(script.client.status().last_heard_at <= Some(Timestamp(script.now)));
        script.log.clear();
        script.now += 30_000;
        script.give(Input::Wake);
        script.expect(&["close 1000", "open socket"]);
    }

    fn a_wrong_clock_neither_fails_a_fresh_write_nor_sends_a_forgotten_one() {
        const SENT: u64 = 1_700_000_000_000;
        const YEAR_MS: i64 = 31_536_000_000;
        for (clock, jump, floor, expected) in [
            (1_000, 0, SENT - 1, &["synced 5", "push 1"][..]),
            (4_000_000_000_000, 0, SENT + 60_000, &["failed: OUTCOME_UNKNOWN", "synced 5"]),
            // It is set while the connection stands.
            (SENT, -YEAR_MS, SENT - 1, &["synced 5", "push 1"]),
            (SENT, YEAR_MS, SENT + 60_000, &["failed: OUTCOME_UNKNOWN", "synced 5"]),
        ] {
            let mut script = Script::unstarted(false);
            script.now = clock;
            script.give(Input::Start { identity: Some(alice()) });
            script.give(opened());
            script.go_live();
            script.give(closed(1006));
            script.wait_for_retry();
            greet(&mut script, 0, SENT);
            script.now = script.now.strict_add_signed(jump);
            script.write();
            while script.last_push == 0 {
                script.give(Input::Wake);
                if script.state() != "live" {
                    // A clock set forward looks like a long sleep.
                    greet(&mut script, 0, SENT);
                }
                script.pass(100);
            }
            script.give(closed(1006));
            script.wait_for_retry();
            script.log.clear();
            greet(&mut script, floor, SENT + 100_000);
            script.log = script.log.split_once('\n').unwrap().1.to_owned();
            script.expect(expected);
        }
    }
}

/// Opens the socket of a replica that stands where the server does.
fn greet(script: &mut Script, outcome_floor: u64, server_time: u64) {
    script.give(Input::SocketOpened);
    script.give(Input::Received(format!(
        r#"{{"type":"welcome","protocol":1,"identity":{{"user_id":"alice","tenant_id":null}},"epoch":"e","head":5,"resume":"stream","outcome_floor":{outcome_floor},"server_time":{server_time},"heartbeat_ms":20000}}"#
    )));
}
