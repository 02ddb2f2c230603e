//! Rows and intents against the rules of `docs/values.md` and `docs/protocol.md` in their plainest form, over trees of values.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use syncline_protocol::{ErrorCode, Intent, RowText, canonical_json, limits};

use crate::dice::{Dice, for_seeds};

/// Values at the edges of what may be stored, as an application or a hostile client writes them.
const SCALARS: &[&str] = &[
    "null",
    "true",
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1e0",
    "100e-2",
    "9007199254740991",
    "-9007199254740991",
    "9007199254740992",
    "-9007199254740992",
    "9007199254740991.0",
    "9007199254740992.0",
    "9.007199254740993e15",
    "99999999999999999999",
    "999999999999999999999",
    "1e20",
    "1e21",
    "-1e21",
    "1.7976931348623157e308",
    "5e-324",
    "1e-400",
    "18446744073709551615",
    "0.1",
    "\"\"",
    "\"text\"",
    "\"\\u0000\"",
    "\"\\u0001\\u001f\\u007f\\u2028\"",
    "\"\\ud83d\\ude00\"",
    "\"\u{1f600}é\"",
];
const NAMES: &[&str] = &[
    "a",
    "b",
    "space name",
    "é",
    "\u{1f600}",
    "\u{fb33}",
    "id",
    "$a",
    "__a",
    "_a",
    "a__",
    "__proto__",
    "constructor",
    "prototype",
    "",
    "line\\nbreak",
    "nul\\u0000",
    "\\u0061b",
];

fn name(dice: &mut Dice) -> String {
    if dice.below(20) == 0 {
        return "é".repeat(62 + dice.below(5));
    }
    // Mostly names that are fine, so that many rows are.
    let of = if dice.below(4) == 0 { NAMES.len() } else { 6 };
    NAMES.get(dice.below(of as u64)).unwrap().to_string()
}

fn value(dice: &mut Dice, depth: usize) -> String {
    let of = if dice.below(6) == 0 { SCALARS.len() as u64 } else { 9 };
    match dice.below(if depth == 0 { 1 } else { 4 }) {
        1 => {
            let items: Vec<String> = (0..dice.below(4)).map(|_| value(dice, depth - 1)).collect();
            format!("[ {}]", items.join(" ,"))
        }
        2 => object(dice, depth),
        _ => (*SCALARS.get(dice.below(of)).unwrap()).to_owned(),
    }
}

/// An object whose names differ.
fn object(dice: &mut Dice, depth: usize) -> String {
    let names: BTreeSet<String> = (0..dice.below(5)).map(|_| name(dice)).collect();
    let mut members: Vec<String> = names.iter().map(|name| format!("\"{name}\": {}", value(dice, depth - 1))).collect();
    if dice.below(2) == 0 {
        members.reverse();
    }
    format!("{{{}}}", members.join(", "))
}

/// A row, now and then with something deep in it.
fn row(dice: &mut Dice) -> String {
    if dice.below(10) == 0 {
        let depth = 30 + dice.below(4);
        return if dice.below(2) == 0 {
            format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
        } else {
            format!("{{\"a\":{}1{}}}", "{\"b\":".repeat(depth), "}".repeat(depth))
        };
    }
    object(dice, 4)
}

/// Everything that is wrong with a row.
fn problems(row: &Map<String, Value>) -> BTreeSet<ErrorCode> {
    let mut found = BTreeSet::new();
    if row.len() > limits::ROW_FIELDS_MAX || canonical_json(&Value::Object(row.clone())).len() > limits::ROW_BYTES_MAX {
        found.insert(ErrorCode::RowTooLarge);
    }
    for (name, value) in row {
        let length = (1..=limits::NAME_BYTES_MAX).contains(&name.len());
        if !length || name.starts_with('$') || name.starts_with("__") || name.chars().any(char::is_control) {
            found.insert(ErrorCode::InvalidName);
        }
        check_key(name, &mut found);
        check_value(value, 1, &mut found);
    }
    found
}

