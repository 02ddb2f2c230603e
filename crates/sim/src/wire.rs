//! The way between tabs and server: sockets and requests, and what happens to them.

use syncline_core::client::{Input, RequestId};
use syncline_protocol::{ErrorBody, ErrorCode, ErrorDetail, Identity};
use syncline_server::local_server::{LocalServer, LocalSocket, Said};

use crate::world::{Event, LinkId, TabId, World};

/// A request over HTTP.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// Whose token it is.
    Identity,
    /// The next page.
    Pull(RequestId, String),
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Link {
    /// Whose.
    pub(crate) tab: TabId,
    device: usize,
    token: String,
    identity: Option<Identity>,
    /// The server's end.
    socket: Option<LocalSocket>,
    /// Messages arrive in the order they were sent.
    up_at: u64,
    down_at: u64,
    /// From here on nothing arrives, and nobody knows.
    pub(crate) dead: bool,
    say_at: Option<u64>,
}

impl World {
    fn latency(&mut self) -> u64 {
        if self.strikes(self.options.delay) {
            // A heavy tail: most are late by a second, some by a minute.
            let most = *self.net.pick(&[500, 1_000, 5_000, 20_000, 60_000]);
            return self.net.between(20, most);
        }
        self.net.between(2, 40)
    }

    fn is_reached(&self, device: usize) -> bool {
        self.devices[device].partitioned_until <= self.now && self.service.down_until <= self.now
    }

    /// A tab wants a socket.
    pub(crate) fn open_socket(&mut self, id: TabId) {
        self.close_socket(id);
        let link = self.new_id();
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        tab.link = Some(link);
        let (token, device) = (tab.token.clone(), tab.device);
        let latency = self.latency();
        let dead = false;
        self.links.insert(
            link,
            Link { tab: id, device, token, identity: None, socket: None, up_at: 0, down_at: 0, dead, say_at: None },
        );
        self.after(latency, Event::Connect(link));
    }

    /// A tab wants its socket no more; the server may learn of it, or not.
    pub(crate) fn close_socket(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        // A pull belongs to its socket.
        tab.asks.clear();
        if let Some(link) = tab.link.take() {
            let latency = self.latency();
            self.after(latency, Event::Break(link));
        }
    }

    /// A socket reaches the server.
    pub(crate) fn connect(&mut self, link: LinkId) {
        let Some(here) = self.links.get(&link) else { return };
        let device = here.device;
        if self.scripted_refusal(link) || !self.is_reached(device) {
            let delay = self.net.between(1, 20_000);
            return self.after(delay, Event::Break(link));
        }
        let clock = self.service.clock(self.now);
        let Some(token) = self.links.get(&link).map(|link| link.token.clone()) else { return };
        match self.service.server.connect(&token, clock) {
            Ok(socket) => {
                let identity = self.service.server.identity(&token, clock).ok();
                if let Some(here) = self.links.get_mut(&link) {
                    here.socket = Some(socket);
                    here.identity = identity;
                }
                let latency = self.latency();
                self.arrive_down(link, latency, |tab| Event::Input(tab, Input::SocketOpened));
                self.wake_server(link, self.now + 10_000);
            }
            // A browser that gets this far sees the socket open and end.
            Err(said) => {
                let latency = self.latency();
                self.arrive_down(link, latency, |tab| Event::Input(tab, Input::SocketOpened));
                self.send_down(link, said);
            }
        }
    }

    fn arrive_down(&mut self, link: LinkId, latency: u64, event: impl FnOnce(TabId) -> Event) {
        let Some(here) = self.links.get_mut(&link) else { return };
        here.down_at = here.down_at.max(self.now + latency);
        let (at, tab) = (here.down_at, here.tab);
        if self.tabs.get(&tab).is_some_and(|tab| tab.link == Some(link)) {
            self.at(at, event(tab));
        }
    }

