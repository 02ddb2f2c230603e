//! What a replica knows about itself on disk. Format: `docs/storage.md`, "Replica record".

use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::ClientId;
use syncline_protocol::json::{JsonError, Object, Reader, Slot};

const FORMAT: u64 = 1;

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
    /// The highest key of the queue whose write was applied. Keys are given out in order, so a lower one that is not there has
    /// left the queue.
    pub(crate) queue_floor: u64,
}

/// Why stored bytes are no replica record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplicaRecordError {
    TooNew,
    Corrupt,
}

impl ReplicaRecord {
    pub(crate) const fn new(client_id: ClientId) -> Self {
        Self { client_id, epoch: None, shown: Position::start(0), staging: None, queue_floor: 0 }
    }

    /// Where the stream continues: in the snapshot under way, else where the shown rows stand.
    pub(crate) fn stream(&self) -> &Position {
        self.staging.as_ref().map_or(&self.shown, |staging| &staging.position)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.uint("format", FORMAT);
        object.text("client_id", self.client_id.as_str());
        object.text_or_null("epoch", self.epoch.as_deref());
        self.shown.write(&mut object);
        match &self.staging {
            None => object.raw("staging", "null"),
            Some(staging) => {
                let mut inner = Object::begin(object.name("staging"));
                staging.position.write(&mut inner);
                inner.uint("consistent_at", staging.consistent_at);
                inner.bool("ended", staging.ended);
                inner.end();
            }
        }
        object.uint("queue_floor", self.queue_floor);
        object.end();
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ReplicaRecordError> {
        let record = core::str::from_utf8(bytes).map_err(|_| ReplicaRecordError::Corrupt)?;
        if read_number(record, "format").ok_or(ReplicaRecordError::Corrupt)? != FORMAT {
            return Err(ReplicaRecordError::TooNew);
        }
        Self::read(record).map_err(|_| ReplicaRecordError::Corrupt)
    }

    fn read(record: &str) -> Result<Self, JsonError> {
        let (mut client_id, mut epoch, mut shown, mut staging) = (String::new(), None, Position::start(0), None);
        let mut queue_floor = 0;
        let mut reader = Reader::new(record);
        reader.members(
            &mut [
                ("client_id", Slot::Text(&mut client_id)),
                ("generation", Slot::Uint(&mut shown.generation)),
                ("seq", Slot::Uint(&mut shown.seq)),
                ("next_record", Slot::Uint(&mut shown.next_record)),
            ],
            &mut [
                ("epoch", Slot::OptionalText(&mut epoch)),
                ("token", Slot::OptionalText(&mut shown.token)),
                ("staging", Slot::OptionalNested(&mut |reader| staging = Some(StagingPosition::read(reader)))),
                ("queue_floor", Slot::Uint(&mut queue_floor)),
            ],
        );
        let client_id = ClientId::read(client_id, &mut reader);
        reader.finish()?;
        Ok(Self { client_id, epoch, shown, staging, queue_floor })
    }
}

impl Position {
    fn write(&self, object: &mut Object<'_>) {
        object.uint("generation", self.generation);
        object.uint("seq", self.seq);
        object.text_or_null("token", self.token.as_deref());
        object.uint("next_record", self.next_record);
    }
}

impl StagingPosition {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut staging = Self { position: Position::start(0), consistent_at: 0, ended: false };
        reader.members(
            &mut [
                ("generation", Slot::Uint(&mut staging.position.generation)),
                ("seq", Slot::Uint(&mut staging.position.seq)),
                ("next_record", Slot::Uint(&mut staging.position.next_record)),
                ("consistent_at", Slot::Uint(&mut staging.consistent_at)),
                ("ended", Slot::Bool(&mut staging.ended)),
            ],
            &mut [("token", Slot::OptionalText(&mut staging.position.token))],
        );
        staging
    }
}

/// One number of a record; `None` when that is no JSON object or has no such number.
pub(crate) fn read_number(record: &str, wanted: &'static str) -> Option<u64> {
    let (mut reader, mut number) = (Reader::new(record), 0);
    reader.members(&mut [(wanted, Slot::Uint(&mut number))], &mut []);
    reader.finish().ok().map(|()| number)
}