fn check_key(key: &str, found: &mut BTreeSet<ErrorCode>) {
    if ["__proto__", "constructor", "prototype"].contains(&key) {
        found.insert(ErrorCode::ReservedKey);
    }
    if key.contains('\0') {
        found.insert(ErrorCode::InvalidText);
    }
}

fn check_value(value: &Value, depth: usize, found: &mut BTreeSet<ErrorCode>) {
    if depth > limits::VALUE_DEPTH_MAX {
        found.insert(ErrorCode::ValueTooDeep);
    }
    match value {
        Value::Number(number) => {
            // What JavaScript prints as an integer that it cannot count.
            let printed = canonical_json(value);
            if number.as_f64().unwrap().abs() > 9_007_199_254_740_991.0 && !printed.contains(['.', 'e']) {
                found.insert(ErrorCode::ValueOutOfRange);
            }
        }
        Value::String(text) if text.contains('\0') => drop(found.insert(ErrorCode::InvalidText)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
        Value::Array(items) => items.iter().for_each(|item| check_value(item, depth + 1, found)),
        Value::Object(members) => {
            for (key, member) in members {
                check_key(key, found);
                check_value(member, depth + 1, found);
            }
        }
    }
}

#[test]
fn a_row_is_stored_or_refused_by_the_rules_and_its_bytes_are_canonical() {
    for_seeds("a_row_is_stored_or_refused_by_the_rules_and_its_bytes_are_canonical", 20_000, |dice| {
        let text = row(dice);
        let tree: Map<String, Value> = serde_json::from_str(&text).unwrap();
        let problems = problems(&tree);
        match RowText::parse(&text) {
            Ok(row) => {
                assert!(problems.is_empty(), "{text} is taken, but {problems:?}");
                assert_eq!(row.get(), canonical_json(&Value::Object(tree)));
                assert_eq!(RowText::parse(row.get()).unwrap(), row);
            }
            Err(error) => assert!(problems.contains(&error.code()), "{text}: {error}, but {problems:?}"),
        }
    });
}

#[test]
fn a_row_may_have_a_mebibyte_and_a_thousand_fields_and_not_one_more() {
    for (more, escaped) in [(0, false), (1, false), (0, true), (1, true)] {
        let text = "x".repeat(limits::ROW_BYTES_MAX - r#"{"t":""}"#.len() + more);
        // Counted as it is stored, whatever was written.
        let text = if escaped { text.replacen("xxx", "\\u0078x\\u0078", 1000) } else { text };
        let result = RowText::parse(&format!(r#"  {{ "t" : "{text}" }} "#));
        assert_eq!(result.err().map(|error| error.code()), (more > 0).then_some(ErrorCode::RowTooLarge), "{more} {escaped}");
    }
    for (count, repeated, code) in [(1_000, false, None), (1_001, false, Some(ErrorCode::RowTooLarge)), (1_001, true, None)] {
        let field = |index: usize| format!(r#""f{}":{index}"#, if repeated { index.min(999) } else { index });
        let fields: Vec<String> = (0..count).map(field).collect();
        let result = RowText::parse(&format!("{{{}}}", fields.join(",")));
        assert_eq!(result.err().map(|error| error.code()), code, "{count} {repeated}");
    }
}

#[test]
fn equal_intents_have_equal_bytes_in_whatever_order_they_come() {
    for_seeds("equal_intents_have_equal_bytes_in_whatever_order_they_come", 3_000, |dice| {
        let op_id = |dice: &mut Dice| format!("{:016x}{:016x}", dice.next(), dice.next());
        let changes: Vec<Value> = (0..=dice.below(3))
            .map(|index| {
                let kind = dice.pick(&["insert", "update", "delete", "append", "teleport"]);
                let mut change = json!({"entity": dice.pick(&["Todo", "Ä b"]), "row_id": format!("r{index}"), "kind": kind});
                if kind != "delete" {
                    change["data"] = serde_json::from_str(&object(dice, 3)).unwrap();
                }
                match dice.below(3) {
                    0 => change["base"] = json!({"seq": dice.next() >> 11}),
                    1 => change["base"] = json!({"op_id": op_id(dice)}),
                    _ => {}
                }
                change
            })
            .collect();
        let mut intent =
            json!({"op_id": op_id(dice), "issued_at": dice.next() >> 11, "schema": dice.below(9), "changes": changes});
        let after: Vec<String> = (0..dice.below(3)).map(|_| op_id(dice)).collect();
        if !after.is_empty() {
            intent["after"] = json!(after);
        }
        let found: BTreeSet<ErrorCode> =
            changes.iter().filter_map(|change| change["data"].as_object()).flat_map(problems).collect();
        let text = shuffled(dice, &intent);
        match Intent::parse(&text) {
            Ok(parsed) => {
                assert!(found.is_empty(), "{text} is taken, but {found:?}");
                assert_eq!(parsed.canonical(), canonical_json(&intent), "{text}");
                assert_eq!(Intent::parse(&parsed.canonical()).unwrap(), parsed);
            }
            Err(error) => assert!(found.contains(&error.code()), "{text}: {error}, but {found:?}"),
        }
    });
}

#[test]
fn an_intent_has_its_bounds_and_not_one_more() {
    let intent = |after: usize, changes: usize, text: usize| {
        let op_id = |index: usize| format!("{index:032x}");
        let change = |index: usize| json!({"entity": "T", "row_id": format!("r{index}"), "kind": "insert", "data": {}});
        let mut changes: Vec<Value> = (0..changes).map(change).collect();
        // A row has at most 1 MiB.
        for (at, from) in (0..text).step_by(limits::ROW_BYTES_MAX / 2).enumerate() {
            changes[at]["data"] = json!({"t": "x".repeat((text - from).min(limits::ROW_BYTES_MAX / 2))});
        }
        let after: Vec<String> = (0..after).map(op_id).collect();
        json!({"op_id": op_id(1), "issued_at": 1, "schema": 0, "after": after, "changes": changes}).to_string()
    };
    let code = |text: &str| Intent::parse(text).err().map(|error| error.code());
    let too_large = Some(ErrorCode::TransactionTooLarge);
    assert_eq!(code(&intent(limits::AFTER_MAX, 1, 0)), None);
    assert_eq!(code(&intent(limits::AFTER_MAX + 1, 1, 0)), too_large);
    assert_eq!(code(&intent(0, limits::TRANSACTION_CHANGES_MAX, 0)), None);
    assert_eq!(code(&intent(0, limits::TRANSACTION_CHANGES_MAX + 1, 0)), too_large);
    assert_eq!(code(&intent(0, 0, 0)), too_large);
    let rest = limits::TRANSACTION_BYTES_MAX - Intent::parse(&intent(0, 10, 4_000_000)).unwrap().canonical().len();
    assert_eq!(code(&intent(0, 10, 4_000_000 + rest)), None);
    assert_eq!(code(&intent(0, 10, 4_000_000 + rest + 1)), too_large);
}

/// The same JSON with its members in another order, unknown ones among those of messages, and blanks.
fn shuffled(dice: &mut Dice, value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shuffled(dice, item)).collect();
            format!("[\n{}]", items.join(" , "))
        }
        Value::Object(members) => {
            let mut written: Vec<String> =
                members.iter().map(|(name, member)| format!("{}\t: {}", json!(name), shuffled(dice, member))).collect();
            if members.contains_key("op_id") && members.contains_key("changes")
                || members.contains_key("kind") && members.contains_key("entity")
            {
                written.push(r#""later":[{"x":"\ud800"},1e999]"#.to_owned());
            }
            for end in (1..written.len()).rev() {
                written.swap(end, dice.below(end as u64 + 1));
            }
            format!("{{ {} }}", written.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
