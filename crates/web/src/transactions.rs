//! One function for each kind of storage request: the table of transactions in `docs/storage.md`, as code.

use std::cell::RefCell;
use std::rc::Rc;

use syncline_core::client::{StorageFailure, StorageKind, StoredReplica, StoredValue};
use syncline_protocol::json::{Reader, Slot};
use wasm_bindgen::JsValue;
use web_sys::{IdbDatabase, IdbObjectStore, IdbRequest};

use crate::database::failure_of;
use crate::global::{to_f64, to_u64};
use crate::transaction::{Durability, Store, Transaction, bytes_in, bytes_out, key, key_range, keys};

type Records = Vec<(u64, Vec<u8>)>;

/// Carries out a request as one transaction: all of it, or nothing.
///
/// # Errors
/// As `Transaction::finish`.
pub async fn run(database: &IdbDatabase, kind: &StorageKind) -> Result<StoredValue, StorageFailure> {
    // Issuing is synchronous, so nothing can be awaited between the requests of a transaction.
    let (tx, answer) = issue_all(database, kind)?;
    tx.finish().await?;
    answer.value()
}

/// Where the answer to a request is found once its transaction is complete.
enum Answer {
    Done,
    Found(Rc<RefCell<Vec<u64>>>),
    Minted(Vec<IdbRequest>),
}

impl Answer {
    fn value(self) -> Result<StoredValue, StorageFailure> {
        match self {
            Self::Done => Ok(StoredValue::Done),
            Self::Found(keys) => Ok(StoredValue::Keys(keys.take())),
            Self::Minted(requests) => {
                let key = |request: IdbRequest| request.result().map(|key| to_u64(key.as_f64().unwrap_or_default()));
                let keys: Result<Vec<u64>, JsValue> = requests.into_iter().map(key).collect();
                keys.map(StoredValue::Keys).map_err(|thrown| failure_of(&thrown))
            }
        }
    }
}

fn issue_all(database: &IdbDatabase, kind: &StorageKind) -> Result<(Transaction, Answer), StorageFailure> {
    let (stores, durability) = scope(kind);
    let tx = Transaction::begin(database, stores, durability)?;
    let answer = match kind {
        StorageKind::Enqueue { records, remove } => enqueue(&tx, records, remove)?,
        StorageKind::UpdateQueue { fence, put, remove } => {
            check_fence(&tx, *fence)?;
            update_queue(&tx, put.clone(), remove.clone())?
        }
        StorageKind::Commit { fence, expect, replica, put, delete, remove_queue } => {
            check_fence(&tx, *fence)?;
            check_replica(&tx, expect.clone(), replica.clone())?;
            write_records(&tx, put, delete)?;
            issue(tx.store(Store::Cursors)?.put_with_key(&bytes_out(replica), &REPLICA.into()))?;
            remove_from_queue(&tx, remove_queue)?
        }
        StorageKind::Compact { fence, generation, put, delete } => {
            check_fence(&tx, *fence)?;
            check_generation(&tx, *generation)?;
            write_records(&tx, put, delete)?
        }
        StorageKind::DeleteGeneration { fence, first, last } => {
            check_fence(&tx, *fence)?;
            issue(tx.store(Store::Entities)?.delete(&key_range(*first, *last)?))?;
            Answer::Done
        }
        StorageKind::Quarantine { fence, key } => {
            check_fence(&tx, *fence)?;
            quarantine(&tx, *key)?
        }
    };
    Ok((tx, answer))
}

