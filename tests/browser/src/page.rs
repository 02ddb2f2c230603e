//! The page itself: unique names, JavaScript for what Rust cannot say, and a limit to every wait.

use std::cell::Cell;
use std::rc::Rc;

use gloo_timers::callback::Timeout;
use js_sys::Promise;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

/// A name that no other test, run or tab uses.
pub fn unique_name(what: &str) -> String {
    format!("{what}-{}-{}", js_sys::Date::now(), js_sys::Math::random().to_string().trim_start_matches("0."))
}

/// Evaluates JavaScript.
///
/// # Panics
/// When it throws: then the test is wrong.
pub fn eval(code: &str) -> JsValue {
    js_sys::eval(code).unwrap_or_else(|thrown| panic!("{code} threw {thrown:?}"))
}

/// Evaluates JavaScript that gives a promise, and waits for it.
///
/// # Panics
/// When it throws or rejects.
pub async fn eval_async(code: &str) -> JsValue {
    let promise: Promise = eval(code).unchecked_into();
    JsFuture::from(promise).await.unwrap_or_else(|thrown| panic!("{code} rejected with {thrown:?}"))
}

/// Lets the browser carry out so many tasks, to meet an engine in the middle of something.
pub async fn tasks(count: usize) {
    for _ in 0..count {
        eval_async(
            "new Promise((resolve) => { const { port1, port2 } = new MessageChannel(); port1.onmessage = resolve; port2.postMessage(0) })",
        )
        .await;
    }
}

/// Keeps what the page reports as thrown and not caught, from now on; [`uncaught`] gives it.
pub fn watch_for_uncaught() {
    eval(
        "globalThis.uncaught ??= (() => {
           const seen = [];
           addEventListener('error', ({ message }) => seen.push(message));
           addEventListener('unhandledrejection', ({ reason }) => seen.push(String(reason)));
           return seen;
         })(); uncaught.length = 0",
    );
}

/// What was thrown and not caught.
pub async fn uncaught() -> String {
    // Rejections are reported at the end of a task.
    tasks(2).await;
    eval("uncaught.join('; ')").as_string().unwrap_or_default()
}

/// Replaces a property of the global object until the guard is dropped.
///
/// # Panics
/// When the browser does not let it be replaced.
pub fn replace_global(name: &'static str, value: &str) -> impl Drop + use<> {
    eval(&format!(
        "globalThis.__{name} = Object.getOwnPropertyDescriptor(globalThis, '{name}');
         Object.defineProperty(globalThis, '{name}', {{ value: {value}, configurable: true, writable: true }})"
    ));
    Restore(name)
}

/// Lets requests to a path hang until they are aborted, as long as the guard lives; [`fetches`] counts them.
pub fn hang_fetches_of(path: &str) -> impl Drop + use<> {
    replace_global(
        "fetch",
        &format!(
            "((real) => {{
               globalThis.hung = {{ made: 0, aborted: 0 }};
               hung.first = new Promise((resolve) => {{ hung.begun = resolve }});
               return (url, options) => {{
                 if (!url.includes('{path}')) return real(url, options);
                 hung.made += 1;
                 hung.begun();
                 return new Promise((_, reject) => options.signal.addEventListener('abort', () => {{
                   hung.aborted += 1;
                   reject(options.signal.reason);
                 }}));
               }};
             }})(fetch.bind(globalThis))"
        ),
    )
}

/// How many requests were made to the path of [`hang_fetches_of`], and what became of them.
///
/// # Panics
/// When no requests are kept hanging.
pub fn fetches() -> String {
    eval("`${hung.made} made, ${hung.aborted} aborted`").as_string().unwrap_or_default()
}

struct Restore(&'static str);

impl Drop for Restore {
    fn drop(&mut self) {
        let name = self.0;
        eval(&format!(
            "delete globalThis.{name};
             if (globalThis.__{name}) Object.defineProperty(globalThis, '{name}', globalThis.__{name})"
        ));
    }
}

/// Waits for a promise, and not for ever.
///
/// # Panics
/// When `what` has not come to pass within 20 s.
pub async fn within_limit(promise: Promise, what: &str) -> JsValue {
    let late = Rc::new(Cell::new(false));
    let mark = Rc::clone(&late);
    let mut limit = None;
    let too_late = Promise::new(&mut |resolve, _| {
        let mark = Rc::clone(&mark);
        limit = Some(Timeout::new(20_000, move || {
            mark.set(true);
            let _ = resolve.call0(&JsValue::NULL);
        }));
    });
    let both = js_sys::Array::of2(&promise, &too_late);
    let result = JsFuture::from(Promise::race(&both)).await;
    drop(limit);
    assert!(!late.get(), "{what} did not happen within 20 s");
    result.unwrap_or_else(|thrown| panic!("{what}: {thrown:?}"))
}
