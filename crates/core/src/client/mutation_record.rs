//! One write of the application, as it waits in the queue and lies on disk. Format: `docs/storage.md`, "Mutation record".

use syncline_protocol::json::{JsonError, Object, Reader, Slot};
use syncline_protocol::{ErrorDetail, Intent, OpId, Timestamp};

use super::replica_record::read_number;

const FORMAT: u64 = 1;

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
    /// By the server's clock.
    pub(crate) first_sent_at: Option<Timestamp>,
    pub(crate) parked: Parked,
    /// Whether it stands aside while the view is made without it.
    pub(crate) aside: bool,
    /// The write that this one was made of, for the tabs that know that one.
    pub(crate) instead_of: Option<OpId>,
    /// Records of writes that this one stands for. They go once this one is on disk, so that at no time neither is.
    pub(crate) replaces: Vec<u64>,
}

/// Whether an open write is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    No,
    /// The server could not understand it; the next connection may reach a newer one.
    UntilConnection,
    /// The server closed because of its size: sent again it would end every connection.
    UntilRestart,
}

/// A record where it lies.
#[derive(Default)]
struct Stored<'a> {
    state: String,
    intent: Option<&'a str>,
    error: Option<ErrorDetail>,
    first_sent_at: Option<u64>,
    instead_of: Option<String>,
}

impl<'a> Stored<'a> {
    fn read(text: &'a str) -> Result<Self, JsonError> {
        let mut stored = Self::default();
        let mut reader = Reader::new(text);
        reader.members(
            &mut [("state", Slot::Text(&mut stored.state)), ("intent", Slot::Raw(&mut stored.intent))],
            &mut [
                ("error", Slot::OptionalNested(&mut |reader| stored.error = Some(ErrorDetail::read(reader)))),
                ("first_sent_at", Slot::OptionalUint(&mut stored.first_sent_at)),
                ("instead_of", Slot::OptionalText(&mut stored.instead_of)),
            ],
        );
        reader.finish().map(|()| stored)
    }
}

/// What stands in the place of the record of a discarded write until the next tab takes the lead: who finds no record knows
/// that the write was applied.
pub(crate) const DISCARDED: &[u8] = br#"{"format":1,"state":"discarded"}"#;

/// What a record of the queue holds.
#[derive(Debug)]
pub(crate) enum Record {
    Write(Box<Mutation>),
    /// The application discarded the write that was here.
    Discarded,
}

/// Why stored bytes are no mutation record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MutationRecordError {
    TooNew,
    Corrupt,
}

impl Mutation {
    /// A write that was never sent; `text` is the intent's canonical bytes.
    pub(crate) fn new(intent: Intent, text: String, durability: Durability) -> Self {
        Self {
            intent,
            text,
            state: MutationState::Pending,
            durability,
            first_sent_at: None,
            parked: Parked::No,
            aside: false,
            instead_of: None,
            replaces: Vec::new(),
        }
    }

    /// Whether it shows in the view.
    pub(crate) const fn shows(&self) -> bool {
        !self.aside && !matches!(self.state, MutationState::Failed(_))
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
        self.encode_with(&self.text, state, first_sent_at)
    }

    /// The same with another intent.
    pub(crate) fn encode_with(&self, text: &str, state: &MutationState, first_sent_at: Option<Timestamp>) -> Vec<u8> {
        let (state, error) = match state {
            MutationState::Pending => ("pending", None),
            MutationState::Sent | MutationState::Applied(_) => ("sent", None),
            MutationState::Failed(error) => ("failed", Some(error)),
        };
        let mut out = Vec::with_capacity(text.len() + 100);
        let mut object = Object::begin(&mut out);
        object.uint("format", FORMAT);
        object.text("state", state);
        object.raw("intent", text);
        match error {
            Some(error) => error.write(object.name("error")),
            None => object.raw("error", "null"),
        }
        object.uint_or_null("first_sent_at", first_sent_at.map(|at| at.0));
        if let Some(op_id) = &self.instead_of {
            object.text("instead_of", op_id.as_str());
        }
        object.end();
        out
    }

    pub(crate) fn decode(key: u64, bytes: &[u8]) -> Result<Record, MutationRecordError> {
        if bytes == DISCARDED {
            return Ok(Record::Discarded);
        }
        let record = std::str::from_utf8(bytes).map_err(|_| MutationRecordError::Corrupt)?;
        if read_number(record, "format").ok_or(MutationRecordError::Corrupt)? != FORMAT {
            return Err(MutationRecordError::TooNew);
        }
        let stored = Stored::read(record).map_err(|_| MutationRecordError::Corrupt)?;
        let text = stored.intent.unwrap_or_default().to_owned();
        let intent = Intent::parse(&text).map_err(|_| MutationRecordError::Corrupt)?;
        let state = match (stored.state.as_str(), stored.error) {
            ("failed", Some(error)) => MutationState::Failed(error),
            ("pending", _) => MutationState::Pending,
            ("sent", _) => MutationState::Sent,
            _ => return Err(MutationRecordError::Corrupt),
        };
        let mut mutation = Self::new(intent, text, Durability::Stored(key));
        mutation.state = state;
        mutation.first_sent_at = stored.first_sent_at.map(Timestamp);
        mutation.instead_of = stored.instead_of.and_then(|op_id| OpId::parse(op_id).ok());
        Ok(Record::Write(Box::new(mutation)))
    }
}
