//! What a replica knows about itself on disk. Format: `docs/storage.md`, "Replica record".

use serde::{Deserialize, Serialize};
use syncline_protocol::ClientId;

const FORMAT: u32 = 1;

/// Where a generation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) generation: u64,
    pub(crate) seq: u64,
    /// What to pull with; `None`: nothing was pulled yet, or it is of no use any more.
    pub(crate) token: Option<String>,
    /// Number of the generation's next record.
    pub(crate) next_record: u64,
}

impl Position {
    pub(crate) const fn start(generation: u64) -> Self {
        Self { generation, seq: 0, token: None, next_record: 0 }
    }

    /// Takes the key for a new record.
    pub(crate) const fn take_key(&mut self) -> u64 {
        let key = first_key(self.generation) + self.next_record;
        self.next_record += 1;
        key
    }
}

/// The first key of a generation in the `entities` store.
pub(crate) const fn first_key(generation: u64) -> u64 {
    generation << 32
}

/// A snapshot under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StagingPosition {
    pub(crate) position: Position,
    /// Nothing fits together before this seq.
    pub(crate) consistent_at: u64,
    /// Whether the snapshot's last page came; the log follows.
    pub(crate) ended: bool,
}

/// The replica record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaRecord {
    pub(crate) client_id: ClientId,
    /// The database the token is of, for people.
    pub(crate) epoch: Option<String>,
    pub(crate) shown: Position,
    pub(crate) staging: Option<StagingPosition>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    client_id: ClientId,
    epoch: Option<String>,
    generation: u64,
    seq: u64,
    token: Option<String>,
    next_record: u64,
    staging: Option<StoredStaging>,
}

#[derive(Serialize, Deserialize)]
struct StoredStaging {
    generation: u64,
    seq: u64,
    token: Option<String>,
    next_record: u64,
    consistent_at: u64,
    ended: bool,
}

/// Why stored bytes are no replica record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplicaRecordError {
    TooNew,
    Corrupt,
}

impl ReplicaRecord {
    pub(crate) const fn new(client_id: ClientId) -> Self {
        Self { client_id, epoch: None, shown: Position::start(0), staging: None }
    }

    /// Where the stream continues: in the snapshot under way, else where the shown rows stand.
    pub(crate) fn stream(&self) -> &Position {
        self.staging.as_ref().map_or(&self.shown, |staging| &staging.position)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Position { generation, seq, token, next_record } = self.shown.clone();
        let staging = self.staging.clone().map(|StagingPosition { position, consistent_at, ended }| {
            let Position { generation, seq, token, next_record } = position;
            StoredStaging { generation, seq, token, next_record, consistent_at, ended }
        });
        let (client_id, epoch) = (self.client_id.clone(), self.epoch.clone());
        let stored = Stored { format: FORMAT, client_id, epoch, generation, seq, token, next_record, staging };
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ReplicaRecordError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let format: Format = serde_json::from_slice(bytes).map_err(|_| ReplicaRecordError::Corrupt)?;
        if format.format != FORMAT {
            return Err(ReplicaRecordError::TooNew);
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| ReplicaRecordError::Corrupt)?;
        let Stored { client_id, epoch, generation, seq, token, next_record, staging, .. } = stored;
        let staging = staging.map(|StoredStaging { generation, seq, token, next_record, consistent_at, ended }| {
            StagingPosition { position: Position { generation, seq, token, next_record }, consistent_at, ended }
        });
        Ok(Self { client_id, epoch, shown: Position { generation, seq, token, next_record }, staging })
    }
}
