//! How the client reads what a server says.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::json::{JsonError, Reader};
use crate::{
    Base, Change, ChangeKind, Cursor, EntityName, ErrorBody, ErrorDetail, IdError, Identity, Intent, IntentChange, MessageError,
    OpId, OutcomeResult, OutcomeStatus, Page, PushAnswer, RawJson, ResumeMode, Row, RowId, ServerMessage, SnapshotMark,
    Timestamp, TransactionInfo, Welcome,
};

/// Reads a whole text.
pub(crate) fn read_all<T>(text: &str, read: impl FnOnce(&mut Reader<'_>) -> Result<T, JsonError>) -> Result<T, JsonError> {
    let mut reader = Reader::new(text);
    let value = read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Reads an id and checks it.
fn read_id<T>(reader: &mut Reader<'_>, check: fn(String) -> Result<T, IdError>) -> Result<T, JsonError> {
    check(read_text(reader)?).map_err(|error| reader.wrong(error.to_string()))
}

/// For what was checked to be there and has no default to start from.
fn missing(reader: &Reader<'_>) -> JsonError {
    reader.wrong("missing field")
}

fn read_list<T>(reader: &mut Reader<'_>, read: impl Fn(&mut Reader<'_>) -> Result<T, JsonError>) -> Result<Vec<T>, JsonError> {
    let mut items = Vec::new();
    reader.array(&mut |reader| {
        items.push(read(reader)?);
        Ok(())
    })?;
    Ok(items)
}

fn read_text(reader: &mut Reader<'_>) -> Result<String, JsonError> {
    reader.text().map(Cow::into_owned)
}

fn read_op_id(reader: &mut Reader<'_>) -> Result<OpId, JsonError> {
    read_id(reader, OpId::parse)
}

/// Any object; what may stand in a row is checked later.
pub(crate) fn read_row(reader: &mut Reader<'_>) -> Result<Row, JsonError> {
    reader.map()
}

fn read_timestamp(reader: &mut Reader<'_>) -> Result<Timestamp, JsonError> {
    reader.uint().map(Timestamp)
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
    ///
    /// # Errors
    /// As [`Identity::parse`].
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let mut identity = Self::default();
        reader.fields(&[], &["user_id", "tenant_id"], &mut |name, reader| {
            let slot = if name == "user_id" { &mut identity.user_id } else { &mut identity.tenant_id };
            *slot = reader.optional_text()?;
            Ok(())
        })?;
        Ok(identity)
    }
}

impl ErrorBody {
    /// Parses the body of an error answer.
    ///
    /// # Errors
    /// When it is something else, a page of HTML for example.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        read_all(text, |reader| read_failure(reader).map(|(_, error)| Self { error }))
    }
}

/// An error, and the id of the push it is about.
fn read_failure(reader: &mut Reader<'_>) -> Result<(Option<u64>, ErrorDetail), JsonError> {
    let (mut id, mut error) = (None, None);
    reader.fields(&["error"], &["id"], &mut |name, reader| {
        match name {
            "id" => id = reader.optional_uint()?,
            _ => error = Some(ErrorDetail::read(reader)?),
        }
        Ok(())
    })?;
    Ok((id, error.ok_or_else(|| missing(reader))?))
}

impl ErrorDetail {
    /// Reads it as part of something larger.
    ///
    /// # Errors
    /// When it is not of the documented shape.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let mut detail =
            Self { code: String::new(), message: String::new(), hint: None, oldest_seq: None, retry_after_secs: None };
        reader.fields(&["code", "message"], &["hint", "oldest_seq", "retry_after_secs"], &mut |name, reader| {
            match name {
                "code" => detail.code = read_text(reader)?,
                "message" => detail.message = read_text(reader)?,
                "hint" => detail.hint = reader.optional_text()?,
                "oldest_seq" => detail.oldest_seq = reader.optional_uint()?,
                _ => detail.retry_after_secs = reader.optional_uint()?,
            }
            Ok(())
        })?;
        Ok(detail)
    }
}

impl ServerMessage {
    /// Parses a text frame.
    ///
    /// # Errors
    /// As [`ClientMessage::parse`](crate::ClientMessage::parse).
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        let shape = |error: JsonError| MessageError::Shape(error.to_string());
        let mut kind = String::new();
        read_all(text, |reader| {
            reader.fields(&["type"], &[], &mut |_, reader| {
                kind = read_text(reader)?;
                Ok(())
            })
        })
        .map_err(shape)?;
        let mut reader = Reader::new(text);
        let message = match kind.as_str() {
            "welcome" => Welcome::read(&mut reader).map(Self::Welcome),
            "frame" => Page::read(&mut reader).map(Self::Frame),
            "outcomes" => PushAnswer::read(&mut reader).map(Self::Outcomes),
            "heartbeat" => Ok(Self::Heartbeat),
            "resync" => read_failure(&mut reader).map(|(_, error)| Self::Resync { error }),
            "error" => read_failure(&mut reader).map(|(id, error)| Self::Error { id, error }),
            other => return Err(MessageError::UnknownType(other.chars().take(40).collect())),
        };
        message.map_err(shape)
    }
}

