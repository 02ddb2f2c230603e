//! What the application sees: the base with the open writes folded over it.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::json::{Array, Object, finish, write_text};
use syncline_protocol::{ChangeKind, OpId, RowText, positions, sort_positions};

use super::Client;
use super::base::Generation;
use super::held::Waiting;
use super::mutation_queue::QueuePlace;
use super::mutation_record::{Mutation, MutationState};
use super::names::EntityIndex;
use super::overlay::{Overlay, OverlayRow, fold, fold_steps};

impl Client {
    pub(super) fn view_has(&self, entity: EntityIndex, id: &str) -> bool {
        match self.overlay.row(entity, id) {
            Some(touched) => touched.row.is_some(),
            None => self.base.contains(entity, id.as_bytes()),
        }
    }

    /// Folds the changes of a write that was queued at the end over the view.
    pub(super) fn overlay_append(&mut self, place: QueuePlace) {
        for (index, (entity, id)) in self.rows_of(place).into_iter().enumerate() {
            self.touch(entity, &id);
            let change = self.queue.get(place).and_then(|mutation| mutation.intent.changes.get(index));
            let (Some(touched), Some(change)) = (self.overlay.row_mut(entity, &id), change) else { continue };
            touched.steps.push((place, index));
            // All earlier steps are folded in already.
            let row = fold(touched.row.clone(), &[change]);
            if row != touched.row {
                touched.row = row;
                touched.version = self.log.advance();
                self.log.record(entity, &id);
                self.changed.insert(entity);
            }
        }
    }

    /// Puts a write that may stand before others over the rows it touches; they show it once they are refreshed.
    pub(super) fn overlay_insert(&mut self, place: QueuePlace) -> Vec<(EntityIndex, String)> {
        let rows = self.rows_of(place);
        if !self.queue.get(place).is_some_and(Mutation::shows) {
            return Vec::new();
        }
        for (index, (entity, id)) in rows.iter().enumerate() {
            self.touch(*entity, id);
            if let Some(touched) = self.overlay.row_mut(*entity, id) {
                touched.steps.push((place, index));
            }
        }
        rows
    }

    /// Takes a write from the rows it touches; they show it until they are refreshed.
    pub(super) fn overlay_forget(&mut self, place: QueuePlace) {
        for (entity, id) in self.rows_of(place) {
            if let Some(touched) = self.overlay.row_mut(entity, &id) {
                touched.steps.retain(|(other, _)| *other != place);
            }
        }
    }

    /// Makes sure that the overlay has a row.
    fn touch(&mut self, entity: EntityIndex, id: &str) {
        if self.overlay.row(entity, id).is_none() {
            let base = self.base.row(entity, id);
            let (row, version) = base.map_or((None, 0), |(row, version)| (Some(row.to_text()), version));
            self.overlay.add(OverlayRow { entity, id: id.to_owned(), steps: Vec::new(), row, version });
        }
    }

    /// Recomputes rows of the overlay from base and queue.
    pub(super) fn refresh_rows(&mut self, dirty: &[(EntityIndex, String)]) {
        let mut order = positions(dirty.len());
        let row = |position: u32| dirty.get(position as usize);
        sort_positions(&mut order, &mut |left, right| row(left).cmp(&row(right)));
        let mut last = None;
        for (entity, id) in order.into_iter().filter_map(row) {
            if last != Some((entity, id)) {
                self.refresh_row(*entity, id);
            }
            last = Some((entity, id));
        }
    }

    fn refresh_row(&mut self, entity: EntityIndex, id: &str) {
        let Some(touched) = self.overlay.row_mut(entity, id) else { return };
        let base = self.base.row(entity, id).map(|(row, _)| row.to_text());
        let row = fold_steps(base, &mut touched.steps, &self.queue);
        if row != touched.row {
            touched.version = self.log.advance();
            self.log.record(entity, id);
            self.changed.insert(entity);
        }
        if touched.steps.is_empty() {
            // The base shows what the overlay showed: for the application it is the same row.
            self.base.set_version(entity, id, touched.version);
            self.overlay.remove(entity, id);
        } else {
            touched.row = row;
        }
    }

    /// One row of the view as JSON, with its `id`.
    pub fn row_json(&self, entity: &str, id: &str) -> Option<String> {
        let mut out = Vec::new();
        self.write_row(&mut out, self.names.find(entity)?, id).then(|| finish(out))
    }

    fn write_row(&self, out: &mut Vec<u8>, entity: EntityIndex, id: &str) -> bool {
        if let Some(touched) = self.overlay.row(entity, id) {
            let Some(row) = &touched.row else { return false };
            write_overlay_row(out, id, row);
            return true;
        }
        let Some((row, _)) = self.base.row(entity, id) else { return false };
        row.write_json(out);
        true
    }

