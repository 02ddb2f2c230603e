//! A reader that applies pages by the rules of `docs/protocol.md` and nothing else.

use std::collections::BTreeMap;

use serde_json::Value;
use syncline_protocol::{Change, ChangeKind, Page};

/// Rows by entity and id, each with its seq.
pub(crate) type Rows = BTreeMap<(String, String), (u64, Value)>;

#[derive(Debug, Default)]
pub(crate) struct Replica {
    pub(crate) token: Option<String>,
    pub(crate) seq: u64,
    pub(crate) rows: Rows,
    pub(crate) snapshot_running: bool,
    /// Nothing is shown before this seq is reached.
    pub(crate) hold_until: u64,
    pub(crate) has_more: bool,
}

impl Replica {
    /// Whether its rows are what the user may see at its cursor.
    pub(crate) fn is_settled(&self) -> bool {
        self.token.is_some() && !self.snapshot_running && self.seq >= self.hold_until
    }

    pub(crate) fn apply(&mut self, page: &Page) {
        assert!(page.checksum_matches());
        if let Some(mark) = page.snapshot {
            if mark.start {
                *self = Self::default();
            }
            self.snapshot_running = !mark.end;
            self.seq = page.to;
        } else {
            assert_eq!(page.from, self.seq, "a page must begin where the reader stands");
        }
        let seq = self.seq;
        for change in &page.changes {
            self.change(change, seq);
        }
        self.hold_until = self.hold_until.max(page.consistent_at.unwrap_or_default());
        self.seq = page.to;
        self.has_more = page.has_more;
        self.token = Some(page.cursor.token.clone());
    }

    fn change(&mut self, change: &Change, seq: u64) {
        let crosses = matches!(change.kind, ChangeKind::Enter | ChangeKind::Leave);
        let key = (change.entity.to_string(), change.row_id.to_string());
        let held = self.rows.get(&key).map_or(0, |(held, _)| *held);
        if (!crosses && change.seq <= seq) || change.seq < held {
            return;
        }
        match &change.data {
            Some(data) => {
                let value = serde_json::from_str(data.get()).unwrap();
                self.rows.insert(key, (change.seq, value));
            }
            None => {
                self.rows.remove(&key);
            }
        }
    }
}
