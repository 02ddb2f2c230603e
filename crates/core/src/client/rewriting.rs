//! What the application does about writes in the queue: try one again, edit it, discard it. What depended on it goes on.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::take;

use syncline_protocol::{ErrorCode, Intent, OpId, Timestamp};

use super::held::Waiting;
use super::mutate::Accepted;
use super::mutation_queue::QueuePlace;
use super::mutation_record::{Durability, Mutation, MutationState, Parked};
use super::{Client, ClientError, Event, NewChange};

impl Client {
    /// Queues a failed write again, as a new one at the end of the queue; gives its op_id. What was held goes on behind it.
    ///
    /// # Errors
    /// When no write has this op_id, or it has not failed, or its changes no longer fit the view, or a newer version has the
    /// database.
    pub fn retry(&mut self, now: Timestamp, op_id: &OpId) -> Result<OpId, ClientError> {
        self.edit(now, op_id, Vec::new()).map(|accepted| accepted.op_id)
    }

    /// Puts other changes in place of those of a write that failed or was not sent yet, as a new one at the end of the queue.
    /// What depended on it goes on behind it. Without changes those of a failed one are tried again.
    ///
    /// # Errors
    /// As [`Client::mutate`], and when no write has this op_id, or it is on its way.
    pub fn edit(&mut self, now: Timestamp, op_id: &OpId, mut changes: Vec<NewChange>) -> Result<Accepted, ClientError> {
        let place = self.withdrawable(now, op_id, changes.is_empty())?;
        if self.link.is_over() {
            return Err(ClientError::NotStarted);
        }
        if changes.is_empty() {
            changes = self.changes_of(place);
        }
        let all = self.with_dependents(place, &[]);
        self.set_aside(&all, true);
        let accepted = self.accept(changes);
        match &accepted {
            Ok(accepted) => {
                let old = self.take_out(place, false);
                self.supersede(place, old, &accepted.op_id);
                self.go_on(&all, Some((op_id.clone(), accepted.op_id.clone())));
            }
            Err(_) => self.set_aside(&all, false),
        }
        accepted
    }

    /// Discards a write that failed or was not sent yet. What depended on it goes on without it, or fails.
    ///
    /// # Errors
    /// When no write has this op_id, or it is on its way, or a newer version has the database.
    pub fn remove(&mut self, now: Timestamp, op_id: &OpId) -> Result<(), ClientError> {
        let place = self.withdrawable(now, op_id, false)?;
        let all = self.with_dependents(place, &[]);
        self.set_aside(&all, true);
        self.discard(place);
        self.go_on(&all, None);
        Ok(())
    }

    /// Makes a write anew that depends on one the server will not hear of, and what depends on it; gives those that failed.
    /// `unsent` are writes that the server does not have, although they say `sent`.
    pub(super) fn rebase(&mut self, place: QueuePlace, unsent: &[QueuePlace]) -> Vec<QueuePlace> {
        let mut all = self.with_dependents(place, unsent);
        self.set_aside(&all, true);
        self.go_on(&all, None);
        all.retain(|place| self.queue.get(*place).is_some_and(|it| matches!(it.state, MutationState::Failed(_))));
        all
    }

    /// Finds a write that the server does not have; asked for, only one that failed.
    fn withdrawable(&mut self, now: Timestamp, op_id: &OpId, only_failed: bool) -> Result<QueuePlace, ClientError> {
        self.set_now(now);
        if self.tabs.refuses_writes {
            return Err(ClientError::Outdated);
        }
        let found = self.queue.find(op_id).and_then(|place| Some((place, self.queue.get(place)?)));
        let Some((place, mutation)) = found else { return Err(ClientError::UnknownMutation(op_id.as_str().to_owned())) };
        let failed = matches!(mutation.state, MutationState::Failed(_));
        // What the server has no room for did not reach it, although it says `sent`.
        let unsent = mutation.state == MutationState::Pending || mutation.parked == Parked::UntilRestart;
        let problem = match (failed, only_failed) {
            (true, _) => return Ok(place),
            (false, true) => "only a failed one can be tried again",
            (false, false) if unsent && !self.push.carries(place) => return Ok(place),
            (false, false) => "it may have reached the server",
        };
        Err(ClientError::WrongState { op_id: op_id.as_str().to_owned(), state: mutation.state.name(), problem })
    }

    /// A write and those that were not sent and depend on it, directly or through others, in order.
    fn with_dependents(&self, place: QueuePlace, unsent: &[QueuePlace]) -> Vec<QueuePlace> {
        let (mut waiting, mut all) = (Waiting::default(), vec![place]);
        waiting.add(place, place);
        for number in self.queue.number(place)..self.queue.len() {
            let Some((other, mutation)) = self.queue.nth(number) else { break };
            let is_here = mutation.state == MutationState::Pending && !self.push.carries(other);
            if (is_here || unsent.contains(&other)) && waiting.root(&self.queue, &mutation.intent.after).is_some() {
                waiting.add(other, place);
                all.push(other);
            }
        }
        all
    }

