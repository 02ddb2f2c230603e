//! The real server with the model beside it: whatever is pushed is looked at by both.

use std::collections::BTreeMap;

use serde_json::json;
use syncline_protocol::{
    ClientMessage, ErrorCode, ErrorDetail, Identity, OpId, OutcomeResult, OutcomeStatus, Page, Push, PushAnswer, RawJson,
    ServerMessage, Timestamp,
};
use syncline_server::local_server::{LocalServer, LocalSocket, Said};
use syncline_server::manifest::Manifest;
use syncline_server::store::{LocalBackup, PageLimits, Reader, Writer};

use crate::model::{Life, MANIFEST, Pusher};
use crate::random::Random;
use crate::workload::tag;
use crate::world::USERS;

/// A token and when it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// When it ends by itself, by the server's clock.
    pub(crate) expires: u64,
    /// Since when it is over by another cause, by the world's clock.
    pub(crate) over_since: Option<u64>,
}

/// A copy of the database, of the model, and of how far the clock was ahead.
#[derive(Debug)]
struct Backup {
    copy: LocalBackup,
    life: Life,
    sessions: BTreeMap<String, Session>,
    ahead: u64,
}

/// A server, its former lives and what it should have done.
#[derive(Debug)]
pub(crate) struct Service {
    /// The real one.
    pub(crate) server: LocalServer,
    random: Random,
    /// All lives, the present one last.
    pub(crate) lives: Vec<Life>,
    backup: Option<Backup>,
    /// Every token that was ever made.
    pub(crate) sessions: BTreeMap<String, Session>,
    /// The next pushes that it is too busy for.
    pub(crate) busy: u64,
    /// Nobody reaches it before this time.
    pub(crate) down_until: u64,
    /// By how much its clock is ahead of the world's.
    pub(crate) ahead: u64,
    next_op: u64,
    /// Writes that were applied just now, with their replica.
    pub(crate) applied: Vec<(String, OpId)>,
    /// What was pushed together just now, in the order of the push.
    pub(crate) pushed: Vec<OpId>,
}

impl Service {
    /// Starts a server in which each user is a member of each tenant.
    pub(crate) fn new(seed: u64, page: u64, users: &[&str], tenants: &[&str], now: u64) -> Self {
        let mut random = Random::stream(seed, "server");
        let manifest = Manifest::parse(MANIFEST).expect("the manifest is one");
        let epoch = random.next();
        let mut server = LocalServer::new(manifest.schema, epoch).expect("a database in memory");
        let page = usize::try_from(page).unwrap_or(usize::MAX);
        server.limit_pages(PageLimits { changes: page, bytes: 1 << 20 });
        let mut service = Self {
            server,
            random,
            lives: vec![Life::default()],
            backup: None,
            sessions: BTreeMap::new(),
            busy: 0,
            down_until: 0,
            ahead: 0,
            next_op: 0,
            applied: Vec::new(),
            pushed: Vec::new(),
        };
        for tenant in tenants {
            for user in users {
                service.admit(user, tenant, now);
            }
        }
        service
    }

    /// The life at present.
    pub(crate) fn life(&mut self) -> &mut Life {
        self.lives.last_mut().expect("there is one")
    }

    /// What the server's clock says.
    pub(crate) const fn clock(&self, now: u64) -> Timestamp {
        Timestamp(now + self.ahead)
    }

    /// Makes somebody a member of an organisation.
    pub(crate) fn admit(&mut self, user: &str, tenant: &str, now: u64) {
        self.next_op += 1;
        let id = format!("m{}", self.next_op);
        let change = json!({"entity": "members", "row_id": id, "kind": "insert", "data": {"org_id": tenant, "user_id": user}});
        self.write("", "admin", &[change], now);
    }

    /// Takes somebody out of an organisation.
    pub(crate) fn expel(&mut self, user: &str, tenant: &str, now: u64) {
        let identity = Identity { user_id: Some(user.to_owned()), tenant_id: None };
        let head = self.life().head("");
        let view = self.life().view(&identity, head).expect("a head is an end");
        let rows: Vec<String> = view
            .iter()
            .filter(|((entity, _), row)| entity == "members" && row.get("org_id") == Some(&json!(tenant)))
            .map(|((_, id), _)| id.clone())
            .collect();
        for id in rows {
            let change = json!({"entity": "members", "row_id": id, "kind": "delete"});
            self.write("", user, &[change], now);
        }
    }

