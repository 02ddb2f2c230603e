//! Taking writes of the application: checked against the view, frozen, queued, visible at once.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::json::{Reader, Token};
use syncline_protocol::{
    Base, ChangeKind, EntityName, IdError, Intent, IntentChange, IntentError, OpId, RowId, RowText, Timestamp, limits,
};

use super::connection::Phase;
use super::key_index::{KeyIndex, hash};
use super::mutation_queue::QueuePlace;
use super::mutation_record::{Durability, Mutation};
use super::{Client, ClientError, NewChange};

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
        if self.tabs.refuses_writes {
            return Err(ClientError::Outdated);
        }
        if self.queue.is_full() {
            return Err(ClientError::QueueFull);
        }
        self.set_now(now);
        let accepted = self.accept(changes)?;
        if let Some(place) = self.queue.find(&accepted.op_id) {
            self.fold_new(place);
        }
        Ok(accepted)
    }

    /// The same for what stands for a write that is in the queue already.
    pub(super) fn accept(&mut self, changes: Vec<NewChange>) -> Result<Accepted, ClientError> {
        if changes.is_empty() || changes.len() > limits::TRANSACTION_CHANGES_MAX {
            return Err(ClientError::Size);
        }
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
        self.enqueue(Intent { op_id, after, issued_at: self.now, schema: self.config.schema, changes: built })
    }

    /// Freezes a transaction and adds it to the queue and to the view.
    pub(super) fn enqueue(&mut self, intent: Intent) -> Result<Accepted, ClientError> {
        let text = intent.freeze().map_err(refused)?;
        let op_id = intent.op_id.clone();
        let row_ids = intent.changes.iter().map(|change| change.row_id.clone()).collect();
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
            // An update of a row that is not there, because its insert failed, is nothing that an insert could need.
            let counts = |(place, at): &&(QueuePlace, usize)| {
                let change = self.queue.get(*place).and_then(|mutation| mutation.intent.changes.get(*at));
                !inserts || change.is_some_and(|change| change.kind != ChangeKind::Update)
            };
            let preceding = self.overlay.row(index, row_id.as_str()).and_then(|touched| touched.steps.iter().rfind(counts));
            if let Some((place, _)) = preceding
                && let Some(mutation) = self.queue.get(*place)
            {
                if mutation.state.is_open() {
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
            Token::Text(text) => {
                let insert = self.queue.insert_of(&text);
                if let Some(place) = insert.filter(|place| self.queue.get(*place).is_some_and(Mutation::shows)) {
                    note(after, place);
                }
            }
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
