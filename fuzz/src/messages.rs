//! What comes over the wire, to either end.

use syncline_core::client::{Input, StorageState};
use syncline_protocol::{ClientMessage, Intent, Page, PushAnswer, frame_checksum};

use crate::device::Device;

/// The server reads a message of a client: what it understands, it would understand again.
pub fn client_message(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(message) = ClientMessage::parse(text) else { return };
    let again = ClientMessage::parse(&message.encode()).expect("what was read can be sent");
    assert_eq!(again.encode(), message.encode());
}

/// Reads an intent: its canonical bytes are those of what it means.
pub fn intent(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok((_, canonical)) = Intent::parse_frozen(text) else { return };
    let (_, again) = Intent::parse_frozen(&canonical).expect("canonical bytes are an intent");
    assert_eq!(again, canonical);
}

/// A connected client hears a message of a server; one with a wrong checksum, with the right one, too.
pub fn server_message(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for text in as_it_is_and_summed(text) {
        let mut device = Device::live();
        device.give(Input::Received(text));
        device.store_all();
        live_on(&mut device);
    }
}

/// A client that asked for a page gets an answer.
pub fn pull_page(data: &[u8]) {
    let Some((&first, body)) = data.split_first() else { return };
    let Ok(body) = std::str::from_utf8(body) else { return };
    let status = match first {
        b'4' => 410,
        b'5' => 503,
        b'0' => 0,
        _ => 200,
    };
    for body in as_it_is_and_summed(body) {
        let mut device = Device::live();
        device.give(if first == b'r' { Input::Resync } else { Input::Pull });
        device.answer_pull(status, body);
        device.store_all();
        live_on(&mut device);
    }
}

/// Reaches what lies behind the checksum.
fn as_it_is_and_summed(text: &str) -> Vec<String> {
    let mut texts = vec![text.to_owned()];
    // A push's answer may carry a frame as well.
    let page = Page::parse(text).ok().or_else(|| PushAnswer::parse(text).ok().and_then(|answer| answer.frame));
    if let Some(page) = page
        && !page.checksum_matches()
        && !page.checksum.is_empty()
    {
        texts.push(text.replace(&page.checksum, &frame_checksum(&page.changes)));
    }
    texts
}

/// Whatever it heard, it shows rows, takes writes, and finds the same rows on disk.
fn live_on(device: &mut Device) {
    let ids = device.look();
    device.write(syncline_protocol::ChangeKind::Update, ids.first().cloned());
    device.write(syncline_protocol::ChangeKind::Delete, ids.last().cloned());
    device.write(syncline_protocol::ChangeKind::Insert, None);
    device.store_all();
    let shown = device.look();
    let mut again = Device::open(device.disk.clone());
    // A client that stopped listening, because of another identity for example, stores nothing more.
    if [&*device, &again].iter().all(|device| device.client.status().storage == StorageState::Indexeddb) {
        let found = again.look();
        if !device.client.status().syncing && device.client.status().failed == 0 {
            assert_eq!(found, shown, "rows on disk are the rows that are shown");
        }
    }
}
