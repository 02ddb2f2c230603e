//! Taking over what another session of this device wrote and never sent.

use alloc::vec::Vec;

use syncline_protocol::{Base, Intent, OpId, Timestamp};

use super::key_index::{KeyIndex, hash};
use super::mutation_record::MutationState;
use super::{Client, ClientError};

/// The op_ids of a list so far.
#[derive(Debug, Default)]
struct Named {
    op_ids: Vec<OpId>,
    places: KeyIndex,
}

impl Named {
    fn has(&self, op_id: &OpId) -> bool {
        let is_it = |place: u32| self.op_ids.get(place as usize) == Some(op_id);
        self.places.find(hash(op_id.as_str().as_bytes()), &is_it).is_some()
    }

    fn add(&mut self, op_id: OpId) {
        let place = u32::try_from(self.op_ids.len()).unwrap_or(u32::MAX);
        self.places.insert(hash(op_id.as_str().as_bytes()), place);
        self.op_ids.push(op_id);
    }
}

impl Client {
    /// Queues transactions that another replica froze, one a line, in their order and under their op_ids. The whole list is
    /// given each time that this is tried, so that the same bytes come of it: what is here already is left alone, and what
    /// the server has decided already it answers from the outcome. A line that is no intent is passed over.
    ///
    /// A `!` before an intent says that it may have been here before, and so at the server. In another log the places that
    /// the writer had seen mean nothing, nor do transactions that stay behind.
    ///
    /// # Errors
    /// `NOT_STARTED` before the database was read; `QUEUE_FULL`. What was queued until then stays.
    pub fn adopt(&mut self, now: Timestamp, list: &str, is_other_log: bool) -> Result<(), ClientError> {
        if !self.storage.is_open() || self.link.is_over() {
            return Err(ClientError::NotStarted);
        }
        self.set_now(now);
        let mut named = Named::default();
        for line in list.lines() {
            let text = line.strip_prefix('!').unwrap_or(line);
            let Ok(mut intent) = Intent::parse(text) else { continue };
            if is_other_log {
                intent.after.retain(|op_id| named.has(op_id));
                for change in &mut intent.changes {
                    change.base = change.base.take().filter(|base| matches!(base, Base::OpId(op_id) if named.has(op_id)));
                }
            }
            let op_id = intent.op_id.clone();
            named.add(op_id.clone());
            if self.queue.find(&op_id).is_some() {
                continue;
            }
            if self.queue.is_full() {
                return Err(ClientError::QueueFull);
            }
            self.enqueue(intent)?;
            if let (true, Some(place)) = (line.len() > text.len(), self.queue.find(&op_id)) {
                self.queue.set_state(place, MutationState::Sent);
            }
        }
        Ok(())
    }
}
