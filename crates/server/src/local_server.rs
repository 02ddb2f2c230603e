//! A server without network, threads, clock or randomness of its own: the simulation drives it with all of these.
//!
//! Store, sessions and both halves of a socket are those of the real server; what is not here is how bytes travel and how
//! tasks wait for each other.

use axum::extract::Query;
use axum::http::Uri;
use syncline_core::planted;
use syncline_core::server::Schema;
use syncline_protocol::{
    ErrorCode, ErrorDetail, Hello, Identity, OutcomeResult, Page, Push, RawJson, ServerMessage, Timestamp, limits,
};

use crate::api_error::ApiError;
use crate::auth::Caller;
use crate::http::sync::{self, PullParams};
use crate::socket::incoming::{Asked, Incoming, Reply, fenced, pushed, resumed};
use crate::socket::outgoing::{FRAME_LIMITS, Outgoing, expired, heed, restarting, superseded};
use crate::socket::registry::Leadership;
use crate::socket::{Closing, SocketRegistry};
use crate::store::{LocalBackup, LocalStore, PageLimits, Reader, SessionEvent, StoreError, Writer};

/// One server process over a database in memory.
#[derive(Debug)]
pub struct LocalServer {
    store: LocalStore,
    sockets: SocketRegistry,
    /// What happened to sessions since the process began; each socket remembers how far it has read.
    events: Vec<SessionEvent>,
    /// How much a frame and a page hold.
    limits: Option<PageLimits>,
}

/// The server's end of one socket.
#[derive(Debug)]
pub struct LocalSocket {
    caller: Caller,
    incoming: Incoming,
    outgoing: Outgoing,
    heard_at: Timestamp,
    said_at: Timestamp,
    events_read: usize,
}

/// What the server puts on a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A text message.
    Text(String),
    /// The end.
    Close {
        /// The close code.
        code: u16,
        /// The close frame's reason.
        reason: String,
    },
}

