//! Manifests: what is taken, and that mistakes are named.

use serde_json::json;
use syncline_core::server::{FieldType, Operation, Policy};
use syncline_server::manifest::Manifest;
use syncline_server::store::{PageLimits, ReadError, Store, StoreOptions};

use crate::support::{TestStore, code, delete, insert, reader, update};

#[test]
fn the_documented_manifest_is_one() {
    let page = include_str!("../../../../docs/server.md");
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    for block in &blocks {
        Manifest::parse(block).unwrap();
    }
    let text = blocks.iter().find(|block| block.contains("[entities.channels]")).unwrap();
    let manifest = Manifest::parse(text).unwrap();
    let messages = manifest.schema.entity("messages").unwrap();
    assert_eq!(messages.fields["body"].kind, FieldType::String);
    assert!(messages.fields["author_id"].index && messages.fields["edited_at"].optional);
    assert_eq!(manifest.schema.policy("channels", Operation::Delete), &Policy::Nobody, "what has no policy is closed");
    assert_eq!(manifest.schema.policy("elsewhere", Operation::Read), &Policy::Nobody);
    assert_eq!(manifest.schema.read_specs().len(), 1);
}

#[test]
fn mistakes_are_named() {
    let entity = |fields: &str, policies: &str| format!("[entities.T]\nfields = {{ {fields} }}\npolicies = {{ {policies} }}");
    let cases = [
        ("[server]\nallowed_origin = []".to_owned(), "allowed_origin"),
        ("[entity.T]".to_owned(), "entity"),
        ("[auth]\nsecret = \"x\"".to_owned(), "secret"),
        ("[auth.claims]\nuser = 3".to_owned(), "user"),
        ("[log]\nkeep_day = 3".to_owned(), "keep_day"),
        ("[log]\nkeep_changes = 0".to_owned(), "keep_changes"),
        (entity("a = \"text\"", ""), "entities.T.fields.a: no type \"text\""),
        (entity("a = { type = \"int\", uniq = true }", ""), "a table with type, optional, default, unique, index, stamp"),
        (entity("a = { type = \"int\", default = \"x\" }", ""), "the default of T.a"),
        (entity("a = { type = \"json\", unique = true }", ""), "T.a is json"),
        (entity("id = \"string\"", ""), "T cannot have a field \"id\": id is the row's id"),
        (entity("constructor = \"string\"", ""), "the name means something else to JavaScript"),
        (entity("__proto__ = \"string\"", ""), "the name means something else to JavaScript"),
        (entity("\"$order\" = \"string\"", ""), "does not start with $ or __"),
        (entity("\"\" = \"string\"", ""), "a name has 1 to 128 bytes"),
        (format!("[entities.{}]", "x".repeat(65)), "is no name for an entity"),
        ("[entities.\"a b\"]".to_owned(), "is no name for an entity"),
        (entity("a = { type = \"string\", stamp = \"owner\" }", ""), "no stamp \"owner\"; there are user and tenant"),
        (entity("a = { type = \"int\", stamp = \"user\" }", ""), "T.a has a stamp, so it is a string"),
        (entity("a = { type = \"string\", stamp = \"user\", default = \"x\" }", ""), "without a default"),
        ("[hooks]\nbefore_write = \"http://x\"\nentities = [\"T\"]".to_owned(), "hooks.entities names T,"),
        ("[hooks]\nafter_write = \"http://x\"".to_owned(), "after_write"),
        ("[functions.f]\nuri = \"http://x\"".to_owned(), "uri"),
        ("[tenants]\nentity = \"T\"".to_owned(), "tenant_field"),
        ("[tenants]\nentity = \"T\"\ntenant_field = \"o\"\nuser_field = \"u\"".to_owned(), "[tenants] names T,"),
        (
            format!("[tenants]\nentity = \"T\"\ntenant_field = \"o\"\nuser_field = \"u\"\n{}", entity("o = \"string\"", "")),
            "[tenants] names T.u,",
        ),
        (entity("a = \"string\"", "red = \"public\""), "red"),
        (entity("a = \"string\"", "read = \"a = \""), "entities.T.policies.read: expected user"),
        (entity("a = \"string\"", "read = \"b = user\""), "the read policy of T names T.b"),
        (entity("a = \"string\"", "read = \"a in U where m = user\""), "names U"),
        (entity("a = \"string\"", "read = \"a in T where m = user\""), "names T.m"),
    ];
    for (text, expected) in cases {
        let error = Manifest::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} for {expected}");
    }
}

const POLICIES: &str = "policies = { read = \"public\", insert = \"public\", update = \"public\", delete = \"public\" }";

/// The manifest of the cases below: `T`, whose rows are stored, with these fields, and whatever else.
fn with_fields(fields: &str, rest: &str) -> String {
    format!("[entities.T]\nfields = {{ {fields} }}\n{POLICIES}\n[entities.U]\nfields = {{ x = \"int\" }}\n{rest}")
}

const BEFORE: &str =
    r#"a = "int", b = { type = "string", optional = true }, c = { type = "bool", default = false }, "d e" = "string""#;

async fn stored_before() -> TestStore {
    let test = TestStore::open(&with_fields(BEFORE, ""));
    test.applied("", 1, json!([insert("T", "r", json!({"a": 1, "b": "x", "d e": "same"}))])).await;
    test.applied("", 2, json!([insert("T", "s", json!({"a": 2, "d e": "same"}))])).await;
    test
}