/// The columns "stores" and "durability" of the table.
fn scope(kind: &StorageKind) -> (&'static [Store], Durability) {
    match kind {
        StorageKind::Enqueue { .. } => (&[Store::PendingMutations], Durability::Strict),
        StorageKind::UpdateQueue { .. } => (&[Store::PendingMutations, Store::Cursors], Durability::Strict),
        // A transaction over the queue would make strict writes wait behind a large one, so the queue is left out when nothing
        // in it changes: pages of a snapshot never touch it.
        StorageKind::Commit { remove_queue, .. } if !remove_queue.is_empty() => {
            (&[Store::Entities, Store::Cursors, Store::PendingMutations], Durability::Relaxed)
        }
        StorageKind::Commit { .. } | StorageKind::Compact { .. } | StorageKind::DeleteGeneration { .. } => {
            (&[Store::Entities, Store::Cursors], Durability::Relaxed)
        }
        StorageKind::Quarantine { .. } => (&[Store::Entities, Store::Cursors, Store::Journal], Durability::Relaxed),
    }
}

/// Reads everything and takes the lead: writes a fence one higher than the one found, in the same transaction, so that no
/// commit of a former leader can fall between.
///
/// # Errors
/// As `Transaction::finish`.
pub async fn load(database: &IdbDatabase, identity: &str) -> Result<StoredReplica, StorageFailure> {
    let tx = Transaction::begin(database, &[Store::Cursors, Store::Entities, Store::PendingMutations], Durability::Relaxed)?;
    let (cursors, entities, queue) = (tx.store(Store::Cursors)?, tx.store(Store::Entities)?, tx.store(Store::PendingMutations)?);
    let loaded = Rc::new(RefCell::new(StoredReplica::default()));
    let (store, into) = (cursors.clone(), Rc::clone(&loaded));
    tx.read(cursors.get(&FENCE.into()), move |found| {
        let fence = to_u64(found.as_f64().unwrap_or_default()) + 1;
        into.borrow_mut().fence = fence;
        issue(store.put_with_key(&JsValue::from_f64(to_f64(fence)), &FENCE.into()))
    })?;
    issue(cursors.put_with_key(&identity.into(), &IDENTITY.into()))?;
    let into = Rc::clone(&loaded);
    tx.read(cursors.get(&REPLICA.into()), move |found| {
        into.borrow_mut().replica = bytes_in(&found);
        Ok(())
    })?;
    let into = Rc::clone(&loaded);
    read_all(&tx, &entities, Box::new(move |records| into.borrow_mut().records = records))?;
    let into = Rc::clone(&loaded);
    read_all(&tx, &queue, Box::new(move |records| into.borrow_mut().queue = records))?;
    tx.finish().await?;
    Ok(loaded.take())
}

fn enqueue(tx: &Transaction, records: &[Vec<u8>], remove: &[u64]) -> Result<Answer, StorageFailure> {
    remove_from_queue(tx, remove)?;
    let queue = tx.store(Store::PendingMutations)?;
    let added: Result<Vec<IdbRequest>, JsValue> = records.iter().map(|record| queue.add(&bytes_out(record))).collect();
    added.map(Answer::Minted).map_err(|thrown| failure_of(&thrown))
}

/// Another tab, or the user, may have removed a record meanwhile; it must not come back, so only what is found is written.
fn update_queue(tx: &Transaction, put: Records, remove: Vec<u64>) -> Result<Answer, StorageFailure> {
    let there = Rc::new(RefCell::new(Vec::new()));
    let named: Vec<u64> = put.iter().map(|(key, _)| *key).chain(remove.iter().copied()).collect();
    let (Some(first), Some(last)) = (named.iter().min(), named.iter().max()) else {
        return Ok(Answer::Found(there));
    };
    let queue = tx.store(Store::PendingMutations)?;
    let (store, into) = (queue.clone(), Rc::clone(&there));
    tx.read(queue.get_all_keys_with_key(&key_range(*first, *last)?), move |found| {
        let found = keys(&found);
        let is_there = |key: &u64| found.binary_search(key).is_ok();
        for (key_there, record) in put.iter().filter(|(key, _)| is_there(key)) {
            issue(store.put_with_key(&bytes_out(record), &key(*key_there)))?;
        }
        for key_there in remove.iter().filter(|key| is_there(key)) {
            issue(store.delete(&key(*key_there)))?;
        }
        into.borrow_mut().extend(named.iter().copied().filter(is_there));
        Ok(())
    })?;
    Ok(Answer::Found(there))
}

