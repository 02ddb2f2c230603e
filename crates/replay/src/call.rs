//! The calls of a core's interface.

use serde::{Deserialize, Serialize};
use syncline_core::client::{Client, ClientConfig, Input, NewChange};
use syncline_protocol::{OpId, Timestamp};

use crate::mirrors::{AsChanges, AsInput};

/// The settings of a core.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Settings {
    /// Seed of all ids.
    pub seed: [u8; 32],
    /// Version of the application's schema.
    pub schema: u32,
    /// Whether it starts without the network.
    pub start_paused: bool,
    /// Whether it leaves the stored rows unread.
    pub queue_only: bool,
}

impl Settings {
    /// The settings in the core's own form.
    pub const fn config(self) -> ClientConfig {
        let mut config = ClientConfig::with_seed(self.seed);
        config.schema = self.schema;
        config.start_paused = self.start_paused;
        config.queue_only = self.queue_only;
        config
    }
}

/// One call of a core. Times are the device's, in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Call {
    /// A core is made.
    New(Settings),
    /// It is told something.
    Input(u64, #[serde(with = "AsInput")] Input),
    /// It is asked what to do next.
    Poll,
    /// The application writes.
    Mutate(u64, #[serde(with = "AsChanges")] Vec<NewChange>),
    /// The application tries a write again.
    Retry(u64, OpId),
    /// The application changes a write.
    Edit(u64, OpId, #[serde(with = "AsChanges")] Vec<NewChange>),
    /// The application discards a write.
    Remove(u64, OpId),
    /// The application reads what changed of an entity since then.
    Delta(String, u64),
    /// The application looks at the status.
    Status,
    /// The application looks at the queue.
    Queue,
}

impl Call {
    /// Which it is, for people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::New(_) => "new",
            Self::Input(..) => "input",
            Self::Poll => "poll",
            Self::Mutate(..) => "mutate",
            Self::Retry(..) => "retry",
            Self::Edit(..) => "edit",
            Self::Remove(..) => "remove",
            Self::Delta(..) => "delta",
            Self::Status => "status",
            Self::Queue => "queue",
        }
    }

    /// Calls a core; gives the answer as text.
    pub fn perform(self, client: &mut Client) -> String {
        match self {
            Self::New(_) => String::new(),
            Self::Input(now, input) => {
                client.handle_input(Timestamp(now), input);
                String::new()
            }
            Self::Poll => format!("{:?}", client.poll_output()),
            Self::Mutate(now, changes) => format!("{:?}", client.mutate(Timestamp(now), changes)),
            Self::Retry(now, op_id) => format!("{:?}", client.retry(Timestamp(now), &op_id)),
            Self::Edit(now, op_id, changes) => format!("{:?}", client.edit(Timestamp(now), &op_id, changes)),
            Self::Remove(now, op_id) => format!("{:?}", client.remove(Timestamp(now), &op_id)),
            Self::Delta(entity, since) => client.delta_json(&entity, since),
            Self::Status => client.status().to_json(),
            Self::Queue => client.mutations_json(),
        }
    }
}
