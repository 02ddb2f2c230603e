//! The line to the server: when to connect, what to do when it breaks, whom to believe.

use alloc::borrow::ToOwned as _;

use syncline_protocol::{
    ClientMessage, CloseCode, ErrorCode, Hello, Identity, PROTOCOL_VERSION, ResumeMode, ServerMessage, Timestamp, Welcome, limits,
};

use super::backoff::Backoff;
use super::mutation_record::{Mutation, MutationState};
use super::timer::Timer;
use super::{Client, Connection, Event, Output, RequestId};
use crate::planted;

/// How long a handshake may take, in milliseconds: opening the socket, `welcome`, or resolving the identity.
const HANDSHAKE_MS_MAX: u64 = 15_000;
/// An open socket that was silent this long is not trusted when the page wakes up, in milliseconds.
const WAKE_SILENCE_MS_MAX: u64 = 25_000;

/// What the client is doing about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not started.
    Idle,
    /// Asking whose token it is.
    Resolving,
    /// Waiting for the database.
    Opening,
    /// Waiting for the socket.
    Connecting,
    /// Waiting for `welcome`.
    Greeting,
    /// Fetching over HTTP what was missed; the socket is open.
    Pulling(Option<RequestId>),
    /// Frames arrive.
    Live,
    /// Until the retry timer fires.
    Waiting,
    /// The application said so.
    Paused,
    /// Another tab talks to the server.
    Following,
    /// Until another token comes.
    Unauthorized,
    /// Until the application resumes: the server speaks what this version does not know.
    Incompatible,
    /// The token is another identity's. For good.
    Flipped,
    /// For good.
    Stopped,
}

/// What the server makes of the places that it gives: the tokens of its cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    Taken,
    /// It refused one, and no connection has stood since.
    Refused,
}

/// How far the replica is with fetching what the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CatchUp {
    /// The application asked for what is new; the server may have answered an earlier question already.
    Wanted,
    /// The server was asked.
    UnderWay,
    /// Everything came, and the application was told so.
    Told,
}

/// State of the line.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) phase: Phase,
    paused: bool,
    backoff: Backoff,
    /// What the server asked to wait, in milliseconds.
    retry_after_ms: u64,
    heartbeat_ms: u64,
    pub(crate) last_heard_at: Option<Timestamp>,
    pub(crate) server_head: Option<u64>,
    /// What the server's clock said when it greeted. The device's clock may be years off and jump meanwhile; this is at most
    /// the age of the connection too early.
    pub(crate) greeted_at: Timestamp,
    places: Places,
    pub(crate) catch_up: CatchUp,
    /// Whether the application was asked for another token since the server last accepted one: asked again for each that is
    /// refused, an application with a stale token would turn in a circle.
    asked_for_token: bool,
}

impl Link {
    pub(crate) const fn new(reconnect_ms_base: u64, paused: bool) -> Self {
        Self {
            phase: Phase::Idle,
            paused,
            backoff: Backoff::new(reconnect_ms_base),
            retry_after_ms: 0,
            heartbeat_ms: limits::HEARTBEAT_MS,
            last_heard_at: None,
            server_head: None,
            greeted_at: Timestamp(0),
            places: Places::Taken,
            catch_up: CatchUp::Told,
            asked_for_token: false,
        }
    }

    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Flipped | Phase::Stopped)
    }

    /// Whether pushes may go out.
    pub(crate) const fn is_greeted(&self) -> bool {
        matches!(self.phase, Phase::Pulling(_) | Phase::Live)
    }

    const fn has_socket(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Greeting | Phase::Pulling(_) | Phase::Live)
    }

    pub(crate) const fn is_syncing(&self) -> bool {
        matches!(self.phase, Phase::Pulling(_))
    }

    pub(crate) const fn connection_is_stable(&mut self) {
        if matches!(self.phase, Phase::Live) {
            self.places = Places::Taken;
        }
        if matches!(self.places, Places::Taken) {
            self.backoff.reset();
        }
    }

    pub(crate) fn public_state(&self, retry_at: Option<Timestamp>) -> Connection {
        match self.phase {
            Phase::Idle => Connection::Idle,
            Phase::Resolving | Phase::Opening | Phase::Connecting | Phase::Greeting | Phase::Pulling(_) | Phase::Following => {
                Connection::Connecting
            }
            Phase::Live => Connection::Live,
            Phase::Waiting => Connection::Waiting { retry_at: retry_at.unwrap_or_default() },
            Phase::Paused => Connection::Paused,
            Phase::Unauthorized => Connection::Unauthorized,
            Phase::Incompatible => Connection::Incompatible,
            Phase::Flipped | Phase::Stopped => Connection::Stopped,
        }
    }
}

