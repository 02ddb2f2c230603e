//! Somebody with a valid token of their own who keeps to no protocol.

use serde_json::{Value, json};
use syncline_protocol::{ClientId, Identity};
use syncline_server::local_server::Said;

use crate::random::Random;
use crate::world::{Event, TENANTS, World};

/// The state of the attacker.
#[derive(Debug)]
pub(crate) struct Mallory {
    random: Random,
    token: String,
    id: u64,
    /// Cursors that were seen.
    cursors: Vec<String>,
}

impl Mallory {
    /// Somebody who has not signed in yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::stream(seed, "mallory"), token: String::new(), id: 0, cursors: Vec::new() }
    }
}

const MALLORY: &str = "mallory";

impl World {
    /// Opens a socket, says a few wrong things, and leaves.
    pub(crate) fn byzantine(&mut self) {
        if self.healing {
            return;
        }
        let pause = self.mallory.random.between(100, 4_000);
        self.after(pause, Event::Byzantine);
        if !self.mallory.random.permille(self.options.byzantine * 4) {
            return;
        }
        if self.mallory.token.is_empty() {
            let tenant = *self.mallory.random.pick(&TENANTS);
            self.mallory.token = self.service.sign_in(MALLORY, tenant, u64::from(u32::MAX), self.now);
        }
        let clock = self.service.clock(self.now);
        let token = self.mallory.token.clone();
        let (Ok(mut socket), Ok(identity)) =
            (self.service.server.connect(&token, clock), self.service.server.identity(&token, clock))
        else {
            return;
        };
        let client_id = ClientId::from_bytes([0xba; 16]);
        let fence = self.mallory.random.between(0, 3);
        let claimed = if self.mallory.random.permille(100) { self.forged() } else { identity.clone() };
        let cursor = self.forged_cursor();
        let hello = json!({"type": "hello", "protocol": 1, "client_id": client_id, "identity": claimed, "cursor": cursor,
            "schema": 0, "scopes": null, "fence": fence});
        let mut messages = vec![hello.to_string()];
        for _ in 0..self.mallory.random.between(1, 4) {
            messages.push(self.wrong_message(&identity, client_id.as_str(), fence));
        }
        for text in messages {
            self.trace.note(self.now, "mallory", &text);
            let mut said = self.service.receive(&mut socket, &identity, &text, self.now);
            if self.mallory.random.permille(500) {
                said.extend(self.service.say(&mut socket, self.now));
            }
            self.overheard(&identity, &said);
            if said.iter().any(|said| matches!(said, Said::Close { .. })) {
                break;
            }
        }
        self.check_order();
        self.wake_all_sockets();
    }

    fn forged(&mut self) -> Identity {
        let tenant = *self.mallory.random.pick(&TENANTS);
        Identity { user_id: Some("u1".to_owned()), tenant_id: Some(tenant.to_owned()) }
    }

    fn forged_cursor(&mut self) -> Option<String> {
        let random = &mut self.mallory.random;
        match random.below(3) {
            0 => None,
            1 => Some("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
            _ if self.mallory.cursors.is_empty() => None,
            _ => Some(random.pick(&self.mallory.cursors).clone()),
        }
    }

    fn wrong_message(&mut self, identity: &Identity, client_id: &str, fence: u64) -> String {
        self.mallory.id += 1;
        let id = self.mallory.id;
        let kind = self.mallory.random.below(9);
        let own = format!("{:032x}", 0xbad_0000_0000_u64 + self.mallory.random.between(0, 30));
        let op_id = if self.mallory.random.permille(400) { self.someones_op_id().unwrap_or(own) } else { own };
        let row = format!("x{}", self.mallory.random.between(0, 9));
        let mut data = json!({"title": format!("by {id}")});
        let mut claimed = identity.clone();
        let mut processed = Vec::new();
        let mut fence = fence;
        match kind {
            0 => claimed = self.forged(),
            1 => processed.extend(self.someones_op_id()),
            2 => fence = 0,
            3 => data = deep(70),
            4 => data = json!({"title": "x".repeat(2_000_000)}),
            5 => data = json!({"__proto__": {"a": 1}, "title": "t"}),
            6 => return "{\"type\":\"push\"".to_owned(),
            7 => return format!("{{\"type\":\"resume\",\"cursor\":{}}}", json!(self.forged_cursor().unwrap_or_default())),
            _ => {}
        }
        let change = json!({"entity": "Todo", "row_id": row, "kind": "insert", "data": data});
        let intent = json!({"op_id": op_id, "after": [], "issued_at": 5, "schema": 0, "changes": [change]});
        json!({"type": "push", "id": id, "client_id": client_id, "identity": claimed, "cursor": null, "fence": fence,
            "transactions": [intent], "processed": processed})
        .to_string()
    }

    fn someones_op_id(&mut self) -> Option<String> {
        let ids: Vec<&String> = self.writes.keys().collect();
        if ids.is_empty() { None } else { Some((*self.mallory.random.pick(&ids)).clone()) }
    }

    fn overheard(&mut self, identity: &Identity, said: &[Said]) {
        for said in said {
            let Said::Text(text) = said else { continue };
            crate::said::check_text(identity, text);
            let message: Value = serde_json::from_str(text).unwrap_or_default();
            if let Some(token) = message["cursor"]["token"].as_str() {
                self.mallory.cursors.push(token.to_owned());
            }
        }
    }
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({"title": inner}))
}