    /// A tab sends a message.
    pub(crate) fn send(&mut self, id: TabId, text: String) {
        let Some(link) = self.tabs.get(&id).and_then(|tab| tab.link) else { return };
        let Some(way) = self.scripted_way(id, link, &text) else { return };
        let latency = self.latency() + way.late_ms;
        let loses = self.strikes(self.options.drop);
        let twice = self.strikes(self.options.duplicate) && !text.contains("\"type\":\"hello\"") || way.twice;
        let cut = self.strikes(self.options.mangle) || way.cut;
        let Some(here) = self.links.get_mut(&link) else { return };
        if here.dead {
            return;
        }
        here.up_at = here.up_at.max(self.now + latency);
        let at = here.up_at;
        if loses {
            // What a broken connection loses it loses from some point on; both ends learn of that later.
            return self.lose(link);
        }
        let text = if cut { mangled(&text) } else { text };
        if twice {
            self.at(at + 1, Event::Up(link, text.clone()));
        }
        self.at(at, Event::Up(link, text));
    }

    /// What is on its way is lost, and the socket breaks for both ends.
    pub(crate) fn lose_and_break(&mut self, link: LinkId) {
        self.lose(link);
        self.after(2, Event::Break(link));
    }

    /// What is on its way is lost, and all that follows.
    pub(crate) fn lose(&mut self, link: LinkId) {
        if let Some(here) = self.links.get_mut(&link) {
            here.dead = true;
        }
        // Sometimes nobody tells either end.
        if self.net.permille(700) {
            let delay = self.net.between(1, 60_000);
            self.after(delay, Event::Break(link));
        }
    }

    /// A message reaches the server.
    pub(crate) fn message_up(&mut self, link: LinkId, text: &str) {
        let Some(here) = self.links.get_mut(&link) else { return };
        let reached = self.devices[here.device].partitioned_until <= self.now && self.service.down_until <= self.now;
        if here.dead || !reached {
            return self.lose(link);
        }
        let (Some(mut socket), Some(identity)) = (here.socket.take(), here.identity.clone()) else { return };
        self.trace.note(self.now, "up", text);
        let said = self.service.receive(&mut socket, &identity, text, self.now);
        if let Some(here) = self.links.get_mut(&link) {
            here.socket = Some(socket);
        }
        self.send_down(link, said);
        self.check_order();
        self.wake_all_sockets();
    }