impl Client {
    pub(super) fn start(&mut self, identity: Option<Identity>) {
        if self.link.phase != Phase::Idle {
            return;
        }
        match identity {
            Some(identity) => self.identity_known(identity),
            None => self.advance(),
        }
    }

    /// Does what comes next on the way to a live connection.
    pub(super) fn advance(&mut self) {
        self.timers.clear(Timer::Retry);
        if self.link.paused {
            // The database is read all the same: only the network is off.
            self.link.phase = Phase::Paused;
        } else if self.tabs.refuses_writes {
            // Its queue is sent by whoever has the database now.
            self.link.phase = Phase::Incompatible;
        } else if self.identity.is_none() {
            self.link.phase = Phase::Resolving;
            self.timers.set(Timer::Handshake, self.now.plus_ms(HANDSHAKE_MS_MAX));
            self.outputs.push(Output::ResolveIdentity);
        } else if !self.storage.is_open() {
            self.link.phase = Phase::Opening;
        } else if !self.tabs.leads {
            self.link.phase = Phase::Following;
            self.need_leader();
        } else {
            self.link.phase = Phase::Connecting;
            self.timers.set(Timer::Handshake, self.now.plus_ms(HANDSHAKE_MS_MAX));
            self.outputs.push(Output::OpenSocket);
        }
    }

    fn identity_known(&mut self, identity: Identity) {
        self.identity = Some(identity.clone());
        self.outputs.push(Output::OpenStorage { identity });
        self.advance();
    }

    pub(super) fn identity_resolved(&mut self, identity: Identity) {
        // While it is paused the token may have become another one since the question.
        if self.identity.is_none() && matches!(self.link.phase, Phase::Resolving | Phase::Waiting) {
            self.timers.clear(Timer::Handshake);
            self.last_error = None;
            self.identity_known(identity);
        }
    }

    pub(super) fn identity_unavailable(&mut self, status: Option<u16>, code: Option<&str>, retry_after_ms: Option<u64>) {
        if self.link.phase != Phase::Resolving {
            return;
        }
        self.http_failed(status, code, retry_after_ms, "the session");
    }

    /// An HTTP call did not give what it should: decides by its status what to do about it.
    pub(super) fn http_failed(&mut self, status: Option<u16>, code: Option<&str>, retry_after_ms: Option<u64>, what: &str) {
        let known = code.and_then(ErrorCode::from_code);
        self.link.retry_after_ms = retry_after_ms.unwrap_or(0);
        match (status, known) {
            (Some(401), _) | (Some(_), Some(ErrorCode::TokenTooLong)) => {
                self.need_token(code.unwrap_or(ErrorCode::Unauthenticated.code()));
            }
            (Some(409), Some(ErrorCode::IdentityChanged)) => self.identity_flipped(),
            (Some(_), Some(ErrorCode::ProtocolMismatch)) => {
                self.become_incompatible(ErrorCode::ProtocolMismatch, "the server speaks another version of the protocol");
            }
            (None, _) => {
                self.blame(ErrorCode::NetworkUnavailable, "the server could not be reached");
                self.wait();
            }
            (Some(_), Some(code)) => {
                self.blame(code, &[what, " could not be read: ", code.code()].concat());
                self.wait();
            }
            (Some(_), None) => {
                self.problem(ErrorCode::UnexpectedResponse, &[what, ": something that is no Syncline server answered"].concat());
                self.wait();
            }
        }
    }

