//! Random histories of a small chat, and a naive model of who may see what.
//!
//! The model shares no code with the server: its policies are written out by hand, its rows are merged by three lines, and
//! its past is a list of everything that ever happened.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};
use syncline_protocol::OutcomeResult;

use crate::replica::Rows;

pub(crate) const MANIFEST: &str = r#"
[entities.channels]
fields = { name = "string", owner = { type = "string", optional = true } }
[entities.channels.policies]
read = "id in members.channel where member = user or owner = user"
insert = "signed-in"
update = "signed-in"
delete = "signed-in"

[entities.members]
fields = { channel = { type = "string", optional = true }, member = "string" }
[entities.members.policies]
read = "channel in members where member = user"
insert = "public"
update = "public"
delete = "public"

[entities.messages]
fields = { channel = { type = "string", optional = true }, author = "string", body = "string", pinned = { type = "bool", default = false } }
[entities.messages.policies]
read = "author = user or channel in members where member = user"
insert = "signed-in"
update = "public"
delete = "public"

[entities.guarded]
fields = { channel = "string", author = "string" }
[entities.guarded.policies]
read = "(channel in members where member = user) and author = user"
insert = "public"
update = "public"
delete = "public"

[entities.posts]
fields = { title = "string" }
policies = { read = "public", insert = "signed-in", update = "signed-in", delete = "signed-in" }

[entities.drafts]
fields = { owner = { type = "string", optional = true }, text = "string" }
policies = { read = "owner = user", insert = "public", update = "owner = user", delete = "owner = user" }

[entities.audit]
fields = { what = "string" }
policies = { insert = "public" }
"#;

pub(crate) const USERS: [&str; 4] = ["", "alice", "bob", "carol"];
pub(crate) const ENTITIES: [&str; 7] = ["channels", "members", "messages", "guarded", "posts", "drafts", "audit"];

/// Whether `user` may see a row, given all rows.
pub(crate) fn may_see(rows: &Rows, user: &str, entity: &str, id: &str, row: &Value) -> bool {
    let is = |value: &Value, text: &str| !user.is_empty() && value.as_str() == Some(text);
    let member_of = |channel: &Value| {
        !user.is_empty()
            && channel.is_string()
            && rows
                .iter()
                .any(|((kind, _), (_, other))| kind == "members" && other["member"] == user && other["channel"] == *channel)
    };
    match entity {
        "channels" => member_of(&json!(id)) || is(&row["owner"], user),
        "members" => member_of(&row["channel"]),
        "messages" => is(&row["author"], user) || member_of(&row["channel"]),
        "guarded" => is(&row["author"], user) && member_of(&row["channel"]),
        "posts" => true,
        "drafts" => is(&row["owner"], user),
        _ => false,
    }
}

/// What a user may see of some rows.
pub(crate) fn visible(rows: &Rows, user: &str) -> Rows {
    let sees = |((entity, id), (_, row)): &(&(String, String), &(u64, Value))| may_see(rows, user, entity, id, row);
    rows.iter().filter(sees).map(|(key, row)| (key.clone(), row.clone())).collect()
}

/// The seeds of a random test: `SYNCLINE_SOAK` times as many if that is set, or the one in `SYNCLINE_SEED` alone.
pub(crate) fn seeds(range: Range<u64>) -> Range<u64> {
    if let Ok(seed) = std::env::var("SYNCLINE_SEED") {
        let seed = seed.parse().unwrap();
        return seed..seed + 1;
    }
    range.start..range.start + (range.end - range.start) * soak()
}

/// How many times the usual amount is to be done.
pub(crate) fn soak() -> u64 {
    std::env::var("SYNCLINE_SOAK").map_or(1, |factor| factor.parse().unwrap())
}

/// Numbers that are the same for the same seed (`SplitMix64`, Steele et al. 2014).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A history as it was generated and as the server's outcomes say it happened.
#[derive(Debug, Default)]
pub(crate) struct History {
    ids: BTreeMap<&'static str, Vec<String>>,
    written: u64,
    /// Rows after each transaction, by its last seq.
    states: BTreeMap<u64, Rows>,
}