impl Welcome {
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
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
        let required = ["protocol", "identity", "epoch", "head", "resume", "outcome_floor", "server_time", "heartbeat_ms"];
        reader.fields(&required, &[], &mut |name, reader| {
            match name {
                "protocol" => welcome.protocol = reader.uint32()?,
                "identity" => welcome.identity = Identity::read(reader)?,
                "epoch" => welcome.epoch = read_text(reader)?,
                "head" => welcome.head = reader.uint()?,
                "resume" => {
                    welcome.resume = match &*reader.text()? {
                        "stream" => ResumeMode::Stream,
                        "pull" => ResumeMode::Pull,
                        "resync" => ResumeMode::Resync,
                        _ => return Err(reader.wrong("unknown way to resume")),
                    };
                }
                "outcome_floor" => welcome.outcome_floor = read_timestamp(reader)?,
                "server_time" => welcome.server_time = read_timestamp(reader)?,
                _ => welcome.heartbeat_ms = reader.uint()?,
            }
            Ok(())
        })?;
        Ok(welcome)
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

    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let mut answer = Self { id: 0, results: Vec::new(), frame: None };
        reader.fields(&["results"], &["id", "frame"], &mut |name, reader| {
            match name {
                "results" => answer.results = read_list(reader, OutcomeResult::read)?,
                "id" => answer.id = reader.uint()?,
                _ => answer.frame = reader.optional(Page::read)?,
            }
            Ok(())
        })?;
        Ok(answer)
    }
}

impl OutcomeResult {
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let (mut op_id, mut status) = (None, None);
        let (mut first_seq, mut last_seq, mut replayed, mut error) = (None, None, false, None);
        reader.fields(&["op_id", "status"], &["first_seq", "last_seq", "replayed", "error"], &mut |name, reader| {
            match name {
                "op_id" => op_id = Some(read_op_id(reader)?),
                "status" => status = Some(read_status(reader)?),
                "first_seq" => first_seq = reader.optional_uint()?,
                "last_seq" => last_seq = reader.optional_uint()?,
                "replayed" => replayed = reader.bool()?,
                _ => error = reader.optional(ErrorDetail::read)?,
            }
            Ok(())
        })?;
        let (Some(op_id), Some(status)) = (op_id, status) else { return Err(missing(reader)) };
        Ok(Self { op_id, status, first_seq, last_seq, replayed, error })
    }
}

fn read_status(reader: &mut Reader<'_>) -> Result<OutcomeStatus, JsonError> {
    Ok(match &*reader.text()? {
        "applied" => OutcomeStatus::Applied,
        "merged" => OutcomeStatus::Merged,
        "held" => OutcomeStatus::Held,
        "rejected" => OutcomeStatus::Rejected,
        "retry" => OutcomeStatus::Retry,
        "not_evaluated" => OutcomeStatus::NotEvaluated,
        _ => return Err(reader.wrong("unknown status")),
    })
}

impl Page {
    /// Parses the answer to a pull.
    ///
    /// # Errors
    /// When it is not of the documented shape.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        read_all(text, Self::read)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
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
        let required = ["scope", "from", "to", "cursor", "has_more", "changes", "checksum"];
        let optional = ["snapshot", "consistent_at", "transactions", "scope_checksum"];
        reader.fields(&required, &optional, &mut |name, reader| {
            match name {
                "scope" => page.scope = read_text(reader)?,
                "from" => page.from = reader.uint()?,
                "to" => page.to = reader.uint()?,
                "cursor" => page.cursor = Cursor::read(reader)?,
                "has_more" => page.has_more = reader.bool()?,
                "snapshot" => page.snapshot = reader.optional(SnapshotMark::read)?,
                "consistent_at" => page.consistent_at = reader.optional_uint()?,
                "changes" => page.changes = read_list(reader, Change::read)?,
                "transactions" => page.transactions = read_list(reader, TransactionInfo::read)?,
                "checksum" => page.checksum = read_text(reader)?,
                _ => page.scope_checksum = reader.optional_text()?,
            }
            Ok(())
        })?;
        Ok(page)
    }
}

impl Cursor {
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let mut cursor = Self { last_seq: 0, token: String::new() };
        reader.fields(&["last_seq", "token"], &[], &mut |name, reader| {
            match name {
                "last_seq" => cursor.last_seq = reader.uint()?,
                _ => cursor.token = read_text(reader)?,
            }
            Ok(())
        })?;
        Ok(cursor)
    }
}

impl SnapshotMark {
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let mut mark = Self { start: false, end: false };
        reader.fields(&["start", "end"], &[], &mut |name, reader| {
            let slot = if name == "start" { &mut mark.start } else { &mut mark.end };
            *slot = reader.bool()?;
            Ok(())
        })?;
        Ok(mark)
    }
}

