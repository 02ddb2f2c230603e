//! Engines that are stopped, let go or called back into, whatever they are doing at that moment.
#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "whatever is not as expected makes the test fail")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde_json::{Value, json};
use syncline_browser_tests::engine::{TestEngine, anonymous_database};
use syncline_browser_tests::page::{eval, hang_fetches_of, tasks, uncaught, unique_name, watch_for_uncaught, within_limit};
use syncline_browser_tests::raw_stores::{delete, hold_queue, let_go, records};
use syncline_web::RawEngine;
use wasm_bindgen::prelude::Closure;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// Opening a database takes about this many tasks of the page.
const TASKS_OF_OPENING: usize = 12;

fn online() -> Value {
    json!({ "startPaused": false })
}

fn insert(title: &str) -> Value {
    json!([{ "entity": "Todo", "kind": "insert", "data": { "title": title } }])
}

/// Waits until another tab could lead.
async fn lock_is_free(app: &str) {
    let free = eval(&format!("navigator.locks.request('{}', () => {{}})", anonymous_database(app)));
    within_limit(free.unchecked_into(), "a free lock").await;
}

#[wasm_bindgen_test]
async fn an_engine_stopped_at_any_moment_of_opening_keeps_nobody_out() {
    watch_for_uncaught();
    for count in 0..TASKS_OF_OPENING {
        let app = unique_name("stopped");
        let engine = TestEngine::new(&app, &online());
        engine.start(None);
        tasks(count).await;
        engine.stop().await;
        lock_is_free(&app).await;
        // What still opens is closed as soon as it is open.
        delete(&anonymous_database(&app)).await;
    }
    assert_eq!(uncaught().await, "");
}

#[wasm_bindgen_test]
async fn an_engine_let_go_at_any_moment_is_silent_and_keeps_nobody_out() {
    watch_for_uncaught();
    let hanging = hang_fetches_of("/api/auth/me");
    for count in 0..TASKS_OF_OPENING {
        let app = unique_name("freed");
        let engine = TestEngine::new(&app, &online());
        engine.start(None);
        engine.mutate(&insert("early"));
        tasks(count).await;
        engine.mutate(&insert("late"));
        drop(engine);
        let asking = TestEngine::new(&app, &online());
        asking.start(Some("unknown"));
        drop(asking);
        let next = TestEngine::open(&app, &json!({})).await;
        assert_eq!(next.status()["storage"]["kind"], "indexeddb", "after {count} tasks");
    }
    drop(hanging);
    // A write is on its way to the disk, and its answer comes to nobody.
    let app = unique_name("freed");
    let engine = TestEngine::open(&app, &json!({})).await;
    engine.mutate(&insert("unanswered"));
    drop(engine);
    assert_eq!(TestEngine::open(&app, &json!({})).await.column("Todo", "title"), ["unanswered"]);
    assert_eq!(uncaught().await, "");
}

#[wasm_bindgen_test]
async fn what_was_written_just_before_the_stop_is_on_disk_after_it() {
    let app = unique_name("flushed");
    let engine = TestEngine::open(&app, &json!({})).await;
    engine.mutate(&insert("first"));
    // The first one is on its way to the disk while these come.
    engine.mutate(&insert("second"));
    engine.mutate(&insert("third"));
    engine.stop().await;
    let stored = records(&anonymous_database(&app), "pendingMutations").await;
    let titles = ["first", "second", "third"];
    assert_eq!(stored.len(), titles.len());
    assert!(stored.iter().zip(titles).all(|(record, title)| record.text().contains(title)));
}

#[wasm_bindgen_test]
async fn every_call_of_stop_ends() {
    let app = unique_name("twice");
    let engine = TestEngine::open(&app, &json!({})).await;
    hold_queue(&anonymous_database(&app)).await;
    engine.mutate(&insert("held up"));
    let first = engine.begin_stop();
    tasks(1).await;
    let second = engine.begin_stop();
    let_go().await;
    for stopped in [first, second, engine.begin_stop()] {
        within_limit(stopped, "the end").await;
    }
    lock_is_free(&app).await;
}

#[wasm_bindgen_test]
async fn a_panic_while_an_engine_stops_is_told_and_ends_it() {
    let app = unique_name("late-panic");
    let engine = TestEngine::open(&app, &json!({})).await;
    hold_queue(&anonymous_database(&app)).await;
    engine.mutate(&insert("held up"));
    let stopped = engine.begin_stop();
    tasks(1).await;
    syncline_web::report_panic("a test");
    assert_eq!(engine.event("broke_down").await["message"], "a test");
    lock_is_free(&app).await;
    let_go().await;
    within_limit(stopped, "the end").await;
}

#[wasm_bindgen_test]
async fn a_listener_may_write_and_let_the_engine_go() {
    watch_for_uncaught();
    let app = unique_name("listener");
    let engine: Rc<RefCell<Option<RawEngine>>> = Rc::default();
    let (of_listener, wrote) = (Rc::clone(&engine), Rc::new(Cell::new(false)));
    let has_written = Rc::clone(&wrote);
    let listener = Closure::<dyn Fn(String)>::new(move |events: String| {
        if events.contains("\"opened\"") {
            // Nothing of the engine is in use while it talks.
            let engine = of_listener.borrow();
            engine.as_ref().unwrap().mutate(&insert("from the listener").to_string(), None).unwrap();
            has_written.set(true);
        }
        if events.contains("\"mutation_durable\"") {
            drop(of_listener.take());
        }
    });
    let options = json!({
        "baseUrl": "http://127.0.0.1:9", "appName": app, "persist": true, "startPaused": true
    });
    let raw = RawEngine::new(&options.to_string(), listener.as_ref().clone(), JsValue::UNDEFINED).unwrap();
    raw.start(None);
    *engine.borrow_mut() = Some(raw);

    let next = TestEngine::open(&app, &json!({})).await;
    next.status_that("of the leader", |status| status["leads"] == true).await;
    assert!(wrote.get() && engine.borrow().is_none());
    assert_eq!(next.column("Todo", "title"), ["from the listener"]);
    assert_eq!(uncaught().await, "");
}
