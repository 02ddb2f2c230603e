//! The pump: gives the core inputs, carries out what it asks for, collects what it has to say.
//!
//! No cell is borrowed while JavaScript runs, so that JavaScript may call in at any time.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::mem;

use syncline_core::client::{Client, Connection, Event, Input, Output, Status, StoredReplica};
use syncline_protocol::{ErrorCode, Identity, SUBPROTOCOL, Timestamp, bearer_subprotocol, limits};
use wasm_bindgen::JsValue;

use crate::browser::{Network, Page};
use crate::event::{BrowserEvent, OnEvent, PULLED, RESOLVED};
use crate::identity;
use crate::integer::{to_f64, to_u64};
use crate::options::Options;
use crate::panic;
use crate::storage::Storage;

/// One replica's driver.
#[derive(Debug)]
pub(crate) struct Engine {
    options: Options,
    client: RefCell<Client>,
    token: RefCell<Option<String>>,
    /// Whether the map of tokens holds this one: looking it up for every event would cost more than the event.
    is_token_remembered: Cell<bool>,
    /// Effects that ended at once. They follow when the outputs are drained, because the core must not be re-entered.
    ended_at_once: RefCell<Vec<Input>>,
    events: RefCell<Vec<Event>>,
    /// When the page ticks next.
    wake_at: Cell<Option<Timestamp>>,
    phase: Cell<Phase>,
    page: Page,
    network: Network,
    storage: Storage,
    /// What all three call; it must not go before them.
    _on_event: OnEvent,
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
    pub(crate) fn new(options: Options, client: Client, on_events: &JsValue, disk: &JsValue) -> Rc<Self> {
        Rc::new_cyclic(|me: &Weak<Self>| {
            let me = Weak::clone(me);
            let on_event = BrowserEvent::listener(move |event| {
                if let Some(engine) = me.upgrade() {
                    engine.hear(event);
                }
            });
            let listener = &Page::guard(on_event.as_ref());
            let network = Network::new(listener);
            let storage = Storage::new(listener, limits::STORAGE_MS_MAX, disk);
            Self {
                options,
                client: RefCell::new(client),
                token: RefCell::default(),
                is_token_remembered: Cell::new(false),
                ended_at_once: RefCell::default(),
                events: RefCell::default(),
                wake_at: Cell::default(),
                phase: Cell::new(Phase::New),
                page: Page::new(listener, on_events, &network, storage.as_js()),
                network,
                storage,
                _on_event: on_event,
            }
        })
    }

    /// Begins; a second call does nothing.
    pub(crate) fn start(&self, token: Option<String>) {
        if self.phase.get() != Phase::New {
            return;
        }
        self.phase.set(Phase::Running);
        let identity = identity::recall(&self.options.app_name, token.as_deref());
        self.token.replace(token);
        self.page.listen();
        self.take(Input::Start { identity });
    }

    /// The application gave another token for the same identity, or says that it has none.
    pub(crate) fn set_token(&self, token: Option<String>) {
        let input = if token.is_some() { Input::TokenChanged } else { Input::TokenUnavailable };
        if token.is_some() {
            self.token.replace(token);
            self.is_token_remembered.set(false);
            // Its answer is about the former token.
            self.network.abort(RESOLVED);
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
        if is_heard {
            self.call(|client, now| client.handle_input(now, input));
        }
    }

    /// Runs a call of the application on the core and carries out what follows.
    pub(crate) fn call<T>(&self, call: impl FnOnce(&mut Client, Timestamp) -> T) -> T {
        let now = self.now();
        let result = call(&mut self.client.borrow_mut(), now);
        self.drain();
        result
    }

    /// Reads from the core.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&mut Client) -> T) -> T {
        read(&mut self.client.borrow_mut())
    }

    /// What happened since it was asked last, as JSON.
    pub(crate) fn take_events(&self) -> String {
        Event::list_to_json(&self.events.take())
    }

    /// The core's status.
    pub(crate) fn status(&self) -> Status {
        self.client.borrow().status()
    }

    /// Stops: [`BrowserEvent::Stopping`] follows, and in the end the promise that this gives is resolved.
    pub(crate) fn stop(&self) -> JsValue {
        self.storage.close()
    }

    fn now(&self) -> Timestamp {
        Timestamp(to_u64(self.page.now()))
    }

    #[inline(never)]
    fn drain(&self) {
        loop {
            let output = self.client.borrow_mut().poll_output();
            let Output::Idle { wake_at } = output else {
                self.perform(output);
                continue;
            };
            let Some(input) = self.ended_at_once.borrow_mut().pop() else { return self.tick_at(wake_at) };
            let now = self.now();
            self.client.borrow_mut().handle_input(now, input);
        }
    }

