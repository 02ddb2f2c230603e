//! Taking writes of the application: checked against the view, frozen, queued, visible at once.

use syncline_protocol::json::{Reader, Token};
use syncline_protocol::{
    Base, ChangeKind, EntityName, IdError, Intent, IntentChange, IntentError, OpId, RowId, RowText, Timestamp, limits,
};

use super::connection::Phase;
use super::key_index::{KeyIndex, hash};
use super::mutation_queue::QueuePlace;
use super::mutation_record::{Durability, Mutation, MutationState, Parked};
use super::{Client, ClientError, Event, NewChange};

/// A write that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Recognises it for ever.
    pub op_id: OpId,
    /// The row of each change, in order.
    pub row_ids: Vec<RowId>,
}

/// The changes before the present one, and the latest of them about each row.
#[derive(Debug, Default)]
struct Staged {
    changes: Vec<IntentChange>,
    latest: KeyIndex,
}

impl Staged {
    fn find(&self, entity: &EntityName, row_id: &RowId) -> Option<(u32, &IntentChange)> {
        let change = |position: u32| self.changes.get(position as usize);
        let is_it = |position: u32| change(position).is_some_and(|other| other.row_id == *row_id && other.entity == *entity);
        let position = self.latest.find(hash(row_id.as_str().as_bytes()), &is_it)?;
        Some((position, change(position)?))
    }

    fn push(&mut self, change: IntentChange) {
        let hash = hash(change.row_id.as_str().as_bytes());
        if let Some((earlier, _)) = self.find(&change.entity, &change.row_id) {
            self.latest.remove(hash, earlier);
        }
        self.latest.insert(hash, u32::try_from(self.changes.len()).unwrap_or(u32::MAX));
        self.changes.push(change);
    }
}

impl Client {
    /// Builds, checks and queues one transaction. It is in the view when this returns. Drain the outputs afterwards.
    ///
    /// # Errors
    /// When a change is malformed, does not fit the view, or the queue is full. Nothing happened then.
    pub fn mutate(&mut self, now: Timestamp, changes: Vec<NewChange>) -> Result<Accepted, ClientError> {
        if self.link.phase == Phase::Idle || self.link.is_over() {
            return Err(ClientError::NotStarted);
        }
        if self.queue.is_full() {
            return Err(ClientError::QueueFull);
        }
        if changes.is_empty() || changes.len() > limits::TRANSACTION_CHANGES_MAX {
            return Err(ClientError::Size);
        }
        self.set_now(now);
        let mut staged = Staged::default();
        let mut after = Vec::new();
        for change in changes {
            let change = self.build_change(change, &staged, &mut after)?;
            staged.push(change);
        }
        // Those before them were made earlier and are sent earlier: whoever touches more rows is not refused for it.
        after.drain(..after.len().saturating_sub(limits::AFTER_MAX));
        let built = staged.changes;
        let after = after.into_iter().filter_map(|place| Some(self.queue.get(place)?.intent.op_id.clone())).collect();
        let op_id = self.rng.op_id();
        let row_ids = built.iter().map(|change| change.row_id.clone()).collect();
        let intent = Intent { op_id: op_id.clone(), after, issued_at: self.now, schema: self.config.schema, changes: built };
        let text = intent.freeze().map_err(refused)?;
        if let Some(place) = self.queue.push(Box::new(Mutation::new(intent, text, Durability::Unstored))) {
            self.storage.add_unstored(place);
            self.overlay_append(place);
        }
        Ok(Accepted { op_id, row_ids })
    }