impl History {
    /// Changes of a transaction that may or may not be allowed.
    pub(crate) fn transaction(&mut self, random: &mut Random) -> Vec<Value> {
        (0..=random.below(3)).map(|_| self.change(random)).collect()
    }

    fn change(&mut self, random: &mut Random) -> Value {
        let weighted =
            ["channels", "members", "members", "members", "messages", "messages", "guarded", "posts", "drafts", "audit"];
        let entity = *random.pick(&weighted);
        let known = self.ids.entry(entity).or_default();
        if known.is_empty() || random.below(100) < 45 {
            self.written += 1;
            let id = format!("{entity}-{}", self.written);
            known.push(id.clone());
            let data = self.data(random, entity);
            return json!({"entity": entity, "row_id": id, "kind": "insert", "data": data});
        }
        let id = random.pick(known).clone();
        if random.below(100) < 40 {
            return json!({"entity": entity, "row_id": id, "kind": "delete"});
        }
        let mut data = self.data(random, entity);
        if let Value::Object(fields) = &mut data
            && fields.len() > 1
            && random.below(2) == 0
        {
            let dropped = random.pick(&fields.keys().cloned().collect::<Vec<_>>()).clone();
            fields.remove(&dropped);
        }
        json!({"entity": entity, "row_id": id, "kind": "update", "data": data})
    }

    fn data(&mut self, random: &mut Random, entity: &str) -> Value {
        let user = *random.pick(&USERS[1..]);
        let channel = match self.ids.get("channels") {
            Some(channels) if random.below(10) > 0 => json!(channels[random.below(channels.len().min(4))]),
            _ => Value::Null,
        };
        let text = format!("text {}", random.below(1_000));
        match entity {
            "channels" => json!({"name": text, "owner": user}),
            "members" => json!({"channel": channel, "member": user}),
            "messages" => json!({"channel": channel, "author": user, "body": text}),
            "guarded" => json!({"channel": channel.as_str().unwrap_or("none"), "author": user}),
            "posts" => json!({"title": text}),
            "drafts" => json!({"owner": if random.below(4) == 0 { Value::Null } else { json!(user) }, "text": text}),
            _ => json!({"what": text}),
        }
    }

    /// Takes over what the server says it applied.
    pub(crate) fn happened(&mut self, changes: &[Value], result: &OutcomeResult) {
        let (Some(first), Some(last)) = (result.first_seq, result.last_seq) else { return };
        let head = self.head();
        assert_eq!(first, head + 1, "the log has no gaps");
        assert_eq!(last, head + changes.len() as u64);
        let mut rows = self.rows_at(head);
        for (change, seq) in changes.iter().zip(first..) {
            let name = |key: &str| change[key].as_str().unwrap().to_owned();
            let key = (name("entity"), name("row_id"));
            if change["kind"] == "delete" {
                assert!(rows.remove(&key).is_some(), "{key:?} was deleted and did not exist");
                continue;
            }
            let mut row = rows.get(&key).map_or_else(|| born(&key.0), |(_, row)| row.clone());
            for (field, value) in change["data"].as_object().unwrap() {
                row[field] = value.clone();
            }
            rows.insert(key, (seq, row));
        }
        self.states.insert(last, rows);
    }

    pub(crate) fn head(&self) -> u64 {
        self.states.keys().next_back().copied().unwrap_or_default()
    }

    /// All rows at the end of a transaction.
    pub(crate) fn rows_at(&self, seq: u64) -> Rows {
        if seq == 0 {
            return Rows::new();
        }
        self.states.get(&seq).unwrap_or_else(|| panic!("{seq} is no end of a transaction")).clone()
    }
}

/// Defaults of the manifest.
fn born(entity: &str) -> Value {
    match entity {
        "messages" => json!({"channel": null, "pinned": false}),
        "members" => json!({"channel": null}),
        "channels" | "drafts" => json!({"owner": null}),
        _ => json!({}),
    }
}