    fn tick_at(&self, wake_at: Option<Timestamp>) {
        if self.wake_at.replace(wake_at) != wake_at {
            let now = self.now();
            self.page.tick_after(wake_at.map(|at| to_f64(at.0.saturating_sub(now.0))));
        }
    }

    fn perform(&self, output: Output) {
        match output {
            Output::ResolveIdentity => self.get(RESOLVED, 0, "/api/auth/me"),
            Output::OpenStorage { identity } => self.open_storage(&identity),
            Output::ReadStorage { known } => self.storage.read(known.as_deref()),
            Output::TakeLead => self.storage.take_lead(),
            Output::Resign => self.storage.resign(),
            Output::TellTabs(text) => self.storage.tell(&text),
            Output::Store(request) => self.storage.run(request),
            Output::OpenSocket => self.open_socket(),
            Output::CloseSocket { code } => {
                self.network.close_socket(code);
                // A pull belongs to its socket: with this one the core has given it up.
                self.network.abort(PULLED);
            }
            Output::Send(message) => self.network.send(&message),
            Output::Pull { request, path_and_query } => self.get(PULLED, request.0, &path_and_query),
            Output::Notify(event) => self.note(event),
            Output::Idle { .. } => {}
        }
    }

    fn note(&self, event: Event) {
        if let Event::StatusChanged { status } = &event
            && let (Connection::Live, Some(identity)) = (&status.connection, &status.identity)
            && !self.is_token_remembered.replace(true)
        {
            // Only now has the server agreed that this token is this identity's.
            self.remember(identity);
        }
        self.events.borrow_mut().push(event);
    }

    fn remember(&self, identity: &Identity) {
        let token = self.token.borrow().clone();
        identity::remember(&self.options.app_name, token.as_deref(), identity);
    }

    fn get(&self, kind: u32, id: u64, path_and_query: &str) {
        let url = [&self.options.base_url, path_and_query].concat();
        let token = self.token.borrow().clone();
        self.network.get(kind, to_f64(id), &url, token.as_deref());
    }

    fn open_socket(&self) {
        let bearer = self.token.borrow().as_deref().map(bearer_subprotocol).transpose();
        let Ok(bearer) = bearer else {
            // As good as a token that the server refuses: the application must give another one.
            return self.socket_refused(ErrorCode::TokenTooLong, "the token is longer than 4 KiB".to_owned(), UNAUTHENTICATED);
        };
        let refused = self.network.open_socket(&self.options.socket_url(), SUBPROTOCOL, bearer.as_deref());
        if let Some(message) = refused {
            self.socket_refused(ErrorCode::NetworkUnavailable, message, ABNORMAL);
        }
    }

    fn socket_refused(&self, code: ErrorCode, message: String, close_code: u16) {
        self.note(Event::Problem { code, message });
        self.ended_at_once.borrow_mut().push(Input::SocketClosed { code: close_code, reason: code.code().to_owned() });
    }

    fn open_storage(&self, identity: &Identity) {
        if self.options.persist {
            let name = identity::database_name(&self.options.app_name, identity);
            return self.storage.open(&name, &identity::to_json(identity));
        }
        let memory = Some("persist is false".to_owned());
        let opened = StoredReplica { memory, ..StoredReplica::default() };
        self.ended_at_once.borrow_mut().push(Input::Opened(Box::new(opened)));
    }

    /// Takes what came from the browser, and tells the application what followed.
    fn hear(&self, event: BrowserEvent) {
        if panic::has_panicked() {
            return;
        }
        match event {
            BrowserEvent::Input(input) => self.hear_input(input),
            BrowserEvent::Stopping => {
                self.take(Input::Stop);
                if self.phase.get() == Phase::Running {
                    self.phase.set(Phase::Stopping);
                }
                self.page.close();
            }
            BrowserEvent::Stopped => {
                self.phase.set(Phase::Stopped);
                self.page.abandon();
            }
        }
        self.deliver();
    }

    fn hear_input(&self, input: Input) {
        if matches!(input, Input::Tick) {
            self.wake_at.set(None);
        }
        let resolved = if let Input::IdentityResolved(identity) = &input { Some(identity.clone()) } else { None };
        self.take(input);
        if let Some(identity) = resolved.filter(|identity| self.client.borrow().status().identity.as_ref() == Some(identity)) {
            self.is_token_remembered.set(true);
            self.remember(&identity);
        }
    }

    fn deliver(&self) {
        let events = mem::take(&mut *self.events.borrow_mut());
        if !events.is_empty() && self.phase.get() != Phase::Stopped {
            self.page.tell(&Event::list_to_json(&events));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.page.abandon();
    }
}

/// Close codes of `docs/protocol.md` and RFC 6455.
const UNAUTHENTICATED: u16 = 4401;
const ABNORMAL: u16 = 1006;
