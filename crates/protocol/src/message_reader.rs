//! How the client reads what a server says.

use alloc::string::String;
use alloc::vec::Vec;

use crate::json::{JsonError, Reader, Slot};
use crate::{
    Base, Change, ChangeKind, ClientId, Cursor, EntityName, ErrorBody, ErrorDetail, Identity, Intent, IntentChange, IntentError,
    MessageError, OpId, OutcomeResult, OutcomeStatus, Page, PushAnswer, RawJson, ResumeMode, RowId, RowText, ServerMessage,
    SnapshotMark, Timestamp, TransactionInfo, ValueError, Welcome,
};

/// Reads a whole text.
fn read_all<'a, T>(text: &'a str, read: impl FnOnce(&mut Reader<'a>) -> T) -> Result<T, JsonError> {
    let mut reader = Reader::new(text);
    let value = read(&mut reader);
    reader.finish().map(|()| value)
}

/// Reads the items of an array.
fn read_list<'a, T>(reader: &mut Reader<'a>, read: impl Fn(&mut Reader<'a>) -> T) -> Vec<T> {
    let mut items = Vec::new();
    let mut list = reader.array();
    while reader.next_item(&mut list) {
        items.push(read(reader));
    }
    items
}

fn read_text(reader: &mut Reader<'_>) -> String {
    reader.text().into_owned()
}

fn read_op_id(reader: &mut Reader<'_>) -> OpId {
    let text = read_text(reader);
    OpId::read(text, reader)
}

impl Identity {
    /// Parses the answer to `GET /api/auth/me`.
    ///
    /// # Errors
    /// When it is not of the documented shape.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        read_all(text, Self::read)
    }

    /// Reads it as part of something larger.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let mut identity = Self::default();
        let user_id = ("user_id", Slot::OptionalText(&mut identity.user_id));
        reader.members(&mut [], &mut [user_id, ("tenant_id", Slot::OptionalText(&mut identity.tenant_id))]);
        identity
    }
}

impl ErrorBody {
    /// Parses the body of an error answer.
    ///
    /// # Errors
    /// When it is something else, a page of HTML for example.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        read_all(text, |reader| Self { error: read_failure(reader).1 })
    }
}

/// An error, and the id of the push it is about.
fn read_failure(reader: &mut Reader<'_>) -> (Option<u64>, ErrorDetail) {
    let (mut id, mut error) = (None, ErrorDetail::default());
    reader.members(
        &mut [("error", Slot::Nested(&mut |reader| error = ErrorDetail::read(reader)))],
        &mut [("id", Slot::OptionalUint(&mut id))],
    );
    (id, error)
}

impl ErrorDetail {
    /// Reads it as part of something larger.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let mut detail = Self::default();
        reader.members(
            &mut [("code", Slot::Text(&mut detail.code)), ("message", Slot::Text(&mut detail.message))],
            &mut [
                ("hint", Slot::OptionalText(&mut detail.hint)),
                ("oldest_seq", Slot::OptionalUint(&mut detail.oldest_seq)),
                ("retry_after_secs", Slot::OptionalUint(&mut detail.retry_after_secs)),
            ],
        );
        detail
    }
}

impl ServerMessage {
    /// Parses a text frame.
    ///
    /// # Errors
    /// As [`ClientMessage::parse`](crate::ClientMessage::parse).
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        let shape = |error: JsonError| MessageError::Shape(error.text());
        let mut kind = String::new();
        read_all(text, |reader| reader.members(&mut [("type", Slot::Text(&mut kind))], &mut [])).map_err(shape)?;
        let mut reader = Reader::new(text);
        let message = match kind.as_str() {
            "welcome" => Self::Welcome(Welcome::read(&mut reader)),
            "frame" => Self::Frame(Page::read(&mut reader)),
            "outcomes" => Self::Outcomes(PushAnswer::read(&mut reader)),
            "heartbeat" => return Ok(Self::Heartbeat),
            "resync" => Self::Resync { error: read_failure(&mut reader).1 },
            "error" => {
                let (id, error) = read_failure(&mut reader);
                Self::Error { id, error }
            }
            other => return Err(MessageError::UnknownType(other.chars().take(40).collect())),
        };
        reader.finish().map_err(shape)?;
        Ok(message)
    }
}