    pub(super) fn socket_opened(&mut self) {
        let (Phase::Connecting, Some(identity)) = (self.link.phase, self.identity.clone()) else { return };
        self.link.phase = Phase::Greeting;
        self.link.catch_up = CatchUp::UnderWay;
        self.timers.set(Timer::Handshake, self.now.plus_ms(HANDSHAKE_MS_MAX));
        // A snapshot under way has no place in the log yet; the server then says `resync`, and the pull goes on where it was.
        let cursor = if self.record.staging.is_some() { None } else { self.record.shown.token.clone() };
        self.send(&ClientMessage::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            client_id: self.record.client_id.clone(),
            identity,
            cursor,
            schema: self.config.schema,
            scopes: None,
            fence: self.storage.fence,
        }));
    }

    pub(super) fn send(&mut self, message: &ClientMessage) {
        self.timers.set(Timer::Heartbeat, self.now.plus_ms(self.link.heartbeat_ms));
        self.outputs.push(Output::Send(message.encode()));
    }

    pub(super) fn send_heartbeat(&mut self) {
        if self.link.is_greeted() {
            self.send(&ClientMessage::Heartbeat);
            // A tab that ended between storing a write and telling of it has told nobody.
            if self.storage.is_on_disk() {
                self.read_storage();
            }
        }
    }

    pub(super) fn received(&mut self, text: &str) {
        if !matches!(self.link.phase, Phase::Greeting | Phase::Pulling(_) | Phase::Live) {
            return;
        }
        let message = match ServerMessage::parse(text) {
            Ok(message) => message,
            Err(error) => {
                self.problem(ErrorCode::InvalidFrame, &error.text());
                return self.lose_socket("the server sent what is no message");
            }
        };
        self.heard();
        match message {
            ServerMessage::Welcome(welcome) => self.welcomed(welcome),
            ServerMessage::Frame(page) => self.frame_received(page),
            ServerMessage::Outcomes(answer) => self.outcomes_received(&answer),
            ServerMessage::Heartbeat => {}
            ServerMessage::Resync { .. } => self.resync_demanded(),
            ServerMessage::Error { id, error } => {
                if let Some(id) = id {
                    self.push_refused(id, &error);
                }
                self.link.retry_after_ms = error.retry_after_secs.unwrap_or(0).saturating_mul(1_000);
                self.notify(Event::Problem {
                    code: ErrorCode::from_code(&error.code).unwrap_or(ErrorCode::Internal),
                    message: error.message.clone(),
                });
                self.last_error = Some(error);
            }
        }
    }

    fn heard(&mut self) {
        self.link.last_heard_at = Some(self.now);
        self.timers.set(Timer::Silence, self.now.plus_ms(limits::SILENCE_MS_MAX));
        self.push_heard();
    }

    fn welcomed(&mut self, welcome: Welcome) {
        if self.link.phase != Phase::Greeting {
            return;
        }
        if welcome.protocol != PROTOCOL_VERSION {
            return self.become_incompatible(ErrorCode::ProtocolMismatch, "the server speaks another version of the protocol");
        }
        if Some(&welcome.identity) != self.identity.as_ref() {
            return self.identity_flipped();
        }
        self.timers.clear(Timer::Handshake);
        self.timers.set(Timer::Stable, self.now.plus_ms(limits::STABLE_MS));
        self.link.heartbeat_ms = welcome.heartbeat_ms.clamp(1_000, limits::HEARTBEAT_MS);
        self.timers.set(Timer::Heartbeat, self.now.plus_ms(self.link.heartbeat_ms));
        self.link.server_head = Some(welcome.head);
        self.link.greeted_at = welcome.server_time;
        self.link.retry_after_ms = 0;
        self.link.asked_for_token = false;
        self.tabs.is_accepted();
        self.last_error = None;
        if self.record.epoch.as_ref().is_some_and(|epoch| *epoch != welcome.epoch) && !planted::is(10) {
            // A restored backup may lack what was applied: sent again, it is answered from its outcome or decided anew.
            self.queue.reopen_applied();
        }
        self.record.epoch = Some(welcome.epoch);
        self.fail_forgotten(welcome.outcome_floor);
        self.push_greeted();
        match welcome.resume {
            ResumeMode::Resync => self.resync_demanded(),
            // Without a cursor there is nothing the frames could follow.
            ResumeMode::Stream if self.record.staging.is_none() && self.record.shown.token.is_some() => self.become_live(),
            ResumeMode::Stream | ResumeMode::Pull => self.link.phase = Phase::Pulling(None),
        }
    }

    /// Writes sent so long ago that the server may have forgotten their outcome are never sent again blindly.
    fn fail_forgotten(&mut self, floor: Timestamp) {
        let sent_at = |mutation: &Mutation| mutation.first_sent_at.unwrap_or(mutation.intent.issued_at);
        let is_forgotten = |mutation: &Mutation| sent_at(mutation) < floor && !planted::is(6);
        for place in self.queue.places(&|mutation| mutation.state == MutationState::Sent && is_forgotten(mutation)) {
            let message = "it was sent so long ago that the server no longer knows what became of it";
            self.fail_mutation_with(place, ErrorCode::OutcomeUnknown, message);
        }
    }

    pub(super) fn become_live(&mut self) {
        if self.link.catch_up == CatchUp::Wanted {
            self.link.phase = Phase::Pulling(None);
            return;
        }
        self.link.phase = Phase::Live;
        self.timers.start(Timer::Stable, self.now.plus_ms(limits::STABLE_MS));
        self.tell_synced();
    }

    /// Says once per connection that the replica reached what the server had when it greeted, and again for each pull.
    pub(super) fn tell_synced(&mut self) {
        let seq = self.record.shown.seq;
        let reached = self.record.staging.is_none() && self.link.server_head.is_some_and(|head| seq >= head);
        if self.link.phase == Phase::Live && reached && self.link.catch_up == CatchUp::UnderWay {
            self.link.catch_up = CatchUp::Told;
            self.notify(Event::Synced { seq });
            self.tell_tabs_synced(seq);
        }
    }

    /// The server refused a place it had given. Once, that is as it should be: a log was cut, a policy changed. Again, before
    /// a connection stood, it may be two servers behind one name, which would be asked for everything without end.
    pub(super) fn place_refused(&mut self) {
        if core::mem::replace(&mut self.link.places, Places::Refused) == Places::Refused {
            let message = "the server refuses each place that it gives: more than one may answer to its name";
            self.problem(ErrorCode::ResyncRequired, message);
            self.lose_socket(message);
        }
    }

    pub(super) fn socket_closed(&mut self, code: u16, reason: &str) {
        if !self.link.has_socket() {
            return;
        }
        let named = ErrorCode::from_code(reason);
        match CloseCode::from_number(code) {
            Some(CloseCode::Unauthenticated) => self.need_token(named.unwrap_or(ErrorCode::Unauthenticated).code()),
            Some(CloseCode::IdentityChanged) if !planted::is(15) => self.identity_flipped(),
            Some(CloseCode::InvalidMessage) => self.become_incompatible(
                named.unwrap_or(ErrorCode::InvalidFrame),
                "the server did not understand a message of this version",
            ),
            Some(CloseCode::ProtocolMismatch) => {
                self.become_incompatible(ErrorCode::ProtocolMismatch, "the server speaks another version of the protocol");
            }
            Some(CloseCode::TooLarge) => {
                self.push_too_large();
                self.problem(ErrorCode::PayloadTooLarge, "the server refused a message as too large");
                self.wait();
            }
            Some(CloseCode::Fenced) => self.fenced_by_server(),
            Some(CloseCode::RateLimited) => {
                self.blame(named.unwrap_or(ErrorCode::RateLimited), "the server asks to wait");
                self.wait();
            }
            Some(CloseCode::IdentityChanged | CloseCode::HelloTimeout | CloseCode::SlowConsumer | CloseCode::Restarting)
            | None => {
                self.lose_socket("the connection broke");
            }
        }
    }

    pub(super) fn handshake_timed_out(&mut self) {
        self.lose_socket("the server did not answer");
    }

    /// Gives an open socket up and tries again later.
    pub(super) fn lose_socket(&mut self, why: &'static str) {
        if self.last_error.is_none() {
            self.blame(ErrorCode::NetworkUnavailable, why);
        }
        self.wait();
    }

    /// Goes on later; the reason stands in `last_error`.
    fn wait(&mut self) {
        self.leave_network();
        let delay = self.link.backoff.next_ms(&mut self.rng);
        let asked = core::mem::take(&mut self.link.retry_after_ms).min(limits::RETRY_AFTER_MS_MAX);
        self.link.phase = Phase::Waiting;
        self.timers.set(Timer::Retry, self.now.plus_ms(delay.max(asked)));
    }

    /// Forgets the socket, the pull and the push on their way. Nothing that was written is touched.
    pub(super) fn leave_network(&mut self) {
        if self.link.has_socket() {
            self.outputs.push(Output::CloseSocket { code: 1000 });
        }
        for timer in [
            Timer::Retry,
            Timer::Handshake,
            Timer::Heartbeat,
            Timer::Silence,
            Timer::Outcomes,
            Timer::Pull,
            Timer::Stable,
            Timer::PushRetry,
        ] {
            self.timers.clear(timer);
        }
        self.push_lost();
    }

    fn need_token(&mut self, code: &str) {
        self.leave_network();
        self.link.phase = Phase::Unauthorized;
        let known = ErrorCode::from_code(code).unwrap_or(ErrorCode::Unauthenticated);
        self.blame(known, "the server does not accept the token");
        if !self.link.asked_for_token {
            self.link.asked_for_token = true;
            self.notify(Event::TokenNeeded { code: code.to_owned() });
        }
    }

    pub(super) fn identity_flipped(&mut self) {
        self.leave_network();
        self.lose_unstored(ErrorCode::IdentityChanged, "the session became another user's before the write was on disk");
        self.link.phase = Phase::Flipped;
        self.timers.clear_all();
        self.notify(Event::IdentityFlipped);
    }

    pub(super) fn become_incompatible(&mut self, code: ErrorCode, message: &str) {
        self.problem(code, message);
        self.leave_network();
        self.link.phase = Phase::Incompatible;
    }

    pub(super) fn token_changed(&mut self) {
        match self.link.phase {
            Phase::Idle | Phase::Opening | Phase::Flipped | Phase::Stopped => {}
            Phase::Resolving
            | Phase::Connecting
            | Phase::Greeting
            | Phase::Pulling(_)
            | Phase::Live
            | Phase::Waiting
            | Phase::Paused
            | Phase::Following
            | Phase::Unauthorized
            | Phase::Incompatible => {
                self.leave_network();
                self.advance();
            }
        }
    }

    pub(super) fn token_unavailable(&mut self) {
        if self.link.phase == Phase::Unauthorized {
            self.link.asked_for_token = true;
        }
    }

    pub(super) fn pause(&mut self) {
        self.link.paused = true;
        if self.link.phase != Phase::Idle {
            self.leave_network();
            self.link.phase = Phase::Paused;
        }
    }

    pub(super) fn resume(&mut self) {
        self.link.paused = false;
        if matches!(self.link.phase, Phase::Paused | Phase::Incompatible) {
            self.advance();
        }
    }

    pub(super) fn wake(&mut self) {
        let trusted = self.link.last_heard_at.is_some_and(|heard| heard.plus_ms(WAKE_SILENCE_MS_MAX) >= self.now);
        match self.link.phase {
            // What the server asked to wait is waited.
            Phase::Waiting if self.last_error.as_ref().is_none_or(|error| error.code != ErrorCode::RateLimited.code()) => {
                self.advance();
            }
            Phase::Pulling(_) | Phase::Live if !trusted => {
                self.leave_network();
                self.advance();
            }
            Phase::Pulling(_) | Phase::Live => self.send_heartbeat(),
            Phase::Following => {
                // Messages may have been lost while it slept.
                self.read_storage();
                self.command_leader("wake");
            }
            Phase::Idle
            | Phase::Resolving
            | Phase::Opening
            | Phase::Connecting
            | Phase::Greeting
            | Phase::Waiting
            | Phase::Paused
            | Phase::Unauthorized
            | Phase::Incompatible
            | Phase::Flipped
            | Phase::Stopped => {}
        }
    }

    pub(super) fn stop(&mut self) {
        self.flush_writes();
        self.leave_network();
        if !self.storage.is_open() {
            self.lose_unstored(ErrorCode::NotStarted, "the engine was stopped before its database was open");
        }
        self.lose_memory_only();
        self.repeat_queue_update();
        self.link.phase = Phase::Stopped;
        self.timers.clear_all();
    }
}