    /// Changes when the row changes; 0 when the view does not have it.
    pub fn row_version(&self, entity: &str, id: &str) -> u64 {
        let Some(entity) = self.names.find(entity) else { return 0 };
        match self.overlay.row(entity, id) {
            Some(touched) => touched.row.as_ref().map_or(0, |_| touched.version),
            None => self.base.row(entity, id).map_or(0, |(_, version)| version),
        }
    }

    /// What changed in the view of an entity since a former call said `at`:
    /// `{"at":N,"full":bool,"rows":[row, … by id],"removed":[id, …]}`. `since` 0 gives everything.
    pub fn delta_json(&mut self, entity: &str, since: u64) -> String {
        let index = self.names.find(entity);
        let changed = index.and_then(|index| self.log.changed_since(index, since));
        let mut out = Vec::with_capacity(256);
        let mut object = Object::begin(&mut out);
        object.uint("at", self.log.version());
        // Of an entity nobody has heard of, no rows are all there are.
        object.bool("full", changed.is_none());
        let rows = object.name("rows");
        rows.push(b'[');
        let mut removed = Vec::new();
        if let Some(index) = index {
            match &changed {
                None => write_all_rows(rows, index, &mut self.base, &self.overlay),
                Some(ids) => {
                    for id in ids {
                        if self.write_row(rows, index, id) {
                            rows.push(b',');
                        } else {
                            removed.push(*id);
                        }
                    }
                }
            }
        }
        close_list(rows);
        object.texts("removed", &mut removed.into_iter());
        object.end();
        finish(out)
    }

    /// The queue in order: `[{op_id, status, changes, error, waiting_on, issued_at}]`.
    pub fn mutations_json(&self) -> String {
        let mut out = Vec::new();
        let mut list = Array::begin(&mut out);
        let mut waiting = Waiting::default();
        for (place, mutation) in self.queue.iter() {
            let root = self.waits_for(&mut waiting, place, mutation).filter(|root| *root != place);
            self.write_mutation(list.item(), mutation, root);
        }
        list.end();
        finish(out)
    }

    fn write_mutation(&self, out: &mut Vec<u8>, mutation: &Mutation, root: Option<QueuePlace>) {
        let mut object = Object::begin(out);
        object.text("op_id", mutation.intent.op_id.as_str());
        object.text("status", mutation.state.name());
        object.uint("issued_at", mutation.intent.issued_at.0);
        let mut list = Array::begin(object.name("changes"));
        for change in &mutation.intent.changes {
            let mut object = Object::begin(list.item());
            object.text("entity", change.entity.as_str());
            object.text("row_id", change.row_id.as_str());
            object.text("kind", change.kind.as_str());
            if let (Some(data), false) = (&change.data, change.kind == ChangeKind::Delete) {
                object.raw("data", data.get());
            }
            object.end();
        }
        list.end();
        match &mutation.state {
            MutationState::Failed(error) => error.write(object.name("error")),
            MutationState::Pending | MutationState::Sent | MutationState::Applied(_) => object.raw("error", "null"),
        }
        let after = &mutation.intent.after;
        let unresolved = after.iter().filter(|op_id| {
            let other = self.queue.find(op_id).and_then(|place| self.queue.get(place));
            other.is_some_and(|other| !matches!(other.state, MutationState::Applied(_)))
        });
        // What it waits for through others is what the application has to deal with.
        let root = root.and_then(|root| Some(&self.queue.get(root)?.intent.op_id)).filter(|root| !after.contains(root));
        object.texts("waiting_on", &mut unresolved.chain(root).map(OpId::as_str));
        object.end();
    }
}

/// Base and overlay are both in order of the ids: merge them.
fn write_all_rows(out: &mut Vec<u8>, entity: EntityIndex, base: &mut Generation, overlay: &Overlay) {
    let touched = overlay.rows(entity);
    let mut touched = touched.as_slice();
    out.reserve(base.len(entity) * 128);
    base.visit_ordered(entity, |row| {
        while let [before, after @ ..] = touched
            && before.id.as_bytes() < row.id
        {
            write_touched(out, before);
            touched = after;
        }
        match touched {
            [over, after @ ..] if over.id.as_bytes() == row.id => {
                write_touched(out, over);
                touched = after;
            }
            _ => {
                row.write_json(out);
                out.push(b',');
            }
        }
    });
    for after in touched {
        write_touched(out, after);
    }
}

/// Ends a list whose items were each followed by a comma.
fn close_list(out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(b']');
}

fn write_touched(out: &mut Vec<u8>, touched: &OverlayRow) {
    if let Some(row) = &touched.row {
        write_overlay_row(out, &touched.id, row);
        out.push(b',');
    }
}

fn write_overlay_row(out: &mut Vec<u8>, id: &str, row: &RowText) {
    out.extend_from_slice(b"{\"id\":");
    write_text(out, id.as_bytes());
    if !row.is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(row.members().as_bytes());
    out.push(b'}');
}