    /// Inserts a row so large that records of frames are not merged with it.
    pub(crate) fn write_large(&mut self, tenant: &str, number: u64, now: u64) {
        let title = format!("{}{}", "large ".repeat(700), tag(tenant, ""));
        let change = json!({"entity": "Todo", "row_id": format!("todo{number}"), "kind": "insert", "data": {"title": title}});
        self.write(tenant, USERS[0], &[change], now);
    }

    /// Writes past the clients.
    pub(crate) fn write(&mut self, tenant: &str, user: &str, changes: &[serde_json::Value], now: u64) {
        self.next_op += 1;
        let op_id = format!("{:016x}{:016x}", self.next_op, 0xad_u64);
        let intent = json!({"op_id": op_id, "after": [], "issued_at": now, "schema": 0, "changes": changes});
        let parsed = syncline_protocol::Intent::parse(&intent.to_string()).expect("an intent");
        let text = parsed.freeze().expect("an intent");
        let reader = Reader {
            user_id: Some(user.to_owned()),
            tenant_id: (!tenant.is_empty()).then(|| tenant.to_owned()),
            roles: Vec::new(),
        };
        let writer = Writer { reader, client_id: None, fence: 0 };
        let (clock, mark) = (self.clock(now), self.random.next());
        let results = self.server.push_past_sockets(&writer, &[RawJson::from_checked(text.as_str())], clock, mark);
        for result in &results.expect("a push is answered") {
            self.life().written(tenant, user, &text, result);
        }
    }

    /// Makes a token of a user who has selected a tenant.
    pub(crate) fn sign_in(&mut self, user: &str, tenant: &str, ttl: u64, now: u64) -> String {
        let token = format!("token-{:016x}", self.random.next());
        let (clock, expires) = (self.clock(now), self.clock(now + ttl));
        self.server.store().create_session(&token, user, clock, expires).expect("a session is stored");
        self.select(&token, tenant, now);
        self.sessions.insert(token.clone(), Session { expires: expires.0, over_since: None });
        token
    }

    /// Selects a tenant; none by the empty name.
    pub(crate) fn select(&mut self, token: &str, tenant: &str, now: u64) {
        let (clock, tenant) = (self.clock(now), (!tenant.is_empty()).then_some(tenant));
        self.server.select_tenant(token, tenant, clock).expect("the database works");
    }

    /// Ends a token.
    pub(crate) fn revoke(&mut self, token: &str, now: u64) {
        let clock = self.clock(now);
        self.server.revoke_session(token, clock).expect("the database works");
        if let Some(session) = self.sessions.get_mut(token) {
            session.over_since.get_or_insert(now);
        }
    }

    /// Whether a token gives no right any more, and has not for five seconds.
    pub(crate) fn is_long_over(&self, token: &str, now: u64) -> bool {
        const GRACE_MS: u64 = 5_000;
        self.sessions.get(token).is_none_or(|session| {
            let ended_at = session.over_since.unwrap_or_else(|| session.expires.saturating_sub(self.ahead));
            ended_at + GRACE_MS < now
        })
    }

    /// The server's clock jumps.
    pub(crate) fn jump(&mut self, ms: u64, now: u64) {
        let before = self.clock(now).0;
        self.ahead += ms;
        self.life().forget();
        for session in self.sessions.values_mut().filter(|session| (before..before + ms).contains(&session.expires)) {
            session.over_since.get_or_insert(now);
        }
    }

    /// Takes a message from a socket, and lets the model look at it.
    pub(crate) fn receive(&mut self, socket: &mut LocalSocket, identity: &Identity, text: &str, now: u64) -> Vec<Said> {
        let push = match ClientMessage::parse(text) {
            Ok(ClientMessage::Push(push)) => Some(push),
            _ => None,
        };
        if let (Some(push), true) = (&push, self.busy > 0) {
            self.busy -= 1;
            return vec![self.too_busy(push)];
        }
        let (clock, mark) = (self.clock(now), self.random.next());
        let said = self.server.receive(socket, text, clock, mark);
        if let Some(push) = push {
            self.compare(&push, identity, &said);
        }
        said
    }

