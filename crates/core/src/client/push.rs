//! Sending writes: in order, in batches, one batch on its way, each marked on disk before its first send.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::{
    ClientMessage, ErrorCode, ErrorDetail, OpId, OutcomeResult, OutcomeStatus, Push, PushAnswer, RawJson, Timestamp, limits,
};

use super::backoff::Backoff;
use super::folding::Fold;
use super::held::Waiting;
use super::mirror::Departure;
use super::mutation_queue::QueuePlace;
use super::mutation_record::{Durability, Mutation, MutationState, Parked};
use super::storage_flow::Records;
use super::timer::Timer;
use super::{Client, Event, RequestId, StorageFailure, StorageKind, StoredValue};
use crate::planted;

/// A push without an answer this long after the server was last heard is given up, in milliseconds.
const ANSWER_MS_MAX: u64 = 30_000;
/// A push without an answer this long is given up however alive the server is, in milliseconds.
const ANSWER_MS_LIMIT: u64 = 60_000;
/// Most op_ids reported as processed in one push.
const PROCESSED_MAX: usize = 1_000;

/// The batch on its way.
#[derive(Debug)]
struct Flight {
    id: u64,
    writes: Vec<(QueuePlace, OpId)>,
    stage: Stage,
    /// Whether the connection it was made for still stands.
    connected: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Being marked as sent on disk.
    Marking,
    /// Given to the socket.
    Sent(Timestamp),
}

/// State of the sending side.
#[derive(Debug)]
pub(crate) struct PushFlow {
    flight: Option<Flight>,
    /// What is being folded on disk, before a batch is made of what is left.
    pub(crate) fold: Option<(RequestId, Fold)>,
    /// Whether the disk refused to fold: the next batch goes as it is.
    pub(crate) skips_fold: bool,
    backoff: Backoff,
    /// Transactions in one batch; one after the server found a batch too large.
    batch_max: usize,
    /// Failed writes whose end is durable here: the server need not remember it much longer.
    processed: Vec<OpId>,
}

impl PushFlow {
    pub(crate) const fn new(backoff_ms_base: u64) -> Self {
        let batch_max = limits::PUSH_TRANSACTIONS_MAX;
        let backoff = Backoff::new(backoff_ms_base);
        Self { flight: None, fold: None, skips_fold: false, backoff, batch_max, processed: Vec::new() }
    }

    pub(crate) fn report_processed(&mut self, op_ids: Vec<OpId>) {
        self.processed.extend(op_ids);
        // What is not reported is kept longer by the server, nothing more.
        self.processed.truncate(PROCESSED_MAX);
    }

    /// The clock was set back: the batch was sent no later than now.
    pub(crate) fn is_sent_by(&mut self, now: Timestamp) {
        if let Some(Flight { stage: Stage::Sent(at), .. }) = &mut self.flight {
            *at = now.min(*at);
        }
    }

    /// Whether the write may be on its way to the server or to its mark on disk.
    pub(crate) fn carries(&self, place: QueuePlace) -> bool {
        let folds = || self.fold.as_ref().is_some_and(|(_, fold)| fold.places.contains(&place));
        folds() || self.flight.as_ref().is_some_and(|flight| flight.writes.iter().any(|(other, _)| *other == place))
    }
}

impl Client {
    /// Starts the gathering window when a write becomes ready to be sent.
    pub(super) fn write_is_ready(&mut self) {
        if self.link.is_greeted() && self.config.push_window_ms > 0 {
            self.timers.start(Timer::PushWindow, self.now.plus_ms(self.config.push_window_ms));
        }
        self.need_leader();
    }

    pub(super) fn push_greeted(&mut self) {
        self.timers.clear(Timer::PushWindow);
        self.repeat_queue_update();
        for place in self.queue.places(&|mutation| mutation.parked == Parked::UntilConnection) {
            if let Some(mutation) = self.queue.get_mut(place) {
                mutation.parked = Parked::No;
            }
        }
    }

