//! What the npm package calls. Everything crosses as text: JSON in and out, one call for one thing.

use std::rc::Rc;

use js_sys::{Function, Promise};
use syncline_core::client::{Client, ClientError, Event, Input, NewChange};
use syncline_protocol::json::{Object, finish};
use syncline_protocol::{ErrorCode, OpId, RowId};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use crate::engine::Engine;
use crate::error::{client_error, raw_error};
use crate::global::{to_f64, to_u64};
use crate::options::{Options, RawOptions};
use crate::panic::refuse_after_panic;

/// One engine. Methods that return text of events return what happened because of the call; what happens later comes to
/// the listener, as a JSON array of events.
#[wasm_bindgen]
#[derive(Debug)]
pub struct RawEngine {
    engine: Rc<Engine>,
}

#[wasm_bindgen]
impl RawEngine {
    /// Makes an engine that does nothing before `start`.
    ///
    /// # Errors
    /// `INVALID_CONFIG` naming the option.
    #[expect(clippy::needless_pass_by_value, reason = "the boundary hands over owned values")]
    #[wasm_bindgen(constructor)]
    pub fn new(options: RawOptions, on_events: Function) -> Result<RawEngine, JsValue> {
        refuse_after_panic()?;
        let (options, config) = Options::read(&options)?;
        let engine = Engine::new(options, Client::new(config), on_events)?;
        Ok(Self { engine })
    }

    /// Begins with this token, or without one as the anonymous user.
    ///
    /// # Errors
    /// `INTERNAL` after a panic; so does every method below.
    pub fn start(&self, token: Option<String>) -> Result<String, JsValue> {
        refuse_after_panic()?;
        self.engine.start(token);
        Ok(self.events())
    }

    /// Goes on with another token of the same identity; without one, waits until there is one.
    ///
    /// # Errors
    /// `INTERNAL`.
    #[wasm_bindgen(js_name = setToken)]
    pub fn set_token(&self, token: Option<String>) -> Result<String, JsValue> {
        refuse_after_panic()?;
        self.engine.set_token(token);
        Ok(self.events())
    }

    /// Queues one transaction: `[{entity, row_id?, kind, data?}]`. Gives `{op_id, row_ids, events}`.
    ///
    /// # Errors
    /// The code of what is wrong with the changes. Nothing happened then.
    pub fn mutate(&self, changes_json: &str) -> Result<String, JsValue> {
        refuse_after_panic()?;
        let changes =
            NewChange::parse_list(changes_json).map_err(|error| raw_error(ErrorCode::InvalidJson, &error.to_string()))?;
        let accepted = self.engine.call(|client, now| client.mutate(now, changes)).map_err(|error| client_error(&error))?;
        let events = self.engine.take_events();
        Ok(mutated(&accepted.op_id, &accepted.row_ids, &events))
    }

    /// Queues a failed write again. Gives `{op_id, events}`.
    ///
    /// # Errors
    /// When no failed write has this op_id, or it does not fit the view any more.
    pub fn retry(&self, op_id: &str) -> Result<String, JsValue> {
        refuse_after_panic()?;
        let op_id = parse_op_id(op_id)?;
        let op_id = self.engine.call(|client, now| client.retry(now, &op_id)).map_err(|error| client_error(&error))?;
        let events = self.engine.take_events();
        Ok(mutated(&op_id, &[], &events))
    }

    /// Discards a write that failed or was not sent yet. Gives events.
    ///
    /// # Errors
    /// When no such write has this op_id.
    pub fn remove(&self, op_id: &str) -> Result<String, JsValue> {
        refuse_after_panic()?;
        let op_id = parse_op_id(op_id)?;
        self.engine.call(|client, now| client.remove(now, &op_id)).map_err(|error| client_error(&error))?;
        Ok(self.events())
    }

    /// One row of the view, with its id.
    ///
    /// # Errors
    /// `INTERNAL`.
    #[wasm_bindgen(js_name = rowJson)]
    pub fn row_json(&self, entity: &str, id: &str) -> Result<Option<String>, JsValue> {
        refuse_after_panic()?;
        Ok(self.engine.read(|client| client.row_json(entity, id)))
    }

    /// Changes when the row changes; 0 for a row that is not in the view.
    ///
    /// # Errors
    /// `INTERNAL`.
    #[wasm_bindgen(js_name = rowVersion)]
    pub fn row_version(&self, entity: &str, id: &str) -> Result<f64, JsValue> {
        refuse_after_panic()?;
        Ok(to_f64(self.engine.read(|client| client.row_version(entity, id))))
    }

    /// What changed in an entity since a former call said `at`: `{at, full, rows, removed}`. 0 gives everything.
    ///
    /// # Errors
    /// `INTERNAL`.
    #[wasm_bindgen(js_name = deltaJson)]
    pub fn delta_json(&self, entity: &str, since: f64) -> Result<String, JsValue> {
        refuse_after_panic()?;
        Ok(self.engine.read(|client| client.delta_json(entity, to_u64(since))))
    }

    /// The queue in order.
    ///
    /// # Errors
    /// `INTERNAL`.
    #[wasm_bindgen(js_name = mutationsJson)]
    pub fn mutations_json(&self) -> Result<String, JsValue> {
        refuse_after_panic()?;
        Ok(self.engine.read(|client| client.mutations_json()))
    }

    /// Where the replica stands.
    ///
    /// # Errors
    /// `INTERNAL`.
    #[wasm_bindgen(js_name = statusJson)]
    pub fn status_json(&self) -> Result<String, JsValue> {
        refuse_after_panic()?;
        Ok(self.engine.status().to_json())
    }

    /// Stops talking to the network; everything else goes on.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn pause(&self) -> Result<String, JsValue> {
        self.input(Input::Pause)
    }

    /// Talks to the network again.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn resume(&self) -> Result<String, JsValue> {
        self.input(Input::Resume)
    }

    /// Cuts a wait short and checks an open socket.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn wake(&self) -> Result<String, JsValue> {
        self.input(Input::Wake)
    }

    /// Closes the socket, the database, the lock and the listeners; resolves when that is done. Events of writes that
    /// still reach the disk come before, none after.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn stop(&self) -> Result<Promise, JsValue> {
        refuse_after_panic()?;
        let engine = Rc::clone(&self.engine);
        Ok(future_to_promise(async move {
            engine.stop().await;
            Ok(JsValue::UNDEFINED)
        }))
    }

    fn input(&self, input: Input) -> Result<String, JsValue> {
        refuse_after_panic()?;
        self.engine.take(input);
        Ok(self.events())
    }

    fn events(&self) -> String {
        Event::list_to_json(&self.engine.take_events())
    }
}

fn mutated(op_id: &OpId, row_ids: &[RowId], events: &[Event]) -> String {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("op_id", op_id.as_str());
    object.texts("row_ids", &mut row_ids.iter().map(RowId::as_str));
    object.raw("events", &Event::list_to_json(events));
    object.end();
    finish(out)
}

fn parse_op_id(text: &str) -> Result<OpId, JsValue> {
    OpId::parse(text).map_err(|error| client_error(&ClientError::from(error)))
}
