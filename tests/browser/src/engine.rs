//! An engine as the npm package would hold it, with its events kept and awaited.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Function, Promise};
use serde_json::{Value, json};
use syncline_web::RawEngine;
use wasm_bindgen::prelude::Closure;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::page::within_limit;

/// A running engine and everything it has said.
#[derive(Debug)]
pub struct TestEngine {
    raw: RawEngine,
    heard: Rc<Heard>,
    _listener: Closure<dyn FnMut(String)>,
}

#[derive(Debug, Default)]
struct Heard {
    events: RefCell<Vec<Value>>,
    /// Events before this one were awaited already.
    read: Cell<usize>,
    waiting: RefCell<Option<Function>>,
}

impl Heard {
    fn add(&self, events_json: &str) {
        let events: Vec<Value> = parse(events_json);
        self.events.borrow_mut().extend(events);
        if let Some(wake) = self.waiting.take() {
            let _ = wake.call0(&JsValue::NULL);
        }
    }
}

impl TestEngine {
    /// An engine that is not started. `options` overrides: no server listens at the address, and it is paused.
    pub fn new(app_name: &str, options: &Value) -> Self {
        let mut all = json!({ "baseUrl": "http://127.0.0.1:9", "appName": app_name, "persist": true, "startPaused": true });
        if let (Some(all), Some(options)) = (all.as_object_mut(), options.as_object()) {
            all.extend(options.clone());
        }
        let heard = Rc::new(Heard::default());
        let listening = Rc::clone(&heard);
        let listener = Closure::<dyn FnMut(String)>::new(move |events: String| listening.add(&events));
        let raw = RawEngine::new(&all.to_string(), listener.as_ref().clone(), JsValue::UNDEFINED);
        Self { raw: raw.unwrap_or_else(|thrown| panic!("{thrown:?}")), heard, _listener: listener }
    }

    /// An engine of the anonymous user, started, with its rows readable.
    pub async fn open(app_name: &str, options: &Value) -> Self {
        let engine = Self::new(app_name, options);
        engine.start(None);
        engine.event("opened").await;
        engine
    }

    /// Starts it.
    pub fn start(&self, token: Option<&str>) {
        self.hear(&self.raw.start(token.map(str::to_owned)));
    }

    /// Waits for the next event of this type that was not awaited yet. Those before it count as awaited.
    pub async fn event(&self, name: &str) -> Value {
        self.event_that(name, |event| event["type"] == name).await
    }

    /// The same with any condition; `what` names it if it does not come.
    pub async fn event_that(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let read = self.heard.read.get();
            let found = self.heard.events.borrow().iter().skip(read).position(&holds);
            if let Some(at) = found {
                self.heard.read.set(read + at + 1);
                return self.heard.events.borrow().get(read + at).cloned().unwrap_or_default();
            }
            let promise = Promise::new(&mut |resolve, _| drop(self.heard.waiting.replace(Some(resolve))));
            within_limit(promise, &format!("event {what} (heard: {})", self.tail())).await;
        }
    }

    /// Waits until the status says so, now or later.
    pub async fn status_that(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let status = self.status();
        if holds(&status) {
            return status;
        }
        let event = self.event_that(what, |event| event["type"] == "status_changed" && holds(&event["status"])).await;
        event["status"].clone()
    }

    /// Queues one transaction and gives its op_id and row ids.
    ///
    /// # Errors
    /// The code of the refusal.
    pub fn try_mutate(&self, changes: &Value) -> Result<(String, Vec<String>), String> {
        let accepted = self.raw.mutate(&changes.to_string(), None).map_err(|thrown| {
            let code = js_sys::Reflect::get(&thrown, &"code".into()).unwrap_or_default();
            code.as_string().unwrap_or_default()
        })?;
        let accepted: Value = parse(&said(&accepted));
        self.heard.add(&accepted["events"].to_string());
        let row_ids = accepted["row_ids"].as_array().cloned().unwrap_or_default();
        Ok((text(&accepted["op_id"]), row_ids.iter().map(text).collect()))
    }

    /// The same for a transaction that must be taken.
    pub fn mutate(&self, changes: &Value) -> (String, Vec<String>) {
        self.try_mutate(changes).unwrap_or_else(|code| panic!("refused with {code}: {changes}"))
    }

    /// Inserts a row and waits until that is on disk.
    pub async fn insert(&self, entity: &str, data: &Value) -> String {
        let (op_id, row_ids) = self.mutate(&json!([{ "entity": entity, "kind": "insert", "data": data }]));
        self.durable(&op_id).await;
        row_ids.into_iter().next().unwrap_or_default()
    }

    /// Waits until a write is on disk.
    pub async fn durable(&self, op_id: &str) {
        self.event_that("mutation_durable", |event| event["type"] == "mutation_durable" && event["op_id"] == op_id).await;
    }

    /// All rows of an entity.
    pub fn rows(&self, entity: &str) -> Vec<Value> {
        let delta: Value = parse(&said(&self.raw.delta_json(entity, 0.0)));
        delta["rows"].as_array().cloned().unwrap_or_default()
    }

    /// One field of all rows of an entity, in order of the row ids.
    pub fn column(&self, entity: &str, field: &str) -> Vec<String> {
        self.rows(entity).iter().map(|row| text(&row[field])).collect()
    }

    /// The queue.
    pub fn mutations(&self) -> Vec<Value> {
        parse(&said(&self.raw.mutations_json()))
    }

    /// The status.
    pub fn status(&self) -> Value {
        parse(&said(&self.raw.status_json()))
    }

    /// Discards a write.
    pub fn remove(&self, op_id: &str) {
        self.hear(&self.raw.remove(op_id).unwrap_or_else(|thrown| panic!("{thrown:?}")));
    }

    /// Gives it another token.
    pub fn set_token(&self, token: Option<&str>) {
        self.hear(&self.raw.set_token(token.map(str::to_owned)));
    }

    /// Whether a problem with this code was reported so far.
    pub fn heard_problem(&self, code: &str) -> bool {
        self.heard.events.borrow().iter().any(|event| event["type"] == "problem" && event["code"] == code)
    }

    /// Stops talking to the network.
    pub fn pause(&self) {
        self.hear(&self.raw.command("pause"));
    }

    /// Asks for what is new.
    pub fn pull(&self) {
        self.hear(&self.raw.command("pull"));
    }

    /// Fetches every row anew.
    pub fn resync(&self) {
        self.hear(&self.raw.command("resync"));
    }

    /// Talks again.
    pub fn resume(&self) {
        self.hear(&self.raw.command("resume"));
    }

    /// Stops for good and waits until everything is let go.
    pub async fn stop(self) {
        JsFuture::from(self.begin_stop()).await.unwrap_or_else(|thrown| panic!("{thrown:?}"));
    }

    /// Begins to stop.
    pub fn begin_stop(&self) -> Promise {
        self.raw.stop().unchecked_into()
    }

    fn hear(&self, events: &JsValue) {
        self.heard.add(&said(events));
    }

    fn tail(&self) -> String {
        let events = self.heard.events.borrow();
        events.iter().rev().take(5).map(Value::to_string).collect::<Vec<_>>().join(" < ")
    }
}

/// Name of the anonymous user's database.
pub fn anonymous_database(app_name: &str) -> String {
    database_of(app_name, None)
}

/// Name of a user's database.
pub fn database_of(app_name: &str, user_id: Option<&str>) -> String {
    format!("syncline_{app_name}_{}", syncline_web::identity_key(user_id.map(str::to_owned), None))
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn said(text: &JsValue) -> String {
    text.as_string().unwrap_or_else(|| panic!("no text: {text:?}"))
}
