//! The words both ends of Syncline speak: wire messages, the canonical encoding of an intent, values, limits and codes.
//!
//! Specified in `docs/protocol.md` and `docs/values.md`; the vectors in `tests/conformance/` pin every byte that is
//! hashed or stored. This crate decides nothing: what a message means is the business of `syncline-core`.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod canonical;
mod checksum;
mod error_code;
mod ids;
mod intent;
pub mod json;
pub mod limits;
mod message;
mod message_reader;
mod message_writer;
mod order;
mod page;
mod percent_encoding;
mod raw_json;
mod row_text;
mod subprotocol;
mod value;

pub use canonical::{canonical_json, canonical_row, write_canonical};
pub use checksum::{change_checksum, frame_checksum};
pub use error_code::{ErrorBody, ErrorCode, ErrorDetail};
pub use ids::{ClientId, EntityName, IdError, OpId, RowId, Timestamp, row_id_v7};
pub use intent::{Base, ChangeKind, Intent, IntentChange, IntentError};
pub use message::{
    ClientMessage, CloseCode, Hello, Identity, MessageError, OutcomeResult, OutcomeStatus, Push, PushAnswer, Resume, ResumeMode,
    ServerMessage, Welcome,
};
pub use order::{positions, sort_positions};
pub use page::{Change, Cursor, Page, SnapshotMark, TransactionInfo};
pub use percent_encoding::percent_encode;
pub use raw_json::RawJson;
pub use row_text::RowText;
pub use subprotocol::{BEARER_PREFIX, SUBPROTOCOL, bearer_subprotocol, token_from_subprotocol};
pub use value::{Row, ValueError, parse_row};

/// Version of the wire that this build speaks; a peer with another one answers `PROTOCOL_MISMATCH`.
pub const PROTOCOL_VERSION: u32 = 1;
