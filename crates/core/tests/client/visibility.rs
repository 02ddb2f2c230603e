//! Rows that come into a reader's sight and leave it, and pages that fit together only later.

use serde_json::{Value, json};
use syncline_core::client::Input;
use syncline_protocol::{Change, ChangeKind, EntityName, RawJson, RowId, frame_checksum};

use crate::script::{Script, page};
use crate::tests;

/// A change as the wire has it: `(seq, kind, id)`; the row says its seq, so that a test sees which copy it looks at.
fn changes(list: &[(u64, &str, &str)]) -> (String, String) {
    let parsed: Vec<Change> = list
        .iter()
        .map(|(seq, kind, id)| Change {
            seq: *seq,
            entity: EntityName::parse("Message").unwrap(),
            row_id: RowId::parse(*id).unwrap(),
            kind: ChangeKind::from((*kind).to_owned()),
            data: (!matches!(*kind, "leave" | "delete")).then(|| RawJson::from_checked(json!({"at": seq}).to_string())),
            columns: None,
            column_seqs: None,
            base: None,
        })
        .collect();
    (serde_json::to_string(&parsed).unwrap(), frame_checksum(&parsed))
}

fn body(from: u64, to: u64, list: &[(u64, &str, &str)], more: &str) -> String {
    let (changes, checksum) = changes(list);
    page(from, to, more)
        .replace(r#""changes":[]"#, &format!(r#""changes":{changes}"#))
        .replace(r#""checksum":"0000000000000000""#, &format!(r#""checksum":"{checksum}""#))
}

fn frame(script: &mut Script, from: u64, to: u64, list: &[(u64, &str, &str)], consistent_at: Option<u64>) {
    let more = consistent_at.map_or(String::new(), |seq| format!(r#","consistent_at":{seq}"#));
    let text = body(from, to, list, &more).replacen('{', r#"{"type":"frame","#, 1);
    script.give(Input::Received(text));
}

/// What the view shows: id and the seq its row was written at.
fn shown(script: &mut Script) -> Vec<(String, u64)> {
    let delta: Value = serde_json::from_str(&script.client.delta_json("Message", 0)).unwrap();
    let row = |row: &Value| (row["id"].as_str().unwrap().to_owned(), row["at"].as_u64().unwrap());
    delta["rows"].as_array().unwrap().iter().map(row).collect()
}

fn rows(list: &[(&str, u64)]) -> Vec<(String, u64)> {
    list.iter().map(|(id, seq)| ((*id).to_owned(), *seq)).collect()
}

tests! {
    fn entered_rows_may_be_older_than_the_place_and_left_rows_go() {
        let mut script = Script::new();
        script.go_live();
        frame(&mut script, 5, 6, &[(2, "enter", "a"), (3, "enter", "b"), (6, "insert", "c")], None);
        assert_eq!(shown(&mut script), rows(&[("a", 2), ("b", 3), ("c", 6)]));
        frame(&mut script, 6, 7, &[(7, "leave", "a"), (7, "leave", "b")], None);
        assert_eq!(shown(&mut script), rows(&[("c", 6)]));
        // Back again in one and the same frame: the last word counts, though the rows are older than the leave.
        frame(&mut script, 7, 9, &[(8, "leave", "c"), (2, "enter", "a"), (6, "enter", "c")], None);
        assert_eq!(shown(&mut script), rows(&[("a", 2), ("c", 6)]));
        assert_eq!(script.state(), "live");
    }

    fn an_older_change_does_nothing_to_a_newer_row() {
        let mut script = Script::new();
        script.go_live();
        frame(&mut script, 5, 8, &[(8, "insert", "a")], None);
        frame(&mut script, 8, 9, &[(4, "enter", "a"), (7, "leave", "a"), (6, "update", "a")], None);
        assert_eq!(shown(&mut script), rows(&[("a", 8)]));
    }

    fn what_does_not_fit_together_yet_is_held_back_and_shown_at_once() {
        let mut script = Script::new();
        script.go_live();
        frame(&mut script, 5, 6, &[(9, "enter", "a"), (6, "insert", "m")], Some(9));
        frame(&mut script, 6, 8, &[(7, "insert", "b"), (8, "delete", "b")], None);
        assert_eq!((shown(&mut script), script.client.status().seq), (rows(&[]), 5));
        // A repetition of what is held changes nothing.
        frame(&mut script, 5, 6, &[(9, "enter", "a"), (6, "insert", "m")], Some(9));
        frame(&mut script, 8, 9, &[(9, "update", "a")], None);
        assert_eq!((shown(&mut script), script.client.status().seq), (rows(&[("a", 9), ("m", 6)]), 9));
        assert_eq!(script.state(), "live");
    }

    fn pages_that_show_together_are_taken_all_or_none() {
        let mut script = Script::new();
        script.go_live();
        frame(&mut script, 5, 6, &[(6, "insert", "m")], Some(9));
        let long = "x".repeat(129);
        let bad = body(6, 9, &[(8, "insert", "n"), (9, "update", "m")], "").replace(r#"{"at":8}"#, &format!(r#"{{"{long}":8}}"#));
        script.give(Input::Received(bad.replacen('{', r#"{"type":"frame","#, 1)));
        assert!(script.log.contains("problem INVALID_FRAME"), "{}", script.log);
        assert_eq!((shown(&mut script), script.client.status().seq), (rows(&[]), 5));
        assert_eq!(script.state(), "waiting");
    }

    fn a_snapshot_shows_once_its_farthest_page_is_reached() {
        let mut script = Script::new();
        script.give(Input::SocketOpened);
        script.welcome("resync", 9);
        let first = r#","snapshot":{"start":true,"end":false},"consistent_at":9"#;
        script.answer_pull_once(200, &body(5, 5, &[(9, "enter", "a")], first).replace("\"t5\"", "\"s1\""));
        let last = r#","snapshot":{"start":false,"end":true}"#;
        script.answer_pull_once(200, &body(5, 5, &[(4, "enter", "b")], last));
        assert_eq!((shown(&mut script), script.client.status().synced), (rows(&[]), false));
        frame(&mut script, 5, 9, &[(9, "update", "a")], None);
        assert_eq!((shown(&mut script), script.client.status().seq), (rows(&[("a", 9), ("b", 4)]), 9));
    }

    fn the_log_does_not_end_a_snapshot_that_has_not_ended() {
        let mut script = Script::new();
        script.go_live();
        frame(&mut script, 5, 7, &[(6, "insert", "a"), (7, "insert", "b")], None);
        script.give(Input::Resync);
        let first = r#","snapshot":{"start":true,"end":false}"#;
        script.answer_pull_once(200, &body(7, 7, &[(6, "enter", "a")], first).replace("\"t7\"", "\"s1\""));
        script.answer_pull_once(200, &body(7, 8, &[(8, "insert", "c")], ""));
        assert!(script.log.contains("problem INVALID_FRAME"), "{}", script.log);
        assert_eq!(shown(&mut script), rows(&[("a", 6), ("b", 7)]), "half a copy is not shown");
    }

    fn a_row_that_is_the_same_in_a_new_copy_is_the_same_row() {
        let mut script = Script::new();
        script.go_live();
        frame(&mut script, 5, 8, &[(6, "insert", "a"), (7, "insert", "b"), (8, "insert", "c")], None);
        let versions = |script: &Script| ["a", "b", "c", "d"].map(|id| script.client.row_version("Message", id));
        let before = versions(&script);
        script.give(Input::Resync);
        let snapshot = r#","snapshot":{"start":true,"end":true}"#;
        script.answer_pull(200, &body(9, 9, &[(6, "enter", "a"), (9, "enter", "b"), (9, "enter", "d")], snapshot));
        assert_eq!(shown(&mut script), rows(&[("a", 6), ("b", 9), ("d", 9)]));
        let after = versions(&script);
        assert_eq!(after[0], before[0]);
        assert!(after[1] > before[1] && after[2] == 0 && after[3] > 0, "{before:?} {after:?}");
    }

    fn pages_held_back_have_a_bound() {
        let mut script = Script::new();
        script.go_live();
        let large = format!(r#"{{"at":0,"text":"{}"}}"#, "x".repeat(4 * 1024 * 1024));
        for seq in 6.. {
            let text = body(seq - 1, seq, &[(seq, "insert", "m")], r#","consistent_at":1000"#);
            let text = text.replacen(&format!(r#"{{"at":{seq}}}"#), &large, 1).replacen('{', r#"{"type":"frame","#, 1);
            script.give(Input::Received(text));
            if script.log.contains("pull") {
                // 64 MiB of rows, a little for each change.
                assert_eq!(seq, 21);
                break;
            }
            assert!(seq < 30, "it holds back whatever comes");
        }
        script.expect(&["pull /api/sync/pull?user_id=alice"]);
        assert_eq!(script.client.status().seq, 5);
    }

    fn a_page_with_more_field_names_than_a_record_can_number_is_refused() {
        for (row_count, taken) in [(65_u64, true), (66, false)] {
            let mut script = Script::new();
            script.go_live();
            let ids: Vec<String> = (0..row_count).map(|row| format!("r{row}")).collect();
            let list: Vec<_> = ids.iter().zip(6..).map(|(id, seq)| (seq, "insert", id.as_str())).collect();
            let mut text = body(5, 5 + row_count, &list, "");
            for (seq, _, id) in &list {
                let fields: Vec<String> = (0..1_000).map(|field| format!(r#""{id}_{field}":{seq}"#)).collect();
                text = text.replacen(&format!(r#"{{"at":{seq}}}"#), &format!("{{{}}}", fields.join(",")), 1);
            }
            script.give(Input::Received(text.replacen('{', r#"{"type":"frame","#, 1)));
            assert_eq!(script.state(), if taken { "live" } else { "waiting" }, "{}", script.log);
            assert_eq!(script.log.contains("problem INVALID_FRAME"), !taken);
            let shown = script.client.row_json("Message", "r64");
            assert_eq!(shown.is_some_and(|row| row.contains(r#""r64_999":70"#)), taken);
        }
    }

    fn held_pages_outlive_a_broken_connection_but_not_a_resync() {
        for resume in ["stream", "resync"] {
            let mut script = Script::new();
            script.go_live();
            frame(&mut script, 5, 6, &[(9, "enter", "a")], Some(9));
            script.give(Input::SocketClosed { code: 1006, reason: String::new() });
            script.wait_for_retry();
            script.log.clear();
            script.give(Input::SocketOpened);
            // What is shown is what the server is told: it sends again what was held.
            script.expect(&[r#"hello Some("t5")"#]);
            script.welcome(resume, 9);
            if resume == "stream" {
                frame(&mut script, 5, 9, &[(9, "enter", "a")], None);
            } else {
                let snapshot = r#","snapshot":{"start":true,"end":true}"#;
                script.answer_pull(200, &body(9, 9, &[(9, "enter", "a")], snapshot));
            }
            assert_eq!((shown(&mut script), script.client.status().seq), (rows(&[("a", 9)]), 9), "{resume}");
        }
    }

    fn what_left_a_reader_s_sight_is_not_on_disk_any_more() {
        let mut script = Script::new();
        script.go_live();
        frame(&mut script, 5, 7, &[(6, "insert", "secret"), (7, "insert", "plain")], None);
        assert!(on_disk(&script, "secret"));
        frame(&mut script, 7, 8, &[(8, "leave", "secret")], None);
        script.pass(10);
        let row_of = |script: &Script| script.disk.now.entities.values().any(|bytes| seq_and_id(bytes, 6, "secret"));
        assert!(!row_of(&script), "the row itself is gone; a note of its leaving may stay");
        assert!(on_disk(&script, "plain"));
    }
}

fn on_disk(script: &Script, text: &str) -> bool {
    script.disk.now.entities.values().any(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
}

/// Whether a record holds the row with this seq: a deletion would have another one.
fn seq_and_id(bytes: &[u8], seq: u64, id: &str) -> bool {
    let mut row = seq.to_le_bytes().to_vec();
    row.push(u8::try_from(id.len()).unwrap());
    row.extend_from_slice(id.as_bytes());
    bytes.windows(row.len()).any(|part| part == row)
}