impl LocalServer {
    /// Starts with an empty database, which `epoch` recognises.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn new(schema: Schema, epoch: u64) -> Result<Self, StoreError> {
        let store = LocalStore::new(schema, epoch)?;
        Ok(Self { store, sockets: SocketRegistry::default(), events: Vec::new(), limits: None })
    }

    /// Makes pages and frames smaller than they usually are, so that few rows need many.
    pub const fn limit_pages(&mut self, limits: PageLimits) {
        self.limits = Some(limits);
    }

    /// The database.
    pub const fn store(&mut self) -> &mut LocalStore {
        &mut self.store
    }

    /// Ends the process and starts another over the same database. Its sockets are of no use any more.
    pub fn restart(&mut self) {
        self.sockets = SocketRegistry::default();
        self.events.clear();
        self.store.restart();
    }

    /// Puts a backup in the place of the database, as `syncline restore` does between two processes.
    ///
    /// # Errors
    /// When the database fails.
    pub fn restore(&mut self, backup: &LocalBackup, epoch: u64) -> Result<(), StoreError> {
        self.restart();
        self.store.restore(backup, epoch)
    }

    /// Ends a session and tells its sockets.
    ///
    /// # Errors
    /// When the database fails.
    pub fn revoke_session(&mut self, token: &str, now: Timestamp) -> Result<(), StoreError> {
        let events = self.store.revoke_session(token, now)?;
        self.events.extend(events);
        Ok(())
    }

    /// Applies writes that came over no socket, as REST writes do.
    ///
    /// # Errors
    /// When the database fails, or the writer is no member of the tenant.
    pub fn push_past_sockets(
        &mut self,
        writer: &Writer,
        intents: &[RawJson],
        now: Timestamp,
        random: u64,
    ) -> Result<Vec<OutcomeResult>, ErrorDetail> {
        let done =
            self.store.push(writer, intents, Vec::new(), now, random).map_err(|error| ApiError::from(error).into_detail())?;
        self.events.extend(done.sessions);
        done.value.map_err(|error| ApiError::from(error).into_detail())
    }

    /// Selects a session's tenant and tells its sockets.
    ///
    /// # Errors
    /// When the database fails.
    pub fn select_tenant(&mut self, token: &str, tenant: Option<&str>, now: Timestamp) -> Result<(), StoreError> {
        let events = self.store.select_tenant(token, tenant, now)?;
        self.events.extend(events);
        Ok(())
    }

    /// Whose token it is: what `GET /api/auth/me` says.
    ///
    /// # Errors
    /// When it is no session.
    pub fn identity(&self, token: &str, now: Timestamp) -> Result<Identity, ErrorDetail> {
        self.caller(token, now).map(|caller| caller.identity().clone()).map_err(ApiError::into_detail)
    }

    /// Answers `GET /api/sync/pull`.
    ///
    /// # Errors
    /// What the body of the error would say.
    pub fn pull(&self, token: &str, path_and_query: &str, now: Timestamp) -> Result<Page, ErrorDetail> {
        self.try_pull(token, path_and_query, now).map_err(ApiError::into_detail)
    }

    fn try_pull(&self, token: &str, path_and_query: &str, now: Timestamp) -> Result<Page, ApiError> {
        let caller = self.caller(token, now)?;
        let uri: Uri = path_and_query.parse().map_err(|_| ApiError::new(ErrorCode::InvalidJson, "no path"))?;
        let Query(params) =
            Query::<PullParams>::try_from_uri(&uri).map_err(|error| ApiError::new(ErrorCode::InvalidJson, error.body_text()))?;
        let cursor = params.checked_cursor(&caller)?;
        Ok(self.store.pull(&caller.reader(), cursor.as_deref(), self.limits.unwrap_or_default())?)
    }

    fn caller(&self, token: &str, now: Timestamp) -> Result<Caller, ApiError> {
        Ok(Caller::of_session(token.to_owned(), self.store.session(token, now)?))
    }

    /// Opens a socket.
    ///
    /// # Errors
    /// What a client hears whose token is no session.
    pub fn connect(&self, token: &str, now: Timestamp) -> Result<LocalSocket, Vec<Said>> {
        let caller = self.caller(token, now).map_err(|error| said_at_the_end(Closing::from_error(error)))?;
        Ok(LocalSocket {
            caller,
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            heard_at: now,
            said_at: now,
            events_read: self.events.len(),
        })
    }

    /// Takes one message of a client; gives what is said to it.
    pub fn receive(&mut self, socket: &mut LocalSocket, text: &str, now: Timestamp, random: u64) -> Vec<Said> {
        socket.heard_at = now;
        let replies = self.answer(socket, text, now, random);
        let mut said = Vec::new();
        for reply in replies.unwrap_or_else(|closing| vec![Reply::Close(closing)]) {
            match socket.outgoing.reply(reply) {
                Ok(message) => said.extend(message.map(|message| Said::Text(message.encode()))),
                Err(closing) => {
                    said.extend(said_at_the_end(closing));
                    break;
                }
            }
        }
        if !said.is_empty() {
            socket.said_at = now;
        }
        said
    }

    fn answer(&mut self, socket: &mut LocalSocket, text: &str, now: Timestamp, random: u64) -> Result<Vec<Reply>, Closing> {
        match socket.incoming.understand(text)? {
            Asked::Hello(hello) => self.hello(socket, hello, now),
            Asked::Resume(cursor) => Ok(vec![self.resume(&socket.caller, cursor)?]),
            Asked::Push(push) => {
                let id = push.id;
                Ok(vec![pushed(id, self.push(&socket.caller, push, now, random))?])
            }
            Asked::Nothing => Ok(Vec::new()),
        }
    }

    fn hello(&self, socket: &mut LocalSocket, hello: Hello, now: Timestamp) -> Result<Vec<Reply>, Closing> {
        let caller = &socket.caller;
        sync::check_hello(caller, &hello).map_err(Closing::from_error)?;
        let reader = caller.reader();
        let head = self.store.head(caller.tenant_id()).map_err(|error| Closing::from_error(error.into()))?;
        let checked = hello.cursor.as_deref().map(|cursor| self.store.check_cursor(&reader, cursor));
        let welcome = sync::greet(caller, self.store.epoch(), head, checked, now).map_err(Closing::from_error)?;
        let leadership = self.sockets.lead((caller.identity().clone(), hello.client_id), hello.fence).ok_or_else(fenced)?;
        let follow = socket.incoming.welcome(welcome.resume, hello.cursor);
        let mut replies = vec![Reply::Welcome(welcome, leadership)];
        if let Some(cursor) = follow {
            replies.push(self.resume(&socket.caller, cursor)?);
        }
        Ok(replies)
    }

    fn resume(&self, caller: &Caller, cursor: String) -> Result<Reply, Closing> {
        let checked = self.store.check_cursor(&caller.reader(), &cursor);
        resumed(cursor, checked)
    }

    fn push(&mut self, caller: &Caller, push: Push, now: Timestamp, random: u64) -> Result<Vec<OutcomeResult>, ApiError> {
        let writer = sync::check_push(caller, &push)?;
        let done = self.store.push(&writer, &push.transactions, push.processed, now, random)?;
        self.events.extend(done.sessions);
        Ok(done.value?)
    }

    /// What the server says by itself: frames of the log, one at a time, heartbeats, and the end of a session.
    pub fn say(&self, socket: &mut LocalSocket, now: Timestamp) -> Vec<Said> {
        let said = match self.end_of(socket, now) {
            Some(closing) => said_at_the_end(closing),
            None => self.next_message(socket, now).into_iter().collect(),
        };
        if !said.is_empty() {
            socket.said_at = now;
        }
        said
    }

    /// When the server has something to say by the clock alone.
    pub fn says_at(socket: &LocalSocket) -> Timestamp {
        let silence = socket.heard_at.plus_ms(socket.incoming.patience_ms());
        let heartbeat = socket.said_at.plus_ms(limits::HEARTBEAT_MS);
        socket.caller.expires().map_or(silence, |expires| silence.min(expires)).min(heartbeat)
    }

    fn end_of(&self, socket: &mut LocalSocket, now: Timestamp) -> Option<Closing> {
        let unread = self.events.get(socket.events_read..).unwrap_or_default();
        socket.events_read = self.events.len();
        let heeded = unread.iter().find_map(|event| heed(event, &socket.caller).err());
        if heeded.is_some() {
            return heeded;
        }
        if socket.outgoing.leadership.as_ref().is_some_and(Leadership::is_lost) {
            return Some(superseded());
        }
        if socket.caller.expires().is_some_and(|expires| now >= expires) && !planted::is(25) {
            return Some(expired());
        }
        let silent = socket.heard_at.plus_ms(socket.incoming.patience_ms()) <= now;
        silent.then(|| socket.incoming.silence())
    }

    fn next_message(&self, socket: &mut LocalSocket, now: Timestamp) -> Option<Said> {
        if socket.outgoing.cursor().is_some() && (socket.outgoing.is_behind() || self.has_grown(socket)) {
            let reader: Reader = socket.caller.reader();
            let page = self.store.pull(&reader, socket.outgoing.cursor(), self.limits.unwrap_or(FRAME_LIMITS));
            return socket.outgoing.read(page).ok().flatten().map(|message| Said::Text(message.encode()));
        }
        let due = socket.said_at.plus_ms(limits::HEARTBEAT_MS) <= now;
        due.then(|| Said::Text(socket.outgoing.heartbeat().encode()))
    }

    fn has_grown(&self, socket: &LocalSocket) -> bool {
        let head = self.store.head(socket.caller.tenant_id());
        head.is_ok_and(|head| socket.outgoing.read_to().is_some_and(|read_to| read_to < head))
    }

    /// What every client hears when the process is asked to end.
    pub fn goodbye() -> Vec<Said> {
        said_at_the_end(restarting())
    }
}

fn said_at_the_end(closing: Closing) -> Vec<Said> {
    let code = closing.code.number();
    let reason = closing.error.as_ref().map_or_else(String::new, |error| error.code.clone());
    let error = closing.error.map(|error| ServerMessage::Error { id: None, error });
    error.map(|error| Said::Text(error.encode())).into_iter().chain([Said::Close { code, reason }]).collect()
}
