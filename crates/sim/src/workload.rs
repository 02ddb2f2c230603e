//! What the applications do: writes of all kinds, retries, discards, questions.

use serde_json::{Value, json};
use syncline_core::client::{Accepted, ClientError, Input, NewChange};
use syncline_protocol::{ChangeKind, OpId, Row, Timestamp};

use crate::checks::Write;
use crate::model::{ENTITIES, Key};
use crate::world::{Event, TabId, World};

/// What a person makes of a write.
#[derive(Debug)]
pub(crate) enum Settling {
    Retry,
    Remove,
    Edit(Vec<NewChange>),
}

impl World {
    /// The application of a device does something, and will again.
    pub(crate) fn application(&mut self, device: usize) {
        if self.healing {
            return;
        }
        let pause = if self.app.permille(100) { self.app.between(1_000, 30_000) } else { self.app.between(5, 800) };
        self.after(pause, Event::App(device));
        let tabs: Vec<TabId> =
            self.tabs.iter().filter(|(_, tab)| tab.device == device && tab.frozen_until <= self.now).map(|(id, _)| *id).collect();
        if tabs.is_empty() {
            return;
        }
        if self.app.permille(30) {
            // A person opens another tab; beyond the most there are it stays closed.
            self.after(1, Event::NewTab(device));
        }
        let tab = *self.app.pick(&tabs);
        if self.app.permille(self.options.ask) {
            return self.ask_for_something(tab);
        }
        if self.app.permille(100) {
            return self.settle_one(tab);
        }
        for _ in 0..self.app.between(1, 3) {
            self.write(tab);
        }
    }

    fn ask_for_something(&mut self, id: TabId) {
        let input = match self.app.below(10) {
            0..4 => Input::Pull,
            4 => Input::Resync,
            5 | 6 => Input::Wake,
            7 => Input::Pause,
            _ => Input::Resume,
        };
        if matches!(input, Input::Pull | Input::Resync) {
            let identity = self.tabs.get(&id).and_then(|tab| tab.client.status().identity);
            let head = identity.map(|identity| self.service.life().head(identity.tenant_id.as_deref().unwrap_or_default()));
            if let Some(tab) = self.tabs.get_mut(&id) {
                tab.asked_at = head;
            }
        }
        if matches!(input, Input::Pause) {
            let pause = self.app.between(100, 20_000);
            self.after(pause, Event::Input(id, Input::Resume));
        }
        self.give(id, input);
    }

    /// Writes one transaction; one that does not fit the view is refused and leaves nothing behind.
    pub(crate) fn write(&mut self, id: TabId) {
        let Some(identity) = self.tabs.get(&id).and_then(|tab| tab.client.status().identity) else { return };
        let tenant = identity.tenant_id.clone().unwrap_or_default();
        let count = if self.app.permille(700) { 1 } else { self.app.between(2, 4) };
        let known = self.service.life().rows(&tenant);
        let user = identity.user_id.clone().unwrap_or_default();
        let changes: Vec<NewChange> = (0..count).map(|_| self.change(&known, &tenant, &user)).collect();
        if let Ok(accepted) = self.take(id, changes) {
            self.perhaps_think_better(id, accepted.op_id.as_str());
        }
        self.drain(id);
        self.look(id);
    }

    /// Writes these changes as one transaction.
    pub(crate) fn write_these(&mut self, id: TabId, changes: Vec<NewChange>) -> Result<Accepted, ClientError> {
        let taken = self.take(id, changes);
        self.drain(id);
        self.look(id);
        taken
    }

    fn take(&mut self, id: TabId, changes: Vec<NewChange>) -> Result<Accepted, ClientError> {
        let entities: Vec<String> = changes.iter().map(|change| change.entity.clone()).collect();
        let clock = Timestamp(self.clock_of(id));
        let Some(tab) = self.tabs.get_mut(&id) else { return Err(ClientError::NotStarted) };
        let before = self.checking.then(|| tab.client.mutations_json());
        let taken = tab.client.mutate(clock, changes);
        match &taken {
            Ok(accepted) => {
                let ids = accepted.row_ids.iter().map(ToString::to_string);
                let rows: Vec<Key> = entities.into_iter().zip(ids).collect();
                let op_id = accepted.op_id.to_string();
                self.trace.note(self.now, "write", &format!("{id} {op_id} {rows:?}"));
                self.took(id, op_id, rows);
            }
            Err(error) => {
                self.trace.note(self.now, "refused", &format!("{id} {error}"));
                if let (Some(before), Some(tab)) = (before, self.tabs.get(&id)) {
                    assert_eq!(tab.client.mutations_json(), before, "a refused write leaves something behind");
                }
            }
        }
        taken
    }

