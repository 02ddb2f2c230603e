//! One write of the application, as it waits in the queue and lies on disk. Format: `docs/storage.md`, "Mutation record".

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::json::{JsonError, Object, Reader, Slot};
use syncline_protocol::{ErrorDetail, Intent, OpId, Timestamp};

use super::replica_record::read_number;
use super::storage_flow::Records;

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
    /// Writes whose place this one took, for the tabs that know those: what it was made of, and what was folded into it.
    pub(crate) stands_for: Vec<OpId>,
    /// Their records that are on disk. They go in the transaction that brings this one there, so that at no time neither is.
    pub(crate) replaces: Records,
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
    stands_for: Vec<OpId>,
}

impl<'a> Stored<'a> {
    fn read(text: &'a str) -> Result<Self, JsonError> {
        let mut stored = Self::default();
        let mut reader = Reader::new(text);
        reader.members(
            &mut [("state", Slot::Text(&mut stored.state))],
            &mut [
                ("intent", Slot::Raw(&mut stored.intent)),
                ("error", Slot::OptionalNested(&mut |reader| stored.error = Some(ErrorDetail::read(reader)))),
                ("first_sent_at", Slot::OptionalUint(&mut stored.first_sent_at)),
                ("stands_for", Slot::OptionalNested(&mut |reader| stored.stands_for = read_op_ids(reader))),
            ],
        );
        reader.finish().map(|()| stored)
    }
}

/// How the mark begins that stands in the place of the record of a discarded write: who finds neither a record nor a mark knows
/// that the write was applied, or the one that stands for it.
const MARK: &[u8] = br#"{"format":1,"state":"discarded""#;

/// Most writes that one stands for; the oldest are forgotten first.
const STANDS_FOR_MAX: usize = 1_000;

/// Whether a record is the mark of a discarded write.
pub(crate) fn is_mark(record: &[u8]) -> bool {
    record.starts_with(MARK)
}

/// Whether a record is that of a write that nobody has sent.
pub(crate) fn is_unsent(record: &[u8]) -> bool {
    record.starts_with(br#"{"format":1,"state":"pending""#)
}

fn read_op_ids(reader: &mut Reader<'_>) -> Vec<OpId> {
    let mut op_ids = Vec::new();
    let mut list = reader.array();
    while reader.next_item(&mut list) {
        op_ids.extend(OpId::parse(reader.text()).ok());
    }
    op_ids
}

fn write_op_ids(object: &mut Object<'_>, op_ids: &[OpId]) {
    if !op_ids.is_empty() {
        object.texts("stands_for", &mut op_ids.iter().map(OpId::as_str));
    }
}

/// What a record of the queue holds.
#[derive(Debug)]
pub(crate) enum Record {
    Write(Box<Mutation>),
    /// The application discarded the write that was here, which stood for these.
    Discarded(Vec<OpId>),
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
            stands_for: Vec::new(),
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
        let (state, error) = match state {
            MutationState::Pending => ("pending", None),
            MutationState::Sent | MutationState::Applied(_) => ("sent", None),
            MutationState::Failed(error) => ("failed", Some(error)),
        };
        let mut out = Vec::with_capacity(self.text.len() + 100);
        let mut object = Object::begin(&mut out);
        object.uint("format", FORMAT);
        object.text("state", state);
        object.raw("intent", &self.text);
        match error {
            Some(error) => error.write(object.name("error")),
            None => object.raw("error", "null"),
        }
        object.uint_or_null("first_sent_at", first_sent_at.map(|at| at.0));
        write_op_ids(&mut object, &self.stands_for);
        object.end();
        out
    }

    /// Its record as it is on disk, unless the disk has yet to hear what became of it.
    pub(crate) fn record(&self) -> Vec<u8> {
        self.encode(&self.state, self.first_sent_at)
    }

    /// What stands in its place on disk once it is discarded.
    pub(crate) fn mark(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.uint("format", FORMAT);
        object.text("state", "discarded");
        write_op_ids(&mut object, &self.stands_for);
        object.end();
        out
    }

    /// Takes the place of another one.
    pub(crate) fn stand_for(&mut self, other: &Self) {
        self.stands_for.extend_from_slice(&other.stands_for);
        self.stands_for.push(other.intent.op_id.clone());
        self.stands_for.drain(..self.stands_for.len().saturating_sub(STANDS_FOR_MAX));
    }
    pub(crate) fn decode(key: u64, bytes: &[u8]) -> Result<Record, MutationRecordError> {
        let record = core::str::from_utf8(bytes).map_err(|_| MutationRecordError::Corrupt)?;
        if read_number(record, "format").ok_or(MutationRecordError::Corrupt)? != FORMAT {
            return Err(MutationRecordError::TooNew);
        }
        let stored = Stored::read(record).map_err(|_| MutationRecordError::Corrupt)?;
        if stored.state == "discarded" {
            return Ok(Record::Discarded(stored.stands_for));
        }
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
        mutation.stands_for = stored.stands_for;
        Ok(Record::Write(Box::new(mutation)))
    }
}
