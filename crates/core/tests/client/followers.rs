//! What one tab makes of what the others do, line by line.

use serde_json::{Value, json};
use syncline_core::client::{ClientError, Former, Input, NewChange, StorageFailure, StorageKind, StoredValue, TabMessage};
use syncline_protocol::{ChangeKind, OpId, Timestamp};

use crate::node::alice;
use crate::script::{Script, frame};
use crate::tests;

/// A record that another tab put into the queue.
fn foreign_record(row_id: &str) -> Vec<u8> {
    let change = r#"{"data":{"a":1},"entity":"Todo","kind":"insert","row_id":"#;
    let intent = format!(r#"{{"changes":[{change}"{row_id}"}}],"issued_at":1,"op_id":"{row_id:0>32}","schema":0}}"#);
    format!(r#"{{"format":1,"state":"pending","intent":{intent},"error":null,"first_sent_at":null}}"#).into_bytes()
}

/// A tab whose leader is another one, and a write of its own that lies on disk under the key 1.
fn follower_with_a_write() -> (Script, OpId) {
    let mut script = Script::unstarted(false);
    script.give(Input::Start { identity: Some(alice()) });
    script.disk.now.fence = 1;
    script.give(Input::Opened(Box::new(script.disk.read(None))));
    script.write();
    let op_id = op_id_at(&script, 0);
    script.told.clear();
    (script, op_id)
}

/// The same with what it stands for.
fn foreign_record_for(row_id: &str, stands_for: &OpId) -> Vec<u8> {
    let stands_for = format!(r#""stands_for":["{stands_for}"],"error""#);
    String::from_utf8(foreign_record(row_id)).unwrap().replace(r#""error""#, &stands_for).into_bytes()
}

/// The op_id of the write in the queue with this number.
fn op_id_at(script: &Script, number: usize) -> OpId {
    let listed: Value = serde_json::from_str(&script.client.mutations_json()).unwrap();
    OpId::parse(listed[number]["op_id"].as_str().unwrap()).unwrap()
}

/// The oldest write in the queue, and another content for its insert.
fn first_edited(script: &Script) -> (OpId, NewChange) {
    let listed: Value = serde_json::from_str(&script.client.mutations_json()).unwrap();
    let op_id = OpId::parse(listed[0]["op_id"].as_str().unwrap()).unwrap();
    let row_id = listed[0]["changes"][0]["row_id"].as_str().map(str::to_owned);
    let data = Some(r#"{"a":2}"#.to_owned());
    (op_id, NewChange { entity: "Todo".to_owned(), row_id, kind: ChangeKind::Insert, data })
}

/// What a leader says of a place in the log, or of a question.
fn said(say: &str, fence: u64, seq: u64) -> String {
    format!(r#"{{"say":"{say}","schema":0,"seq":{seq},"fence":{fence}}}"#)
}

/// A replica record at a seq, of which the queue's records up to a key were applied.
fn replica_at(seq: u64, queue_floor: u64) -> Vec<u8> {
    let record = json!({"format": 1, "client_id": "0".repeat(32), "epoch": "e", "generation": 0, "seq": seq, "token": "t",
        "next_record": 0, "staging": null, "queue_floor": queue_floor});
    record.to_string().into_bytes()
}

tests! {
    fn a_leader_that_missed_a_write_sends_nothing_before_it_has_read_it() {
        let mut script = Script::new();
        script.go_live();
        // Another tab stored a write and told of it, which was lost; then it told of something else.
        let record = foreign_record("77");
        let keys = script.disk.execute(StorageKind::Enqueue { records: vec![record], formers: Vec::new() }).unwrap();
        assert_eq!(keys, StoredValue::Keys(vec![1]));
        let message = || TabMessage::Said(r#"{"say":"ask","schema":0}"#.to_owned());
        script.give(Input::TabHeard { tab: 9, number: 1, message: message() });
        script.give(Input::TabHeard { tab: 9, number: 3, message: message() });
        script.write();
        script.pass(1_000);
        assert_eq!(script.pushed, Vec::<Vec<String>>::new(), "the write that was missed comes first");
        // The disk is read while this tab is storing something: what it missed counts all the same.
        script.held = Some(Vec::new());
        script.write();
        let stored = script.disk.read(None);
        script.give(Input::Opened(Box::new(stored)));
        script.store_held();
        script.pass(1_000);
        assert_eq!(script.sent()[0], format!("{:0>32}", 77));
    }

    fn a_tab_that_does_not_lead_says_that_a_write_is_discarded_when_the_disk_has_done_so() {
        let (mut script, op_id) = follower_with_a_write();
        script.held = Some(Vec::new());
        script.client.remove(Timestamp(script.now), &op_id).unwrap();
        script.drain();
        assert_eq!(script.client.mutations_json(), "[]");
        // The leader was faster and is sending it.
        let sent = String::from_utf8(script.disk.now.queue[&1].clone()).unwrap().replace("pending", "sent");
        script.disk.now.queue.insert(1, sent.into_bytes());
        script.store_held();
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        assert_eq!(script.told, ["sent"], "nobody said that it is discarded");
        assert!(script.client.mutations_json().contains(op_id.as_str()));
        // And one that it may have.
        let (mut script, op_id) = follower_with_a_write();
        script.client.remove(Timestamp(script.now), &op_id).unwrap();
        assert!(script.told.is_empty());
        script.drain();
        assert_eq!(script.told, ["removed"]);
        assert_eq!(script.client.mutations_json(), "[]");
    }

    fn a_write_that_came_too_late_to_stand_for_another_gives_its_place_back() {
        let (mut script, op_id) = follower_with_a_write();
        script.held = Some(Vec::new());
        let change = NewChange { entity: "Todo".to_owned(), row_id: None, kind: ChangeKind::Insert, data: Some("{}".to_owned()) };
        let by = script.client.edit(Timestamp(script.now), &op_id, vec![change]).unwrap().op_id;
        script.drain();
        assert_eq!(script.told, [format!("{op_id} by {by}")]);
        let sent = String::from_utf8(script.disk.now.queue[&1].clone()).unwrap().replace("pending", "sent");
        script.disk.now.queue.insert(1, sent.into_bytes());
        script.store_held();
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        assert_eq!(script.told[1..], [format!("{by} by {op_id}"), "sent".to_owned()]);
        let listed: Value = serde_json::from_str(&script.client.mutations_json()).unwrap();
        assert_eq!((&listed[0]["op_id"], listed.as_array().unwrap().len()), (&json!(op_id.as_str()), 1));
    }

    fn a_stopped_tab_does_not_come_back_when_another_one_leads() {
        let mut script = Script::new();
        script.go_live();
        script.held = Some(Vec::new());
        script.give(frame(5, 6, "", "0000000000000000"));
        script.disk.open();
        script.give(Input::Stop);
        script.log.clear();
        script.store_held();
        script.expect(&[]);
        assert_eq!(script.state(), "stopped");
    }

    fn what_the_leader_had_before_it_was_asked_is_no_answer() {
        let (mut script, _) = follower_with_a_write();
        script.log.clear();
        let mut number = 0;
        let mut hear = |script: &mut Script, said: String| {
            number += 1;
            script.give(Input::TabHeard { tab: 9, number, message: TabMessage::Said(said) });
        };
        script.give(Input::Pull);
        hear(&mut script, said("synced", 1, 0));
        script.expect(&[]);
        let question = script.now;
        hear(&mut script, said("asked", 1, question));
        // Nor is what a tab has that lost its disk, or the lead.
        hear(&mut script, said("synced", 0, 0));
        script.expect(&[]);
        hear(&mut script, said("synced", 1, 0));
        script.expect(&["synced 0"]);
        // Whoever was asked hands the lead over: what the new leader had before it heard of the question is no answer either.
        let here = |fence: u64| format!(r#"{{"say":"here","schema":0,"fence":{fence},"heard_at":null}}"#);
        hear(&mut script, here(1));
        for is_heard in [false, true] {
            let fence = 2 + u64::from(is_heard);
            script.give(Input::Pull);
            let question = script.now;
            if is_heard {
                hear(&mut script, said("asked", fence - 1, question));
            }
            script.now += 1;
            hear(&mut script, here(fence));
            hear(&mut script, said("asked", fence, question));
            hear(&mut script, said("asked", fence - 1, question + 1));
            hear(&mut script, said("synced", fence, 0));
            script.expect(&[]);
            hear(&mut script, said("asked", fence, question + 1));
            hear(&mut script, said("synced", fence, 0));
            script.expect(&["synced 0"]);
        }
    }

    fn what_a_former_leader_had_is_no_answer_to_the_tab_that_leads_now() {
        let (mut script, _) = follower_with_a_write();
        // The leader has more than it stored.
        let said = r#"{"say":"synced","schema":0,"seq":5,"fence":1}"#.to_owned();
        script.give(Input::TabHeard { tab: 9, number: 1, message: TabMessage::Said(said) });
        let stored = script.disk.open();
        script.give(Input::Opened(Box::new(stored)));
        script.go_live();
        script.give(Input::Pull);
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        script.expect(&["heartbeat", "pull /api/sync/pull?cursor=t5&user_id=alice"]);
    }

    fn a_question_is_the_leaders_wherever_the_tab_stands() {
        // While the application has paused all tabs.
        let (mut paused, _) = follower_with_a_write();
        paused.give(Input::Pause);
        paused.give(Input::Pull);
        // Before the database was open.
        let mut early = Script::unstarted(false);
        early.give(Input::Start { identity: Some(alice()) });
        early.give(Input::Pull);
        early.disk.now.fence = 1;
        early.give(Input::Opened(Box::new(early.disk.read(None))));
        // Before it lost the lead.
        let mut robbed = Script::new();
        robbed.go_live();
        robbed.give(Input::Pull);
        robbed.disk.now.fence += 1;
        robbed.give(Input::LeadLost);
        for mut script in [paused, early, robbed] {
            script.disk.now.replica = Some(replica_at(5, 0));
            script.give(Input::Opened(Box::new(script.disk.read(None))));
            script.log.clear();
            let fence = script.disk.now.fence;
            let synced = || TabMessage::Said(said("synced", fence, 0));
            script.give(Input::TabHeard { tab: 9, number: 1, message: synced() });
            script.expect(&[]);
            let message = TabMessage::Said(said("asked", fence, script.now));
            script.give(Input::TabHeard { tab: 9, number: 2, message });
            script.give(Input::TabHeard { tab: 9, number: 3, message: synced() });
            script.expect(&["synced 0"]);
        }
    }

    fn a_question_that_nobody_heard_between_two_leaders_is_asked_again() {
        let mut script = Script::new();
        script.go_live();
        script.give(Input::Pull);
        script.disk.now.fence += 1;
        script.disk.now.replica = Some(replica_at(5, 0));
        script.give(Input::LeadLost);
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        script.log.clear();
        // The other one had the lock and did not lead yet.
        script.now += 1;
        let fence = script.disk.now.fence;
        let here = format!(r#"{{"say":"here","schema":0,"fence":{fence},"heard_at":null}}"#);
        for (number, said) in (1..).zip([here, said("asked", fence, script.now), said("synced", fence, 5)]) {
            script.give(Input::TabHeard { tab: 9, number, message: TabMessage::Said(said) });
        }
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        script.expect(&["synced 5"]);
    }

    fn what_the_leader_folded_into_a_write_is_not_discarded_with_it() {
        let (mut script, op_id) = follower_with_a_write();
        script.write();
        let listed: Value = serde_json::from_str(&script.client.mutations_json()).unwrap();
        let other = listed[1]["op_id"].as_str().unwrap().to_owned();
        let record = String::from_utf8(script.disk.now.queue[&1].clone()).unwrap();
        let folded = record.replace(r#""error""#, &format!(r#""stands_for":["{other}"],"error""#)).into_bytes();
        // The leader is faster than the word that the first one is to be discarded.
        script.held = Some(Vec::new());
        script.client.remove(Timestamp(script.now), &op_id).unwrap();
        script.drain();
        script.told.clear();
        let fold = StorageKind::FoldQueue { fence: 1, put: vec![(1, folded.clone())], remove: vec![2] };
        script.disk.now.queue = [(1, folded)].into();
        script.give(Input::TabHeard { tab: 9, number: 1, message: TabMessage::Stored(fold, vec![1, 2]) });
        assert_eq!(script.told, [format!("{other} by {op_id}")]);
        script.store_held();
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        assert!(script.client.mutations_json().contains(op_id.as_str()), "{:?}", script.told);
    }

    fn a_paused_tab_that_does_not_lead_forgets_no_rows_of_its_own() {
        let mut script = Script::new();
        script.go_live();
        script.give(Input::LeadLost);
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        script.give(Input::Pause);
        assert!(script.client.status().synced);
        script.give(Input::Resync);
        assert!(script.client.status().synced, "the leader has them fetched anew");
    }

    fn a_tab_that_is_given_the_lead_sends_nothing_that_was_applied_while_it_slept() {
        let (mut script, op_id) = follower_with_a_write();
        script.disk.now.queue.clear();
        script.disk.now.replica = Some(replica_at(6, 1));
        let stored = script.disk.open();
        script.give(Input::Opened(Box::new(stored)));
        assert_eq!(script.told, [format!("{op_id} at 6")]);
        assert_eq!(script.client.mutations_json(), "[]");
    }

    fn a_write_that_was_confirmed_is_never_said_to_be_discarded() {
        let mut script = Script::new();
        script.go_live();
        script.write();
        script.pass(100);
        let op_id = op_id_at(&script, 0).to_string();
        script.outcomes(&[(op_id.as_str(), r#""status":"applied","first_seq":6,"last_seq":6"#)]);
        // Its record is gone before the stream has passed it.
        script.disk.now.queue.clear();
        script.give(Input::Wake);
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        assert_eq!(script.told, ["sent".to_owned(), format!("{op_id} at 6")]);
    }

    fn a_tab_that_does_not_lead_and_loses_its_disk_talks_to_the_server_itself() {
        let (mut script, op_id) = follower_with_a_write();
        script.log.clear();
        script.give(Input::OpenFailed(StorageFailure::Unavailable("gone".to_owned())));
        script.expect(&["problem STORAGE_UNAVAILABLE", "open socket"]);
        script.go_live();
        assert_eq!(script.sent(), [op_id.as_str()]);
    }

    fn a_write_is_sent_whose_word_comes_after_a_later_one_was_applied() {
        let mut script = Script::new();
        script.go_live();
        // Another tab's main thread is busy: its write is on disk, the word about it is not out.
        let records = vec![foreign_record("77")];
        script.disk.execute(StorageKind::Enqueue { records: records.clone(), formers: Vec::new() }).unwrap();
        script.write();
        script.pass(100);
        let own = script.sent()[0].clone();
        script.outcomes(&[(own.as_str(), r#""status":"applied","first_seq":6,"last_seq":6"#)]);
        script.give(frame(5, 6, "", "0000000000000000"));
        assert_eq!(script.client.mutations_json(), "[]");
        let kind = StorageKind::Enqueue { records, formers: Vec::new() };
        script.give(Input::TabHeard { tab: 9, number: 1, message: TabMessage::Stored(kind, vec![1]) });
        script.pass(100);
        assert_eq!(script.sent(), [format!("{:0>32}", 77)]);
    }

    fn a_record_that_is_not_wanted_any_more_is_not_read_as_a_new_write() {
        let (mut script, _) = follower_with_a_write();
        script.held = Some(Vec::new());
        script.write();
        let op_id = op_id_at(&script, 1);
        script.client.remove(Timestamp(script.now), &op_id).unwrap();
        script.drain();
        let [request] = script.held.take().unwrap().try_into().unwrap();
        let result = script.disk.execute(request.kind);
        // The disk is read before the tab hears that the record is there.
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        script.give(Input::Stored { request: request.id, result });
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        let listed: Value = serde_json::from_str(&script.client.mutations_json()).unwrap();
        assert_eq!((listed.as_array().unwrap().len(), script.disk.now.writes()), (1, 1));
    }

    fn what_an_edit_stands_for_goes_although_both_are_under_way_when_the_engine_stops() {
        let mut script = Script::new();
        script.held = Some(Vec::new());
        script.write();
        let op_id = op_id_at(&script, 0);
        let change = NewChange { entity: "Todo".to_owned(), row_id: None, kind: ChangeKind::Insert, data: Some("{}".to_owned()) };
        script.client.edit(Timestamp(script.now), &op_id, vec![change]).unwrap();
        script.drain();
        script.give(Input::Stop);
        let [first, second] = script.held.replace(Vec::new()).unwrap().try_into().unwrap();
        script.store(first.kind, first.id);
        script.drain();
        assert!(script.held.as_ref().unwrap().is_empty(), "others hear of the edit before what it stands for goes");
        script.store(second.kind, second.id);
        script.drain();
        script.store_held();
        assert_eq!(script.disk.now.writes(), 1, "{:?}", script.disk.now.queue);
        assert!(!script.told.contains(&"removed".to_owned()), "{:?}", script.told);
    }

    fn what_an_edit_stands_for_was_not_discarded_although_a_mark_is_in_its_place() {
        let (mut script, op_id) = follower_with_a_write();
        // An engine that stopped while both were under way left them like this.
        script.disk.now.queue.insert(1, br#"{"format":1,"state":"discarded"}"#.to_vec());
        script.disk.now.queue.insert(2, foreign_record_for("77", &op_id));
        script.give(Input::Wake);
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        assert_eq!(script.told, [format!("{op_id} by {:0>32}", 77)]);
    }

    fn a_late_word_about_an_exchange_finds_the_new_write_applied() {
        let (mut script, op_id) = follower_with_a_write();
        // Another tab put a write in its place, which the leader had applied at once; the first word of it comes last.
        let replica = replica_at(6, 2);
        let kind = StorageKind::Commit {
            fence: 1,
            expect: None,
            replica,
            put: Vec::new(),
            delete: Vec::new(),
            remove_queue: vec![(2, 6)],
        };
        script.give(Input::TabHeard { tab: 8, number: 1, message: TabMessage::Stored(kind, Vec::new()) });
        let former = Former { number: 0, key: 1, expect: None };
        let kind = StorageKind::Enqueue { records: vec![foreign_record("77")], formers: vec![former] };
        script.give(Input::TabHeard { tab: 9, number: 1, message: TabMessage::Stored(kind, vec![2]) });
        assert_eq!(script.told, [format!("{op_id} at 6")]);
        assert_eq!(script.client.mutations_json(), "[]");
    }

    fn a_late_word_about_a_write_does_not_bring_it_back_beside_what_stands_for_it() {
        let (mut script, _) = follower_with_a_write();
        // This tab reads what another one put in the place of a write of which it has not heard yet.
        let late = OpId::parse(format!("{:0>32}", 77)).unwrap();
        script.disk.now.queue.insert(3, foreign_record_for("88", &late));
        let said = || TabMessage::Said(r#"{"say":"ask","schema":0}"#.to_owned());
        script.give(Input::TabHeard { tab: 8, number: 2, message: said() });
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        script.told.clear();
        let kind = StorageKind::Enqueue { records: vec![foreign_record("77")], formers: Vec::new() };
        script.give(Input::TabHeard { tab: 9, number: 1, message: TabMessage::Stored(kind, vec![2]) });
        assert_eq!(script.told, Vec::<String>::new());
        assert!(!script.client.mutations_json().contains(late.as_str()), "{}", script.client.mutations_json());
    }

    fn a_late_word_about_a_write_tells_what_became_of_the_one_that_stood_for_it() {
        let mut script = Script::unstarted(false);
        script.give(Input::Start { identity: Some(alice()) });
        let stands_for = format!(r#""stands_for":["{:0>32}"]"#, 78);
        let mark = format!(r#"{{"format":1,"state":"discarded",{stands_for}}}"#);
        script.disk.now.queue.insert(1, mark.into_bytes());
        script.disk.now.fence = 1;
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        // Both were made, then they were one, and then that was discarded.
        let records = vec![foreign_record("77"), foreign_record("78")];
        let folded = String::from_utf8(foreign_record("77")).unwrap().replace(r#""error""#, &format!(r#"{stands_for},"error""#));
        let made = StorageKind::Enqueue { records, formers: Vec::new() };
        let fold = StorageKind::FoldQueue { fence: 1, put: vec![(1, folded.into_bytes())], remove: vec![2] };
        script.give(Input::TabHeard { tab: 8, number: 1, message: TabMessage::Stored(made, vec![1, 2]) });
        script.give(Input::TabHeard { tab: 8, number: 2, message: TabMessage::Stored(fold, vec![1, 2]) });
        assert_eq!(script.told, ["removed"]);
        assert_eq!(script.client.mutations_json(), "[]");
    }

    fn an_edit_that_the_disk_refuses_says_that_what_was_edited_may_come_back() {
        let mut script = Script::new();
        script.write();
        let (op_id, change) = first_edited(&script);
        script.held = Some(Vec::new());
        script.log.clear();
        script.client.edit(Timestamp(script.now), &op_id, vec![change]).unwrap();
        script.drain();
        for request in script.held.take().unwrap_or_default() {
            let result = Err(StorageFailure::Unavailable("gone".to_owned()));
            script.give(Input::Stored { request: request.id, result });
        }
        script.expect(&["problem STORAGE_UNAVAILABLE", "problem STORAGE_UNAVAILABLE"]);
    }

    fn a_leader_that_does_not_know_that_it_was_followed_edits_nothing_that_was_sent() {
        let mut script = Script::new();
        script.write();
        let (op_id, change) = first_edited(&script);
        let sent = String::from_utf8(script.disk.now.queue[&1].clone()).unwrap().replace("pending", "sent");
        script.disk.now.queue.insert(1, sent.clone().into_bytes());
        script.disk.now.fence += 1;
        script.told.clear();
        let edited = script.client.edit(Timestamp(script.now), &op_id, vec![change]).unwrap();
        script.drain();
        assert_eq!(script.disk.now.queue, [(1, sent.into_bytes())].into());
        assert_eq!(script.told, [format!("{op_id} by {}", edited.op_id), format!("{} by {op_id}", edited.op_id)]);
        assert!(script.client.mutations_json().contains(op_id.as_str()));
    }

    fn a_word_that_comes_after_all_is_done_and_the_lead_was_lost_brings_nothing_back() {
        let mut script = Script::new();
        script.write();
        let record = script.disk.now.queue[&1].clone();
        let (op_id, change) = first_edited(&script);
        script.client.edit(Timestamp(script.now), &op_id, vec![change]).unwrap();
        script.drain();
        assert_eq!(script.disk.now.queue.keys().collect::<Vec<_>>(), [&2]);
        // Another tab takes the lead and sends it, and it is applied.
        script.disk.now.fence += 1;
        script.give(Input::LeadLost);
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        script.disk.now.queue.clear();
        let said = || TabMessage::Said(r#"{"say":"ask","schema":0}"#.to_owned());
        script.give(Input::TabHeard { tab: 9, number: 1, message: said() });
        script.give(Input::TabHeard { tab: 9, number: 3, message: said() });
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        assert_eq!(script.client.mutations_json(), "[]");
        // A tab that was busy tells only now that it had stored the first one.
        let kind = StorageKind::Enqueue { records: vec![record], formers: Vec::new() };
        script.give(Input::TabHeard { tab: 8, number: 1, message: TabMessage::Stored(kind, vec![1]) });
        assert_eq!(script.client.mutations_json(), "[]");
    }

    fn a_tab_whose_database_went_to_a_newer_version_discards_nothing() {
        let (mut script, op_id) = follower_with_a_write();
        script.give(Input::OpenFailed(StorageFailure::Outdated));
        script.told.clear();
        // Whoever has the database may have sent it.
        assert_eq!(script.client.remove(Timestamp(script.now), &op_id), Err(ClientError::Outdated));
        assert_eq!(script.client.edit(Timestamp(script.now), &op_id, Vec::new()).unwrap_err(), ClientError::Outdated);
        script.drain();
        assert!(script.told.is_empty());
        assert!(script.client.mutations_json().contains(op_id.as_str()));
    }

    fn a_tab_whose_database_went_to_a_newer_version_sends_nothing_more() {
        let mut script = Script::new();
        script.write();
        script.give(Input::OpenFailed(StorageFailure::Outdated));
        script.log.clear();
        // The newer version sends this queue. What this one sent, no disk would know.
        for input in [Input::TokenChanged, Input::Pause, Input::Resume, Input::Wake] {
            script.give(input);
        }
        script.pass(60_000);
        script.expect(&[]);
        assert_eq!(script.state(), "incompatible");
    }

    fn a_leader_that_slept_says_that_a_write_is_discarded_when_the_disk_has_done_so() {
        let mut script = Script::new();
        script.write();
        let op_id = op_id_at(&script, 0);
        script.told.clear();
        // Another tab leads since, and has sent it; this one has not heard of that.
        let sent = String::from_utf8(script.disk.now.queue[&1].clone()).unwrap().replace("pending", "sent");
        script.disk.now.queue.insert(1, sent.into_bytes());
        script.disk.now.fence += 1;
        script.client.remove(Timestamp(script.now), &op_id).unwrap();
        assert!(script.told.is_empty());
        script.drain();
        script.give(Input::Opened(Box::new(script.disk.read(None))));
        assert_eq!(script.told, ["sent"], "nobody said that it is discarded");
        assert!(script.client.mutations_json().contains(op_id.as_str()));
    }

    fn a_leader_whose_discard_came_too_late_hears_what_stands_for_the_write() {
        for is_robbed in [false, true] {
            let mut script = Script::new();
            script.write();
            let op_id = op_id_at(&script, 0);
            script.told.clear();
            // Another tab edited it, and perhaps leads since; this one has not heard of that.
            script.disk.now.queue.clear();
            script.disk.now.queue.insert(2, foreign_record_for("77", &op_id));
            script.disk.now.fence += u64::from(is_robbed);
            script.client.remove(Timestamp(script.now), &op_id).unwrap();
            script.drain();
            assert!(script.told.is_empty(), "{:?}", script.told);
            script.give(Input::Opened(Box::new(script.disk.read(None))));
            assert_eq!(script.told, [format!("{op_id} by {:0>32}", 77)]);
        }
    }
}