    fn perhaps_think_better(&mut self, id: TabId, op_id: &str) {
        if self.app.permille(100) {
            let device = self.tabs.get(&id).map(|tab| tab.device);
            let tabs: Vec<TabId> = self.tabs.iter().filter(|(_, tab)| Some(tab.device) == device).map(|(id, _)| *id).collect();
            let delay = self.app.between(1, 200);
            // Sometimes in two tabs at once.
            for _ in 0..self.app.between(1, 2) {
                let tab = *self.app.pick(&tabs);
                self.after(delay, Event::Undo(tab, op_id.to_owned()));
            }
        }
    }

    /// What the clock of a tab's device says.
    pub(crate) fn clock_of(&self, id: TabId) -> u64 {
        self.tabs.get(&id).map_or(self.now, |tab| self.devices[tab.device].clock(self.now))
    }

    pub(crate) fn took(&mut self, id: TabId, op_id: String, rows: Vec<Key>) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        tab.dirty = true;
        let Some(identity) = tab.client.status().identity else { return };
        let (here, issue) = (tab.device, self.writes.len() as u64);
        self.writes.entry(op_id).or_insert_with(|| Write::new(here, id, identity, issue, rows));
    }

    fn change(&mut self, known: &[Key], tenant: &str, user: &str) -> NewChange {
        const WRITTEN: [&str; 4] = ["Todo", "Message", "Seat", "Secret"];
        let bad = self.app.permille(self.options.bad);
        let entity = if bad && self.app.permille(100) { ENTITIES[0] } else { *self.app.pick(&WRITTEN) };
        let there: Vec<&Key> = known.iter().filter(|(name, _)| name == entity).collect();
        let (kind, id) = if there.is_empty() || self.app.permille(400) {
            (ChangeKind::Insert, format!("{}{}", entity.to_lowercase(), self.app.between(0, 40)))
        } else {
            let kind = if self.app.permille(250) { ChangeKind::Delete } else { ChangeKind::Update };
            (kind, self.app.pick(&there).1.clone())
        };
        let inserts = kind == ChangeKind::Insert;
        let data = (kind != ChangeKind::Delete).then(|| self.fields(entity, inserts, tenant, user, bad));
        NewChange { entity: entity.to_owned(), row_id: Some(id), kind, data: data.map(|data| Value::Object(data).to_string()) }
    }

    fn fields(&mut self, entity: &str, inserts: bool, tenant: &str, user: &str, bad: bool) -> Row {
        let number = self.app.between(0, 99_999);
        let channel = format!("c{}", self.app.between(0, 2));
        let mut data = Row::new();
        let mut set = |name: &str, value: Value| drop(data.insert(name.to_owned(), value));
        match entity {
            "members" => {
                set("org_id", json!(tenant));
                set("user_id", json!(user));
            }
            "Todo" => {
                if inserts || self.app.permille(700) {
                    set("title", json!(format!("\"é {number}{}", tag(tenant, ""))));
                }
                if self.app.permille(300) {
                    set("slug", json!(format!("s{}", self.app.between(0, 6))));
                }
                if self.app.permille(300) {
                    set("link", json!(format!("todo{}", self.app.between(0, 40))));
                }
                set("link", if self.app.permille(100) { Value::Null } else { json!(format!("todo{}", self.app.between(0, 40))) });
            }
            "Seat" => {
                set("channel", json!(channel));
                set("who", json!(if self.app.permille(600) { user } else { "u2" }));
            }
            "Message" => {
                if inserts || self.app.permille(200) {
                    set("channel", json!(channel));
                }
                set("text", json!(format!("{number}{}", tag(tenant, ""))));
            }
            _ => set("text", json!(format!("{number}{}", tag(tenant, user)))),
        }
        if bad && self.app.permille(300) {
            data.insert("nonsense".to_owned(), json!(true));
        }
        data
    }

    /// Retries, edits or discards something of the queue.
    fn settle_one(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        let mutations: Vec<Value> = serde_json::from_str(&tab.client.mutations_json()).expect("a list");
        if mutations.is_empty() {
            return;
        }
        let mutation = self.app.pick(&mutations).clone();
        let how = self.app.below(3);
        self.settle(id, &mutation, how);
    }

    /// A person thinks better of what they wrote just now, in this tab or another one.
    pub(crate) fn think_better(&mut self, id: TabId, op_id: &str) {
        let Some(tab) = self.tabs.get(&id).filter(|tab| tab.frozen_until <= self.now) else { return };
        let mutations: Vec<Value> = serde_json::from_str(&tab.client.mutations_json()).expect("a list");
        if let Some(mutation) = mutations.iter().find(|mutation| mutation["op_id"] == op_id) {
            let how = self.app.between(1, 2);
            self.settle(id, mutation, usize::try_from(how).unwrap_or(1));
        }
    }

    fn settle(&mut self, id: TabId, mutation: &Value, how: usize) {
        let op_id = OpId::parse(mutation["op_id"].as_str().unwrap_or_default()).expect("an op_id");
        let how = match how {
            0 => Settling::Retry,
            1 => Settling::Remove,
            _ => Settling::Edit(edited(mutation)),
        };
        // What does not fit is refused and changes nothing.
        drop(self.settle_write(id, &op_id, rows_of(mutation), how));
    }

    /// Tries a write of these rows again, changes or discards it; gives what stands for it.
    pub(crate) fn settle_write(
        &mut self,
        id: TabId,
        op_id: &OpId,
        rows: Vec<Key>,
        how: Settling,
    ) -> Result<Option<OpId>, ClientError> {
        let clock = Timestamp(self.clock_of(id));
        let Some(tab) = self.tabs.get_mut(&id) else { return Err(ClientError::NotStarted) };
        let (what, result) = match how {
            Settling::Retry => ("retry", tab.client.retry(clock, op_id).map(Some)),
            Settling::Remove => ("remove", tab.client.remove(clock, op_id).map(|()| None)),
            Settling::Edit(changes) => ("edit", tab.client.edit(clock, op_id, changes).map(|accepted| Some(accepted.op_id))),
        };
        if let Ok(again) = &result {
            self.trace.note(self.now, what, &format!("{id} {op_id}"));
            match again {
                Some(again) => self.took(id, again.to_string(), rows),
                None => self.asked_to_discard(id, op_id),
            }
        }
        self.drain(id);
        self.look(id);
        result
    }

    /// An application discarded a write; whether it is discarded is told later.
    pub(crate) fn asked_to_discard(&mut self, id: TabId, op_id: &OpId) {
        if let Some(tab) = self.tabs.get_mut(&id) {
            tab.discarded.insert(op_id.to_string());
        }
        if let Some(write) = self.writes.get_mut(op_id.as_str()) {
            write.is_unwanted = true;
        }
    }

    /// Discards all that failed, as a person would who has read why.
    pub(crate) fn discard_failed(&mut self, id: TabId) {
        let clock = Timestamp(self.clock_of(id));
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.client.status().failed == 0 {
            return;
        }
        let mutations: Vec<Value> = serde_json::from_str(&tab.client.mutations_json()).expect("a list");
        for mutation in mutations.iter().filter(|mutation| mutation["status"] == "failed") {
            let op_id = OpId::parse(mutation["op_id"].as_str().unwrap_or_default()).expect("an op_id");
            if let Some(tab) = self.tabs.get_mut(&id)
                && tab.client.remove(clock, &op_id).is_ok()
            {
                self.asked_to_discard(id, &op_id);
            }
        }
        self.drain(id);
        self.look(id);
    }
}