    fn build_change(
        &mut self,
        change: NewChange,
        staged: &Staged,
        after: &mut Vec<QueuePlace>,
    ) -> Result<IntentChange, ClientError> {
        let entity = EntityName::parse(change.entity)?;
        let row_id = match change.row_id {
            Some(id) => RowId::parse(id)?,
            None if change.kind == ChangeKind::Insert => self.rng.row_id(self.now),
            None => return Err(IdError::Row(String::new()).into()),
        };
        let data = check_data(&entity, &row_id, &change.kind, change.data.as_deref())?;
        let index = self.names.find(entity.as_str());
        let before = staged.find(&entity, &row_id).map(|(_, earlier)| earlier.kind != ChangeKind::Delete);
        let exists = before.unwrap_or_else(|| index.is_some_and(|index| self.view_has(index, row_id.as_str())));
        let inserts = change.kind == ChangeKind::Insert;
        if inserts == exists {
            let (entity, row_id) = (entity.into(), row_id.into());
            return Err(if exists {
                ClientError::RowExists { entity, row_id }
            } else {
                ClientError::RowNotFound { entity, row_id }
            });
        }
        let mut base = None;
        if let Some(index) = index {
            let preceding = self.overlay.row(index, row_id.as_str()).and_then(|touched| touched.steps.last());
            if let Some(mutation) = preceding.and_then(|(place, _)| self.queue.get(*place)) {
                if let (true, Some((place, _))) = (mutation.state.is_open(), preceding) {
                    note(after, *place);
                }
                base = Some(Base::OpId(mutation.intent.op_id.clone()));
            } else if let Some((row, _)) = self.base.row(index, row_id.as_str()) {
                base = Some(Base::Seq(row.seq));
            }
        }
        if let Some(data) = &data {
            self.find_references(&mut Reader::new(data.get()), after);
        }
        let base = if inserts || before.is_some() { None } else { base };
        Ok(IntentChange { entity, row_id, kind: change.kind, data, base })
    }

    /// Names the open writes that insert a row whose id stands in the value.
    fn find_references(&self, reader: &mut Reader<'_>, after: &mut Vec<QueuePlace>) {
        match reader.token() {
            Token::Text(text) => self.queue.insert_of(&text).into_iter().for_each(|place| note(after, place)),
            Token::Array => {
                let mut list = reader.array();
                while reader.next_item(&mut list) {
                    self.find_references(reader, after);
                }
            }
            Token::Object => {
                let mut list = reader.object();
                while reader.next_name(&mut list).is_some() {
                    self.find_references(reader, after);
                }
            }
            Token::Null | Token::Bool(_) | Token::Int(_) | Token::Large(_) | Token::Float(_) => {}
        }
    }

    /// Queues a failed write again, as a new one at the end of the queue; gives its op_id.
    ///
    /// # Errors
    /// When no write has this op_id, or it has not failed, or its changes no longer fit the view.
    pub fn retry(&mut self, now: Timestamp, op_id: &OpId) -> Result<OpId, ClientError> {
        let (place, mutation) = self.queued(op_id)?;
        if !matches!(mutation.state, MutationState::Failed(_)) {
            return Err(wrong_state(op_id, &mutation.state, "only a failed one can be tried again"));
        }
        let again = |change: &IntentChange| NewChange {
            entity: change.entity.as_str().to_owned(),
            row_id: Some(change.row_id.as_str().to_owned()),
            kind: change.kind.clone(),
            data: change.data.as_ref().map(|data| data.get().to_owned()),
        };
        let changes = mutation.intent.changes.iter().map(again).collect();
        let accepted = self.mutate(now, changes)?;
        self.supersede(place, &accepted.op_id);
        Ok(accepted.op_id)
    }

    /// Discards a write that failed or was not sent yet.
    ///
    /// # Errors
    /// When no write has this op_id, or it is on its way.
    pub fn remove(&mut self, now: Timestamp, op_id: &OpId) -> Result<(), ClientError> {
        self.set_now(now);
        let (place, mutation) = self.queued(op_id)?;
        let failed = matches!(mutation.state, MutationState::Failed(_));
        // What the server has no room for did not reach it, although it says `sent`.
        let unsent = mutation.state == MutationState::Pending || mutation.parked == Parked::UntilRestart;
        if !failed && (!unsent || self.push.carries(place)) {
            return Err(wrong_state(op_id, &mutation.state, "it may have reached the server"));
        }
        self.discard(place);
        Ok(())
    }

