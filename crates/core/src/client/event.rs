//! What the application learns.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::json::{Array, Object, finish};
use syncline_protocol::{ErrorCode, ErrorDetail, Identity, OpId};

use super::Status;

/// Something that happened. In JSON `{"type": "changed", …}` for JavaScript.
#[derive(Debug, Clone, PartialEq)]
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
        /// Last seq of its range in the log; 0 when it came to nothing with another one before either was sent.
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
    /// Another tab made a write.
    MutationQueued {
        /// Which.
        op_id: OpId,
    },
    /// The server did not look at a write because one that it depends on failed: it was not sent, as far as anybody is
    /// concerned, and waits until the application has dealt with that one.
    MutationHeld {
        /// Which.
        op_id: OpId,
        /// The failed one.
        on: OpId,
    },
    /// Another write stands for this one from now on, and what becomes of that one becomes of this.
    MutationReplaced {
        /// Which.
        op_id: OpId,
        /// The other one.
        by: OpId,
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
        code: ErrorCode,
        /// For people.
        message: String,
    },
}

impl Event {
    /// Several as a JSON array for JavaScript.
    pub fn list_to_json(events: &[Self]) -> String {
        let mut out = Vec::new();
        let mut list = Array::begin(&mut out);
        for event in events {
            event.write(list.item());
        }
        list.end();
        finish(out)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("type", self.name());
        match self {
            Self::Changed { entities } => object.texts("entities", &mut entities.iter().map(String::as_str)),
            Self::Opened { identity } => identity.write(object.name("identity")),
            Self::StatusChanged { status } => status.write(object.name("status")),
            Self::Synced { seq } => object.uint("seq", *seq),
            Self::MutationQueued { op_id }
            | Self::MutationDurable { op_id }
            | Self::MutationSent { op_id }
            | Self::MutationRemoved { op_id } => {
                object.text("op_id", op_id.as_str());
            }
            Self::MutationConfirmed { op_id, seq } => {
                object.text("op_id", op_id.as_str());
                object.uint("seq", *seq);
            }
            Self::MutationFailed { op_id, error } | Self::MutationLost { op_id, error } => {
                object.text("op_id", op_id.as_str());
                error.write(object.name("error"));
            }
            Self::MutationHeld { op_id, on } => {
                object.text("op_id", op_id.as_str());
                object.text("on", on.as_str());
            }
            Self::MutationReplaced { op_id, by } => {
                object.text("op_id", op_id.as_str());
                object.text("by", by.as_str());
            }
            Self::TokenNeeded { code } => object.text("code", code),
            Self::IdentityFlipped => {}
            Self::Problem { code, message } => {
                object.text("code", code.code());
                object.text("message", message);
            }
        }
        object.end();
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "changed",
            Self::Opened { .. } => "opened",
            Self::StatusChanged { .. } => "status_changed",
            Self::Synced { .. } => "synced",
            Self::MutationQueued { .. } => "mutation_queued",
            Self::MutationDurable { .. } => "mutation_durable",
            Self::MutationSent { .. } => "mutation_sent",
            Self::MutationConfirmed { .. } => "mutation_confirmed",
            Self::MutationFailed { .. } => "mutation_failed",
            Self::MutationRemoved { .. } => "mutation_removed",
            Self::MutationHeld { .. } => "mutation_held",
            Self::MutationReplaced { .. } => "mutation_replaced",
            Self::MutationLost { .. } => "mutation_lost",
            Self::TokenNeeded { .. } => "token_needed",
            Self::IdentityFlipped => "identity_flipped",
            Self::Problem { .. } => "problem",
        }
    }
}