    /// The log may have grown, a session may have ended: every socket looks.
    pub(crate) fn wake_all_sockets(&mut self) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            let delay = self.net.between(1, 5);
            self.wake_server(link, self.now + delay);
        }
    }

    fn wake_server(&mut self, link: LinkId, at: u64) {
        let Some(here) = self.links.get_mut(&link) else { return };
        if here.socket.is_some() && here.say_at.is_none_or(|other| other > at) {
            here.say_at = Some(at);
            self.at(at, Event::Say(link));
        }
    }

    /// The server looks whether it has something to say on a socket.
    pub(crate) fn server_says(&mut self, link: LinkId) {
        let Some(here) = self.links.get_mut(&link) else { return };
        if here.say_at != Some(self.now) {
            return;
        }
        here.say_at = None;
        let Some(mut socket) = here.socket.take() else { return };
        let said = self.service.say(&mut socket, self.now);
        let ahead = self.service.ahead;
        let next =
            if said.is_empty() { LocalServer::says_at(&socket).0.saturating_sub(ahead).max(self.now + 1) } else { self.now + 1 };
        if let Some(here) = self.links.get_mut(&link) {
            here.socket = Some(socket);
        }
        self.send_down(link, said);
        self.wake_server(link, next);
    }

    fn send_down(&mut self, link: LinkId, said: Vec<Said>) {
        for said in said {
            self.check_said(link, &said);
            let Some(way) = self.scripted_way_down(link, &said) else { continue };
            let latency = self.latency() + way.late_ms;
            let loses = self.strikes(self.options.drop / 2);
            let twice = self.strikes(self.options.duplicate) && is_repeatable(&said) || way.twice;
            let cut = self.strikes(self.options.mangle) || way.cut;
            let Some(here) = self.links.get_mut(&link) else { return };
            if matches!(said, Said::Close { .. }) {
                here.socket = None;
            }
            if here.dead {
                continue;
            }
            here.down_at = here.down_at.max(self.now + latency);
            let at = here.down_at;
            if loses {
                // A proxy that swallows one message: what follows shows that something is missing.
                let swallows = matches!(&said, Said::Text(text) if text.contains("\"type\":\"frame\"")) && self.net.permille(500);
                if swallows {
                    let delay = self.net.between(1, 45_000);
                    self.after(delay, Event::Break(link));
                } else {
                    self.lose(link);
                }
                continue;
            }
            let said = match said {
                Said::Text(text) if cut => Said::Text(mangled(&text)),
                said => said,
            };
            if twice {
                self.at(at, Event::Down(link, said.clone()));
            }
            self.at(at, Event::Down(link, said));
        }
    }

    /// A message reaches the tab.
    pub(crate) fn message_down(&mut self, link: LinkId, said: Said) {
        let Some(here) = self.links.get(&link) else { return };
        let (tab, dead) = (here.tab, here.dead);
        if dead || self.devices[here.device].partitioned_until > self.now {
            return self.lose(link);
        }
        if self.tabs.get(&tab).is_none_or(|tab| tab.link != Some(link)) {
            return;
        }
        match said {
            Said::Text(text) => self.give(tab, Input::Received(text)),
            Said::Close { code, reason } => {
                self.links.remove(&link);
                self.forget_link(tab, link);
                self.give(tab, Input::SocketClosed { code, reason });
            }
        }
    }

    fn forget_link(&mut self, tab: TabId, link: LinkId) {
        if let Some(tab) = self.tabs.get_mut(&tab)
            && tab.link == Some(link)
        {
            tab.link = None;
            tab.asks.clear();
        }
    }

    /// A socket breaks for both ends.
    pub(crate) fn break_link(&mut self, link: LinkId) {
        let Some(here) = self.links.remove(&link) else { return };
        let was_known = self.tabs.get(&here.tab).is_some_and(|tab| tab.link == Some(link));
        self.forget_link(here.tab, link);
        if was_known {
            self.give(here.tab, Input::SocketClosed { code: 1006, reason: String::new() });
        }
    }

    /// A tab asks over HTTP.
    pub(crate) fn ask(&mut self, id: TabId, ask: Ask) {
        if let Some(tab) = self.tabs.get_mut(&id) {
            tab.asks.insert(number(&ask));
        }
        let latency = self.latency();
        self.after(latency, Event::Http(id, ask));
    }

    /// A request reaches the server, or something in its place.
    pub(crate) fn http(&mut self, id: TabId, ask: &Ask) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if !tab.asks.remove(&number(ask)) {
            return;
        }
        let (device, token) = (tab.device, tab.token.clone());
        if self.scripted_answer(id, ask) {
            return;
        }
        let latency = self.latency();
        if !self.is_reached(device) || self.strikes(self.options.drop) {
            // Refused at once, or never answered: then the engine's own patience ends it.
            if self.net.permille(500) {
                self.after(latency, Event::Input(id, refused(ask)));
            }
            return;
        }
        let portal = self.strikes(self.options.portal);
        let (status, body, retry_after_ms) = if portal { self.portal() } else { self.answer(&token, ask) };
        self.after(latency, Event::Input(id, answered(ask, status, body, retry_after_ms)));
    }

    fn answer(&mut self, token: &str, ask: &Ask) -> (u16, String, Option<u64>) {
        let now = self.now;
        let answered = match ask {
            Ask::Pull(_, path) => self.service.pull(token, path, now).map(|page| {
                self.check_page(token, &page);
                serde_json::to_string(&page).expect("a page is JSON")
            }),
            Ask::Identity => {
                let clock = self.service.clock(now);
                self.service
                    .server
                    .identity(token, clock)
                    .map(|identity| serde_json::to_string(&identity).expect("an identity is JSON"))
            }
        };
        match answered {
            Ok(body) if self.strikes(self.options.mangle) => (200, mangled(&body), None),
            Ok(body) => (200, body, None),
            Err(error) => (status_of(&error), serde_json::to_string(&ErrorBody { error }).expect("an error is JSON"), None),
        }
    }

    /// What a captive portal, a broken proxy or a gate in front of the server says.
    fn portal(&mut self) -> (u16, String, Option<u64>) {
        let html = "<html><body>Sign in to the hotel</body></html>".to_owned();
        match self.net.below(6) {
            0 => (200, html, None),
            1 => (502, html, None),
            2 => (503, html, Some(self.net.between(1, 30) * 1_000)),
            3 => {
                let error = ErrorDetail::new(ErrorCode::RateLimited, "too many");
                (429, serde_json::to_string(&ErrorBody { error }).expect("an error is JSON"), Some(5_000))
            }
            4 => (403, html, None),
            _ => (200, "{\"scope\":\"all\",\"from\":0,\"to\"".to_owned(), None),
        }
    }

    /// The identity that the server gave a socket.
    pub(crate) fn link_identity(&self, link: LinkId) -> Option<(&Identity, &str)> {
        let link = self.links.get(&link)?;
        Some((link.identity.as_ref()?, &link.token))
    }

    /// All sockets of the server end, with or without a word.
    pub(crate) fn drop_sockets(&mut self, with_goodbye: bool) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            if with_goodbye {
                self.send_down(link, LocalServer::goodbye());
            }
            if let Some(here) = self.links.get_mut(&link) {
                here.socket = None;
                here.dead |= !with_goodbye;
            }
            let delay = self.net.between(1, 3_000);
            self.after(delay, Event::Break(link));
        }
    }
}

