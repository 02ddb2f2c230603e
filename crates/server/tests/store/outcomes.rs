//! What becomes of pushed transactions, and that it stays so.

use serde_json::{Value, json};
use syncline_protocol::{ClientId, OutcomeStatus};
use syncline_server::store::{PushError, Writer};

use crate::support::{TestStore, code, delete, insert, intent, op_id, raw, reader, update};

const MANIFEST: &str = r#"
[entities.todos.fields]
title = "string"
done = { type = "bool", default = false }
owner = "string"
slug = { type = "string", optional = true, unique = true }
[entities.todos.policies]
read = "owner = user or title = user"
insert = "owner = user"
update = "owner = user"
delete = "owner = user"
"#;

fn todo(owner: &str) -> Value {
    json!({"title": "t", "owner": owner})
}

#[tokio::test]
async fn a_replay_gets_the_stored_outcome_across_a_restart() {
    let test = TestStore::open(MANIFEST);
    let changes = json!([insert("todos", "a", todo("alice")), insert("todos", "b", todo("alice"))]);
    let first = test.write("alice", 1, changes.clone()).await;
    assert_eq!(
        (first.status, first.first_seq, first.last_seq, first.replayed),
        (OutcomeStatus::Applied, Some(1), Some(2), false)
    );
    let refused = test.write("bob", 2, json!([insert("todos", "c", todo("alice"))])).await;
    assert_eq!((refused.status, code(&refused)), (OutcomeStatus::Rejected, "POLICY_DENIED"));
    let test = test.reopen(MANIFEST).await;
    let again = test.write("alice", 1, changes).await;
    assert_eq!((again.status, again.first_seq, again.last_seq, again.replayed), (OutcomeStatus::Applied, Some(1), Some(2), true));
    let again = test.write("bob", 2, json!([insert("todos", "c", todo("alice"))])).await;
    assert_eq!((again.status, code(&again), again.replayed), (OutcomeStatus::Rejected, "POLICY_DENIED", true));
    assert_eq!(test.store.head(None), 2);
}

#[tokio::test]
async fn an_op_id_belongs_to_one_payload_of_one_user() {
    let test = TestStore::open(MANIFEST);
    test.applied("alice", 1, json!([insert("todos", "a", todo("alice"))])).await;
    let other_payload = test.write("alice", 1, json!([insert("todos", "b", todo("alice"))])).await;
    let other_user = test.write("bob", 1, json!([insert("todos", "a", todo("alice"))])).await;
    for result in [other_payload, other_user] {
        assert_eq!((result.status, code(&result), result.replayed), (OutcomeStatus::Rejected, "OP_ID_REUSED", false));
    }
    assert!(test.write("alice", 1, json!([insert("todos", "a", todo("alice"))])).await.replayed);
}

#[tokio::test]
async fn a_transaction_applies_whole_or_not_at_all() {
    let test = TestStore::open(MANIFEST);
    test.applied("alice", 1, json!([insert("todos", "a", todo("alice"))])).await;
    let result =
        test.write("alice", 2, json!([update("todos", "a", json!({"title": "x"})), insert("todos", "a", todo("alice"))])).await;
    assert_eq!((result.status, code(&result)), (OutcomeStatus::Rejected, "ROW_EXISTS"));
    let seq = test.applied("alice", 3, json!([update("todos", "a", json!({"done": true})), delete("todos", "a")])).await;
    assert_eq!(seq, 3, "a rejected transaction takes no seq");
}

#[tokio::test]
async fn refusals_name_their_reason_and_hide_what_may_not_be_seen() {
    let test = TestStore::open(MANIFEST);
    test.applied("alice", 1, json!([insert("todos", "a", json!({"title": "bob", "owner": "alice", "slug": "s"}))])).await;
    test.applied("alice", 2, json!([insert("todos", "gone", todo("alice")), delete("todos", "gone")])).await;
    let cases = [
        ("alice", insert("todos", "a", todo("alice")), "ROW_EXISTS"),
        ("alice", insert("todos", "gone", todo("alice")), "ROW_EXISTS"),
        ("alice", insert("nothing", "a", todo("alice")), "ENTITY_NOT_FOUND"),
        ("alice", insert("todos", "b", json!({"owner": "alice"})), "MISSING_FIELD"),
        ("alice", insert("todos", "b", json!({"title": "t", "owner": "alice", "slug": "s"})), "UNIQUE_VIOLATION"),
        ("alice", update("todos", "a", json!({"owner": "bob"})), "POLICY_DENIED"),
        ("alice", update("todos", "none", json!({})), "ROW_NOT_FOUND"),
        ("bob", update("todos", "a", json!({"title": "x"})), "POLICY_DENIED"),
        ("bob", delete("todos", "a"), "POLICY_DENIED"),
        ("carol", delete("todos", "a"), "ROW_NOT_FOUND"),
        ("", delete("todos", "a"), "ROW_NOT_FOUND"),
        ("bob", insert("todos", "a", todo("alice")), "POLICY_DENIED"),
    ];
    for ((user, change, expected), op) in cases.into_iter().zip(10..) {
        let result = test.write(user, op, json!([change])).await;
        assert_eq!((result.status, code(&result)), (OutcomeStatus::Rejected, expected), "{change} by {user:?}");
    }
}