    /// Begins the next batch when one is due.
    pub(super) fn pump_push(&mut self) {
        // What was not heard of may belong in front of what is here.
        let is_busy = self.push.flight.is_some() || self.push.fold.is_some() || self.misses_writes();
        if !self.link.is_greeted() || is_busy || self.timers.is_running(Timer::PushRetry) {
            return;
        }
        let batch = self.next_batch(self.push.batch_max, limits::PUSH_BYTES_SOFT);
        if batch.is_empty() || (self.timers.is_running(Timer::PushWindow) && batch.len() < self.push.batch_max) {
            return;
        }
        self.timers.clear(Timer::PushWindow);
        if !core::mem::take(&mut self.push.skips_fold) && self.fold_batch(&batch) {
            return self.pump_push();
        }
        let put = self.marks(&batch);
        let id = self.request_id();
        self.push.flight = Some(Flight { id: id.0, writes: batch, stage: Stage::Marking, connected: true });
        if put.is_empty() {
            self.send_flight();
        } else {
            let fence = self.storage.fence;
            self.storage.note_mark(id);
            if planted::is(2) {
                let remove = put.into_iter().map(|(key, _)| key).collect();
                return self.request_as(id, StorageKind::UpdateQueue { fence, put: Vec::new(), remove });
            }
            self.request_as(id, StorageKind::UpdateQueue { fence, put, remove: Vec::new() });
        }
    }