impl Change {
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let (mut seq, mut entity, mut row_id, mut kind) = (0, None, None, None);
        let (mut data, mut columns, mut column_seqs, mut base) = (None, None, None, None);
        let optional = ["data", "columns", "column_seqs", "base"];
        reader.fields(&["seq", "entity", "row_id", "kind"], &optional, &mut |name, reader| {
            match name {
                "seq" => seq = reader.uint()?,
                "entity" => entity = Some(read_id(reader, EntityName::parse)?),
                "row_id" => row_id = Some(read_id(reader, RowId::parse)?),
                "kind" => kind = Some(ChangeKind::from(read_text(reader)?)),
                "data" => data = reader.optional(read_raw)?,
                "columns" => columns = reader.optional(|reader| read_list(reader, read_text))?,
                "column_seqs" => column_seqs = reader.optional(read_seqs)?,
                _ => base = reader.optional(Base::read)?,
            }
            Ok(())
        })?;
        let (Some(entity), Some(row_id), Some(kind)) = (entity, row_id, kind) else { return Err(missing(reader)) };
        Ok(Self { seq, entity, row_id, kind, data, columns, column_seqs, base })
    }
}

fn read_raw(reader: &mut Reader<'_>) -> Result<RawJson, JsonError> {
    reader.raw().map(RawJson::from_checked)
}

fn read_seqs(reader: &mut Reader<'_>) -> Result<BTreeMap<String, u64>, JsonError> {
    let mut seqs = BTreeMap::new();
    reader.object(&mut |name, reader| {
        seqs.insert(name.to_owned(), reader.uint()?);
        Ok(())
    })?;
    Ok(seqs)
}

impl TransactionInfo {
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let (mut op_id, mut client_id, mut user_id) = (None, None, None);
        let (mut issued_at, mut committed_at, mut schema) = (Timestamp(0), Timestamp(0), 0);
        let (mut first_seq, mut last_seq) = (0, 0);
        let required = ["op_id", "issued_at", "committed_at", "first_seq", "last_seq"];
        reader.fields(&required, &["client_id", "user_id", "schema"], &mut |name, reader| {
            match name {
                "op_id" => op_id = Some(read_op_id(reader)?),
                "issued_at" => issued_at = read_timestamp(reader)?,
                "committed_at" => committed_at = read_timestamp(reader)?,
                "first_seq" => first_seq = reader.uint()?,
                "last_seq" => last_seq = reader.uint()?,
                "client_id" => client_id = reader.optional(|reader| read_id(reader, crate::ClientId::parse))?,
                "user_id" => user_id = reader.optional_text()?,
                _ => schema = reader.uint32()?,
            }
            Ok(())
        })?;
        let Some(op_id) = op_id else { return Err(missing(reader)) };
        Ok(Self { op_id, client_id, user_id, issued_at, committed_at, schema, first_seq, last_seq })
    }
}

impl Base {
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let mut base = None;
        reader.object(&mut |name, reader| {
            if base.is_some() {
                return Err(reader.wrong("a base is one thing"));
            }
            base = Some(match name {
                "seq" => Self::Seq(reader.uint()?),
                "op_id" => Self::OpId(read_op_id(reader)?),
                _ => return Err(reader.wrong("unknown base")),
            });
            Ok(())
        })?;
        base.ok_or_else(|| reader.wrong("a base is one thing"))
    }
}

impl Intent {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let (mut op_id, mut after, mut issued_at, mut schema) = (None, Vec::new(), Timestamp(0), 0);
        let mut changes = Vec::new();
        reader.fields(&["op_id", "issued_at", "changes"], &["after", "schema"], &mut |name, reader| {
            match name {
                "op_id" => op_id = Some(read_op_id(reader)?),
                "issued_at" => issued_at = read_timestamp(reader)?,
                "changes" => changes = read_list(reader, IntentChange::read)?,
                "after" => after = read_list(reader, read_op_id)?,
                _ => schema = reader.uint32()?,
            }
            Ok(())
        })?;
        let Some(op_id) = op_id else { return Err(missing(reader)) };
        Ok(Self { op_id, after, issued_at, schema, changes })
    }
}

impl IntentChange {
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        let (mut entity, mut row_id, mut kind, mut data, mut base) = (None, None, None, None, None);
        reader.fields(&["entity", "row_id", "kind"], &["data", "base"], &mut |name, reader| {
            match name {
                "entity" => entity = Some(read_id(reader, EntityName::parse)?),
                "row_id" => row_id = Some(read_id(reader, RowId::parse)?),
                "kind" => kind = Some(ChangeKind::from(read_text(reader)?)),
                "data" => data = reader.optional(read_row)?,
                _ => base = reader.optional(Base::read)?,
            }
            Ok(())
        })?;
        let (Some(entity), Some(row_id), Some(kind)) = (entity, row_id, kind) else { return Err(missing(reader)) };
        Ok(Self { entity, row_id, kind, data, base })
    }
}
