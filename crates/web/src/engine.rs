//! The pump: gives the core inputs, carries out what it asks for, collects what it has to say.
//!
//! No cell is borrowed across an await or while JavaScript runs, so that JavaScript may call in at any time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::rc::{Rc, Weak};

use js_sys::Function;
use syncline_core::client::{
    Client, Connection, Event, Input, Output, RequestId, Status, StorageFailure, StorageRequest, StorageState, StoredReplica,
};
use syncline_protocol::json::finish;
use syncline_protocol::{ErrorCode, Identity, Timestamp};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;
use web_sys::AbortController;

use crate::clock::Clock;
use crate::database::Lost;
use crate::fetch;
use crate::identity;
use crate::lifecycle::Lifecycle;
use crate::lock::{self, Asked, Lock};
use crate::options::Options;
use crate::panic;
use crate::socket::{Refused, Socket};
use crate::storage::{LostHandler, Storage};
use crate::timer::Timer;

/// One replica's driver.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Itself, for the closures it hands to the browser: they must not keep it alive.
    me: Weak<Self>,
    options: Options,
    client: RefCell<Client>,
    clock: Clock,
    token: RefCell<Option<String>>,
    /// Whether the map of tokens holds this one: looking it up for every event would cost more than the event.
    is_token_remembered: Cell<bool>,
    /// Effects that failed at once. They follow when the outputs are drained, because the core must not be re-entered.
    failed_at_once: RefCell<VecDeque<Input>>,
    events: RefCell<Vec<Event>>,
    on_events: Function,
    timer: Timer,
    socket: RefCell<Option<Socket>>,
    storage: Storage,
    /// Aborts fetches and the wait for the lock.
    abort: AbortController,
    lifecycle: RefCell<Option<Lifecycle>>,
    phase: Cell<Phase>,
    waits_for_lock: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    /// Only answers of the database are taken, so that what was promised to it arrives there.
    Stopping,
    Stopped,
}

