//! What applications write in a scenario.

use serde_json::{Value, json};
use syncline_core::client::{ClientError, NewChange};
use syncline_protocol::{ChangeKind, OpId};

use super::stage::Stage;
use super::steps::{OneRow, RowChange, Step};
use crate::model::Key;
use crate::workload::Settling;

/// A change as it is written down.
#[derive(Debug, Clone)]
struct Planned {
    entity: String,
    id: Option<String>,
    kind: ChangeKind,
    data: Option<Value>,
}

impl Stage {
    /// A write, or what a person makes of one.
    pub(super) fn write(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Insert(row) => self.write_rows(row, &ChangeKind::Insert),
            Step::Update(row) => self.write_rows(row, &ChangeKind::Update),
            Step::Delete(row) => self.write_rows(row, &ChangeKind::Delete),
            Step::Transaction { tab, changes, r#as, refused } => {
                let changes = self.planned(changes)?;
                self.write_one(tab, changes, r#as.as_deref(), refused.as_deref())
            }
            Step::Retry { tab, write, r#as, refused } => {
                self.settle(tab, write, Settling::Retry, r#as.as_deref(), refused.as_deref())
            }
            Step::Edit { tab, write, changes, r#as, refused } => {
                let changes = self.planned(changes)?.into_iter().map(Planned::into_change).collect();
                self.settle(tab, write, Settling::Edit(changes), r#as.as_deref(), refused.as_deref())
            }
            Step::Discard { tab, write, refused } => self.settle(tab, write, Settling::Remove, None, refused.as_deref()),
            step => Err(format!("nobody writes {step:?}")),
        }
    }

    fn write_rows(&mut self, row: &OneRow, kind: &ChangeKind) -> Result<(), String> {
        for number in 1..=row.times {
            let planned = self.plan(&counted(&row.row, number), kind, row.data.as_ref().map(|data| count_in(data, number)))?;
            let name = row.r#as.as_ref().map(|name| counted(name, number));
            self.write_one(&row.tab, vec![planned], name.as_deref(), row.refused.as_deref())?;
        }
        Ok(())
    }

    fn planned(&self, changes: &[RowChange]) -> Result<Vec<Planned>, String> {
        let plan = |change: &RowChange| {
            let (kind, row) = match (&change.insert, &change.update, &change.delete) {
                (Some(row), None, None) => (ChangeKind::Insert, row),
                (None, Some(row), None) => (ChangeKind::Update, row),
                (None, None, Some(row)) => (ChangeKind::Delete, row),
                _ => return Err("a change is one of insert, update and delete".to_owned()),
            };
            self.plan(row, &kind, change.data.clone())
        };
        changes.iter().map(plan).collect()
    }

    fn plan(&self, row: &str, kind: &ChangeKind, data: Option<Value>) -> Result<Planned, String> {
        let (entity, id) = row.split_once('/').map_or((row, None), |(entity, id)| (entity, Some(id)));
        let id = id.map(|id| self.substituted(id)).transpose()?;
        let data = data.map(|data| self.substituted_in(data)).transpose()?;
        Ok(Planned { entity: entity.to_owned(), id, kind: kind.clone(), data })
    }

    /// A text in which `$name` is the row that the write of that name made.
    pub(super) fn substituted(&self, text: &str) -> Result<String, String> {
        match text.strip_prefix('$') {
            Some(name) => self.rows.get(name).cloned().ok_or_else(|| format!("no write is called {name}")),
            None => Ok(text.to_owned()),
        }
    }

    fn substituted_in(&self, data: Value) -> Result<Value, String> {
        Ok(match data {
            Value::String(text) => Value::String(self.substituted(&text)?),
            Value::Object(members) => {
                let members = members.into_iter().map(|(name, value)| Ok((name, self.substituted_in(value)?)));
                Value::Object(members.collect::<Result<_, String>>()?)
            }
            other => other,
        })
    }

    fn write_one(&mut self, tab: &str, changes: Vec<Planned>, name: Option<&str>, refused: Option<&str>) -> Result<(), String> {
        let id = self.tab(tab)?;
        let written = self.world.write_these(id, changes.into_iter().map(Planned::into_change).collect());
        match (written, refused) {
            (Ok(accepted), None) => {
                let row = accepted.row_ids.first().map(ToString::to_string).unwrap_or_default();
                self.call(name, &accepted.op_id, row)
            }
            (Err(error), Some(code)) => expect_code(&error, code),
            (Ok(_), Some(code)) => Err(format!("expected to be refused with {code}, and was taken")),
            (Err(error), None) => Err(format!("was refused: {} ({error})", error.code().code())),
        }
    }

    fn settle(&mut self, tab: &str, write: &str, how: Settling, name: Option<&str>, refused: Option<&str>) -> Result<(), String> {
        let id = self.tab(tab)?;
        let op_id = self.op_id(write)?;
        let rows: Vec<Key> = self.world.writes.get(op_id.as_str()).map(|write| write.rows.clone()).unwrap_or_default();
        let row = self.rows.get(write).cloned().unwrap_or_default();
        match (self.world.settle_write(id, &op_id, rows, how), refused) {
            (Ok(Some(again)), None) => self.call(name, &again, row),
            (Ok(None), None) => Ok(()),
            (Err(error), Some(code)) => expect_code(&error, code),
            (Ok(_), Some(code)) => Err(format!("expected to be refused with {code}, and was taken")),
            (Err(error), None) => Err(format!("was refused: {} ({error})", error.code().code())),
        }
    }

    fn call(&mut self, name: Option<&str>, op_id: &OpId, row: String) -> Result<(), String> {
        let Some(name) = name else { return Ok(()) };
        self.rows.insert(name.to_owned(), row);
        match self.writes.insert(name.to_owned(), op_id.to_string()) {
            None => Ok(()),
            Some(_) => Err(format!("two writes are called {name}")),
        }
    }

    pub(super) fn op_id(&self, name: &str) -> Result<OpId, String> {
        let op_id = self.writes.get(name).and_then(|op_id| OpId::parse(op_id.clone()).ok());
        op_id.ok_or_else(|| format!("no write is called {name}"))
    }

    /// Writes past all devices: the changes as one transaction, or so many of the first in as few as possible.
    pub(super) fn write_at_server(
        &mut self,
        tenant: &str,
        user: &str,
        changes: &[RowChange],
        times: Option<u64>,
    ) -> Result<(), String> {
        const CHANGES_MAX: usize = 500;
        let wire = |change: Planned| {
            let mut object = json!({"entity": change.entity, "row_id": change.id, "kind": change.kind});
            if let Some(data) = change.data {
                object["data"] = data;
            }
            object
        };
        let mut all: Vec<Value> = self.planned(changes)?.into_iter().map(wire).collect();
        if let (Some(times), [first]) = (times, all.as_slice()) {
            let first = first.clone();
            all = (1..=times).map(|number| count_in(&first, number)).collect();
        }
        for part in all.chunks(CHANGES_MAX) {
            self.world.service.write(tenant, user, part, self.world.now);
        }
        self.world.wake_all_sockets();
        Ok(())
    }
}

impl Planned {
    fn into_change(self) -> NewChange {
        let Self { entity, id, kind, data } = self;
        NewChange { entity, row_id: id, kind, data: data.map(|data| data.to_string()) }
    }
}

fn expect_code(error: &ClientError, code: &str) -> Result<(), String> {
    let found = error.code().code();
    if found == code { Ok(()) } else { Err(format!("expected to be refused with {code}, found {found} ({error})")) }
}

fn counted(text: &str, number: u64) -> String {
    text.replace("{n}", &number.to_string())
}

fn count_in(data: &Value, number: u64) -> Value {
    match data {
        Value::String(text) => Value::String(counted(text, number)),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), count_in(value, number))).collect())
        }
        other => other.clone(),
    }
}