#[tokio::test]
async fn what_hangs_on_a_failed_transaction_is_not_evaluated_and_the_rest_goes_on() {
    let test = TestStore::open(MANIFEST);
    let after = |op, needed, change| {
        let mut intent = intent(op, &json!([change]));
        intent["after"] = json!([op_id(needed)]);
        intent
    };
    let malformed = json!({"op_id": op_id(5), "changes": 7});
    let results = test
        .push(
            "alice",
            vec![
                intent(1, &json!([insert("todos", "a", todo("bob"))])),
                after(2, 1, update("todos", "a", json!({}))),
                intent(3, &json!([insert("todos", "c", todo("alice"))])),
                after(4, 3, update("todos", "c", json!({"done": true}))),
                malformed,
                intent(6, &json!([{"entity": "todos", "row_id": "c", "kind": "increment", "data": {"n": 1}}])),
                after(7, 99, update("todos", "c", json!({}))),
            ],
        )
        .await;
    let found: Vec<_> = results.iter().map(|result| (result.status, code(result))).collect();
    let none = OutcomeStatus::NotEvaluated;
    assert_eq!(
        found,
        [
            (OutcomeStatus::Rejected, "POLICY_DENIED"),
            (none, "DEPENDENCY_FAILED"),
            (OutcomeStatus::Applied, ""),
            (OutcomeStatus::Applied, ""),
            (none, "INVALID_JSON"),
            (none, "UNKNOWN_KIND"),
            (none, "DEPENDENCY_FAILED"),
        ]
    );
    assert_eq!(results[4].op_id, op_id(5), "a malformed intent keeps its op_id");
}

#[tokio::test]
async fn an_older_leader_of_a_replica_is_fenced() {
    let test = TestStore::open("");
    let client_id = Some(ClientId::from_bytes([7; 16]));
    let push = async |fence, op| {
        let writer = Writer { reader: reader("alice"), client_id: client_id.clone(), fence };
        test.store.push(writer, raw(vec![intent(op, &json!([insert("T", &format!("r{op}"), json!({}))]))]), Vec::new()).await
    };
    push(2, 1).await.unwrap();
    assert_eq!(push(1, 2).await.unwrap_err(), PushError::Fenced { current: 2 });
    push(2, 3).await.unwrap();
    push(3, 4).await.unwrap();
    assert_eq!(push(2, 5).await.unwrap_err(), PushError::Fenced { current: 3 });
    assert_eq!(test.store.head(None), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_share_one_gapless_log() {
    let test = TestStore::open("");
    let mut tasks = Vec::new();
    for task in 0..40_u64 {
        let store = test.store.clone();
        tasks.push(tokio::spawn(async move {
            let mut ranges = Vec::new();
            for round in 0..5 {
                let op = task * 100 + round;
                let changes = json!([insert("T", &format!("a{op}"), json!({})), insert("T", &format!("b{op}"), json!({}))]);
                let writer = Writer { reader: reader("alice"), ..Writer::default() };
                let result = store.push(writer, raw(vec![intent(op, &changes)]), Vec::new()).await.unwrap().remove(0);
                ranges.push((result.first_seq.unwrap(), result.last_seq.unwrap()));
            }
            ranges
        }));
    }
    let mut ranges = Vec::new();
    for task in tasks {
        ranges.extend(task.await.unwrap());
    }
    ranges.sort_unstable();
    let expected: Vec<_> = (0..200).map(|index| (index * 2 + 1, index * 2 + 2)).collect();
    assert_eq!(ranges, expected);
    assert_eq!(test.store.head(None), 400);
}
