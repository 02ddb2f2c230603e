//! The state machine of one replica of one identity.
//!
//! It keeps the rows the server confirmed (the base), the queue of writes it has not answered (the overlay), and decides
//! what to store, send and show. It knows no clock, socket or database: a driver feeds [`Input`]s and carries out
//! [`Output`]s. Specified in `docs/protocol.md` and `docs/storage.md`.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

mod adopt;
mod apply;
mod backoff;
mod base;
mod client_error;
mod compaction;
mod config;
mod connection;
mod enqueuing;
mod event;
mod folding;
mod held;
mod input;
mod key_index;
mod mirror;
mod mutate;
mod mutation_queue;
mod mutation_record;
mod names;
mod opening;
mod output;
mod overlay;
mod pull;
mod push;
mod replica_record;
mod rewriting;
mod rng;
mod row_codec;
mod row_index;
mod section_writer;
mod segment;
mod staging;
mod status;
mod storage_flow;
mod tabs;
mod timer;
mod view;
mod view_log;

pub use client_error::ClientError;
pub use config::ClientConfig;
pub use event::Event;
pub use input::{Input, NewChange, StorageFailure, StoredReplica, StoredValue};
pub use mutate::Accepted;
pub use output::{Former, Output, RequestId, StorageKind, StorageRequest};
pub use status::{Connection, Status, StorageState};
pub use tabs::TabMessage;

use syncline_protocol::{ErrorCode, ErrorDetail, Identity, Timestamp};

use apply::HeldPages;
use base::Generation;
use connection::{Link, Phase};
use mutation_queue::MutationQueue;
use names::{EntityIndex, EntitySet, Names};
use overlay::Overlay;
use push::PushFlow;
use replica_record::ReplicaRecord;
use rng::Rng;
use storage_flow::StorageFlow;
use tabs::{LeaderReport, Tabs};
use timer::{Timer, Timers};
use view_log::ViewLog;

/// One replica of one identity.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    rng: Rng,
    now: Timestamp,
    timers: Timers,
    outputs: Vec<Output>,
    /// How many of the outputs were given out.
    given: usize,
    next_request: u64,
    identity: Option<Identity>,
    link: Link,
    storage: StorageFlow,
    push: PushFlow,
    tabs: Tabs,
    names: Names,
    record: ReplicaRecord,
    /// The rows that are shown.
    base: Generation,
    /// The rows of a snapshot under way.
    staging: Option<Generation>,
    held: HeldPages,
    queue: MutationQueue,
    overlay: Overlay,
    log: ViewLog,
    /// Entities whose view changed since the application was told.
    changed: EntitySet,
    last_error: Option<ErrorDetail>,
    /// The last status the application was told, as text.
    told_status: String,
}

impl Client {
    /// Makes a client that waits for [`Input::Start`].
    pub fn new(config: ClientConfig) -> Self {
        let mut rng = Rng::new(config.client_seed);
        let record = ReplicaRecord::new(rng.client_id());
        Self {
            link: Link::new(config.reconnect_ms_base, config.start_paused),
            push: PushFlow::new(config.reconnect_ms_base),
            config,
            rng,
            now: Timestamp::default(),
            timers: Timers::default(),
            outputs: Vec::new(),
            given: 0,
            next_request: 1,
            identity: None,
            storage: StorageFlow::default(),
            tabs: Tabs::new(),
            names: Names::default(),
            record,
            base: Generation::new(0),
            staging: None,
            held: HeldPages::default(),
            queue: MutationQueue::default(),
            overlay: Overlay::default(),
            log: ViewLog::new(),
            changed: EntitySet::default(),
            last_error: None,
            told_status: String::new(),
        }
    }

