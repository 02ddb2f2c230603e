//! What must hold between the steps. What is not mentioned is not looked at; what is mentioned is there, and nothing else is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use syncline_protocol::Identity;

use super::stage::Stage;
use crate::world::{TabId, World};

/// Rows by entity and id; of each only the fields that are named.
type Rows = BTreeMap<String, BTreeMap<String, Map<String, Value>>>;

/// What a tab shows and knows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectTab {
    tab: String,
    is_open: Option<bool>,
    /// All rows of these entities.
    rows: Option<Rows>,
    /// How many rows of these entities there are.
    count: Option<BTreeMap<String, usize>>,
    /// The queue in order: `first pending`, `second failed CODE`, `third pending, waits for second`.
    queue: Option<Vec<String>>,
    /// All it was told of these writes, in order, since it opened.
    told: Option<BTreeMap<String, String>>,
    /// Members of the status: leads, connection, storage, user, tenant, synced, syncing, pending, failed, seq, error.
    status: Option<Map<String, Value>>,
    /// The codes of all problems it was told of, in order, since it opened.
    problems: Option<Vec<String>>,
}

/// What the server holds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectServer {
    tenant: String,
    /// Who looks.
    user: String,
    rows: Option<Rows>,
    count: Option<BTreeMap<String, usize>>,
    /// What became of these writes: `applied`, `rejected CODE`, `unknown`.
    writes: Option<BTreeMap<String, String>>,
    /// How many changes the log of the tenant ever had: what is applied twice counts twice.
    head: Option<u64>,
}

/// What lies in one database of a device.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectDisk {
    device: String,
    /// Whose database; that of who sits there if absent.
    user: Option<String>,
    tenant: Option<String>,
    /// The queue in order: `first pending`; marks of discarded writes are left out.
    queue: Option<Vec<String>>,
    /// Texts that are somewhere in it.
    holds: Option<Vec<String>>,
    /// Texts that are nowhere in it.
    holds_no: Option<Vec<String>>,
    /// How many records of the queue were ever written, rewritten and removed, at most.
    queue_records_at_most: Option<u64>,
}

/// What went over the wire: those of this tab, with this user's token, of this type, with this write or text in them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectWire {
    tab: Option<String>,
    user: Option<String>,
    r#type: Option<String>,
    write: Option<String>,
    text: Option<String>,
    count: Option<usize>,
    at_least: Option<usize>,
    at_most: Option<usize>,
}

/// What a device and its application did.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectDevice {
    device: String,
    /// How often the engine asked for a token.
    tokens_asked: Option<u64>,
    /// The tabs that lead.
    leaders: Option<Vec<String>>,
}

impl ExpectTab {
    pub(super) fn check(&self, stage: &mut Stage) -> Result<(), String> {
        if let Some(is_open) = self.is_open {
            same("is_open", &is_open, &stage.tab(&self.tab).is_ok())?;
            if !is_open {
                return Ok(());
            }
        }
        let id = stage.tab(&self.tab)?;
        if let Some(rows) = &self.rows {
            for (entity, expected) in rows {
                let found = tab_rows(&mut stage.world, id, entity);
                check_rows(stage, entity, expected, &found)?;
            }
        }
        for (entity, count) in self.count.iter().flatten() {
            same(&format!("count of {entity}"), count, &tab_rows(&mut stage.world, id, entity).len())?;
        }
        let Some(tab) = stage.world.tabs.get(&id) else { return Ok(()) };
        if let Some(queue) = &self.queue {
            let mutations: Vec<Value> = serde_json::from_str(&tab.client.mutations_json()).unwrap_or_default();
            same("queue", queue, &mutations.iter().map(|mutation| stage.listed(mutation)).collect())?;
        }
        for (write, told) in self.told.iter().flatten() {
            let op_id = stage.op_id(write)?;
            let words = tab.told_of_writes.iter().filter(|(other, _)| *other == op_id.as_str()).map(|(_, what)| what.as_str());
            same(&format!("told of {write}"), told, &words.collect::<Vec<_>>().join(" "))?;
        }
        if let Some(expected) = &self.status {
            let status = shortened(&serde_json::from_str(&tab.client.status().to_json()).unwrap_or_default());
            for (name, expected) in expected {
                let found = status.get(name).ok_or_else(|| format!("a status has no {name}: {status}"))?;
                same(&format!("status.{name}"), expected, found)?;
            }
        }
        match &self.problems {
            Some(problems) => same("problems", problems, &tab.problems.iter().map(ToString::to_string).collect()),
            None => Ok(()),
        }
    }
}