#[tokio::test]
async fn each_kind_of_addition_applies_at_the_next_start() {
    let more = |field: &str| format!("{BEFORE}, {field}");
    let instead = |from: &str, to: &str| {
        assert!(BEFORE.contains(from));
        BEFORE.replace(from, to)
    };
    let additions = [
        ("a new entity", with_fields(BEFORE, "[entities.New]\nfields = { y = \"int\" }\n"), json!({"a": 3})),
        ("a new optional field", with_fields(&more("n = { type = \"json\", optional = true }"), ""), json!({"n": {"x": [1]}})),
        ("a new field with a default", with_fields(&more("n = { type = \"int\", default = 7 }"), ""), json!({"n": 8})),
        (
            "a new field with a stamp",
            with_fields(&more("n = { type = \"string\", optional = true, stamp = \"user\" }"), ""),
            json!({"a": 3}),
        ),
        ("an index", with_fields(&instead("a = \"int\"", "a = { type = \"int\", index = true }"), ""), json!({"a": 3})),
        (
            "unique, as all rows are",
            with_fields(&instead("a = \"int\"", "a = { type = \"int\", unique = true }"), ""),
            json!({"a": 3}),
        ),
        (
            "unique but for nulls",
            with_fields(&instead("optional = true }", "optional = true, unique = true }"), ""),
            json!({"b": "y"}),
        ),
        ("optional", with_fields(&instead("a = \"int\"", "a = { type = \"int\", optional = true }"), ""), json!({"a": null})),
        ("another default", with_fields(&instead("default = false", "default = true"), ""), json!({"c": true})),
        ("no default for an optional field", with_fields(&instead("default = false", "optional = true"), ""), json!({"c": null})),
        ("fewer rights", with_fields(BEFORE, "").replace("insert = \"public\"", "insert = \"nobody\""), json!({"a": 3})),
        ("anything where nothing is stored", with_fields(BEFORE, "").replace("x = \"int\"", "z = \"json\""), json!({"a": 3})),
    ];
    for (what, manifest, patch) in additions {
        let test = stored_before().await.reopen(&manifest).await;
        let result = test.write("", 3, json!([update("T", "r", patch)])).await;
        assert_eq!(result.error, None, "{what}");
        let test = test.reopen(&manifest).await;
        assert_eq!(test.store.head(None), 3, "{what}");
        test.store.shutdown().await;
    }
}

#[tokio::test]
async fn each_other_change_keeps_the_server_from_starting_and_is_named() {
    let more = |field: &str| with_fields(&format!("{BEFORE}, {field}"), "");
    let instead = |from: &str, to: &str| {
        assert!(BEFORE.contains(from));
        with_fields(&BEFORE.replace(from, to), "")
    };
    let optional = "b = { type = \"string\", optional = true }";
    let cases = [
        ("[entities.U]\nfields = { x = \"int\" }".to_owned(), "entities.T: it was taken out, and rows of T are stored"),
        (instead("a = \"int\", ", ""), "entities.T.fields.a: it was taken out, and rows of T are stored"),
        (instead("a = \"int\"", "a = \"float\""), "entities.T.fields.a: its type was int and is now float"),
        (instead(optional, "b = \"string\""), "entities.T.fields.b: it was optional and is no longer"),
        (
            instead(optional, "b = { type = \"string\", default = \"x\" }"),
            "entities.T.fields.b: it was optional and is no longer",
        ),
        (instead("{ type = \"bool\", default = false }", "\"bool\""), "entities.T.fields.c: its default was taken out"),
        (
            instead("\"d e\" = \"string\"", "\"d e\" = { type = \"string\", unique = true }"),
            "entities.T.fields.d e: it was not unique and is now, and stored rows share a value",
        ),
        (more("f = \"int\""), "entities.T.fields.f: it is new, neither optional nor with a default, and rows of T are stored"),
    ];
    let test = stored_before().await;
    test.store.shutdown().await;
    let db = test.folder.path().join("test.db");
    for (manifest, expected) in cases {
        let schema = Manifest::parse(&manifest).unwrap().schema;
        let error = Store::open(&db, schema, StoreOptions::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("the manifest has changed: {expected}")), "{error} for {expected}");
        assert!(error.ends_with("take it back, or export the rows of T and import them into a new database"), "{error}");
    }
    // Nothing of a refused start stays, and without rows there is nothing to mind.
    let test = test.reopen(&with_fields(BEFORE, "")).await;
    test.applied("", 3, json!([delete("T", "r"), delete("T", "s")])).await;
    let test = test.reopen(&with_fields("a = \"string\"", "")).await;
    test.applied("", 4, json!([insert("T", "t", json!({"a": "text"}))])).await;
}

#[tokio::test]
async fn new_policies_hold_at_once_and_new_read_policies_start_replicas_afresh() {
    let test = stored_before().await;
    let cursor = test.store.pull(&reader("bob"), None, PageLimits::default()).await.unwrap().cursor.token;
    let closed = with_fields(BEFORE, "").replace("update = \"public\"", "update = \"nobody\"");
    let test = test.reopen(&closed).await;
    let refused = test.write("bob", 3, json!([update("T", "r", json!({"a": 3}))])).await;
    assert_eq!(code(&refused), "POLICY_DENIED");
    test.store.pull(&reader("bob"), Some(&cursor), PageLimits::default()).await.expect("what bob may see is the same");
    let hidden = closed.replace("read = \"public\"", "read = \"b = user\"");
    let test = test.reopen(&hidden).await;
    let afresh = test.store.pull(&reader("x"), Some(&cursor), PageLimits::default()).await.unwrap_err();
    assert!(matches!(afresh, ReadError::Resync { .. }), "{afresh}");
    let page = test.store.pull(&reader("x"), None, PageLimits::default()).await.unwrap();
    let seen: Vec<_> = page.changes.iter().map(|change| change.row_id.as_str()).collect();
    assert_eq!(seen, ["r"]);
}