    /// Takes one input. Drain [`Client::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) {
        self.set_now(now);
        if self.link.is_over() {
            // Stopped, or the token is another identity's. Writes handed to the database on the way out still become durable.
            if let Input::Stored { request, result } = input {
                self.stored(request, result);
            }
            return;
        }
        match input {
            Input::Start { identity } => self.start(identity),
            Input::Opened(stored) => self.opened(*stored),
            Input::OpenFailed(failure) => self.open_failed(&failure),
            Input::IdentityResolved(identity) => self.identity_resolved(identity),
            Input::IdentityUnavailable { status, code, retry_after_ms } => {
                self.identity_unavailable(status, code.as_deref(), retry_after_ms);
            }
            Input::Stored { request, result } => self.stored(request, result),
            Input::SocketOpened => self.socket_opened(),
            Input::SocketClosed { code, reason } => self.socket_closed(code, &reason),
            Input::Received(text) => self.received(&text),
            Input::PullAnswered { request, status, body, retry_after_ms } => {
                self.pull_answered(request, status, &body, retry_after_ms);
            }
            Input::PullFailed { request } => self.pull_failed(request),
            Input::TokenChanged => self.token_changed(),
            Input::TokenUnavailable => self.token_unavailable(),
            Input::Pause => {
                self.tell_paused("pause");
                self.pause();
            }
            Input::Resume => {
                self.tell_paused("resume");
                self.resume();
            }
            Input::LeadLost => self.follow(),
            Input::TabHeard { tab, number, message } => self.tab_heard(tab, number, message),
            Input::Wake => self.wake(),
            Input::Pull => self.pull_now(),
            Input::Resync => self.resync(),
            Input::Tick => {}
            Input::Stop => self.stop(),
        }
        self.fire_timers();
    }

    /// Gives the next effect to carry out; the last one is always [`Output::Idle`].
    pub fn poll_output(&mut self) -> Output {
        if self.outputs.len() == self.given {
            self.outputs.clear();
            self.given = 0;
            self.settle();
        }
        let idle = Output::Idle { wake_at: self.timers.next() };
        let Some(output) = self.outputs.get_mut(self.given) else { return idle };
        self.given += 1;
        core::mem::replace(output, idle)
    }

    /// What follows from all inputs since the last drain together: grouped requests and one notice of what changed.
    fn settle(&mut self) {
        if self.link.is_over() {
            self.flush_storage();
        } else {
            self.pump_storage();
            self.pump_pull();
            self.pump_push();
        }
        if !self.changed.is_empty() {
            let entities = self.changed.take_names(&self.names);
            self.notify(Event::Changed { entities });
        }
        self.tell_status();
        self.tell_tabs();
    }

    fn tell_status(&mut self) {
        let mut status = Box::new(self.status());
        // The time of the last message alone is no news.
        let last_heard_at = status.last_heard_at.take();
        let text = status.to_json();
        if self.told_status != text {
            self.told_status = text;
            status.last_heard_at = last_heard_at;
            self.notify(Event::StatusChanged { status });
        }
    }

    fn set_now(&mut self, now: Timestamp) {
        if now < self.now {
            self.timers.move_back(self.now.0 - now.0);
            self.link.last_heard_at = self.link.last_heard_at.min(Some(now));
            self.push.is_sent_by(now);
        }
        self.now = now;
    }

    fn fire_timers(&mut self) {
        while let Some(timer) = self.timers.take_due(self.now) {
            match timer {
                Timer::Retry => self.advance(),
                Timer::Handshake => self.handshake_timed_out(),
                Timer::Heartbeat => self.send_heartbeat(),
                Timer::Silence | Timer::Outcomes => self.lose_socket("the server is silent"),
                Timer::Lead => self.leader_is_silent(),
                Timer::Pull => self.lose_socket("a pull was not answered"),
                Timer::Stable => self.link.connection_is_stable(),
                // The batch is made when the outputs are drained.
                Timer::PushWindow | Timer::PushRetry => {}
            }
        }
    }

    fn notify(&mut self, event: Event) {
        self.outputs.push(Output::Notify(event));
    }

    /// Tells the application about something that is wrong; once while it lasts.
    fn problem(&mut self, code: ErrorCode, message: &str) {
        let detail = ErrorDetail::new(code, message);
        if self.last_error.as_ref() != Some(&detail) {
            self.notify(Event::Problem { code, message: detail.message.clone() });
        }
        self.last_error = Some(detail);
    }

    /// Notes what is wrong for the status alone.
    fn blame(&mut self, code: ErrorCode, message: &str) {
        self.last_error = Some(ErrorDetail::new(code, message));
    }

    const fn request_id(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// Where the replica stands.
    pub fn status(&self) -> Status {
        let retry_at = self.timers.at(Timer::Retry);
        let link = &self.link;
        let report = if link.phase == Phase::Following {
            self.tabs.report.clone()
        } else {
            LeaderReport {
                connection: link.public_state(retry_at),
                syncing: link.is_syncing(),
                last_heard_at: link.last_heard_at,
                server_head: link.server_head,
                last_error: self.last_error.clone(),
            }
        };
        Status {
            leads: self.tabs.leads,
            connection: report.connection,
            identity: self.identity.clone(),
            synced: self.storage.is_open() && self.record.shown.token.is_some(),
            syncing: report.syncing,
            last_heard_at: report.last_heard_at,
            pending: self.queue.open(),
            failed: self.queue.failed(),
            storage: self.storage.public_state(),
            seq: self.record.shown.seq,
            server_head: report.server_head,
            last_error: report.last_error.or_else(|| self.last_error.clone()),
        }
    }
}
