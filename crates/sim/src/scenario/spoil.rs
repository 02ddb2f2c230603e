//! Expectations made wrong, one place at a time: the proof that each of them can fail.

use serde_json::{Map, Value, json};

/// Members that say where to look, not what is there.
const SELECTORS: [&str; 7] = ["tab", "device", "user", "tenant", "type", "write", "text"];
/// Steps that expect something, and what of `by_hand` does.
const EXPECTING: [&str; 6] = ["expect", "expect_server", "expect_disk", "expect_wire", "expect_device", "by_hand"];

/// All ways to make a step wrong; none for one that expects nothing.
pub(super) fn variants(step: &Value) -> Vec<Value> {
    let Some((kind, body)) = step.as_object().and_then(|step| step.iter().next()) else { return Vec::new() };
    let Some(members) = body.as_object().filter(|_| EXPECTING.contains(&kind.as_str())) else { return Vec::new() };
    let is_expected = |name: &str| if kind == "by_hand" { name == "hears" } else { !SELECTORS.contains(&name) };
    let mut all = Vec::new();
    for (name, value) in members.iter().filter(|(name, _)| is_expected(name)) {
        for wrong in wrongs(name, value) {
            let mut body = members.clone();
            body.insert(name.clone(), wrong);
            all.push(json!({ kind.as_str(): body }));
        }
    }
    all
}

fn wrongs(name: &str, value: &Value) -> Vec<Value> {
    match (name, value) {
        ("at_most" | "queue_records_at_most", _) => vec![json!(0)],
        ("at_least", Value::Number(_)) => vec![json!(1_000_000)],
        // Everything holds the empty text.
        ("holds_no", _) => vec![json!([""])],
        ("holds", _) => vec![json!(["what nobody ever wrote"])],
        ("hears", Value::Array(list)) => {
            let mut wrong = list.clone();
            wrong.push(json!({"type": "what nobody ever said"}));
            let changed = list.iter().enumerate().flat_map(|(at, one)| {
                deep(one).into_iter().map(move |wrong| {
                    let mut all = list.clone();
                    all[at] = wrong;
                    Value::Array(all)
                })
            });
            changed.chain([Value::Array(wrong)]).collect()
        }
        ("rows", Value::Object(entities)) => {
            let mut all = deep(value);
            for (entity, rows) in entities {
                let mut more = rows.as_object().cloned().unwrap_or_default();
                more.insert("what-nobody-made".to_owned(), json!({}));
                all.push(with(entities, entity, Value::Object(more)));
            }
            all
        }
        _ => deep(value),
    }
}

/// The value with one leaf changed, for each leaf; a list with one more.
fn deep(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![json!("something")],
        Value::Bool(is) => vec![json!(!is)],
        Value::Number(number) => vec![json!(number.as_u64().unwrap_or(0) + 1)],
        Value::String(text) => vec![json!(format!("{text}, not"))],
        Value::Array(list) => {
            let mut more = list.clone();
            more.push(json!("what nobody made"));
            vec![Value::Array(more)]
        }
        Value::Object(members) => {
            let changed = members.iter().flat_map(|(name, value)| deep(value).into_iter().map(move |wrong| (name, wrong)));
            changed.map(|(name, wrong)| with(members, name, wrong)).collect()
        }
    }
}

fn with(members: &Map<String, Value>, name: &str, value: Value) -> Value {
    let mut members = members.clone();
    members.insert(name.to_owned(), value);
    Value::Object(members)
}