fn remove_from_queue(tx: &Transaction, removed: &[u64]) -> Result<Answer, StorageFailure> {
    if !removed.is_empty() {
        let queue = tx.store(Store::PendingMutations)?;
        removed.iter().try_for_each(|removed| issue(queue.delete(&key(*removed))))?;
    }
    Ok(Answer::Done)
}

fn quarantine(tx: &Transaction, bad: u64) -> Result<Answer, StorageFailure> {
    let (entities, journal) = (tx.store(Store::Entities)?, tx.store(Store::Journal)?);
    let store = entities.clone();
    tx.read(entities.get(&key(bad)), move |found| {
        if !found.is_undefined() {
            issue(journal.add(&found))?;
        }
        issue(store.delete(&key(bad)))
    })?;
    Ok(Answer::Done)
}

/// The new record itself is accepted too: then this very commit was carried out before its connection was lost.
fn check_replica(tx: &Transaction, expect: Option<Vec<u8>>, new: Vec<u8>) -> Result<(), StorageFailure> {
    tx.check(Store::Cursors, &REPLICA.into(), move |found| {
        let found = bytes_in(found);
        found == expect || found.as_ref() == Some(&new)
    })
}

fn check_generation(tx: &Transaction, generation: u64) -> Result<(), StorageFailure> {
    tx.check(Store::Cursors, &REPLICA.into(), move |found| {
        bytes_in(found).is_some_and(|replica| shown_generation(&replica) == Some(generation))
    })
}

#[inline(never)]
fn check_fence(tx: &Transaction, fence: u64) -> Result<(), StorageFailure> {
    tx.check(Store::Cursors, &FENCE.into(), move |found| found.as_f64().map(to_u64) == Some(fence))
}

fn write_records(tx: &Transaction, put: &[(u64, Vec<u8>)], delete: &[u64]) -> Result<Answer, StorageFailure> {
    let entities = tx.store(Store::Entities)?;
    put.iter().try_for_each(|(to, record)| issue(entities.put_with_key(&bytes_out(record), &key(*to))))?;
    delete.iter().try_for_each(|deleted| issue(entities.delete(&key(*deleted))))?;
    Ok(Answer::Done)
}

/// Keys and values in two requests: one each, which measures several times faster than a cursor.
fn read_all(tx: &Transaction, store: &IdbObjectStore, then: Box<dyn FnOnce(Records)>) -> Result<(), StorageFailure> {
    let found_keys = Rc::new(RefCell::new(Vec::new()));
    let into = Rc::clone(&found_keys);
    tx.read(store.get_all_keys(), move |found| {
        *into.borrow_mut() = keys(&found);
        Ok(())
    })?;
    let mut then = Some(then);
    tx.read(store.get_all(), move |found| {
        // A value that is not bytes was not written by us. As an empty record it fails its own check and is set aside.
        let values = js_sys::Array::from(&found).iter().map(|value| bytes_in(&value).unwrap_or_default()).collect::<Vec<_>>();
        if let Some(then) = then.take() {
            then(found_keys.take().into_iter().zip(values).collect());
        }
        Ok(())
    })
}

/// A request whose result nobody needs: its failure aborts the transaction and shows at the end.
#[inline(never)]
fn issue(request: Result<IdbRequest, JsValue>) -> Result<(), StorageFailure> {
    request.map(drop).map_err(|thrown| failure_of(&thrown))
}

/// The generation a replica record shows.
fn shown_generation(replica: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(std::str::from_utf8(replica).ok()?);
    let mut generation = 0;
    reader.members(&mut [("generation", Slot::Uint(&mut generation))], &mut []);
    reader.finish().ok().map(|()| generation)
}

const FENCE: &str = "fence";
const REPLICA: &str = "replica";
const IDENTITY: &str = "identity";
