//! Somebody who speaks the protocol by hand, right or wrong.

use serde_json::{Value, json};
use syncline_protocol::Identity;
use syncline_server::local_server::Said;

use super::stage::Stage;

/// The replica of whoever speaks by hand.
const CLIENT_ID: &str = "0badc0de0badc0de0badc0de0badc0de";

impl Stage {
    /// Opens a socket, says these messages and looks whether these are among the answers, in order.
    pub(super) fn speak_by_hand(
        &mut self,
        user: &str,
        tenant: &str,
        greets: bool,
        says: &[Value],
        hears: &[Value],
    ) -> Result<(), String> {
        let world = &mut self.world;
        let token = world.service.sign_in(user, tenant, 60_000, world.now);
        let clock = world.service.clock(world.now);
        let identity = Identity { user_id: Some(user.to_owned()), tenant_id: Some(tenant.to_owned()) };
        let mut socket = world.service.server.connect(&token, clock).map_err(|said| format!("no socket: {said:?}"))?;
        let mut messages: Vec<Value> = says.iter().map(|message| self.completed(message, &identity)).collect();
        if greets {
            messages.insert(0, self.completed(&json!({"type": "hello"}), &identity));
        }
        let mut answers = Vec::new();
        for message in messages {
            let text = message.to_string();
            let mut said = self.world.service.receive(&mut socket, &identity, &text, self.world.now);
            loop {
                let more = self.world.service.say(&mut socket, self.world.now);
                if more.is_empty() {
                    break;
                }
                said.extend(more);
            }
            answers.extend(said.into_iter().map(|said| match said {
                Said::Text(text) => serde_json::from_str(&text).unwrap_or_default(),
                Said::Close { code, reason } => json!({"closed": code, "reason": reason}),
            }));
        }
        self.world.check_order();
        self.world.wake_all_sockets();
        let mut rest = answers.iter();
        for expected in hears {
            let expected = self.with_op_ids(expected);
            if !rest.any(|found| holds(found, &expected)) {
                let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
                return Err(format!("expected to hear {expected}, heard\n    {}", answers.join("\n    ")));
            }
        }
        Ok(())
    }

    /// A message with what every message of its type has.
    fn completed(&self, message: &Value, identity: &Identity) -> Value {
        let mut whole = match message["type"].as_str() {
            Some("hello") => json!({"protocol": 1, "client_id": CLIENT_ID, "identity": identity, "cursor": null, "schema": 0,
                "scopes": null, "fence": 1}),
            Some("push") => json!({"id": 1, "client_id": CLIENT_ID, "identity": identity, "cursor": null, "fence": 1,
                "processed": []}),
            _ => json!({}),
        };
        for (name, value) in message.as_object().into_iter().flatten() {
            whole[name.as_str()] = value.clone();
        }
        for transaction in whole["transactions"].as_array_mut().into_iter().flatten() {
            for (name, value) in [("after", json!([])), ("issued_at", json!(self.world.now)), ("schema", json!(0))] {
                if transaction[name].is_null() {
                    transaction[name] = value;
                }
            }
        }
        self.with_op_ids(&whole)
    }

    /// The same with an op_id for each name of a write; one that is unknown gets one of its own.
    fn with_op_ids(&self, value: &Value) -> Value {
        let op_id = |name: &Value| {
            let name = name.as_str().unwrap_or_default();
            let by_hand = || {
                let half = |seed| xxhash_rust::xxh64::xxh64(name.as_bytes(), seed);
                format!("{:016x}{:016x}", half(0), half(1))
            };
            Value::from(self.writes.get(name).cloned().unwrap_or_else(by_hand))
        };
        match value {
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| match (name.as_str(), value) {
                    ("op_id", name_of_write) => (name.clone(), op_id(name_of_write)),
                    ("after" | "processed", Value::Array(list)) => (name.clone(), list.iter().map(op_id).collect()),
                    _ => (name.clone(), self.with_op_ids(value)),
                };
                Value::Object(members.iter().map(member).collect())
            }
            Value::Array(list) => list.iter().map(|value| self.with_op_ids(value)).collect(),
            other => other.clone(),
        }
    }
}

/// Whether everything that is expected is there.
fn holds(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(name, value)| found.get(name).is_some_and(|found| holds(found, value)))
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| holds(found, expected))
        }
        _ => found == expected,
    }
}
