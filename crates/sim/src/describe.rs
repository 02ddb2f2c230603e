//! What happens, in words short enough for a trace.

use syncline_core::client::{Event as ClientEvent, Input, Output, StorageKind, StorageRequest};

use crate::world::TabId;

/// What a request writes in short: whole records would take longer to print than to make.
pub(crate) fn describe_output(id: TabId, output: &Output) -> String {
    match output {
        Output::Send(text) => format!("{id} send {text}"),
        Output::Store(StorageRequest { id: request, kind }) => format!("{id} store {} {}", request.0, describe_kind(kind)),
        output => format!("{id} {output:?}"),
    }
}

fn describe_kind(kind: &StorageKind) -> String {
    let keys = |put: &[(u64, Vec<u8>)]| {
        let list = put.iter().map(|(key, bytes)| format!("{key}:{:08x}", xxh32(bytes)));
        list.collect::<Vec<_>>().join(" ")
    };
    match kind {
        StorageKind::Enqueue { records, formers } => {
            let sums: Vec<String> = records.iter().map(|record| format!("{:08x}", xxh32(record))).collect();
            let formers: Vec<(usize, u64)> = formers.iter().map(|former| (former.number, former.key)).collect();
            format!("enqueue {} for {formers:?}", sums.join(" "))
        }
        StorageKind::UpdateQueue { fence, put, remove } => format!("update queue as {fence}: {} without {remove:?}", keys(put)),
        StorageKind::FoldQueue { fence, put, remove } => format!("fold queue as {fence}: {} without {remove:?}", keys(put)),
        StorageKind::Commit { fence, replica, put, delete, remove_queue, .. } => {
            let replica = String::from_utf8_lossy(replica);
            format!("commit as {fence}: {} without {delete:?} unqueue {remove_queue:?} {replica}", keys(put))
        }
        StorageKind::Compact { fence, generation, put, delete } => {
            format!("compact {generation} as {fence}: {} without {delete:?}", keys(put))
        }
        kind => format!("{kind:?}"),
    }
}

fn xxh32(bytes: &[u8]) -> u32 {
    u32::try_from(xxhash_rust::xxh64::xxh64(bytes, 0) >> 32).unwrap_or(0)
}

pub(crate) fn describe_input(id: TabId, input: &Input) -> String {
    match input {
        Input::Received(text) => format!("{id} received {text}"),
        Input::PullAnswered { request, status, body, .. } => format!("{id} pull {} answered {status} {body}", request.0),
        Input::Opened(stored) => {
            let replica = stored.replica.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let (records, queue) = (stored.records.len(), stored.queue.len());
            format!("{id} opened: {records} records, {queue} writes, fence {:?}, {replica}", stored.fence)
        }
        input => format!("{id} {input:?}"),
    }
}

pub(crate) fn describe_event(id: TabId, event: &ClientEvent) -> String {
    format!("{id} {}", ClientEvent::list_to_json(std::slice::from_ref(event)))
}
