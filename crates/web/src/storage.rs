//! Where the engine's storage requests go: they are handed to `js/storage.js` piece by piece.

use alloc::vec::Vec;

use syncline_core::client::{Former, StorageKind, StorageRequest};
use wasm_bindgen::JsValue;

use crate::browser::{Channel, Store, StoreRequest};
use crate::integer::to_f64;

/// The store of one engine. Everything it has to say comes to its listener.
#[derive(Debug)]
pub struct Storage {
    store: Store,
    channel: Channel,
}

impl Storage {
    /// A store that is not open. `limit_ms` is how long an open or a transaction may hang; `disk` is what
    /// `js/storage.js` calls a `Disk`, or undefined for IndexedDB alone.
    pub fn new(on_event: &JsValue, limit_ms: u64, disk: &JsValue) -> Self {
        let channel = Channel::new(on_event);
        Self { store: Store::new(on_event, to_f64(limit_ms), &channel, disk), channel }
    }

    /// Opens the database, takes the lead of the replica if no other tab has it, and reads everything there is. Answered by
    /// `Opened` or `OpenFailed`.
    pub fn open(&self, name: &str, identity: &str) {
        self.store.open(name, identity);
    }

    /// Reads everything again; answered by `Opened`.
    pub fn read(&self, known: Option<&[u8]>) {
        self.store.read(known);
    }

    /// Takes the lead from another tab; answered by `Opened`, unless nobody looks at this one.
    pub fn take_lead(&self) {
        self.store.take_lead();
    }

    /// Lets the lead go and stands in line for it; `Opened` follows with it.
    pub fn resign(&self) {
        self.store.resign();
    }

    /// Tells the other tabs something.
    pub fn tell(&self, text: &str) {
        self.channel.say(text);
    }

    /// Carries out a request; answered by `Stored`.
    pub fn run(&self, StorageRequest { id, kind }: StorageRequest) {
        self.store.run(to_f64(id.0), &request(&kind));
    }

    /// Waits until no request runs and none follows, then lets go of everything. Gives the promise of that.
    pub fn close(&self) -> JsValue {
        self.store.close()
    }

    pub(crate) const fn as_js(&self) -> &Store {
        &self.store
    }

    /// Lets go of everything at once.
    pub fn abandon(&self) {
        self.store.abandon();
    }
}

fn request(kind: &StorageKind) -> StoreRequest {
    let new = |name, fence| StoreRequest::new(name, to_f64(fence), 0.0, 0.0);
    match kind {
        StorageKind::Enqueue { records, formers } => {
            let request = new("enqueue", 0);
            for record in records {
                request.put(0.0, record);
            }
            for Former { number, key, expect } in formers {
                request.replace(to_f64(*number as u64), to_f64(*key), expect.as_deref());
            }
            request
        }
        StorageKind::UpdateQueue { fence, put, remove } => exchange(new("updateQueue", *fence), put, remove),
        StorageKind::FoldQueue { fence, put, remove } => exchange(new("foldQueue", *fence), put, remove),
        StorageKind::Discard { key, expect, mark } => {
            let request = new("discard", 0);
            request.put(to_f64(*key), mark);
            request.replace(0.0, to_f64(*key), Some(expect));
            request
        }
        StorageKind::Commit { fence, expect, replica, put, delete, remove_queue } => {
            let request = exchange(new("commit", *fence), put, delete);
            if let Some(expect) = expect {
                request.expect_replica(expect);
            }
            request.put_replica(replica);
            for (key, seq) in remove_queue {
                request.unqueue(to_f64(*key), to_f64(*seq));
            }
            request
        }
        StorageKind::Compact { fence, generation, put, delete } => {
            let request = StoreRequest::new("compact", to_f64(*fence), to_f64(*generation), 0.0);
            exchange(request, put, delete)
        }
        StorageKind::DeleteGeneration { fence, first, last } => {
            StoreRequest::new("deleteGeneration", to_f64(*fence), to_f64(*first), to_f64(*last))
        }
        StorageKind::Quarantine { fence, key } => StoreRequest::new("quarantine", to_f64(*fence), to_f64(*key), 0.0),
    }
}

fn exchange(request: StoreRequest, put: &[(u64, Vec<u8>)], remove: &[u64]) -> StoreRequest {
    for (key, bytes) in put {
        request.put(to_f64(*key), bytes);
    }
    for key in remove {
        request.remove(to_f64(*key));
    }
    request
}
