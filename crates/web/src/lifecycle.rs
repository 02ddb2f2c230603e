//! What the page lives through that is worth another try: online again, visible again, back from the cache.
//!
//! `pagehide` and `offline` are not here: a transaction begun while a page goes may never finish, so everything is written
//! when it happens, and `navigator.onLine` is a hint too weak to stop trying for.

use wasm_bindgen::prelude::*;
use web_sys::EventTarget;

use crate::global::{property, property_of};
use crate::handler::{Handler, function, handler};

/// Listens until dropped.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    targets: Vec<(EventTarget, &'static str)>,
    listener: Handler,
}

impl Lifecycle {
    /// Calls `wake` on each of the events. Where there is no page, as in Node, it never does.
    pub(crate) fn listen(wake: impl Fn() + 'static) -> Self {
        let listener = handler(move |_| {
            if !is_hidden() {
                wake();
            }
        });
        let page = property("addEventListener").map(|_| js_sys::global().unchecked_into::<EventTarget>());
        let document = property("document").map(JsCast::unchecked_into::<EventTarget>);
        let events = [(&page, "online"), (&page, "pageshow"), (&document, "visibilitychange")];
        let targets: Vec<_> = events.into_iter().filter_map(|(target, name)| Some((target.clone()?, name))).collect();
        for (target, name) in &targets {
            // Adding a listener throws for no reason that could apply here.
            let _ = target.add_event_listener_with_callback(name, function(&listener));
        }
        Self { targets, listener }
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        for (target, name) in &self.targets {
            let _ = target.remove_event_listener_with_callback(name, function(&self.listener));
        }
    }
}

/// A hidden page's timers run once a minute and its sockets are cut at will, so it is woken when it is seen again.
fn is_hidden() -> bool {
    let document = property("document");
    document.and_then(|document| property_of(&document, "hidden")).and_then(|hidden| hidden.as_bool()).unwrap_or(false)
}
