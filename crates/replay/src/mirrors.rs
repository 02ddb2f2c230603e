//! The core's own types as JSON. The core ships no code for that; the compiler checks that the mirrors are complete.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use syncline_core::client::{
    Former, Input, NewChange, RequestId, StorageFailure, StorageKind, StoredReplica, StoredValue, TabMessage,
};
use syncline_protocol::{ChangeKind, Identity};

#[derive(Serialize, Deserialize)]
#[serde(remote = "Input")]
pub(crate) enum AsInput {
    Start {
        identity: Option<Identity>,
    },
    Opened(#[serde(with = "boxed")] Box<StoredReplica>),
    OpenFailed(#[serde(with = "AsFailure")] StorageFailure),
    LeadLost,
    TabHeard {
        tab: u64,
        number: u64,
        #[serde(with = "AsTabMessage")]
        message: TabMessage,
    },
    IdentityResolved(Identity),
    IdentityUnavailable {
        status: Option<u16>,
        code: Option<String>,
        retry_after_ms: Option<u64>,
    },
    Stored {
        #[serde(with = "AsRequestId")]
        request: RequestId,
        #[serde(with = "stored")]
        result: Result<StoredValue, StorageFailure>,
    },
    SocketOpened,
    SocketClosed {
        code: u16,
        reason: String,
    },
    Received(String),
    PullAnswered {
        #[serde(with = "AsRequestId")]
        request: RequestId,
        status: u16,
        body: String,
        retry_after_ms: Option<u64>,
    },
    PullFailed {
        #[serde(with = "AsRequestId")]
        request: RequestId,
    },
    TokenChanged,
    TokenUnavailable,
    Pause,
    Resume,
    Wake,
    Pull,
    Resync,
    Tick,
    Stop,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RequestId")]
struct AsRequestId(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "StoredReplica")]
struct AsReplica {
    replica: Option<Vec<u8>>,
    records: Vec<(u64, Vec<u8>)>,
    queue: Vec<(u64, Vec<u8>)>,
    fence: u64,
    leads: bool,
    is_known: bool,
    memory: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "StorageFailure")]
enum AsFailure {
    Conflict,
    Full,
    Unavailable(String),
    TooNew,
    Outdated,
    Corrupt(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "StoredValue")]
enum AsValue {
    Done,
    Keys(Vec<u64>),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "TabMessage")]
enum AsTabMessage {
    Stored(#[serde(with = "AsKind")] StorageKind, Vec<u64>),
    Said(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "StorageKind")]
enum AsKind {
    Enqueue {
        records: Vec<Vec<u8>>,
        #[serde(with = "formers")]
        formers: Vec<Former>,
    },
    UpdateQueue {
        fence: u64,
        put: Vec<(u64, Vec<u8>)>,
        remove: Vec<u64>,
    },
    FoldQueue {
        fence: u64,
        put: Vec<(u64, Vec<u8>)>,
        remove: Vec<u64>,
    },
    Discard {
        key: u64,
        expect: Vec<u8>,
        mark: Vec<u8>,
    },
    Commit {
        fence: u64,
        expect: Option<Vec<u8>>,
        replica: Vec<u8>,
        put: Vec<(u64, Vec<u8>)>,
        delete: Vec<u64>,
        remove_queue: Vec<(u64, u64)>,
    },
    Compact {
        fence: u64,
        generation: u64,
        put: Vec<(u64, Vec<u8>)>,
        delete: Vec<u64>,
    },
    DeleteGeneration {
        fence: u64,
        first: u64,
        last: u64,
    },
    Quarantine {
        fence: u64,
        key: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct AsChange {
    entity: String,
    row_id: Option<String>,
    kind: ChangeKind,
    data: Option<String>,
}

/// The changes of a transaction.
pub(crate) struct AsChanges;

impl AsChanges {
    pub(crate) fn serialize<S: Serializer>(changes: &[NewChange], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(changes.iter().cloned().map(|NewChange { entity, row_id, kind, data }| AsChange {
            entity,
            row_id,
            kind,
            data,
        }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NewChange>, D::Error> {
        let changes = Vec::<AsChange>::deserialize(deserializer)?;
        let change = |AsChange { entity, row_id, kind, data }| NewChange { entity, row_id, kind, data };
        Ok(changes.into_iter().map(change).collect())
    }
}

mod boxed {
    use super::{AsReplica, Deserializer, Serializer, StoredReplica};

    pub(super) fn serialize<S: Serializer>(replica: &StoredReplica, serializer: S) -> Result<S::Ok, S::Error> {
        AsReplica::serialize(replica, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<StoredReplica>, D::Error> {
        AsReplica::deserialize(deserializer).map(Box::new)
    }
}

mod stored {
    use super::{AsFailure, AsValue, Deserialize, Deserializer, Serialize, Serializer, StorageFailure, StoredValue};

    #[derive(Serialize, Deserialize)]
    enum Stored {
        Gave(#[serde(with = "AsValue")] StoredValue),
        Failed(#[serde(with = "AsFailure")] StorageFailure),
    }

    pub(super) fn serialize<S: Serializer>(
        result: &Result<StoredValue, StorageFailure>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match result.clone() {
            Ok(value) => Stored::Gave(value),
            Err(failure) => Stored::Failed(failure),
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Result<StoredValue, StorageFailure>, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Gave(value) => Ok(value),
            Stored::Failed(failure) => Err(failure),
        })
    }
}

mod formers {
    use super::{Deserialize, Deserializer, Former, Serializer};

    pub(super) fn serialize<S: Serializer>(formers: &[Former], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(formers.iter().map(|former| (former.number, former.key, &former.expect)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Former>, D::Error> {
        let formers = Vec::<(usize, u64, Option<Vec<u8>>)>::deserialize(deserializer)?;
        Ok(formers.into_iter().map(|(number, key, expect)| Former { number, key, expect }).collect())
    }
}