const IDENTITY: u64 = u64::MAX;

const fn number(ask: &Ask) -> u64 {
    match ask {
        Ask::Identity => IDENTITY,
        Ask::Pull(request, _) => request.0,
    }
}

/// What a tab hears when this is the answer.
pub(crate) fn answered(ask: &Ask, status: u16, body: String, retry_after_ms: Option<u64>) -> Input {
    match ask {
        Ask::Pull(request, _) => Input::PullAnswered { request: *request, status, body, retry_after_ms },
        Ask::Identity => whose(status, &body, retry_after_ms),
    }
}

fn whose(status: u16, body: &str, retry_after_ms: Option<u64>) -> Input {
    if let (200, Ok(identity)) = (status, serde_json::from_str::<Identity>(body)) {
        return Input::IdentityResolved(identity);
    }
    let code = ErrorBody::parse(body).ok().map(|body| body.error.code);
    Input::IdentityUnavailable { status: Some(status), code, retry_after_ms }
}

/// What a tab hears when nobody is reached.
pub(crate) const fn refused(ask: &Ask) -> Input {
    match ask {
        Ask::Pull(request, _) => Input::PullFailed { request: *request },
        Ask::Identity => Input::IdentityUnavailable { status: None, code: None, retry_after_ms: None },
    }
}

fn status_of(error: &ErrorDetail) -> u16 {
    ErrorCode::from_code(&error.code).map_or(500, ErrorCode::status)
}

/// Frames, outcomes and heartbeats may come twice without harm; a greeting never does.
fn is_repeatable(said: &Said) -> bool {
    matches!(said, Said::Text(text) if !text.contains("\"type\":\"welcome\"") && !text.contains("\"type\":\"resync\""))
}

fn mangled(text: &str) -> String {
    text.get(..text.floor_char_boundary(text.len() / 2)).unwrap_or_default().to_owned()
}
