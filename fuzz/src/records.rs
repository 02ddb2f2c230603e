//! What lies on the disk of a device, where other programs, older versions and bad sectors may have been.

use syncline_core::client::{Input, StorageState};
use syncline_protocol::ChangeKind;
use xxhash_rust::xxh64::xxh64;

use crate::device::{Device, welcome};
use crate::disk::Disk;

const REPLICA: &[u8] = br#"{"format":1,"client_id":"00000000000000000000000000000001","epoch":"e","generation":0,"seq":9,"token":"t9","next_record":2,"staging":null}"#;
/// Bytes of a record before its checksum.
const HEAD_BYTES: usize = 28;

/// A segment is read; its checksum is made right, or nothing behind it would ever be reached. What it says need not make sense: it
/// must do no harm.
pub fn segment(data: &[u8]) {
    let Some((head, body)) = data.split_at_checked(HEAD_BYTES) else { return };
    let mut record = head.to_vec();
    record[..5].copy_from_slice(b"SYS1\x01");
    let checksum = xxh64(body, xxh64(&record, 0));
    record.extend_from_slice(&checksum.to_le_bytes());
    record.extend_from_slice(body);
    let entities = [(0, record.clone()), (1, record)].into();
    let mut device = Device::open(Disk { entities, replica: Some(REPLICA.to_vec()), ..Disk::default() });
    device.glance();
    connect(&mut device);
    for id in ["a", "01a1fded-fbc3-7a91-b0e1-862de0b94fe2"] {
        device.write(ChangeKind::Update, Some(id.to_owned()));
        device.write(ChangeKind::Delete, Some(id.to_owned()));
    }
    device.store_all();
    let shown = device.glance().replace(char::is_numeric, "");
    let mut again = Device::open(device.disk.clone());
    assert_eq!(again.glance().replace(char::is_numeric, ""), shown);
}

/// A record of the queue is read, and what it says is sent.
pub fn queue_record(data: &[u8]) {
    live(Disk { queue: [(1, data.to_vec()), (7, data.to_vec())].into(), replica: Some(REPLICA.to_vec()), ..Disk::default() });
}

/// The replica record is read.
pub fn replica_record(data: &[u8]) {
    live(Disk { replica: Some(data.to_vec()), ..Disk::default() });
}

/// Opens it, looks, connects, writes, and opens it again.
fn live(disk: Disk) {
    let mut device = Device::open(disk);
    let ids = device.look();
    connect(&mut device);
    device.write(ChangeKind::Update, ids.first().cloned());
    device.write(ChangeKind::Delete, ids.last().cloned());
    device.write(ChangeKind::Insert, None);
    device.now += 1_000;
    device.give(Input::Tick);
    device.store_all();
    let shown = device.look();
    let mut again = Device::open(device.disk.clone());
    // A database that cannot be read leaves what was written meanwhile in memory.
    if [&device, &again].iter().all(|device| device.client.status().storage == StorageState::Indexeddb) {
        assert_eq!(again.look(), shown);
    }
}

fn connect(device: &mut Device) {
    device.give(Input::SocketOpened);
    device.give(Input::Received(welcome("stream", 9)));
    device.store_all();
}