impl Welcome {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut welcome = Self {
            protocol: 0,
            identity: Identity::default(),
            epoch: String::new(),
            head: 0,
            resume: ResumeMode::Stream,
            outcome_floor: Timestamp(0),
            server_time: Timestamp(0),
            heartbeat_ms: 0,
        };
        let mut resume = String::new();
        reader.members(
            &mut [
                ("protocol", Slot::Uint32(&mut welcome.protocol)),
                ("identity", Slot::Nested(&mut |reader| welcome.identity = Identity::read(reader))),
                ("epoch", Slot::Text(&mut welcome.epoch)),
                ("head", Slot::Uint(&mut welcome.head)),
                ("resume", Slot::Text(&mut resume)),
                ("outcome_floor", Slot::Uint(&mut welcome.outcome_floor.0)),
                ("server_time", Slot::Uint(&mut welcome.server_time.0)),
                ("heartbeat_ms", Slot::Uint(&mut welcome.heartbeat_ms)),
            ],
            &mut [],
        );
        match resume.as_str() {
            "stream" => {}
            "pull" => welcome.resume = ResumeMode::Pull,
            "resync" => welcome.resume = ResumeMode::Resync,
            _ => reader.fail("unknown way to resume"),
        }
        welcome
    }
}

impl PushAnswer {
    /// Parses the answer to a push over HTTP.
    ///
    /// # Errors
    /// When it is not of the documented shape.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        read_all(text, Self::read)
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let mut answer = Self { id: 0, results: Vec::new(), frame: None };
        reader.members(
            &mut [("results", Slot::Nested(&mut |reader| answer.results = read_list(reader, OutcomeResult::read)))],
            &mut [
                ("id", Slot::Uint(&mut answer.id)),
                ("frame", Slot::OptionalNested(&mut |reader| answer.frame = Some(Page::read(reader)))),
            ],
        );
        answer
    }
}

impl OutcomeResult {
    fn read(reader: &mut Reader<'_>) -> Self {
        let (mut op_id, mut status) = (String::new(), String::new());
        let (mut first_seq, mut last_seq, mut replayed, mut error) = (None, None, false, None);
        reader.members(
            &mut [("op_id", Slot::Text(&mut op_id)), ("status", Slot::Text(&mut status))],
            &mut [
                ("first_seq", Slot::OptionalUint(&mut first_seq)),
                ("last_seq", Slot::OptionalUint(&mut last_seq)),
                ("replayed", Slot::Bool(&mut replayed)),
                ("error", Slot::OptionalNested(&mut |reader| error = Some(ErrorDetail::read(reader)))),
            ],
        );
        let status = match status.as_str() {
            "applied" => OutcomeStatus::Applied,
            "merged" => OutcomeStatus::Merged,
            "held" => OutcomeStatus::Held,
            "rejected" => OutcomeStatus::Rejected,
            "retry" => OutcomeStatus::Retry,
            other => {
                if other != "not_evaluated" {
                    reader.fail("unknown status");
                }
                OutcomeStatus::NotEvaluated
            }
        };
        Self { op_id: OpId::read(op_id, reader), status, first_seq, last_seq, replayed, error }
    }
}

impl Page {
    /// Parses the answer to a pull.
    ///
    /// # Errors
    /// When it is not of the documented shape.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        read_all(text, Self::read)
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let mut page = Self {
            scope: String::new(),
            from: 0,
            to: 0,
            cursor: Cursor { last_seq: 0, token: String::new() },
            has_more: false,
            snapshot: None,
            consistent_at: None,
            changes: Vec::new(),
            transactions: Vec::new(),
            checksum: String::new(),
            scope_checksum: None,
        };
        reader.members(
            &mut [
                ("scope", Slot::Text(&mut page.scope)),
                ("from", Slot::Uint(&mut page.from)),
                ("to", Slot::Uint(&mut page.to)),
                ("cursor", Slot::Nested(&mut |reader| page.cursor.read(reader))),
                ("has_more", Slot::Bool(&mut page.has_more)),
                ("changes", Slot::Nested(&mut |reader| page.changes = read_list(reader, Change::read))),
                ("checksum", Slot::Text(&mut page.checksum)),
            ],
            &mut [
                ("snapshot", Slot::OptionalNested(&mut |reader| page.snapshot = Some(SnapshotMark::read(reader)))),
                ("consistent_at", Slot::OptionalUint(&mut page.consistent_at)),
                ("transactions", Slot::Nested(&mut |reader| page.transactions = read_list(reader, TransactionInfo::read))),
                ("scope_checksum", Slot::OptionalText(&mut page.scope_checksum)),
            ],
        );
        page
    }
}

impl Cursor {
    fn read(&mut self, reader: &mut Reader<'_>) {
        reader.members(&mut [("last_seq", Slot::Uint(&mut self.last_seq)), ("token", Slot::Text(&mut self.token))], &mut []);
    }
}

impl SnapshotMark {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut mark = Self { start: false, end: false };
        reader.members(&mut [("start", Slot::Bool(&mut mark.start)), ("end", Slot::Bool(&mut mark.end))], &mut []);
        mark
    }
}

