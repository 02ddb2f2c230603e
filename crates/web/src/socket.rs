//! One WebSocket. Everything it says after it was dropped is lost, which is what the core expects.

use js_sys::Array;
use syncline_core::client::Input;
use syncline_protocol::{SUBPROTOCOL, bearer_subprotocol};
use wasm_bindgen::prelude::*;
use web_sys::{CloseEvent, MessageEvent, WebSocket};

use crate::error::thrown_text;
use crate::handler::{Handler, function, handler};

/// An open or opening socket; dropped, it closes.
#[derive(Debug)]
pub(crate) struct Socket {
    raw: WebSocket,
    /// Of `open`, `message` and `close`.
    _handlers: [Handler; 3],
}

/// Why there is no socket.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The token does not fit into a header.
    TokenTooLong,
    /// The constructor threw: no such interface, a malformed address, or a policy of the page.
    Thrown(String),
}

impl Socket {
    /// Begins to connect. What happens comes through `feed`, never before this returns.
    ///
    /// # Errors
    /// When the browser refuses at once.
    pub(crate) fn open(url: &str, token: Option<&str>, feed: impl Fn(Input) + Clone + 'static) -> Result<Self, Refused> {
        let protocols = Array::of1(&SUBPROTOCOL.into());
        if let Some(token) = token {
            protocols.push(&bearer_subprotocol(token).map_err(|_| Refused::TokenTooLong)?.into());
        }
        if crate::global::property("WebSocket").is_none() {
            return Err(Refused::Thrown("there is no WebSocket here".to_owned()));
        }
        let raw = WebSocket::new_with_str_sequence(url, &protocols).map_err(|thrown| Refused::Thrown(thrown_text(&thrown)))?;
        let opened = feed.clone();
        let on_open = handler(move |_| opened(Input::SocketOpened));
        let received = feed.clone();
        let on_message = handler(move |event| {
            let event: &MessageEvent = event.unchecked_ref();
            // The wire has no binary messages; an empty text is as little understood as one of them.
            received(Input::Received(event.data().as_string().unwrap_or_default()));
        });
        let on_close = handler(move |event| {
            let event: &CloseEvent = event.unchecked_ref();
            feed(Input::SocketClosed { code: event.code(), reason: event.reason() });
        });
        raw.set_onopen(Some(function(&on_open)));
        raw.set_onmessage(Some(function(&on_message)));
        // `error` says nothing that `close`, which always follows, does not say.
        raw.set_onclose(Some(function(&on_close)));
        Ok(Self { raw, _handlers: [on_open, on_message, on_close] })
    }

    /// Sends a message. A socket that is closing drops it and says `close` later.
    pub(crate) fn send(&self, message: &str) {
        let _ = self.raw.send_with_str(message);
    }

    /// Closes with a code and forgets the socket.
    pub(crate) fn close(self, code: u16) {
        self.silence();
        // Only 1000 and 3000 to 4999 may be given; with another one the drop below closes without.
        let _ = self.raw.close_with_code(code);
    }

    fn silence(&self) {
        self.raw.set_onopen(None);
        self.raw.set_onmessage(None);
        self.raw.set_onclose(None);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.silence();
        let _ = self.raw.close();
    }
}
