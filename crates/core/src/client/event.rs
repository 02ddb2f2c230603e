//! What the application learns.

use serde::{Serialize, Serializer};
use syncline_protocol::{ErrorCode, ErrorDetail, Identity, OpId};

use super::Status;

/// Something that happened. Serialises as `{"type": "changed", …}` for JavaScript.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The view of these entities is another one now. At most one of these between two inputs.
    Changed {
        /// Which, sorted.
        entities: Vec<String>,
    },
    /// Local rows can be read.
    Opened {
        /// Whose they are.
        identity: Identity,
    },
    /// Something in the status changed.
    StatusChanged {
        /// All of it.
        status: Box<Status>,
    },
    /// The replica is complete up to here: everything the server had when it was asked.
    Synced {
        /// The replica's seq.
        seq: u64,
    },
    /// A write is on disk. In memory mode: it is queued, and the status says that this is all.
    MutationDurable {
        /// Which.
        op_id: OpId,
    },
    /// A write left for the server.
    MutationSent {
        /// Which.
        op_id: OpId,
    },
    /// The server applied a write.
    MutationConfirmed {
        /// Which.
        op_id: OpId,
        /// Last seq of its range in the log.
        seq: u64,
    },
    /// A write will not be applied; it stays in the list with its error and no longer shows in the view.
    MutationFailed {
        /// Which.
        op_id: OpId,
        /// Why.
        error: ErrorDetail,
    },
    /// A write was discarded by the application.
    MutationRemoved {
        /// Which.
        op_id: OpId,
    },
    /// A write was rolled back before it was on disk and will never be sent.
    MutationLost {
        /// Which.
        op_id: OpId,
        /// Why.
        error: ErrorDetail,
    },
    /// The token is not accepted: ask the application for another, once.
    TokenNeeded {
        /// `UNAUTHENTICATED` or `TOKEN_EXPIRED`.
        code: String,
    },
    /// The server says the token is another identity's: resolve it again and open that one's database.
    IdentityFlipped,
    /// Something for `onError` and the console.
    Problem {
        /// Which error.
        #[serde(serialize_with = "code_as_text")]
        code: ErrorCode,
        /// For people.
        message: String,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn code_as_text<S: Serializer>(code: &ErrorCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.code())
}