    /// The first open writes of the queue that nothing holds back, up to the first that is not on disk yet.
    fn next_batch(&self, count_max: usize, bytes_max: usize) -> Vec<(QueuePlace, OpId)> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        let mut waiting = Waiting::default();
        for (place, mutation) in self.queue.iter() {
            if self.waits_for(&mut waiting, place, mutation).is_some() || !mutation.state.is_open() {
                continue;
            }
            if !matches!(mutation.durability, Durability::Stored(_) | Durability::MemoryOnly) {
                break;
            }
            // The first one goes whatever its size.
            if batch.len() == count_max || (!batch.is_empty() && bytes + mutation.text.len() > bytes_max) {
                break;
            }
            bytes += mutation.text.len();
            batch.push((place, mutation.intent.op_id.clone()));
        }
        if planted::is(7) {
            batch.sort_by_key(|(place, _)| self.queue.get(*place).map(|mutation| mutation.intent.issued_at));
        }
        batch
    }

    /// The records of a batch that must say `sent` on disk before they go out for the first time.
    fn marks(&self, batch: &[(QueuePlace, OpId)]) -> Records {
        let mut records = Records::new();
        for (place, _) in batch {
            let pending = self.queue.get(*place).filter(|mutation| mutation.state == MutationState::Pending);
            if let (Some(mutation), true) = (pending, self.storage.reaches_disk())
                && let Some(key) = mutation.key()
            {
                records.push((key, mutation.encode(&MutationState::Sent, Some(self.link.greeted_at))));
            }
        }
        records
    }

    /// The batch was marked or folded, or could not be.
    pub(super) fn batch_marked(&mut self, request: RequestId, result: Result<StoredValue, StorageFailure>) {
        if let Some((_, fold)) = self.push.fold.take_if(|(id, _)| *id == request) {
            return self.fold_stored(&fold, result);
        }
        if self.push.flight.as_ref().is_none_or(|flight| flight.id != request.0 || flight.stage != Stage::Marking) {
            return;
        }
        match result {
            Ok(StoredValue::Keys(keys)) => self.drop_unmarked(&keys),
            Ok(StoredValue::Done) => {}
            Err(StorageFailure::Conflict) if planted::is(34) => {}
            Err(StorageFailure::Conflict) => {
                self.push.flight = None;
                return self.follow();
            }
            // The disk is of no use any more, the write is: it goes out all the same, and the status says what is missing.
            Err(failure) => self.degrade(&failure),
        }
        self.send_flight();
    }

    /// Another tab was faster with the records that were not marked: the disk knows what became of those writes.
    fn drop_unmarked(&mut self, marked: &[u64]) {
        let Some(flight) = &mut self.push.flight else { return };
        let before = flight.writes.len();
        flight.writes.retain(|(place, _)| {
            let pending = self.queue.get(*place).filter(|mutation| mutation.state == MutationState::Pending);
            pending.and_then(Mutation::key).is_none_or(|key| marked.contains(&key) || planted::is(34))
        });
        if flight.writes.len() < before {
            self.misses_something();
        }
    }

    fn send_flight(&mut self) {
        let Some(mut flight) = self.push.flight.take() else { return };
        // While the batch was marked, the stream may have confirmed one that an earlier connection had sent. The outcomes will be
        // those of what is sent.
        flight.writes.retain(|(place, _)| self.queue.get(*place).is_some());
        let first_sent_at = self.link.greeted_at;
        let mut transactions: Vec<RawJson> = Vec::with_capacity(flight.writes.len());
        for (place, op_id) in &flight.writes {
            let Some(mutation) = self.queue.get_mut(*place) else { continue };
            transactions.push(RawJson::from_checked(mutation.text.as_str()));
            if mutation.state == MutationState::Pending {
                mutation.first_sent_at = Some(first_sent_at);
                self.queue.set_state(*place, MutationState::Sent);
                if flight.connected {
                    self.notify(Event::MutationSent { op_id: op_id.clone() });
                }
            }
        }
        let (Some(identity), true) = (self.identity.clone(), flight.connected && !transactions.is_empty()) else { return };
        let push = Push {
            id: flight.id,
            client_id: self.record.client_id.clone(),
            identity,
            cursor: self.record.shown.token.clone(),
            fence: self.storage.fence,
            transactions,
            processed: self.push.processed.clone(),
        };
        flight.stage = Stage::Sent(self.now);
        self.push.flight = Some(flight);
        self.send(&ClientMessage::Push(push));
        self.timers.set(Timer::Outcomes, self.now.plus_ms(ANSWER_MS_MAX));
    }

    /// The server is alive: an answer on its way gets more time, but not for ever.
    pub(super) fn push_heard(&mut self) {
        let Some(Flight { stage: Stage::Sent(at), .. }) = self.push.flight else { return };
        self.timers.set(Timer::Outcomes, self.now.plus_ms(ANSWER_MS_MAX).min(at.plus_ms(ANSWER_MS_LIMIT)));
    }

    /// The connection is gone: whatever was sent is sent again, the same bytes in the same order.
    pub(super) fn push_lost(&mut self) {
        match &mut self.push.flight {
            Some(flight) if flight.stage == Stage::Marking => flight.connected = false,
            Some(_) | None => self.push.flight = None,
        }
    }

    /// Another tab sends from here on.
    pub(super) fn forget_push(&mut self) {
        self.push.flight = None;
        self.push.fold = None;
        self.push.processed.clear();
    }

    /// The server does not take a message of this size: smaller batches, and a single write that is too large waits.
    pub(super) fn push_too_large(&mut self) {
        let Some(flight) = &self.push.flight else { return };
        self.push.batch_max = 1;
        let [(place, _)] = flight.writes.as_slice() else { return };
        let Some(mutation) = self.queue.get_mut(*place) else { return };
        mutation.parked = Parked::UntilRestart;
        let message =
            ["the write ", mutation.intent.op_id.as_str(), " is too large for the server and waits to be removed"].concat();
        self.notify(Event::Problem { code: ErrorCode::TransactionTooLarge, message });
    }

    /// The server could not take the batch on its way: it goes again after a while, or in smaller parts.
    pub(super) fn push_refused(&mut self, id: u64, error: &ErrorDetail) {
        if self.push.flight.as_ref().is_none_or(|flight| flight.id != id || flight.stage == Stage::Marking) {
            return;
        }
        if ErrorCode::from_code(&error.code) == Some(ErrorCode::PayloadTooLarge) {
            self.push_too_large();
        } else {
            // An error that no repetition mends is not worth more than the longest delay between two attempts either.
            let asked = error.retry_after_secs.unwrap_or(0).saturating_mul(1_000).min(limits::RETRY_AFTER_MS_MAX);
            let delay = self.push.backoff.next_ms(&mut self.rng).max(asked);
            self.timers.set(Timer::PushRetry, self.now.plus_ms(delay));
        }
        self.timers.clear(Timer::Outcomes);
        self.push.flight = None;
    }

    pub(super) fn outcomes_received(&mut self, answer: &PushAnswer) {
        let Some(flight) = self.push.flight.take_if(|flight| flight.id == answer.id && flight.stage != Stage::Marking) else {
            return;
        };
        self.timers.clear(Timer::Outcomes);
        let paired = answer.results.len() == flight.writes.len()
            && answer
                .results
                .iter()
                .zip(&flight.writes)
                .all(|(result, (_, op_id))| result.op_id == *op_id && is_complete(result));
        if !paired {
            self.problem(ErrorCode::InvalidFrame, "the outcomes do not fit the push");
            return self.lose_socket("the outcomes do not fit the push");
        }
        self.push.processed.clear();
        let mut again = false;
        let mut dependents = Vec::new();
        for (result, (place, _)) in answer.results.iter().zip(&flight.writes) {
            match &result.error {
                Some(error) if is_dependency_failure(result) => dependents.push((*place, error.clone())),
                Some(_) | None => again |= self.take_outcome(*place, result),
            }
        }
        again |= self.dependencies_failed(&dependents);
        if again {
            let delay = self.push.backoff.next_ms(&mut self.rng);
            self.timers.set(Timer::PushRetry, self.now.plus_ms(delay));
        } else {
            self.push.backoff.reset();
        }
        let removed = self.leave_passed(Vec::new());
        if !removed.is_empty() {
            self.queue_commit(Vec::new(), removed, Vec::new());
        }
    }

    /// Takes one outcome; says whether the write should be sent again.
    fn take_outcome(&mut self, place: QueuePlace, result: &OutcomeResult) -> bool {
        // The stream may have said so before, and the application may have removed it since.
        if self.queue.get(place).is_none_or(|mutation| !mutation.state.is_open()) {
            return false;
        }
        match result.status {
            OutcomeStatus::Applied | OutcomeStatus::Merged => {
                self.confirm_mutation(place, result.last_seq.unwrap_or(0));
                false
            }
            OutcomeStatus::Rejected => {
                match &result.error {
                    Some(error) => self.fail_mutation(place, error.clone()),
                    None => self.fail_mutation_with(place, ErrorCode::Internal, "the server gave no reason"),
                }
                false
            }
            OutcomeStatus::Held => {
                let message = "the server holds it for a person to decide, which this version cannot show";
                self.fail_mutation_with(place, ErrorCode::NotSupported, message);
                false
            }
            OutcomeStatus::Retry => true,
            OutcomeStatus::NotEvaluated => self.not_evaluated(place, result.error.as_ref()),
        }
    }

    fn not_evaluated(&mut self, place: QueuePlace, error: Option<&ErrorDetail>) -> bool {
        let Some(error) = error else { return true };
        let code = ErrorCode::from_code(&error.code);
        if code.is_some_and(ErrorCode::is_retryable) {
            return true;
        }
        // Not understood and not stored: a newer server may know it. The others flow meanwhile.
        if let Some(mutation) = self.queue.get_mut(place) {
            mutation.parked = Parked::UntilConnection;
        }
        self.problem(code.unwrap_or(ErrorCode::Internal), &error.message);
        false
    }

    /// The server applied a write: it leaves the overlay when the stream has passed `last_seq`.
    pub(super) fn confirm_mutation(&mut self, place: QueuePlace, last_seq: u64) {
        let Some(op_id) = self.queue.get(place).map(|mutation| mutation.intent.op_id.clone()) else { return };
        self.queue.set_state(place, MutationState::Applied(if planted::is(4) { 0 } else { last_seq }));
        if planted::is(16) {
            self.record.shown.seq = last_seq;
        }
        self.notify(Event::MutationConfirmed { op_id, seq: last_seq });
    }

    pub(super) fn fail_mutation_with(&mut self, place: QueuePlace, code: ErrorCode, message: &str) {
        self.fail_mutation(place, ErrorDetail::new(code, message));
    }

    /// A write will not be applied: its changes leave the view, its record stays with the reason.
    pub(super) fn fail_mutation(&mut self, place: QueuePlace, error: ErrorDetail) {
        let Some(mutation) = self.queue.get(place) else { return };
        let op_id = mutation.intent.op_id.clone();
        let rows = self.rows_of(place);
        self.queue.set_state(place, MutationState::Failed(error.clone()));
        if !planted::is(13) {
            self.refresh_rows(&rows);
        }
        self.store_failure(place);
        self.notify(Event::MutationFailed { op_id, error });
    }

    /// Stores that a write failed, if it did and is on disk.
    pub(super) fn store_failure(&mut self, place: QueuePlace) {
        let failed = self.queue.get(place).filter(|mutation| matches!(mutation.state, MutationState::Failed(_)));
        if let Some(mutation) = failed
            && let Some(key) = mutation.key()
        {
            let record = mutation.record();
            let op_id = mutation.intent.op_id.clone();
            self.store_state(key, record, Some(op_id));
        }
    }

    /// Takes applied writes that the shown rows contain out of queue and overlay, and recomputes their rows and those that are
    /// dirty anyway; gives their records on disk.
    pub(super) fn leave_passed(&mut self, mut dirty: Vec<(super::EntityIndex, String)>) -> Vec<(u64, u64)> {
        let mut removed = Vec::new();
        // What never reached the disk itself still stands for a failed record there.
        let mut replaced = Vec::new();
        // Without a token everything is fetched again: the rows shown until then may be of another history, whose numbers say
        // nothing.
        while self.record.shown.token.is_some()
            && let Some((seq, place)) = self.queue.passed_by(self.record.shown.seq, &|place| self.stands_on_another(place))
        {
            let Some(mutation) = self.leaves(place, &mut dirty) else { break };
            if let Some(key) = mutation.key() {
                removed.push((key, seq));
                self.tabs.mirror.is_gone(key, Departure::Applied(seq));
            }
            for (key, record) in &mutation.replaces {
                if self.storage.takes_rows() {
                    replaced.push(*key);
                } else {
                    // Other tabs do not get the row that stands for it: they are not to take it for applied.
                    self.discard_record(*key, record.clone(), mutation.mark(), None);
                }
            }
        }
        self.refresh_rows(&dirty);
        self.remove_from_queue(&replaced);
        removed
    }

    /// Whether an earlier write that may have been applied, too, is still shown on a row of this one.
    ///
    /// Its outcome can come later than a page that holds both. Alone it would hide what the page brought.
    fn stands_on_another(&self, place: QueuePlace) -> bool {
        let is_of_server = |place: QueuePlace| {
            let state = self.queue.get(place).map(|mutation| &mutation.state);
            matches!(state, Some(MutationState::Sent | MutationState::Applied(_)))
        };
        let changes = self.queue.get(place).map(|mutation| mutation.intent.changes.as_slice());
        changes.unwrap_or_default().iter().any(|change| {
            let entity = self.names.find(change.entity.as_str());
            let row = entity.and_then(|entity| self.overlay.row(entity, change.row_id.as_str()));
            row.and_then(|row| row.steps.iter().find(|(other, _)| is_of_server(*other))).is_some_and(|(first, _)| *first != place)
        })
    }

    /// Takes a write out of the queue; its rows are to be looked at.
    pub(super) fn leaves(&mut self, place: QueuePlace, dirty: &mut Vec<(super::EntityIndex, String)>) -> Option<Box<Mutation>> {
        dirty.append(&mut self.rows_of(place));
        self.queue.remove(place)
    }

    pub(super) fn rows_of(&mut self, place: QueuePlace) -> Vec<(super::EntityIndex, String)> {
        let mut rows = Vec::new();
        if let Some(mutation) = self.queue.get(place) {
            for change in &mutation.intent.changes {
                rows.push((self.names.intern(change.entity.as_str()), change.row_id.as_str().to_owned()));
            }
        }
        rows
    }
}

/// Whether one that it depends on did not apply.
fn is_dependency_failure(result: &OutcomeResult) -> bool {
    let code = result.error.as_ref().and_then(|error| ErrorCode::from_code(&error.code));
    result.status == OutcomeStatus::NotEvaluated && code == Some(ErrorCode::DependencyFailed)
}

/// An outcome that says `applied` without a seq could not be told from the stream.
const fn is_complete(result: &OutcomeResult) -> bool {
    !matches!(result.status, OutcomeStatus::Applied | OutcomeStatus::Merged) || result.last_seq.is_some()
}
