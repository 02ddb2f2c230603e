//! One function for each kind of storage request: the table of transactions in `docs/storage.md`, as code.

use std::cell::RefCell;
use std::rc::Rc;

use serde::Deserialize;
use syncline_core::client::{StorageFailure, StorageKind, StoredReplica, StoredValue};
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
    match kind {
        StorageKind::Enqueue { records } => enqueue(database, records).await,
        StorageKind::UpdateQueue { fence, put, remove } => update_queue(database, *fence, put.clone(), remove.clone()).await,
        StorageKind::Commit { fence, expect, replica, put, delete, remove_queue } => {
            let replaced = Replaced { expect: expect.clone(), replica: replica.clone() };
            commit(database, *fence, replaced, put, delete, remove_queue).await
        }
        StorageKind::Compact { fence, generation, put, delete } => compact(database, *fence, *generation, put, delete).await,
        StorageKind::DeleteGeneration { fence, first, last } => delete_generation(database, *fence, *first, *last).await,
        StorageKind::Quarantine { fence, key } => quarantine(database, *fence, *key).await,
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
    read_all(&tx, &entities, move |records| into.borrow_mut().records = records)?;
    let into = Rc::clone(&loaded);
    read_all(&tx, &queue, move |records| into.borrow_mut().queue = records)?;
    tx.finish().await?;
    Ok(loaded.take())
}

async fn enqueue(database: &IdbDatabase, records: &[Vec<u8>]) -> Result<StoredValue, StorageFailure> {
    let tx = Transaction::begin(database, &[Store::PendingMutations], Durability::Strict)?;
    let queue = tx.store(Store::PendingMutations)?;
    let added: Result<Vec<IdbRequest>, JsValue> = records.iter().map(|record| queue.add(&bytes_out(record))).collect();
    let added = added.map_err(|thrown| failure_of(&thrown))?;
    tx.finish().await?;
    let minted = |request: IdbRequest| request.result().map(|key| to_u64(key.as_f64().unwrap_or_default()));
    let minted: Result<Vec<u64>, JsValue> = added.into_iter().map(minted).collect();
    minted.map(StoredValue::Keys).map_err(|thrown| failure_of(&thrown))
}

/// Another tab, or the user, may have removed a record meanwhile; it must not come back, so only what is found is written.
async fn update_queue(database: &IdbDatabase, fence: u64, put: Records, remove: Vec<u64>) -> Result<StoredValue, StorageFailure> {
    let tx = Transaction::begin(database, &[Store::PendingMutations, Store::Cursors], Durability::Strict)?;
    check_fence(&tx, fence)?;
    let named: Vec<u64> = put.iter().map(|(key, _)| *key).chain(remove.iter().copied()).collect();
    let (Some(first), Some(last)) = (named.iter().min(), named.iter().max()) else {
        return tx.finish().await.map(|()| StoredValue::Keys(Vec::new()));
    };
    let queue = tx.store(Store::PendingMutations)?;
    let there = Rc::new(RefCell::new(Vec::new()));
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
    tx.finish().await?;
    Ok(StoredValue::Keys(there.take()))
}

struct Replaced {
    expect: Option<Vec<u8>>,
    replica: Vec<u8>,
}

