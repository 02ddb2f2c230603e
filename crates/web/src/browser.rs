//! What the JavaScript of `js/` offers. Each item is documented there.

use alloc::string::String;
use alloc::vec::Vec;

use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    #[derive(Debug)]
    pub(crate) type Page;
    #[wasm_bindgen(constructor)]
    pub(crate) fn new(on_event: &JsValue, on_events: &JsValue, network: &Network, storage: &Store) -> Page;
    #[wasm_bindgen(static_method_of = Page)]
    pub(crate) fn guard(on_event: &JsValue) -> JsValue;
    #[wasm_bindgen(method)]
    pub(crate) fn now(this: &Page) -> f64;
    #[wasm_bindgen(method, js_name = tickAfter)]
    pub(crate) fn tick_after(this: &Page, delay_ms: Option<f64>);
    #[wasm_bindgen(method)]
    pub(crate) fn listen(this: &Page);
    #[wasm_bindgen(method)]
    pub(crate) fn tell(this: &Page, events_json: &str);
    #[wasm_bindgen(method)]
    pub(crate) fn close(this: &Page);
    #[wasm_bindgen(method)]
    pub(crate) fn abandon(this: &Page);

    #[wasm_bindgen(js_name = brokeDown, reexport = "brokeDown")]
    pub(crate) fn broke_down(message: &str);
    #[wasm_bindgen(js_name = randomSeed)]
    pub(crate) fn random_seed() -> Vec<u8>;
    #[wasm_bindgen(js_name = codedError)]
    pub(crate) fn coded_error(code: &str, message: &str) -> JsValue;
    #[wasm_bindgen(js_name = recallIdentity, reexport = "recallIdentity")]
    pub(crate) fn recall_identity(map: &str, token_hash: &str) -> Option<String>;
    #[wasm_bindgen(js_name = rememberIdentity)]
    pub(crate) fn remember_identity(map: &str, token_hash: &str, identity: &str);
    #[wasm_bindgen(js_name = forgetIdentity, reexport = "forgetIdentity")]
    pub(crate) fn forget_identity(map: &str, token_hash: Option<&str>, identity: Option<&str>);
}

#[wasm_bindgen(module = "/js/network.js")]
extern "C" {
    #[derive(Debug)]
    pub(crate) type Network;
    #[wasm_bindgen(constructor)]
    pub(crate) fn new(on_event: &JsValue) -> Network;
    #[wasm_bindgen(method, js_name = openSocket)]
    pub(crate) fn open_socket(this: &Network, url: &str, protocol: &str, bearer: Option<&str>) -> Option<String>;
    #[wasm_bindgen(method)]
    pub(crate) fn send(this: &Network, message: &str);
    #[wasm_bindgen(method, js_name = closeSocket)]
    pub(crate) fn close_socket(this: &Network, code: u16);
    #[wasm_bindgen(method)]
    pub(crate) fn get(this: &Network, kind: u32, id: f64, url: &str, token: Option<&str>);
    #[wasm_bindgen(method)]
    pub(crate) fn abort(this: &Network, kind: u32);

    #[wasm_bindgen(js_name = bodyBytes)]
    pub(crate) fn body_bytes(body: &JsValue) -> Vec<u8>;
}

#[wasm_bindgen(module = "/js/storage.js")]
extern "C" {
    #[derive(Debug)]
    pub(crate) type Channel;
    #[wasm_bindgen(constructor)]
    pub(crate) fn new(on_event: &JsValue) -> Channel;
    #[wasm_bindgen(method)]
    pub(crate) fn say(this: &Channel, text: &str);
}

#[wasm_bindgen(module = "/js/storage.js")]
extern "C" {
    #[wasm_bindgen(js_name = Storage)]
    #[derive(Debug)]
    pub(crate) type Store;
    #[wasm_bindgen(constructor, js_class = Storage)]
    pub(crate) fn new(on_event: &JsValue, limit_ms: f64, channel: &Channel, disk: &JsValue) -> Store;
    #[wasm_bindgen(method, js_class = Storage)]
    pub(crate) fn open(this: &Store, name: &str, identity: &str);
    #[wasm_bindgen(method, js_class = Storage)]
    pub(crate) fn read(this: &Store, known: Option<&[u8]>);
    #[wasm_bindgen(method, js_class = Storage, js_name = takeLead)]
    pub(crate) fn take_lead(this: &Store);
    #[wasm_bindgen(method, js_class = Storage)]
    pub(crate) fn resign(this: &Store);
    #[wasm_bindgen(method, js_class = Storage)]
    pub(crate) fn run(this: &Store, id: f64, request: &StoreRequest);
    #[wasm_bindgen(method, js_class = Storage)]
    pub(crate) fn close(this: &Store) -> JsValue;
    #[wasm_bindgen(method, js_class = Storage)]
    pub(crate) fn abandon(this: &Store);
}

#[wasm_bindgen(module = "/js/storage.js")]
extern "C" {
    pub(crate) type StoreRequest;
    #[wasm_bindgen(constructor)]
    pub(crate) fn new(kind: &str, fence: f64, first: f64, last: f64) -> StoreRequest;
    #[wasm_bindgen(method)]
    pub(crate) fn put(this: &StoreRequest, key: f64, bytes: &[u8]);
    #[wasm_bindgen(method)]
    pub(crate) fn remove(this: &StoreRequest, key: f64);
    #[wasm_bindgen(method)]
    pub(crate) fn replace(this: &StoreRequest, number: f64, key: f64, expected: Option<&[u8]>);
    #[wasm_bindgen(method)]
    pub(crate) fn unqueue(this: &StoreRequest, key: f64, seq: f64);
    #[wasm_bindgen(method, js_name = expectReplica)]
    pub(crate) fn expect_replica(this: &StoreRequest, bytes: &[u8]);
    #[wasm_bindgen(method, js_name = putReplica)]
    pub(crate) fn put_replica(this: &StoreRequest, bytes: &[u8]);
}

#[wasm_bindgen(module = "/js/transaction.js")]
extern "C" {
    pub(crate) type Found;
    #[wasm_bindgen(method, js_name = replicaRecord)]
    pub(crate) fn replica_record(this: &Found) -> Option<Vec<u8>>;
    #[wasm_bindgen(method)]
    pub(crate) fn count(this: &Found, list: u32) -> u32;
    #[wasm_bindgen(method)]
    pub(crate) fn key(this: &Found, list: u32, index: u32) -> f64;
    #[wasm_bindgen(method, js_name = takeBytes)]
    pub(crate) fn take_bytes(this: &Found, list: u32, index: u32) -> Vec<u8>;
    #[wasm_bindgen(method, getter, js_name = isKnown)]
    pub(crate) fn is_known(this: &Found) -> bool;
}

// Only files that are named here come along with the module. What `storage.js` needs it gets by itself: a page that asks for all
// of them at once was seen to wait for ever on the small server of the tests.

#[wasm_bindgen(module = "/js/tabs.js")]
extern "C" {
    type Tabs;
}

#[wasm_bindgen(module = "/js/store_request.js")]
extern "C" {
    type Requests;
}

#[wasm_bindgen(module = "/js/queue_plans.js")]
extern "C" {
    type Plans;
}