    fn queued(&self, op_id: &OpId) -> Result<(QueuePlace, &Mutation), ClientError> {
        let found = self.queue.find(op_id).and_then(|place| Some((place, self.queue.get(place)?)));
        found.ok_or_else(|| ClientError::UnknownMutation(op_id.as_str().to_owned()))
    }

    /// Takes a failed write out of the queue; its record stays until the one that tries it again is on disk.
    fn supersede(&mut self, place: QueuePlace, by: &OpId) {
        let Some(old) = self.queue.remove(place) else { return };
        if let Some(again) = self.queue.find(by).and_then(|again| self.queue.get_mut(again)) {
            again.replaces = old.key().or(old.replaces);
        }
        self.notify(Event::MutationRemoved { op_id: old.intent.op_id });
    }

    /// Takes a write out of queue and view, in memory and on disk.
    pub(super) fn discard(&mut self, place: QueuePlace) {
        let rows = self.rows_of(place);
        let Some(mutation) = self.queue.remove(place) else { return };
        self.refresh_rows(&rows);
        if mutation.durability == Durability::Storing {
            self.storage.note_discarded(place);
        }
        // The next `Enqueue` leaves out what the queue no longer has.
        let mut keys = Vec::new();
        keys.extend(mutation.key());
        keys.extend(mutation.replaces);
        self.remove_from_queue(&keys);
        self.notify(Event::MutationRemoved { op_id: mutation.intent.op_id });
    }
}

/// Adds a place to a list in order.
fn note(places: &mut Vec<QueuePlace>, place: QueuePlace) {
    if let Err(at) = places.binary_search(&place) {
        places.insert(at, place);
    }
}

fn check_data(
    entity: &EntityName,
    row_id: &RowId,
    kind: &ChangeKind,
    data: Option<&str>,
) -> Result<Option<RowText>, ClientError> {
    let wrong = |kind, problem| {
        let (entity, row_id) = (entity.as_str().to_owned(), row_id.as_str().to_owned());
        ClientError::Data { kind, entity, row_id, problem }
    };
    match kind {
        ChangeKind::Insert | ChangeKind::Update => {}
        ChangeKind::Delete if data.is_none() => return Ok(None),
        ChangeKind::Delete => return Err(wrong("delete", "a deletion has no fields")),
        ChangeKind::Enter | ChangeKind::Leave | ChangeKind::Increment | ChangeKind::Append | ChangeKind::Unknown(_) => {
            return Err(ClientError::Kind(kind.as_str().to_owned()));
        }
    }
    let name = if *kind == ChangeKind::Insert { "insert" } else { "update" };
    let Some(data) = data else { return Err(wrong(name, "it has no fields")) };
    let mut data = RowText::parse(data)?;
    // Row ids need no escapes.
    if let Some(id) = data.remove("id")
        && id != ["\"", row_id.as_str(), "\""].concat()
    {
        return Err(wrong(name, "the field `id` is not the row's id, which never changes"));
    }
    if *kind == ChangeKind::Update && data.is_empty() {
        return Err(wrong(name, "it changes nothing"));
    }
    Ok(Some(data))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is non-exhaustive")]
fn refused(error: IntentError) -> ClientError {
    match error {
        IntentError::Id(error) => ClientError::Id(error),
        IntentError::Value(error) => ClientError::Value(error),
        // Data that is missing was refused before. The enum is open to newer reasons, which a size describes least wrongly.
        _ => ClientError::Size,
    }
}

fn wrong_state(op_id: &OpId, state: &MutationState, problem: &'static str) -> ClientError {
    ClientError::WrongState { op_id: op_id.as_str().to_owned(), state: state.name(), problem }
}
