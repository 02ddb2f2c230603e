//! What each tab was told of each write, and what it was shown: nobody is told two things, and everybody is told in the end.

use std::collections::BTreeMap;

use serde_json::Value;
use syncline_core::client::Event as ClientEvent;
use syncline_protocol::{ErrorCode, Identity};

use crate::model::Key;
use crate::tab::Tab;
use crate::workload::rows_of;
use crate::world::{TabId, World};

/// What a tab was told last about a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is in the server's log.
    Confirmed,
    /// It came to nothing with another one before either was sent.
    Undone,
    /// The server refuses it.
    Failed,
    /// The server does not know any more.
    Forgotten,
    /// Another one stands for it.
    Replaced(String),
    /// It was discarded.
    Removed,
    /// The engine could not keep it.
    Lost,
}

impl Fate {
    /// What an event says of a write.
    fn of(event: &ClientEvent) -> Option<(&str, Self)> {
        Some(match event {
            ClientEvent::MutationConfirmed { op_id, seq: 0 } => (op_id.as_str(), Self::Undone),
            ClientEvent::MutationConfirmed { op_id, .. } => (op_id.as_str(), Self::Confirmed),
            ClientEvent::MutationFailed { op_id, error } if error.code == ErrorCode::OutcomeUnknown.code() => {
                (op_id.as_str(), Self::Forgotten)
            }
            ClientEvent::MutationFailed { op_id, .. } => (op_id.as_str(), Self::Failed),
            ClientEvent::MutationReplaced { op_id, by } => (op_id.as_str(), Self::Replaced(by.to_string())),
            ClientEvent::MutationRemoved { op_id } => (op_id.as_str(), Self::Removed),
            ClientEvent::MutationLost { op_id, .. } => (op_id.as_str(), Self::Lost),
            _ => return None,
        })
    }

    /// Whether this may be said of a write of which the other was said before.
    fn may_follow(&self, before: &Self) -> bool {
        match before {
            Self::Failed | Self::Forgotten => true,
            // What is not in the rows yet is sent again by whoever leads next, perhaps years later.
            Self::Confirmed => matches!(self, Self::Confirmed | Self::Forgotten),
            other => self == other,
        }
    }
}

impl World {
    /// A tab is told what became of a write.
    pub(crate) fn told_fate(&mut self, id: TabId, event: &ClientEvent) {
        let Some((op_id, fate)) = Fate::of(event) else { return };
        // What a restored backup lost is sent again, and may fail this time.
        let restored = self.service.lives.len() > 1;
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if let Fate::Replaced(by) = &fate {
            let mut last = by;
            while let Some(Fate::Replaced(next)) = tab.fates.get(last).filter(|_| last != op_id) {
                last = next;
            }
            if last == op_id {
                // Another tab was faster: what was to be replaced counts again.
                tab.fates.remove(by);
            }
        }
        let before = tab.fates.insert(op_id.to_owned(), fate.clone());
        let fits = before.as_ref().is_none_or(|before| restored || fate.may_follow(before));
        assert!(fits, "I20: tab {id} was told of {op_id} that it is {before:?}, and now {fate:?}");
    }

    /// I21 for one tab: a write that it showed stays until its base has it, or it was told what became of it.
    pub(crate) fn check_writes_stay(&self, tab: &mut Tab, identity: &Identity, seq: u64, mutations: &[Value], lives: &[usize]) {
        let op_id = |mutation: &Value| mutation["op_id"].as_str().unwrap_or_default().to_owned();
        let listed: BTreeMap<String, Vec<Key>> = mutations.iter().map(|mutation| (op_id(mutation), rows_of(mutation))).collect();
        for gone in tab.shown_writes.keys().filter(|op_id| !listed.contains_key(*op_id)) {
            let mut next = Some(gone.clone());
            let (mut is_known, mut slept) = (false, false);
            while let Some(one) = next.filter(|_| !is_known) {
                let tenant = identity.tenant_id.as_deref().unwrap_or_default();
                let fate = tab.fates.get(&one);
                let mut applied = self.service.lives.iter().enumerate().filter_map(|(number, life)| {
                    let outcome = life.outcome(tenant, &one).filter(|outcome| outcome.applied)?;
                    Some((lives.contains(&number), outcome.last_seq))
                });
                // A tab that slept hears of a write that was applied and that a restored backup has lost since.
                let slept_long = fate == Some(&Fate::Confirmed);
                let may_be_lost = slept_long && self.service.lives.len() > 1;
                let in_base = applied.any(|(is_its_life, place)| (is_its_life && place <= seq) || may_be_lost);
                // Nor does it know that one came to nothing with another one.
                let is_undone = slept_long && self.writes.get(&one).is_some_and(|write| write.undone);
                is_known = in_base
                    || is_undone
                    || listed.contains_key(&one)
                    || tab.discarded.contains(&one)
                    || matches!(fate, Some(Fate::Removed | Fate::Lost | Fate::Undone));
                // It slept while others took its place, of which the last was applied.
                slept |= fate == Some(&Fate::Confirmed);
                next = match fate {
                    Some(Fate::Replaced(by)) => Some(by.clone()),
                    Some(Fate::Confirmed) | None if slept => self.stands_for(tab.device, identity, &one),
                    _ => None,
                };
            }
            assert!(is_known, "I21: {gone} was shown, is shown no more, and nobody was told");
        }
        let open = mutations.iter().filter(|mutation| matches!(mutation["status"].as_str(), Some("pending" | "sent")));
        assert_eq!(tab.client.status().pending, open.count(), "I20: the status counts the writes that are open");
        tab.shown_writes = listed;
    }

    /// What stands for a write, on disk or by the word of a tab.
    pub(crate) fn stands_for(&self, device: usize, identity: &Identity, op_id: &str) -> Option<String> {
        let key = (identity.user_id.clone(), identity.tenant_id.clone());
        let folded = self.devices[device].disks.get(&key).and_then(|disk| disk.folded.get(op_id).cloned().flatten());
        folded.or_else(|| self.writes.get(op_id).and_then(|write| write.replaced_by.clone()))
    }

    /// I3 at the end: of several that were to stand for one write, one has an effect at most.
    pub(crate) fn check_successors(&self) {
        let [life] = self.service.lives.as_slice() else { return };
        if self.options.full + self.options.broken > 0 {
            // Only the disk keeps tabs from doing the same twice.
            return;
        }
        for (op_id, write) in &self.writes {
            let tenant = write.identity.tenant_id.as_deref().unwrap_or_default();
            let is_applied = |by: &&String| life.outcome(tenant, by).is_some_and(|outcome| outcome.applied);
            let applied: Vec<&String> = write.successors.iter().filter(is_applied).collect();
            assert!(applied.len() <= 1, "I3: several writes that stand for {op_id} were applied: {applied:?}");
        }
    }

    /// I20 at the end: the tab in which a write was made was told what became of it.
    pub(crate) fn check_everybody_was_told(&self) {
        for (op_id, write) in &self.writes {
            let Some(tab) = self.tabs.get(&write.tab) else { continue };
            let mut last = op_id;
            while let Some(Fate::Replaced(by)) = tab.fates.get(last) {
                last = by;
            }
            let is_told = tab.fates.contains_key(last) || write.is_derived;
            assert!(is_told, "I20: {op_id} was made in tab {}, and that was never told what became of {last}", write.tab);
        }
    }
}
