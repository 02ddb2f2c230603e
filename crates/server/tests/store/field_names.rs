//! Fields named as real data names them: stored, found, kept unique and looked up by policies like any other.

use serde_json::{Value, json};
use syncline_protocol::{EntityName, OutcomeStatus};
use syncline_server::store::PageLimits;

use crate::support::{TestStore, code, insert, reader, update};

const NAMES: [&str; 12] = [
    "Running Time min",
    "a.b",
    "a",
    "A",
    "say \"hi\"",
    "it's",
    "back\\slash",
    "[0]",
    "Ärger & Größe",
    "1st",
    "user",
    "x'); DROP TABLE rows; --",
];

/// A manifest whose entity `T` has a unique field of each name, and a policy on the one in the middle.
fn manifest() -> String {
    let field = |name: &&str| format!("{} = {{ type = \"string\", optional = true, unique = true }}", toml_text(name));
    let fields = NAMES.iter().map(field).collect::<Vec<_>>().join("\n");
    format!(
        "[entities.T.fields]\n{fields}\n[entities.T.policies]\nread = \"public\"\ninsert = \"public\"\n\
         update = {}\n",
        toml_text(r#""say \"hi\"" = user"#)
    )
}

fn toml_text(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[tokio::test]
async fn any_key_of_a_row_can_be_declared_queried_and_unique() {
    let test = TestStore::open(&manifest());
    let entity = EntityName::parse("T").unwrap();
    for (index, name) in NAMES.iter().enumerate() {
        let op = u64::try_from(index).unwrap() * 10;
        test.applied("", op + 1, json!([insert("T", &format!("r{index}"), json!({*name: "v"}))])).await;
        let repeated = test.write("", op + 2, json!([insert("T", "other", json!({*name: "v"}))])).await;
        assert_eq!(code(&repeated), "UNIQUE_VIOLATION", "{name}");
        let found = test.store.query(&reader(""), &entity, &json!({*name: "v"})).await.unwrap();
        let ids: Vec<Value> = found.iter().map(|row| serde_json::from_str::<Value>(row.get()).unwrap()["id"].clone()).collect();
        assert_eq!(ids, [json!(format!("r{index}"))], "{name}");
    }
    let page = test.store.pull(&reader(""), None, PageLimits::default()).await.unwrap();
    assert_eq!(page.changes.len(), NAMES.len());
    let test = test.reopen(&manifest()).await;
    assert_eq!(test.store.list(&reader(""), &entity, None, 0).await.unwrap().count, 12);
}

#[tokio::test]
async fn a_policy_names_such_a_field_in_quotes() {
    let test = TestStore::open(&manifest());
    test.applied("", 1, json!([insert("T", "r", json!({"say \"hi\"": "alice"}))])).await;
    let denied = test.write("bob", 2, json!([update("T", "r", json!({"a.b": "x"}))])).await;
    assert_eq!((denied.status, code(&denied)), (OutcomeStatus::Rejected, "POLICY_DENIED"));
    test.applied("alice", 3, json!([update("T", "r", json!({"a.b": "x"}))])).await;
}

#[tokio::test]
async fn memberships_are_looked_up_by_such_fields() {
    let manifest = r#"
[entities.members]
fields = { "the channel" = "string", "who's in" = "string" }
policies = { insert = "public", read = "\"who's in\" = user" }
[entities.messages]
fields = { "channel.id" = "string" }
policies = { insert = "public", read = "\"channel.id\" in members.\"the channel\" where \"who's in\" = user" }
"#;
    let test = TestStore::open(manifest);
    test.applied("", 1, json!([insert("messages", "m", json!({"channel.id": "c"}))])).await;
    let start = test.store.pull(&reader("alice"), None, PageLimits::default()).await.unwrap();
    assert_eq!(start.changes.len(), 0);
    let joined = json!([insert("members", "j", json!({"the channel": "c", "who's in": "alice"}))]);
    test.applied("", 2, joined).await;
    let page = test.store.pull(&reader("alice"), Some(&start.cursor.token), PageLimits::default()).await.unwrap();
    let ids: Vec<&str> = page.changes.iter().map(|change| change.row_id.as_str()).collect();
    assert_eq!(ids, ["j", "m"]);
}
