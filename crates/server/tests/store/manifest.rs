//! Manifests: what is taken, and that mistakes are named.

use serde_json::json;
use syncline_core::server::{FieldType, Operation, Policy};
use syncline_server::manifest::Manifest;
use syncline_server::store::{Store, StoreOptions};

use crate::support::{TestStore, delete, insert, update};

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

#[tokio::test]
async fn a_manifest_may_grow_over_stored_rows_and_not_change_under_them() {
    let manifest = |fields: &str| {
        format!(
            "[entities.T]\nfields = {{ {fields} }}\npolicies = {{ read = \"public\", insert = \"public\", update = \"public\", delete = \"public\" }}\n\
             [entities.U]\nfields = {{ x = \"int\" }}\n"
        )
    };
    let first = r#"a = "int", b = { type = "string", optional = true }, c = { type = "bool", default = false }"#;
    let test = TestStore::open(&manifest(first));
    test.applied("", 1, json!([insert("T", "r", json!({"a": 1}))])).await;
    let grown = r#"a = { type = "int", optional = true, index = true }, b = { type = "string", optional = true },
        c = { type = "bool", default = true }, d = { type = "json", optional = true }, e = { type = "int", default = 7, unique = true }"#
        .replace('\n', " ");
    let others = "[entities.New]\nfields = { y = \"int\" }\n";
    let test = test.reopen(&format!("{}{others}", manifest(&grown))).await;
    test.applied("", 2, json!([update("T", "r", json!({"e": 8, "a": null}))])).await;
    test.store.shutdown().await;

    let db = test.folder.path().join("test.db");
    let refusal = |text: &str| {
        let opened = Store::open(&db, Manifest::parse(text).unwrap().schema, StoreOptions::default());
        opened.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let cases = [
        (grown.replace("c = { type = \"bool\", default = true }, ", ""), "entities.T.fields.c: it was taken out"),
        (grown.replace("e = { type = \"int\"", "e = { type = \"float\""), "fields.e: its type was int and is now float"),
        (grown.replace("d = { type = \"json\", optional = true }", "d = \"json\""), "fields.d: it was optional"),
        (grown.replace("index = true", "unique = true"), "fields.a: it was not unique"),
        (grown.replace("c = { type = \"bool\", default = true }", "c = \"bool\""), "fields.c: its default"),
        (format!("{grown}, f = \"int\""), "fields.f: it is new, neither optional nor with a default"),
    ];
    for (fields, expected) in cases {
        let error = refusal(&format!("{}{others}", manifest(&fields)));
        assert!(error.contains(expected) && error.contains("rows of T are stored"), "{error:?} for {expected}");
    }
    assert!(refusal("[entities.U]\nfields = { x = \"int\" }\n").contains("entities.T: it was taken out"));

    let without_rows = manifest(&grown).replace("x = \"int\"", "z = \"json\"");
    let test = test.reopen(&without_rows).await;
    test.applied("", 3, json!([delete("T", "r")])).await;
    let test = test.reopen(&manifest("a = \"string\"")).await;
    test.applied("", 4, json!([insert("T", "s", json!({"a": "text"}))])).await;
}