async fn commit(
    database: &IdbDatabase,
    fence: u64,
    replaced: Replaced,
    put: &[(u64, Vec<u8>)],
    delete: &[u64],
    remove_queue: &[u64],
) -> Result<StoredValue, StorageFailure> {
    // A transaction over the queue would make strict writes wait behind a large one, so the queue is left out when nothing
    // in it changes: pages of a snapshot never touch it.
    let stores: &[Store] = if remove_queue.is_empty() {
        &[Store::Entities, Store::Cursors]
    } else {
        &[Store::Entities, Store::Cursors, Store::PendingMutations]
    };
    let tx = Transaction::begin(database, stores, Durability::Relaxed)?;
    check_fence(&tx, fence)?;
    let Replaced { expect, replica } = replaced;
    let new = bytes_out(&replica);
    // The new record itself is accepted too: then this very commit was carried out before its connection was lost.
    tx.check(Store::Cursors, &REPLICA.into(), move |found| {
        let found = bytes_in(found);
        found == expect || found.as_deref() == Some(&replica)
    })?;
    write_records(&tx, put, delete)?;
    issue(tx.store(Store::Cursors)?.put_with_key(&new, &REPLICA.into()))?;
    if !remove_queue.is_empty() {
        let queue = tx.store(Store::PendingMutations)?;
        remove_queue.iter().try_for_each(|removed| issue(queue.delete(&key(*removed))))?;
    }
    tx.finish().await.map(|()| StoredValue::Done)
}

async fn compact(
    database: &IdbDatabase,
    fence: u64,
    generation: u64,
    put: &[(u64, Vec<u8>)],
    delete: &[u64],
) -> Result<StoredValue, StorageFailure> {
    let tx = Transaction::begin(database, &[Store::Entities, Store::Cursors], Durability::Relaxed)?;
    check_fence(&tx, fence)?;
    tx.check(Store::Cursors, &REPLICA.into(), move |found| {
        bytes_in(found).is_some_and(|replica| shown_generation(&replica) == Some(generation))
    })?;
    write_records(&tx, put, delete)?;
    tx.finish().await.map(|()| StoredValue::Done)
}

async fn delete_generation(database: &IdbDatabase, fence: u64, first: u64, last: u64) -> Result<StoredValue, StorageFailure> {
    let tx = Transaction::begin(database, &[Store::Entities, Store::Cursors], Durability::Relaxed)?;
    check_fence(&tx, fence)?;
    issue(tx.store(Store::Entities)?.delete(&key_range(first, last)?))?;
    tx.finish().await.map(|()| StoredValue::Done)
}

async fn quarantine(database: &IdbDatabase, fence: u64, bad: u64) -> Result<StoredValue, StorageFailure> {
    let tx = Transaction::begin(database, &[Store::Entities, Store::Cursors, Store::Journal], Durability::Relaxed)?;
    check_fence(&tx, fence)?;
    let (entities, journal) = (tx.store(Store::Entities)?, tx.store(Store::Journal)?);
    let store = entities.clone();
    tx.read(entities.get(&key(bad)), move |found| {
        if !found.is_undefined() {
            issue(journal.add(&found))?;
        }
        issue(store.delete(&key(bad)))
    })?;
    tx.finish().await.map(|()| StoredValue::Done)
}

fn check_fence(tx: &Transaction, fence: u64) -> Result<(), StorageFailure> {
    tx.check(Store::Cursors, &FENCE.into(), move |found| found.as_f64().map(to_u64) == Some(fence))
}

fn write_records(tx: &Transaction, put: &[(u64, Vec<u8>)], delete: &[u64]) -> Result<(), StorageFailure> {
    let entities = tx.store(Store::Entities)?;
    put.iter().try_for_each(|(to, record)| issue(entities.put_with_key(&bytes_out(record), &key(*to))))?;
    delete.iter().try_for_each(|deleted| issue(entities.delete(&key(*deleted))))
}

/// Keys and values in two requests: one each, which measures several times faster than a cursor.
fn read_all(tx: &Transaction, store: &IdbObjectStore, then: impl FnOnce(Records) + 'static) -> Result<(), StorageFailure> {
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
fn issue(request: Result<IdbRequest, JsValue>) -> Result<(), StorageFailure> {
    request.map(drop).map_err(|thrown| failure_of(&thrown))
}

/// The generation a replica record shows.
pub(crate) fn shown_generation(replica: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Shown {
        generation: u64,
    }
    serde_json::from_slice::<Shown>(replica).ok().map(|shown| shown.generation)
}

const FENCE: &str = "fence";
const REPLICA: &str = "replica";
const IDENTITY: &str = "identity";