/// The members of a status that a scenario may name, each as one value.
fn shortened(status: &Value) -> Value {
    json!({
        "leads": status["leads"],
        "connection": status["connection"]["state"],
        "storage": status["storage"]["kind"],
        "user": status["identity"]["user_id"],
        "tenant": status["identity"]["tenant_id"],
        "synced": status["synced"],
        "syncing": status["syncing"],
        "pending": status["pending"],
        "failed": status["failed"],
        "seq": status["seq"],
        "error": status["last_error"]["code"],
    })
}

fn tab_rows(world: &mut World, id: TabId, entity: &str) -> BTreeMap<String, Value> {
    let Some(tab) = world.tabs.get_mut(&id) else { return BTreeMap::new() };
    let delta: Value = serde_json::from_str(&tab.client.delta_json(entity, 0)).unwrap_or_default();
    let rows = delta["rows"].as_array().cloned().unwrap_or_default();
    rows.into_iter().map(|row| (row["id"].as_str().unwrap_or_default().to_owned(), row)).collect()
}

fn check_rows(
    stage: &Stage,
    entity: &str,
    expected: &BTreeMap<String, Map<String, Value>>,
    found: &BTreeMap<String, Value>,
) -> Result<(), String> {
    let mut ids = expected.keys().map(|id| stage.substituted(id)).collect::<Result<Vec<_>, _>>()?;
    ids.sort();
    same(&format!("rows of {entity}"), &ids, &found.keys().cloned().collect())?;
    for (id, fields) in expected {
        let id = stage.substituted(id)?;
        for (name, value) in fields {
            let value = value.as_str().map_or(Ok(value.clone()), |text| stage.substituted(text).map(Value::from))?;
            let found = found.get(&id).and_then(|row| row.get(name)).unwrap_or(&Value::Null);
            same(&format!("{entity}/{id}.{name}"), &value, found)?;
        }
    }
    Ok(())
}

impl ExpectServer {
    pub(super) fn check(&self, stage: &mut Stage) -> Result<(), String> {
        let found = stage.server_rows(&self.user, &self.tenant)?;
        let of = |entity: &String| {
            let rows = found.iter().filter(|((name, _), _)| name == entity);
            rows.map(|((_, id), row)| (id.clone(), Value::Object(row.clone()))).collect::<BTreeMap<_, _>>()
        };
        for (entity, expected) in self.rows.iter().flatten() {
            check_rows(stage, entity, expected, &of(entity))?;
        }
        for (entity, count) in self.count.iter().flatten() {
            same(&format!("count of {entity}"), count, &of(entity).len())?;
        }
        for (write, expected) in self.writes.iter().flatten() {
            let op_id = stage.op_id(write)?;
            let outcome = stage.world.service.life().outcome(&self.tenant, op_id.as_str());
            let found = outcome.map_or_else(
                || "unknown".to_owned(),
                |outcome| outcome.code.as_ref().map_or_else(|| "applied".to_owned(), |code| format!("rejected {code}")),
            );
            same(&format!("what became of {write}"), expected, &found)?;
        }
        let Some(head) = self.head else { return Ok(()) };
        let found = stage.world.service.server.store().head(Some(&self.tenant)).map_err(|error| error.to_string())?;
        same("head", &head, &found)
    }
}

