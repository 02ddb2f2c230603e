//! Manifests: what is taken, and that mistakes are named.

use syncline_core::server::{FieldType, Operation, Policy};
use syncline_server::manifest::Manifest;

#[test]
fn the_documented_manifest_is_one() {
    let page = include_str!("../../../../docs/server.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
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
        ("[log]\nkeep_day = 3".to_owned(), "keep_day"),
        ("[log]\nkeep_changes = 0".to_owned(), "keep_changes"),
        (entity("a = \"text\"", ""), "entities.T.fields.a: no type \"text\""),
        (entity("a = { type = \"int\", uniq = true }", ""), "a table with type, optional, default, unique, index"),
        (entity("a = { type = \"int\", default = \"x\" }", ""), "the default of T.a"),
        (entity("a = { type = \"json\", unique = true }", ""), "T.a is json"),
        (entity("id = \"string\"", ""), "T cannot have a field \"id\": id is the row's id"),
        (entity("constructor = \"string\"", ""), "the name means something else to JavaScript"),
        (entity("__proto__ = \"string\"", ""), "the name means something else to JavaScript"),
        (entity("\"$order\" = \"string\"", ""), "does not start with $ or __"),
        (entity("\"\" = \"string\"", ""), "a name has 1 to 128 bytes"),
        (format!("[entities.{}]", "x".repeat(65)), "is no name for an entity"),
        ("[entities.\"a b\"]".to_owned(), "is no name for an entity"),
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
