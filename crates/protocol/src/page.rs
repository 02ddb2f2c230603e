//! Pages of a pull and frames of a socket: one shape, so that one piece of code applies both.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use crate::{ChangeKind, ClientId, EntityName, OpId, RawJson, RowId, Timestamp, frame_checksum};

/// Where a replica stands in its tenant's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cursor {
    /// Seq of the last change the replica contains. Of use for comparing, never sent back.
    pub last_seq: u64,
    /// Opaque to the client, sent back as it came.
    pub token: String,
}

/// One change as a reader sees it: always the full row after it.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// Its place in the tenant's log.
    pub seq: u64,
    /// Kind of row.
    pub entity: EntityName,
    /// Which row.
    pub row_id: RowId,
    /// What happened.
    pub kind: ChangeKind,
    /// The row after the change, without its id; absent for `delete` and `leave`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<RawJson>,
    /// With `update`: a list of the fields its writer changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<RawJson>,
    /// By name the seq of each field's last change, for fields whose seq differs from the row's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column_seqs: Option<RawJson>,
    /// What the writer had seen, as the intent said it: a [`Base`](crate::Base).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<RawJson>,
}

/// Whose work a contiguous range of changes is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransactionInfo {
    /// The intent's op_id.
    pub op_id: OpId,
    /// The replica that wrote it; absent for writes over REST and imports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
    /// The user who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The writer's clock.
    pub issued_at: Timestamp,
    /// The server's clock at the commit.
    pub committed_at: Timestamp,
    /// Version of the application's schema the writer knew.
    pub schema: u32,
    /// First seq of the range.
    pub first_seq: u64,
    /// Last seq of the range.
    pub last_seq: u64,
}

/// Says that a page belongs to a new copy of everything rather than to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SnapshotMark {
    /// The first page: begin a new generation beside the old one.
    pub start: bool,
    /// The last page: the log follows.
    pub end: bool,
}

/// A piece of what one reader may see, from just after `from` up to and including `to`.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// Which part of the tenant it covers; `"all"` until partial replicas come.
    pub scope: String,
    /// The reader must stand here, or beyond.
    pub from: u64,
    /// Where the reader stands afterwards; the end of a transaction.
    pub to: u64,
    /// `to`, with the token to continue from.
    pub cursor: Cursor,
    /// Whether the log went on beyond `to` when this was read.
    pub has_more: bool,
    /// Present while a snapshot is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotMark>,
    /// Rows in here may be newer than `to`: hold everything back until a page reaches this seq, then show it at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<u64>,
    /// The changes this reader may see, by seq.
    pub changes: Vec<Change>,
    /// The transactions they came from, by seq; a snapshot names none.
    pub transactions: Vec<TransactionInfo>,
    /// [`frame_checksum`] of `changes`.
    pub checksum: String,
    /// Reserved: the same sum over all rows of the scope at `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_checksum: Option<String>,
}

impl Page {
    /// Whether the changes are those the sender put in.
    pub fn checksum_matches(&self) -> bool {
        frame_checksum(&self.changes) == self.checksum
    }
}