    /// Makes the view without some writes, or with them again.
    fn set_aside(&mut self, places: &[QueuePlace], aside: bool) {
        let mut rows = Vec::new();
        for place in places {
            if let Some(mutation) = self.queue.get_mut(*place) {
                mutation.aside = aside;
            }
            rows.append(&mut if aside { self.rows_of(*place) } else { self.overlay_insert(*place) });
        }
        self.refresh_rows(&rows);
    }

    /// Makes writes that stood aside anew, in order; what failed or stays held on another one does so in the same order.
    fn go_on(&mut self, places: &[QueuePlace], by: Option<(OpId, OpId)>) {
        let mut held = Waiting::default();
        let mut replaced: Vec<(OpId, OpId)> = by.into_iter().collect();
        for place in places {
            let Some(mutation) = self.queue.get(*place) else { continue };
            let op_id = mutation.intent.op_id.clone();
            let mut after = mutation.intent.after.clone();
            for needed in &mut after {
                if let Some((_, by)) = replaced.iter().rfind(|(old, _)| old == needed) {
                    needed.clone_from(by);
                }
            }
            let failed = |op_id: &OpId| {
                let other = self.queue.find(op_id).and_then(|other| self.queue.get(other));
                other.is_some_and(|other| matches!(other.state, MutationState::Failed(_)))
            };
            let is_held = after.iter().any(failed) || held.root(&self.queue, &after).is_some();
            let (made, old) = if is_held {
                self.move_behind(*place, after)
            } else {
                let changes = self.changes_of(*place);
                (self.accept(changes), None)
            };
            match made {
                Ok(accepted) => {
                    let old = old.or_else(|| self.take_out(*place, false));
                    self.supersede(*place, old, &accepted.op_id);
                    if is_held && let Some(place) = self.queue.find(&accepted.op_id) {
                        held.add(place, place);
                    }
                    replaced.push((op_id, accepted.op_id));
                }
                Err(error) => {
                    self.set_aside(&[*place], false);
                    // What becomes of it otherwise is the leader's to say, who hears of the same.
                    if self.tabs.leads {
                        self.fail_mutation_with(*place, ErrorCode::DependencyFailed, &error.text());
                    }
                }
            }
        }
    }

    /// Puts a write that another failed one holds behind what it depends on. Whether it fits is seen when nothing holds it; its
    /// size is what it was.
    fn move_behind(&mut self, place: QueuePlace, after: Vec<OpId>) -> (Result<Accepted, ClientError>, Option<Box<Mutation>>) {
        let Some(mut old) = self.take_out(place, false) else { return (Err(ClientError::Size), None) };
        let (op_id, changes) = (self.rng.op_id(), take(&mut old.intent.changes));
        let Intent { issued_at, schema, .. } = old.intent;
        (self.enqueue(Intent { op_id, after, issued_at, schema, changes }), Some(old))
    }

    /// One write takes the place of another that was taken out: once that one is on disk, the other's record goes.
    fn supersede(&mut self, place: QueuePlace, old: Option<Box<Mutation>>, by: &OpId) {
        if let Some(mut old) = old
            && let Some(stands) = self.queue.find(by)
            && let Some(again) = self.queue.get_mut(stands)
        {
            again.replaces = take(&mut old.replaces);
            again.stand_for(&old);
            self.storage.note_superseded(place, stands);
            self.notify(Event::MutationReplaced { op_id: old.intent.op_id, by: by.clone() });
        }
    }

    /// Takes a write out of queue and view, in memory and on disk.
    pub(super) fn discard(&mut self, place: QueuePlace) {
        let rows = self.rows_of(place);
        let Some(old) = self.take_out(place, true) else { return };
        self.refresh_rows(&rows);
        // What is on disk, or on its way there, is told of when it is known.
        if old.key().is_none() && old.durability != Durability::Storing {
            self.notify(Event::MutationRemoved { op_id: old.intent.op_id });
        }
    }

    /// Takes a write out of the queue; it names the records that are to go with it, unless it is `discarded`: then they become
    /// marks.
    fn take_out(&mut self, place: QueuePlace, discarded: bool) -> Option<Box<Mutation>> {
        let mut mutation = self.queue.remove(place)?;
        // The next `Enqueue` leaves out what the queue no longer has.
        if mutation.durability == Durability::Storing {
            self.storage.note_withdrawn(place, &mutation);
        }
        if let Some(key) = mutation.key() {
            self.left_queue(Some(key));
            mutation.replaces.push((key, mutation.record()));
        }
        if discarded {
            for (key, record) in take(&mut mutation.replaces) {
                let is_own = mutation.key() == Some(key);
                self.discard_record(key, record, mutation.mark(), is_own.then_some(&*mutation));
            }
        }
        Some(mutation)
    }

    /// The changes of a write as the application asked for them.
    fn changes_of(&self, place: QueuePlace) -> Vec<NewChange> {
        let mut changes = Vec::new();
        if let Some(mutation) = self.queue.get(place) {
            for change in &mutation.intent.changes {
                changes.push(NewChange {
                    entity: change.entity.as_str().to_owned(),
                    row_id: Some(change.row_id.as_str().to_owned()),
                    kind: change.kind.clone(),
                    data: change.data.as_ref().map(|data| data.get().to_owned()),
                });
            }
        }
        changes
    }
}