impl Change {
    fn read(reader: &mut Reader<'_>) -> Self {
        let (mut seq, mut entity, mut row_id, mut kind) = (0, String::new(), String::new(), String::new());
        let (mut data, mut columns, mut column_seqs, mut base) = (None, None, None, None);
        reader.members(
            &mut [
                ("seq", Slot::Uint(&mut seq)),
                ("entity", Slot::Text(&mut entity)),
                ("row_id", Slot::Text(&mut row_id)),
                ("kind", Slot::Text(&mut kind)),
            ],
            &mut [
                ("data", Slot::Raw(&mut data)),
                ("columns", Slot::Raw(&mut columns)),
                ("column_seqs", Slot::Raw(&mut column_seqs)),
                ("base", Slot::Raw(&mut base)),
            ],
        );
        Self {
            seq,
            entity: EntityName::read(entity, reader),
            row_id: RowId::read(row_id, reader),
            kind: ChangeKind::from(kind),
            data: raw(data),
            columns: raw(columns),
            column_seqs: raw(column_seqs),
            base: raw(base),
        }
    }
}

fn raw(text: Option<&str>) -> Option<RawJson> {
    text.map(RawJson::from_checked)
}

impl TransactionInfo {
    fn read(reader: &mut Reader<'_>) -> Self {
        let (mut op_id, mut client_id, mut user_id, mut schema) = (String::new(), None, None, 0);
        let (mut issued_at, mut committed_at) = (Timestamp(0), Timestamp(0));
        let (mut first_seq, mut last_seq) = (0, 0);
        reader.members(
            &mut [
                ("op_id", Slot::Text(&mut op_id)),
                ("issued_at", Slot::Uint(&mut issued_at.0)),
                ("committed_at", Slot::Uint(&mut committed_at.0)),
                ("first_seq", Slot::Uint(&mut first_seq)),
                ("last_seq", Slot::Uint(&mut last_seq)),
            ],
            &mut [
                ("client_id", Slot::OptionalText(&mut client_id)),
                ("user_id", Slot::OptionalText(&mut user_id)),
                ("schema", Slot::Uint32(&mut schema)),
            ],
        );
        let client_id = client_id.map(|text| ClientId::read(text, reader));
        Self { op_id: OpId::read(op_id, reader), client_id, user_id, issued_at, committed_at, schema, first_seq, last_seq }
    }
}

impl Base {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut base = None;
        let mut list = reader.object();
        while let Some(name) = reader.next_name(&mut list) {
            if base.is_some() {
                reader.fail("a base is one thing");
            }
            base = match &*name {
                "seq" => Some(Self::Seq(reader.uint())),
                "op_id" => Some(Self::OpId(read_op_id(reader))),
                _ => None,
            };
            if base.is_none() {
                reader.fail("unknown base");
            }
        }
        base.unwrap_or_else(|| {
            reader.fail("a base is one thing");
            Self::Seq(0)
        })
    }
}

impl Intent {
    /// Reads a whole text. What is wrong with its shape comes before what is wrong with a value.
    pub(crate) fn read(text: &str) -> Result<Self, IntentError> {
        let (mut op_id, mut after, mut issued_at, mut schema) = (String::new(), Vec::new(), Timestamp(0), 0);
        let (mut changes, mut problem) = (Vec::new(), None);
        let mut reader = Reader::new(text);
        reader.members(
            &mut [
                ("op_id", Slot::Text(&mut op_id)),
                ("issued_at", Slot::Uint(&mut issued_at.0)),
                (
                    "changes",
                    Slot::Nested(&mut |reader| {
                        let mut list = reader.array();
                        while reader.next_item(&mut list) {
                            changes.push(IntentChange::read(reader, &mut problem));
                        }
                    }),
                ),
            ],
            &mut [
                ("after", Slot::Nested(&mut |reader| after = read_list(reader, read_op_id))),
                ("schema", Slot::Uint32(&mut schema)),
            ],
        );
        let op_id = OpId::read(op_id, &mut reader);
        reader.finish().map_err(|error| IntentError::Shape(error.text()))?;
        problem.map_or(Ok(Self { op_id, after, issued_at, schema, changes }), |problem| Err(problem.into()))
    }
}

impl IntentChange {
    /// Reads one; `problem` takes the first value of all that cannot be stored.
    fn read(reader: &mut Reader<'_>, problem: &mut Option<ValueError>) -> Self {
        let (mut entity, mut row_id, mut kind) = (String::new(), String::new(), String::new());
        let (mut data, mut base) = (None, None);
        reader.members(
            &mut [("entity", Slot::Text(&mut entity)), ("row_id", Slot::Text(&mut row_id)), ("kind", Slot::Text(&mut kind))],
            &mut [
                (
                    "data",
                    Slot::OptionalNested(&mut |reader| {
                        let (row, refused) = RowText::read(reader);
                        data = Some(row);
                        *problem = problem.take().or(refused);
                    }),
                ),
                ("base", Slot::OptionalNested(&mut |reader| base = Some(Base::read(reader)))),
            ],
        );
        let (entity, row_id) = (EntityName::read(entity, reader), RowId::read(row_id, reader));
        Self { entity, row_id, kind: ChangeKind::from(kind), data, base }
    }
}