impl ExpectDisk {
    pub(super) fn check(&self, stage: &mut Stage) -> Result<(), String> {
        let number = stage.device(&self.device)?;
        let device = &mut stage.world.devices[number];
        if let Some(most) = self.queue_records_at_most {
            let found = device.queue_records;
            if found > most {
                return Err(format!("records of the queue: expected at most {most}, found {found}"));
            }
        }
        let user_id = Some(self.user.clone().unwrap_or_else(|| device.user.clone()));
        let tenant_id = Some(self.tenant.clone().unwrap_or_else(|| device.tenant.clone()));
        let disk = device.disk(&Identity { user_id, tenant_id });
        let records: Vec<&[u8]> = disk.now.queue.values().map(|record| &*record.bytes).collect();
        let rows = disk.now.entities.values().map(|record| &**record);
        let all: Vec<u8> = rows.chain(records.iter().copied()).chain(disk.now.replica.as_deref()).flatten().copied().collect();
        let all = String::from_utf8_lossy(&all);
        for (name, texts, holds) in [("holds", &self.holds, true), ("holds_no", &self.holds_no, false)] {
            for text in texts.iter().flatten() {
                if all.contains(text) != holds {
                    return Err(format!("{name}: {text:?} is {} on disk", if holds { "not" } else { "there" }));
                }
            }
        }
        let Some(queue) = &self.queue else { return Ok(()) };
        let found = disk.now.queue.values().filter(|record| !record.is_mark());
        let found: Vec<Value> = found.map(|record| serde_json::from_slice(&record.bytes).unwrap_or_default()).collect();
        let listed = |record: &Value| {
            let name = stage.name_of(record["intent"]["op_id"].as_str().unwrap_or_default());
            format!("{name} {}", record["state"].as_str().unwrap_or_default())
        };
        same("queue on disk", queue, &found.iter().map(listed).collect())
    }
}

impl ExpectWire {
    pub(super) fn check(&self, stage: &mut Stage) -> Result<(), String> {
        let op_id = self.write.as_ref().map(|write| stage.op_id(write)).transpose()?;
        let is_it = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let passed = stage.world.script.as_ref().map(|script| script.wire.as_slice()).unwrap_or_default();
        let found = passed.iter().filter(|passed| {
            is_it(&self.tab, &passed.tab)
                && is_it(&self.r#type, &passed.kind)
                && is_it(&self.user, passed.user.as_deref().unwrap_or_default())
                && op_id.as_ref().is_none_or(|op_id| passed.text.contains(op_id.as_str()))
                && self.text.as_ref().is_none_or(|text| passed.text.contains(text))
        });
        let found = found.count();
        if let Some(count) = self.count {
            same("messages", &count, &found)?;
        }
        if self.at_least.is_some_and(|least| found < least) || self.at_most.is_some_and(|most| found > most) {
            return Err(format!("messages: expected {:?} to {:?}, found {found}", self.at_least, self.at_most));
        }
        Ok(())
    }
}

impl ExpectDevice {
    pub(super) fn check(&self, stage: &mut Stage) -> Result<(), String> {
        let number = stage.device(&self.device)?;
        if let Some(expected) = &self.tokens_asked {
            same("tokens_asked", expected, &stage.world.devices[number].tokens_asked)?;
        }
        let Some(leaders) = &self.leaders else { return Ok(()) };
        let lead = |tab: &&crate::tab::Tab| tab.device == number && tab.client.status().leads;
        same("leaders", leaders, &stage.world.tabs.values().filter(lead).map(|tab| tab.name.clone()).collect())
    }
}

impl Stage {
    /// What the scenario calls a write.
    pub(super) fn name_of(&self, op_id: &str) -> String {
        let named = |wanted: &str| self.writes.iter().find(|(_, op_id)| *op_id == wanted).map(|(name, _)| name.clone());
        if let Some(name) = named(op_id) {
            return name;
        }
        let former = self.world.writes.iter().find(|(_, write)| write.successors.contains(op_id));
        former.map_or_else(|| "nameless".to_owned(), |(former, _)| format!("for {}", self.name_of(former)))
    }

    fn listed(&self, mutation: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut line = format!("{} {}", self.name_of(&text(&mutation["op_id"])), text(&mutation["status"]));
        if let Some(code) = mutation["error"]["code"].as_str() {
            line = format!("{line} {code}");
        }
        let waiting: Vec<String> =
            mutation["waiting_on"].as_array().into_iter().flatten().map(|op_id| self.name_of(&text(op_id))).collect();
        if waiting.is_empty() { line } else { format!("{line}, waits for {}", waiting.join(" and ")) }
    }
}

fn same<T: PartialEq + Serialize>(what: &str, expected: &T, found: &T) -> Result<(), String> {
    let text = |value: &T| serde_json::to_string(value).unwrap_or_default();
    if expected == found { Ok(()) } else { Err(format!("{what}: expected {}, found {}", text(expected), text(found))) }
}