/// What marks a value as an organisation's and perhaps one user's, wherever it turns up.
pub(crate) fn tag(tenant: &str, user: &str) -> String {
    let tenant = if tenant.is_empty() { "none" } else { tenant };
    let secret = if user.is_empty() { String::new() } else { format!("<secret of {user}>") };
    format!("<in {tenant}>{secret}")
}

/// The rows that a listed write touches.
pub(crate) fn rows_of(mutation: &Value) -> Vec<Key> {
    let changes = mutation["changes"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    changes.map(|change| (text(&change["entity"]), text(&change["row_id"]))).collect()
}

/// The changes of a listed write, with other texts.
fn edited(mutation: &Value) -> Vec<NewChange> {
    let changes = mutation["changes"].as_array().into_iter().flatten();
    let change = |change: &Value| {
        let text = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
        let mut data = change["data"].as_object().cloned();
        if let Some(title) = data.as_mut().and_then(|data| data.get_mut("title")) {
            *title = json!(format!("{} (edited)", title.as_str().unwrap_or_default()));
        }
        NewChange {
            entity: text("entity"),
            row_id: Some(text("row_id")),
            kind: ChangeKind::from(text("kind")),
            data: data.map(|data| Value::Object(data).to_string()),
        }
    };
    changes.map(change).collect()
}
