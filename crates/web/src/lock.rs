//! The lock that makes one tab the leader of a replica (Web Locks).

use js_sys::{Array, Function, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::AbortSignal;

use crate::global::{object, property, property_of};

/// Held until dropped. The browser also releases it when the tab goes, however it goes.
#[derive(Debug)]
pub(crate) struct Lock {
    release: Function,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.release.call0(&JsValue::NULL);
    }
}

/// What asking for the lock gave.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It is ours.
    Granted(Lock),
    /// Another tab holds it.
    Taken,
    /// This browser or origin has no Web Locks. The fence still protects every commit.
    Missing,
}

/// Takes the lock if it is free.
pub(crate) async fn try_lock(name: &str) -> Asked {
    request(name, "ifAvailable", &JsValue::TRUE).await
}

/// Waits for the lock as long as it takes, or until `signal` is aborted (then `Taken`).
pub(crate) async fn wait_for_lock(name: &str, signal: &AbortSignal) -> Asked {
    request(name, "signal", signal).await
}

async fn request(name: &str, option: &str, value: &JsValue) -> Asked {
    let Some(locks) = property("navigator").and_then(|navigator| property_of(&navigator, "locks")) else {
        return Asked::Missing;
    };
    let Some(request) = Reflect::get(&locks, &"request".into()).ok().and_then(|found| found.dyn_into::<Function>().ok()) else {
        return Asked::Missing;
    };
    let (held, release) = deferred();
    let (answered, answer) = deferred();
    // The lock is held for as long as the promise that the callback returns is pending.
    let callback = Closure::once_into_js(move |lock: JsValue| {
        let _ = answer.call1(&JsValue::NULL, &lock);
        if lock.is_null() { JsValue::UNDEFINED } else { held.into() }
    });
    let options = object(&[("mode", &"exclusive".into()), (option, value)]);
    let Ok(outcome) = request.call3(&locks, &name.into(), &options, &callback) else {
        // An opaque origin has the interface and refuses its use.
        return Asked::Missing;
    };
    // The outcome settles first only if it fails: by the signal, or because the origin may not use locks.
    match JsFuture::from(Promise::race(&Array::of2(&answered, &outcome))).await {
        Ok(lock) if lock.is_object() => Asked::Granted(Lock { release }),
        Ok(_) => Asked::Taken,
        Err(thrown) if crate::error::thrown_name(&thrown) == "AbortError" => Asked::Taken,
        Err(_) => Asked::Missing,
    }
}

/// A promise and what resolves it.
pub(crate) fn deferred() -> (Promise, Function) {
    let mut resolver = None;
    let promise = Promise::new(&mut |resolve, _| resolver = Some(resolve));
    // The executor runs inside the constructor (ECMA-262), so the fallback is never taken.
    (promise, resolver.unwrap_or_else(|| JsValue::UNDEFINED.unchecked_into()))
}
