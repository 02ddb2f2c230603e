//! A client core, and the tape of what it is asked and answers, if somebody wants one.

use std::cell::RefCell;
use std::rc::Rc;

use syncline_core::client::{Accepted, Client, ClientError, Input, NewChange, Output, Status};
use syncline_protocol::{OpId, Timestamp};
use syncline_replay::{Call, Settings, Tape};

/// A tape that several cores are recorded on.
pub(crate) type SharedTape = Rc<RefCell<Tape>>;

/// A core.
#[derive(Debug)]
pub(crate) struct Engine {
    client: Client,
    tape: Option<(SharedTape, u32)>,
}

impl Engine {
    /// Makes a core.
    pub(crate) fn new(settings: Settings, tape: Option<SharedTape>) -> Self {
        let tape = tape.map(|tape| {
            let number = tape.borrow_mut().begin(settings);
            (tape, number)
        });
        Self { client: Client::new(settings.config()), tape }
    }

    fn note(&self, call: impl FnOnce() -> Call, answer: impl FnOnce() -> String) {
        if let Some((tape, number)) = &self.tape {
            tape.borrow_mut().note(*number, call(), &answer());
        }
    }

    pub(crate) fn handle_input(&mut self, now: Timestamp, input: Input) {
        self.note(|| Call::Input(now.0, input.clone()), String::new);
        self.client.handle_input(now, input);
    }

    pub(crate) fn poll_output(&mut self) -> Output {
        let output = self.client.poll_output();
        self.note(|| Call::Poll, || format!("{output:?}"));
        output
    }

    pub(crate) fn mutate(&mut self, now: Timestamp, changes: Vec<NewChange>) -> Result<Accepted, ClientError> {
        let asked = self.tape.is_some().then(|| changes.clone());
        let result = self.client.mutate(now, changes);
        self.note(|| Call::Mutate(now.0, asked.unwrap_or_default()), || format!("{result:?}"));
        result
    }

    pub(crate) fn retry(&mut self, now: Timestamp, op_id: &OpId) -> Result<OpId, ClientError> {
        let result = self.client.retry(now, op_id);
        self.note(|| Call::Retry(now.0, op_id.clone()), || format!("{result:?}"));
        result
    }

    pub(crate) fn edit(&mut self, now: Timestamp, op_id: &OpId, changes: Vec<NewChange>) -> Result<Accepted, ClientError> {
        let asked = self.tape.is_some().then(|| changes.clone());
        let result = self.client.edit(now, op_id, changes);
        self.note(|| Call::Edit(now.0, op_id.clone(), asked.unwrap_or_default()), || format!("{result:?}"));
        result
    }

    pub(crate) fn remove(&mut self, now: Timestamp, op_id: &OpId) -> Result<(), ClientError> {
        let result = self.client.remove(now, op_id);
        self.note(|| Call::Remove(now.0, op_id.clone()), || format!("{result:?}"));
        result
    }

    pub(crate) fn delta_json(&mut self, entity: &str, since: u64) -> String {
        let answer = self.client.delta_json(entity, since);
        self.note(|| Call::Delta(entity.to_owned(), since), || answer.clone());
        answer
    }

    pub(crate) fn status(&self) -> Status {
        let status = self.client.status();
        self.note(|| Call::Status, || status.to_json());
        status
    }

    pub(crate) fn mutations_json(&self) -> String {
        let answer = self.client.mutations_json();
        self.note(|| Call::Queue, || answer.clone());
        answer
    }
}
