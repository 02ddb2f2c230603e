//! One write of the application, as it waits in the queue and lies on disk. Format: `docs/storage.md`, "Mutation record".

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use syncline_protocol::{ErrorDetail, Intent, Timestamp};

const FORMAT: u32 = 1;

/// What became of a write so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MutationState {
    /// Never left this replica.
    Pending,
    /// May have reached the server.
    Sent,
    /// Will not be applied.
    Failed(ErrorDetail),
    /// The server applied it; the stream has yet to pass this seq.
    Applied(u64),
}

impl MutationState {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Failed(_) => "failed",
            Self::Applied(_) => "applied",
        }
    }

    /// Whether the server has yet to answer.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self, Self::Pending | Self::Sent)
    }

    /// Whether it shows in the view.
    pub(crate) const fn shows(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

/// Whether a write is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Waits for the next `Enqueue`.
    Unstored,
    /// In an `Enqueue` under way.
    Storing,
    /// On disk under this key.
    Stored(u64),
    /// In memory mode, or what the disk refused.
    MemoryOnly,
}

/// One transaction of the application.
#[derive(Debug, Clone)]
pub(crate) struct Mutation {
    pub(crate) intent: Intent,
    /// The canonical bytes: frozen when the application wrote, stored and sent as they are.
    pub(crate) text: String,
    pub(crate) state: MutationState,
    pub(crate) durability: Durability,
    pub(crate) first_sent_at: Option<Timestamp>,
    /// Not sent again before the next connection: the server could not understand it.
    pub(crate) parked: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    format: u32,
    state: StoredState,
    #[serde(borrow)]
    intent: &'a RawValue,
    error: Option<ErrorDetail>,
    first_sent_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredState {
    Pending,
    Sent,
    Failed,
}

/// Why stored bytes are no mutation record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MutationRecordError {
    TooNew,
    Corrupt,
}

impl Mutation {
    pub(crate) fn new(intent: Intent, durability: Durability) -> Self {
        let text = intent.canonical();
        Self { intent, text, state: MutationState::Pending, durability, first_sent_at: None, parked: false }
    }

    /// The key on disk, once it is there.
    pub(crate) const fn key(&self) -> Option<u64> {
        match self.durability {
            Durability::Stored(key) => Some(key),
            Durability::Unstored | Durability::Storing | Durability::MemoryOnly => None,
        }
    }

    /// Encodes it in a given state. `Applied` is stored as sent: after a crash the server answers from its stored outcome.
    pub(crate) fn encode(&self, state: &MutationState, first_sent_at: Option<Timestamp>) -> Vec<u8> {
        let (state, error) = match state {
            MutationState::Pending => (StoredState::Pending, None),
            MutationState::Sent | MutationState::Applied(_) => (StoredState::Sent, None),
            MutationState::Failed(error) => (StoredState::Failed, Some(error.clone())),
        };
        let Ok(intent) = serde_json::from_str(&self.text) else { return Vec::new() };
        serde_json::to_vec(&Stored { format: FORMAT, state, intent, error, first_sent_at }).unwrap_or_default()
    }

    pub(crate) fn decode(key: u64, bytes: &[u8]) -> Result<Self, MutationRecordError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let format: Format = serde_json::from_slice(bytes).map_err(|_| MutationRecordError::Corrupt)?;
        if format.format != FORMAT {
            return Err(MutationRecordError::TooNew);
        }
        let stored: Stored<'_> = serde_json::from_slice(bytes).map_err(|_| MutationRecordError::Corrupt)?;
        let text = stored.intent.get().to_owned();
        let intent = Intent::parse(&text).map_err(|_| MutationRecordError::Corrupt)?;
        let state = match (stored.state, stored.error) {
            (StoredState::Failed, Some(error)) => MutationState::Failed(error),
            (StoredState::Failed, None) => return Err(MutationRecordError::Corrupt),
            (StoredState::Pending, _) => MutationState::Pending,
            (StoredState::Sent, _) => MutationState::Sent,
        };
        let durability = Durability::Stored(key);
        Ok(Self { intent, text, state, durability, first_sent_at: stored.first_sent_at, parked: false })
    }
}
