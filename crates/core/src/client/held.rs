//! Writes that wait for another one, and when they go.
//!
//! A write that was not sent, and depends on one that failed, is held: it shows, it stays in the queue, and it is not sent
//! before the application has dealt with the failed one. Nothing but the queue says so, so a reload finds the same.

use alloc::vec::Vec;

use syncline_protocol::{ErrorDetail, OpId};

use super::mutation_queue::{MutationQueue, QueuePlace};
use super::mutation_record::{Mutation, MutationState, Parked};
use super::{Client, Event};

/// Writes that wait, directly or through others, and what for: found in one pass, because a write comes after all that it
/// depends on.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// In order of the places.
    roots: Vec<(QueuePlace, QueuePlace)>,
}

impl Waiting {
    fn at(&self, place: QueuePlace) -> Result<usize, usize> {
        self.roots.binary_search_by(|(other, _)| other.cmp(&place))
    }

    pub(crate) fn add(&mut self, place: QueuePlace, root: QueuePlace) {
        if let Err(at) = self.at(place) {
            self.roots.insert(at, (place, root));
        }
    }

    /// What the first of these op_ids waits for that waits.
    pub(crate) fn root(&self, queue: &MutationQueue, after: &[OpId]) -> Option<QueuePlace> {
        if self.roots.is_empty() {
            return None;
        }
        let root = |place| self.roots.get(self.at(place).ok()?).map(|(_, root)| *root);
        after.iter().find_map(|op_id| root(queue.find(op_id)?))
    }
}

impl Client {
    /// What keeps a write from being sent: itself, if it failed or is parked, or one that it waits for. Adds it to those that
    /// wait; the writes before it were asked about before.
    pub(super) fn waits_for(&self, waiting: &mut Waiting, place: QueuePlace, mutation: &Mutation) -> Option<QueuePlace> {
        let root = match mutation.state {
            MutationState::Failed(_) => place,
            MutationState::Pending | MutationState::Sent if mutation.parked != Parked::No => place,
            MutationState::Pending | MutationState::Sent => waiting.root(&self.queue, &mutation.intent.after)?,
            MutationState::Applied(_) => return None,
        };
        // What may have reached the server is sent again: it alone knows whether that was before the other one failed.
        let parked = self.queue.get(root).is_some_and(|root| root.parked != Parked::No);
        if mutation.state == MutationState::Sent && !parked {
            return None;
        }
        waiting.add(place, root);
        Some(root)
    }

    /// Deals with writes of one answer, in order, of which the server says that one they depend on did not apply; says whether
    /// to send some of them again.
    pub(super) fn dependencies_failed(&mut self, writes: &[(QueuePlace, ErrorDetail)]) -> bool {
        let mut waiting = Waiting::default();
        if self.queue.failed() > 0 {
            for (place, mutation) in self.queue.iter() {
                match mutation.state {
                    MutationState::Failed(_) => waiting.add(place, place),
                    MutationState::Pending | MutationState::Sent => {
                        if let Some(root) = waiting.root(&self.queue, &mutation.intent.after) {
                            waiting.add(place, root);
                        }
                    }
                    MutationState::Applied(_) => {}
                }
            }
        }
        let answered: Vec<QueuePlace> = writes.iter().map(|(place, _)| *place).collect();
        let mut again = false;
        for (place, error) in writes {
            let Some(mutation) = self.queue.get(*place).filter(|mutation| mutation.state.is_open()) else { continue };
            let is_open = |op_id: &OpId| {
                let other = self.queue.find(op_id).and_then(|other| self.queue.get(other));
                other.is_some_and(|other| other.state.is_open())
            };
            let after = &mutation.intent.after;
            if let Some(root) = waiting.root(&self.queue, after) {
                waiting.add(*place, root);
                self.hold(*place, root);
            } else if after.iter().any(is_open) {
                again = true;
            } else if after.is_empty() {
                self.fail_mutation(*place, error.clone());
                waiting.add(*place, *place);
            } else {
                for failed in self.rebase(*place, &answered) {
                    waiting.add(failed, failed);
                }
            }
        }
        again
    }

    /// The server has nothing of it and will not get it before the application has dealt with another one.
    fn hold(&mut self, place: QueuePlace, root: QueuePlace) {
        let on = self.queue.get(root).map(|root| root.intent.op_id.clone());
        let Some(mutation) = self.queue.get_mut(place) else { return };
        mutation.first_sent_at = None;
        let op_id = mutation.intent.op_id.clone();
        let record = mutation.key().map(|key| (key, mutation.encode(&MutationState::Pending, None)));
        self.queue.set_state(place, MutationState::Pending);
        if let Some((key, record)) = record {
            self.store_state(key, record, None);
        }
        if let Some(on) = on {
            self.notify(Event::MutationHeld { op_id, on });
        }
    }
}