impl Engine {
    pub(crate) fn new(options: Options, client: Client, on_events: Function) -> Result<Rc<Self>, JsValue> {
        let abort = AbortController::new()?;
        panic::report_to(&on_events);
        Ok(Rc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            options,
            client: RefCell::new(client),
            clock: Clock::new(),
            token: RefCell::default(),
            is_token_remembered: Cell::new(false),
            failed_at_once: RefCell::default(),
            events: RefCell::default(),
            on_events,
            timer: Timer::default(),
            socket: RefCell::default(),
            storage: Storage::default(),
            abort,
            lifecycle: RefCell::default(),
            phase: Cell::new(Phase::New),
            waits_for_lock: Cell::new(false),
        }))
    }

    /// Begins; a second call does nothing.
    pub(crate) fn start(&self, token: Option<String>) {
        if self.phase.get() != Phase::New {
            return;
        }
        self.phase.set(Phase::Running);
        let identity = identity::recall(&self.options.app_name, token.as_deref());
        self.token.replace(token);
        let me = Weak::clone(&self.me);
        let lifecycle = Lifecycle::listen(move || feed(&me, Input::Wake));
        self.lifecycle.replace(Some(lifecycle));
        self.take(Input::Start { identity });
    }

    /// The application gave another token for the same identity, or says that it has none.
    pub(crate) fn set_token(&self, token: Option<String>) {
        let input = if token.is_some() { Input::TokenChanged } else { Input::TokenUnavailable };
        if token.is_some() {
            self.token.replace(token);
            self.is_token_remembered.set(false);
        }
        self.take(input);
    }

    /// Gives the core one input and carries out everything it wants; events are collected, not delivered.
    pub(crate) fn take(&self, input: Input) {
        let is_heard = match self.phase.get() {
            Phase::Running => true,
            Phase::Stopping => matches!(input, Input::Stored { .. }),
            Phase::New | Phase::Stopped => false,
        };
        if !is_heard {
            return;
        }
        self.client.borrow_mut().handle_input(self.clock.now(), input);
        self.drain();
    }

    /// Runs a call of the application on the core and carries out what follows.
    pub(crate) fn call<T>(&self, call: impl FnOnce(&mut Client, Timestamp) -> T) -> T {
        let result = call(&mut self.client.borrow_mut(), self.clock.now());
        self.drain();
        result
    }

    /// Reads from the core.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&mut Client) -> T) -> T {
        read(&mut self.client.borrow_mut())
    }

    /// What happened since it was asked last.
    pub(crate) fn take_events(&self) -> Vec<Event> {
        self.events.take()
    }

    /// The core's status, and that the database waits for another tab: the core does not know of tabs.
    pub(crate) fn status(&self) -> Status {
        let mut status = self.client.borrow().status();
        self.complete(&mut status);
        status
    }

    /// Stops, waits for what storage is doing, and lets go of everything.
    pub(crate) async fn stop(self: Rc<Self>) {
        if self.phase.get() == Phase::Running {
            self.take(Input::Stop);
            self.phase.set(Phase::Stopping);
            self.deliver();
        }
        self.timer.clear();
        self.lifecycle.replace(None);
        self.abort.abort();
        drop(self.socket.take());
        self.storage.close().await;
        self.phase.set(Phase::Stopped);
        panic::stop_reporting_to(&self.on_events);
    }

    fn drain(&self) {
        loop {
            let output = self.client.borrow_mut().poll_output();
            let Output::Idle { wake_at } = output else {
                self.perform(output);
                continue;
            };
            if let Some(input) = self.failed_at_once.borrow_mut().pop_front() {
                self.client.borrow_mut().handle_input(self.clock.now(), input);
                continue;
            }
            let me = Weak::clone(&self.me);
            self.timer.set(self.clock.now(), wake_at, move || {
                if let Some(engine) = me.upgrade() {
                    engine.timer.clear();
                }
                feed(&me, Input::Tick);
            });
            return;
        }
    }

    fn perform(&self, output: Output) {
        match output {
            Output::ResolveIdentity => self.resolve_identity(),
            Output::OpenStorage { identity } => self.spawn(|engine| engine.open_storage(identity)),
            Output::Store(request) => self.store(request),
            Output::OpenSocket => self.open_socket(),
            Output::CloseSocket { code } => {
                if let Some(socket) = self.socket.take() {
                    socket.close(code);
                }
            }
            Output::Send(message) => {
                if let Some(socket) = &*self.socket.borrow() {
                    socket.send(&message);
                }
            }
            Output::Pull { request, path_and_query } => self.pull(request, &path_and_query),
            Output::Notify(event) => self.note(event),
            Output::Idle { .. } => {}
        }
    }

    fn note(&self, mut event: Event) {
        if let Event::StatusChanged { status } = &mut event {
            if let (Connection::Live, Some(identity)) = (&status.connection, &status.identity)
                && !self.is_token_remembered.replace(true)
            {
                // Only now has the server agreed that this token is this identity's.
                identity::remember(&self.options.app_name, self.token.borrow().as_deref(), identity);
            }
            self.complete(status);
        }
        self.events.borrow_mut().push(event);
    }

    fn complete(&self, status: &mut Status) {
        if self.waits_for_lock.get() && status.storage == StorageState::Opening {
            status.storage = StorageState::Waiting { reason: "another tab".to_owned() };
        }
    }

    fn spawn<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce(Rc<Self>) -> F) {
        if let Some(engine) = self.me.upgrade() {
            spawn_local(task(engine));
        }
    }

    fn resolve_identity(&self) {
        let url = self.options.base_url.clone() + "/api/auth/me";
        let token = self.token.borrow().clone();
        self.spawn(|engine| async move {
            let answer = fetch::get(&url, token.as_deref(), &engine.abort.signal()).await;
            let input = fetch::identity_input(answer);
            if let Input::IdentityResolved(identity) = &input {
                identity::remember(&engine.options.app_name, token.as_deref(), identity);
            }
            engine.feed(input);
        });
    }

    fn pull(&self, request: RequestId, path_and_query: &str) {
        let url = self.options.base_url.clone() + path_and_query;
        let token = self.token.borrow().clone();
        self.spawn(|engine| async move {
            let input = match fetch::get(&url, token.as_deref(), &engine.abort.signal()).await {
                Ok(fetch::Answer { status, body, retry_after_ms }) => {
                    Input::PullAnswered { request, status, body, retry_after_ms }
                }
                Err(_) => Input::PullFailed { request },
            };
            engine.feed(input);
        });
    }

    fn open_socket(&self) {
        drop(self.socket.take());
        let me = Weak::clone(&self.me);
        let opened = Socket::open(&self.options.socket_url, self.token.borrow().as_deref(), move |input| feed(&me, input));
        match opened {
            Ok(socket) => drop(self.socket.replace(Some(socket))),
            Err(refused) => self.report_refused_socket(refused),
        }
    }

    fn report_refused_socket(&self, refused: Refused) {
        let (code, message, close_code) = match refused {
            // As good as a token that the server refuses: the application must give another one.
            Refused::TokenTooLong => (ErrorCode::TokenTooLong, "the token is longer than 4 KiB".to_owned(), UNAUTHENTICATED),
            Refused::Thrown(message) => (ErrorCode::NetworkUnavailable, message, ABNORMAL),
        };
        self.note(Event::Problem { code, message });
        self.failed_at_once.borrow_mut().push_back(Input::SocketClosed { code: close_code, reason: code.code().to_owned() });
    }

    async fn open_storage(self: Rc<Self>, identity: Identity) {
        if !self.options.persist {
            let memory = Some("persist is false".to_owned());
            return self.feed(Input::Opened(Box::new(StoredReplica { memory, ..StoredReplica::default() })));
        }
        let name = identity::database_name(&self.options.app_name, &identity);
        let lock = self.lead(&name).await;
        if self.phase.get() != Phase::Running {
            return;
        }
        let mut people = Vec::new();
        identity.write(&mut people);
        let people = finish(people);
        let lost = Rc::new(OnLost(Weak::clone(&self.me)));
        let opened = self.storage.open(name, &people, lock, lost).await;
        if self.phase.get() != Phase::Running {
            // Stopped meanwhile: nobody would close the connection, and the lock would keep other tabs out.
            return self.storage.give_up();
        }
        let input = match opened {
            Ok(replica) => Input::Opened(Box::new(replica)),
            Err(failure) => Input::OpenFailed(failure),
        };
        self.feed(input);
    }

    /// Becomes the leader, however long that takes. `None` where there are no locks.
    async fn lead(&self, name: &str) -> Option<Lock> {
        let asked = match lock::try_lock(name).await {
            Asked::Taken => {
                self.set_waiting(true);
                let asked = lock::wait_for_lock(name, &self.abort.signal()).await;
                self.set_waiting(false);
                asked
            }
            asked @ (Asked::Granted(_) | Asked::Missing) => asked,
        };
        match asked {
            Asked::Granted(lock) => Some(lock),
            Asked::Taken | Asked::Missing => None,
        }
    }

    fn set_waiting(&self, waits: bool) {
        self.waits_for_lock.set(waits);
        self.events.borrow_mut().push(Event::StatusChanged { status: Box::new(self.status()) });
        self.deliver();
    }

    fn store(&self, request: StorageRequest) {
        let StorageRequest { id, kind } = request;
        self.storage.begin();
        self.spawn(|engine| async move {
            let result = engine.storage.run(kind).await;
            engine.feed(Input::Stored { request: id, result });
            engine.storage.end();
        });
    }

    /// Takes an input that came from the browser, and tells the application what followed.
    fn feed(&self, input: Input) {
        if panic::has_panicked() {
            return;
        }
        self.take(input);
        self.deliver();
    }

    fn deliver(&self) {
        let events = mem::take(&mut *self.events.borrow_mut());
        if !events.is_empty() && self.phase.get() != Phase::Stopped {
            panic::call_listener(&self.on_events, &Event::list_to_json(&events));
        }
    }
}

fn feed(engine: &Weak<Engine>, input: Input) {
    if let Some(engine) = engine.upgrade() {
        engine.feed(input);
    }
}

#[derive(Debug)]
struct OnLost(Weak<Engine>);

impl LostHandler for OnLost {
    fn lost(&self, how: Lost) {
        let Some(engine) = self.0.upgrade() else { return };
        // A connection that the browser closed is opened again by the next request; one that we gave up is not.
        if how == Lost::VersionChange {
            engine.storage.give_up();
            let reason = "another tab upgrades or deletes the database; reload this one";
            engine.feed(Input::OpenFailed(StorageFailure::Unavailable(reason.to_owned())));
        }
    }
}

/// Close codes of `docs/protocol.md` and RFC 6455.
const UNAUTHENTICATED: u16 = 4401;
const ABNORMAL: u16 = 1006;
