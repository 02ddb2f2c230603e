//! What the npm package calls. Everything crosses as text: JSON in and out, one call for one thing.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_core::client::{Client, ClientError, Input, NewChange};
use syncline_protocol::json::{Object, finish};
use syncline_protocol::{ErrorCode, OpId, RowId};
use wasm_bindgen::prelude::*;

use crate::browser::coded_error;
use crate::engine::Engine;
use crate::integer::{to_f64, to_u64};
use crate::options::Options;
use crate::panic::refuse_after_panic;

/// One engine. Methods that return text of events return what happened because of the call; what happens later comes to
/// the listener, as a JSON array of events.
///
/// Text is returned as a value of JavaScript: the glue of a method that returns a `String` frees it in JavaScript, which each
/// page downloads for each method.
#[wasm_bindgen]
#[derive(Debug)]
pub struct RawEngine {
    engine: Rc<Engine>,
}

#[wasm_bindgen]
impl RawEngine {
    /// Makes an engine that does nothing before `start`. After a panic this and every method throws. `disk` is a `Disk`
    /// of `js/storage.js`, or undefined for IndexedDB alone.
    ///
    /// # Errors
    /// `INVALID_CONFIG`.
    #[expect(clippy::needless_pass_by_value, reason = "the boundary hands over owned values")]
    #[wasm_bindgen(constructor)]
    pub fn new(options_json: &str, on_events: JsValue, disk: JsValue) -> Result<RawEngine, JsValue> {
        refuse_after_panic();
        let (options, config) = Options::read(options_json).map_err(|error| refused(ErrorCode::InvalidConfig, &error.text()))?;
        Ok(Self { engine: Engine::new(options, Client::new(config), &on_events, &disk) })
    }

    /// Begins with this token, or without one as the anonymous user.
    pub fn start(&self, token: Option<String>) -> JsValue {
        self.engine().start(token);
        self.events()
    }

    /// Goes on with another token of the same identity; without one, waits until there is one.
    #[wasm_bindgen(js_name = setToken)]
    pub fn set_token(&self, token: Option<String>) -> JsValue {
        self.engine().set_token(token);
        self.events()
    }

    /// Queues one transaction: `[{entity, row_id?, kind, data?}]`. With an op_id it is queued in place of that write, which
    /// failed or was not sent yet; an empty list stands for the changes of one that failed. Gives `{op_id, row_ids, events}`.
    ///
    /// # Errors
    /// The code of what is wrong with the changes, or with the write to be replaced. Nothing happened then.
    pub fn mutate(&self, changes_json: &str, instead_of: Option<String>) -> Result<JsValue, JsValue> {
        let engine = self.engine();
        let changes = NewChange::parse_list(changes_json).map_err(|error| refused(ErrorCode::InvalidJson, &error.text()))?;
        let accepted = engine.call(|client, now| match instead_of {
            None => client.mutate(now, changes),
            Some(op_id) => client.edit(now, &OpId::parse(op_id)?, changes),
        });
        let accepted = accepted.map_err(|error| client_error(&error))?;
        Ok(JsValue::from_str(&mutated(&accepted.op_id, &accepted.row_ids, &engine.take_events())))
    }

    /// Discards a write that failed or was not sent yet. Gives events.
    ///
    /// # Errors
    /// When no such write has this op_id.
    pub fn remove(&self, op_id: &str) -> Result<JsValue, JsValue> {
        let engine = self.engine();
        let removed = parse_op_id(op_id).and_then(|op_id| engine.call(|client, now| client.remove(now, &op_id)));
        removed.map_err(|error| client_error(&error))?;
        Ok(self.events())
    }

    /// Queues what another session wrote and never sent: intents, one a line, as `Client::adopt` takes them. Gives events.
    ///
    /// # Errors
    /// Before the database was read, and when the queue is full.
    pub fn adopt(&self, list: &str, is_other_log: bool) -> Result<JsValue, JsValue> {
        let adopted = self.engine().call(|client, now| client.adopt(now, list, is_other_log));
        adopted.map_err(|error| client_error(&error))?;
        Ok(self.events())
    }

    /// One row of the view, with its id.
    #[wasm_bindgen(js_name = rowJson)]
    pub fn row_json(&self, entity: &str, id: &str) -> JsValue {
        self.engine().read(|client| client.row_json(entity, id)).map_or(JsValue::UNDEFINED, |row| JsValue::from_str(&row))
    }

    /// Changes when the row changes; 0 for a row that is not in the view.
    #[wasm_bindgen(js_name = rowVersion)]
    pub fn row_version(&self, entity: &str, id: &str) -> f64 {
        to_f64(self.engine().read(|client| client.row_version(entity, id)))
    }

    /// What changed in an entity since a former call said `at`: `{at, full, rows, removed}`. 0 gives everything.
    #[wasm_bindgen(js_name = deltaJson)]
    pub fn delta_json(&self, entity: &str, since: f64) -> JsValue {
        JsValue::from_str(&self.engine().read(|client| client.delta_json(entity, to_u64(since))))
    }

    /// The queue in order.
    #[wasm_bindgen(js_name = mutationsJson)]
    pub fn mutations_json(&self) -> JsValue {
        JsValue::from_str(&self.engine().read(|client| client.mutations_json()))
    }

    /// Where the replica stands.
    #[wasm_bindgen(js_name = statusJson)]
    pub fn status_json(&self) -> JsValue {
        JsValue::from_str(&self.engine().status().to_json())
    }

    /// Gives the core a command that has no more to it than its name. Gives events.
    pub fn command(&self, name: &str) -> JsValue {
        self.engine().take(match name {
            // Stops talking to the network; everything else goes on.
            "pause" => Input::Pause,
            // Talks to the network again.
            "resume" => Input::Resume,
            // Asks the server for what is new; the event `synced` says when everything is here.
            "pull" => Input::Pull,
            // Fetches every row anew; unsent writes stay.
            "resync" => Input::Resync,
            // Cuts a wait short and checks an open socket.
            _ => Input::Wake,
        });
        self.events()
    }

    /// Closes the socket, the database, the lock and the listeners; gives a promise of that. Events of writes that still
    /// reach the disk come before, none after.
    pub fn stop(&self) -> JsValue {
        self.engine().stop()
    }

    fn events(&self) -> JsValue {
        JsValue::from_str(&self.engine.take_events())
    }

    /// The way in of every call.
    fn engine(&self) -> &Engine {
        refuse_after_panic();
        &self.engine
    }
}

fn mutated(op_id: &OpId, row_ids: &[RowId], events_json: &str) -> String {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("op_id", op_id.as_str());
    object.texts("row_ids", &mut row_ids.iter().map(RowId::as_str));
    object.raw("events", events_json);
    object.end();
    finish(out)
}

fn parse_op_id(text: &str) -> Result<OpId, ClientError> {
    OpId::parse(text).map_err(ClientError::from)
}

fn client_error(error: &ClientError) -> JsValue {
    refused(error.code(), &error.text())
}

fn refused(code: ErrorCode, message: &str) -> JsValue {
    coded_error(code.code(), message)
}