    /// What a server says whose writer has no time: a whole error, or outcomes that ask for another try.
    fn too_busy(&mut self, push: &Push) -> Said {
        let error = ErrorDetail::new(ErrorCode::Busy, "the server is busy; try again");
        let message = if self.random.permille(500) {
            ServerMessage::Error { id: Some(push.id), error }
        } else {
            let ids = push.transactions.iter().filter_map(|raw| op_id(raw.get()));
            let results = ids.enumerate().map(|(index, op_id)| OutcomeResult {
                op_id,
                status: if index == 0 { OutcomeStatus::Retry } else { OutcomeStatus::NotEvaluated },
                first_seq: None,
                last_seq: None,
                replayed: false,
                error: (index == 0).then(|| error.clone()),
            });
            ServerMessage::Outcomes(PushAnswer { id: push.id, results: results.collect(), frame: None })
        };
        Said::Text(message.encode())
    }

    fn compare(&mut self, push: &Push, identity: &Identity, said: &[Said]) {
        let texts = said.iter().filter_map(|said| if let Said::Text(text) = said { Some(text) } else { None });
        let answer = texts.filter_map(|text| ServerMessage::parse(text).ok()).find_map(|message| match message {
            ServerMessage::Outcomes(answer) => Some(answer),
            _ => None,
        });
        let Some(answer) = answer else { return };
        let user = identity.user_id.as_deref().unwrap_or_default();
        let replica = format!("{} {user} {}", push.client_id, identity.tenant_id.as_deref().unwrap_or_default());
        let pusher = Pusher { identity: identity.clone(), replica: replica.clone(), fence: push.fence };
        let intents: Vec<&str> = push.transactions.iter().map(RawJson::get).collect();
        self.life().pushed(&pusher, &intents, &answer.results);
        if user == USERS[2] {
            // Somebody hostile may use the op_ids of others, in any order.
            return;
        }
        self.pushed = answer.results.iter().map(|result| result.op_id.clone()).collect();
        let applied = answer.results.iter().filter(|result| result.status == OutcomeStatus::Applied && !result.replayed);
        self.applied.extend(applied.map(|result| (replica.clone(), result.op_id.clone())));
    }

    /// What the server says by itself.
    pub(crate) fn say(&mut self, socket: &mut LocalSocket, now: u64) -> Vec<Said> {
        let clock = self.clock(now);
        self.server.say(socket, clock)
    }

    /// Answers a pull.
    ///
    /// # Errors
    /// What the body of the error would say.
    pub(crate) fn pull(&self, token: &str, path: &str, now: u64) -> Result<Page, ErrorDetail> {
        self.server.pull(token, path, self.clock(now))
    }

    /// Copies the database, or goes back to the copy.
    pub(crate) fn back_up_or_restore(&mut self, now: u64) -> bool {
        if self.backup.is_some() && self.random.permille(500) {
            return self.restore(now);
        }
        self.back_up();
        false
    }

    /// Copies the database.
    pub(crate) fn back_up(&mut self) {
        let copy = self.server.store().back_up().expect("the database works");
        let (life, sessions, ahead) = (self.life().clone(), self.sessions.clone(), self.ahead);
        self.backup = Some(Backup { copy, life, sessions, ahead });
    }

    /// Goes back to the copy; false when there is none.
    pub(crate) fn restore(&mut self, now: u64) -> bool {
        let Some(backup) = self.backup.take() else { return false };
        let epoch = self.random.next();
        self.server.restore(&backup.copy, epoch).expect("the database works");
        self.lives.push(backup.life.clone());
        // Tokens that were revoked since are good again, and those that were made since are nobody's.
        self.sessions.clone_from(&backup.sessions);
        let clock = self.clock(now).0;
        for session in self.sessions.values_mut().filter(|session| session.expires < clock) {
            session.over_since.get_or_insert(now);
        }
        if backup.ahead < self.ahead {
            self.life().forget();
        }
        self.backup = Some(backup);
        true
    }

    /// Cuts a tenant's log somewhere.
    pub(crate) fn truncate(&mut self, tenant: &str, now: u64) {
        let kept = self.random.between(0, 8);
        self.truncate_but(tenant, kept, now);
    }

    /// Cuts a tenant's log but for so many changes.
    pub(crate) fn truncate_but(&mut self, tenant: &str, kept: u64, now: u64) {
        let keep_from = self.life().head(tenant).saturating_sub(kept) + 1;
        let (clock, tenant) = (self.clock(now), (!tenant.is_empty()).then_some(tenant));
        self.server.store().truncate_log(tenant, keep_from, clock).expect("the database works");
    }
}

fn op_id(text: &str) -> Option<OpId> {
    syncline_protocol::Intent::parse(text).ok().map(|intent| intent.op_id)
}
