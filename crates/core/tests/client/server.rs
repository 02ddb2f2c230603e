//! A server reduced to what a client can see of it: one tenant, everybody reads everything, rows with `bad` are refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::to_raw_value;
use syncline_protocol::{
    Change, ChangeKind, Cursor, ErrorCode, ErrorDetail, Hello, Intent, OpId, OutcomeResult, OutcomeStatus, Page, Push,
    ResumeMode, Row, SnapshotMark, Timestamp, TransactionInfo, Welcome, frame_checksum,
};

/// How long it promises to remember outcomes once it has a clock, in milliseconds.
const OUTCOME_MS: u64 = 30_000;
/// For how much longer it does: what a client asks after the greeting is not older than a connection.
const OUTCOME_MS_SLACK: u64 = 120_000;

type Key = (String, String);
pub(crate) type Rows = BTreeMap<Key, (u64, Row)>;

#[derive(Debug, Clone)]
struct Logged {
    info: TransactionInfo,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) epoch: u64,
    pub(crate) head: u64,
    pub(crate) floor: u64,
    log: Vec<Logged>,
    pub(crate) rows: Rows,
    /// The rows at each seq a reader may stand at.
    pub(crate) history: BTreeMap<u64, Rows>,
    pub(crate) outcomes: BTreeMap<OpId, (String, OutcomeResult)>,
    pub(crate) page_changes: usize,
    /// Its clock; 0 for tests in which nothing is ever forgotten.
    pub(crate) now: Timestamp,
    /// When each outcome came to be, in order.
    outcome_times: Vec<(Timestamp, OpId)>,
    /// Applied or refused once, and not remembered: to see one of these again is to do it twice.
    forgotten: BTreeSet<OpId>,
    /// What each push reported.
    pub(crate) processed: Vec<Vec<OpId>>,
    pub(crate) stream_max: u64,
    /// Rows with this field are refused.
    pub(crate) refuses: &'static str,
    /// Answer this many transactions with `retry`.
    pub(crate) busy: usize,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            epoch: 1,
            head: 0,
            floor: 0,
            log: Vec::new(),
            rows: Rows::new(),
            history: [(0, Rows::new())].into(),
            outcomes: BTreeMap::new(),
            page_changes: 4,
            now: Timestamp(0),
            outcome_times: Vec::new(),
            forgotten: BTreeSet::new(),
            processed: Vec::new(),
            stream_max: 12,
            refuses: "bad",
            busy: 0,
        }
    }

    fn token(&self, seq: u64) -> String {
        format!("{}:{seq}", self.epoch)
    }

    /// The seq of a token of the log; `None` when it is of no use here.
    fn seq_of(&self, token: &str) -> Option<u64> {
        let (epoch, seq) = token.split_once(':')?;
        let seq: u64 = seq.parse().ok()?;
        (epoch.parse() == Ok(self.epoch) && seq >= self.floor && seq <= self.head).then_some(seq)
    }

    /// Drops the outcomes that are too old; gives the time since which all are promised to be known.
    fn forget_outcomes(&mut self) -> Timestamp {
        let floor = Timestamp(self.now.0.saturating_sub(OUTCOME_MS));
        let old = self.outcome_times.partition_point(|(at, _)| at.0 + OUTCOME_MS_SLACK < floor.0);
        for (_, op_id) in self.outcome_times.drain(..old) {
            if self.outcomes.remove(&op_id).is_some() {
                self.forgotten.insert(op_id);
            }
        }
        floor
    }

    pub(crate) fn hello(&mut self, hello: &Hello) -> (Welcome, Option<u64>) {
        let seq = hello.cursor.as_deref().map(|token| self.seq_of(token));
        let (resume, place) = match seq {
            Some(Some(seq)) if self.head - seq <= self.stream_max => (ResumeMode::Stream, Some(seq)),
            Some(Some(_)) => (ResumeMode::Pull, None),
            Some(None) | None => (ResumeMode::Resync, None),
        };
        let welcome = Welcome {
            protocol: 1,
            identity: hello.identity.clone(),
            epoch: self.epoch.to_string(),
            head: self.head,
            resume,
            outcome_floor: self.forget_outcomes(),
            server_time: self.now,
            heartbeat_ms: 20_000,
        };
        (welcome, place)
    }

    pub(crate) fn resume(&self, token: &str) -> Option<u64> {
        self.seq_of(token)
    }

    pub(crate) fn pull(&self, token: Option<&str>) -> Result<Page, ErrorDetail> {
        let resync = || ErrorDetail::new(ErrorCode::ResyncRequired, "pull from the start");
        let Some(token) = token else { return Ok(self.snapshot_page(self.head, None)) };
        if let Some(seq) = self.seq_of(token) {
            return Ok(self.log_page(seq));
        }
        let mut parts = token.splitn(5, ':');
        let (Some(epoch), Some("snapshot"), Some(start), Some(entity), Some(id)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(resync());
        };
        let start: u64 = start.parse().map_err(|_| resync())?;
        if epoch.parse() != Ok(self.epoch) || start < self.floor {
            return Err(resync());
        }
        Ok(self.snapshot_page(start, Some(&(entity.to_owned(), id.to_owned()))))
    }

    fn snapshot_page(&self, start: u64, after: Option<&Key>) -> Page {
        let rest: Vec<_> = self.rows.iter().filter(|(key, _)| after.is_none_or(|after| *key > after)).collect();
        let end = rest.len() <= self.page_changes;
        let changes: Vec<Change> = rest
            .into_iter()
            .take(self.page_changes)
            .map(|((entity, id), (seq, row))| change(entity, id, *seq, ChangeKind::Enter, Some(row)))
            .collect();
        let last = changes.last().map(|change| format!("{}:{}", change.entity, change.row_id));
        let token = match last {
            Some(last) if !end => format!("{}:snapshot:{start}:{last}", self.epoch),
            Some(_) | None => self.token(start),
        };
        let mut page = self.page(start, start, changes, Vec::new());
        page.cursor.token = token;
        page.snapshot = Some(SnapshotMark { start: after.is_none(), end });
        // Rows may have changed since the snapshot began, in this page or in an earlier one.
        page.consistent_at = end.then_some(self.head);
        page
    }

    /// The log after `from`, up to the end of a transaction.
    pub(crate) fn log_page(&self, from: u64) -> Page {
        let mut changes = Vec::new();
        let mut transactions = Vec::new();
        let mut to = from;
        for logged in self.log.iter().filter(|logged| logged.info.first_seq > from) {
            if changes.len() >= self.page_changes {
                break;
            }
            to = logged.info.last_seq;
            changes.extend(logged.changes.clone());
            transactions.push(logged.info.clone());
        }
        self.page(from, to, changes, transactions)
    }

    fn page(&self, from: u64, to: u64, changes: Vec<Change>, transactions: Vec<TransactionInfo>) -> Page {
        Page {
            scope: "all".to_owned(),
            from,
            to,
            cursor: Cursor { last_seq: to, token: self.token(to) },
            has_more: to < self.head,
            snapshot: None,
            consistent_at: None,
            checksum: frame_checksum(&changes),
            changes,
            transactions,
            scope_checksum: None,
        }
    }

    pub(crate) fn push(&mut self, push: &Push) -> Vec<OutcomeResult> {
        self.processed.push(push.processed.clone());
        for op_id in &push.processed {
            if self.outcomes.remove(op_id).is_some() {
                self.forgotten.insert(op_id.clone());
            }
        }
        let mut stopped = false;
        push.transactions
            .iter()
            .map(|raw| {
                let intent = Intent::parse(raw.get()).expect("clients send well-formed intents");
                if stopped {
                    return outcome(&intent.op_id, OutcomeStatus::NotEvaluated, None, None);
                }
                let result = self.apply(push, &intent, raw.get());
                stopped = result.status == OutcomeStatus::Retry;
                result
            })
            .collect()
    }

    fn apply(&mut self, push: &Push, intent: &Intent, text: &str) -> OutcomeResult {
        if let Some((known, result)) = self.outcomes.get(&intent.op_id) {
            assert_eq!(known, text, "a re-send is byte for byte the same");
            return OutcomeResult { replayed: true, ..result.clone() };
        }
        assert!(!self.forgotten.contains(&intent.op_id), "{} is sent blindly after its outcome was forgotten", intent.op_id);
        if self.busy > 0 {
            self.busy -= 1;
            return outcome(&intent.op_id, OutcomeStatus::Retry, None, None);
        }
        let applied = |op_id| self.outcomes.get(op_id).is_some_and(|(_, result)| result.status == OutcomeStatus::Applied);
        if !intent.after.iter().all(applied) {
            return outcome(&intent.op_id, OutcomeStatus::NotEvaluated, None, Some(ErrorCode::DependencyFailed));
        }
        let result = match self.evaluate(intent) {
            Ok(changes) => outcome(&intent.op_id, OutcomeStatus::Applied, Some(self.append(push, intent, changes)), None),
            Err(code) => outcome(&intent.op_id, OutcomeStatus::Rejected, None, Some(code)),
        };
        self.outcomes.insert(intent.op_id.clone(), (text.to_owned(), result.clone()));
        self.outcome_times.push((self.now, intent.op_id.clone()));
        result
    }

    /// Whether it ever said what became of a write.
    pub(crate) fn has_answered(&self, op_id: &OpId) -> bool {
        self.outcomes.contains_key(op_id) || self.forgotten.contains(op_id)
    }

    fn evaluate(&self, intent: &Intent) -> Result<Vec<(Key, ChangeKind, Option<Row>)>, ErrorCode> {
        let mut rows: BTreeMap<Key, Option<Row>> = BTreeMap::new();
        let mut changes = Vec::new();
        for change in &intent.changes {
            let key = (change.entity.to_string(), change.row_id.to_string());
            let present = rows.get(&key).cloned().unwrap_or_else(|| self.rows.get(&key).map(|(_, row)| row.clone()));
            let data: Row = change.data.as_ref().map(|data| serde_json::from_str(data.get()).unwrap()).unwrap_or_default();
            if data.contains_key(self.refuses) {
                return Err(ErrorCode::PolicyDenied);
            }
            let after = match (&change.kind, present) {
                (ChangeKind::Insert, None) => Some(data),
                (ChangeKind::Insert, Some(_)) => return Err(ErrorCode::RowExists),
                (ChangeKind::Delete, Some(_)) => None,
                (ChangeKind::Update, Some(mut row)) => {
                    row.extend(data);
                    Some(row)
                }
                (_, _) => return Err(ErrorCode::RowNotFound),
            };
            rows.insert(key.clone(), after.clone());
            changes.push((key, change.kind.clone(), after));
        }
        Ok(changes)
    }

    fn append(&mut self, push: &Push, intent: &Intent, changes: Vec<(Key, ChangeKind, Option<Row>)>) -> (u64, u64) {
        let first_seq = self.head + 1;
        let mut logged = Vec::new();
        for ((entity, id), kind, after) in changes {
            self.head += 1;
            logged.push(change(&entity, &id, self.head, kind, after.as_ref()));
            match after {
                Some(row) => self.rows.insert((entity, id), (self.head, row)),
                None => self.rows.remove(&(entity, id)),
            };
        }
        let info = TransactionInfo {
            op_id: intent.op_id.clone(),
            client_id: Some(push.client_id.clone()),
            user_id: None,
            issued_at: intent.issued_at,
            committed_at: Timestamp(0),
            schema: 0,
            first_seq,
            last_seq: self.head,
        };
        self.log.push(Logged { info, changes: logged });
        self.history.insert(self.head, self.rows.clone());
        (first_seq, self.head)
    }

    /// Takes a row out of the reader's sight, as the removal of a membership does.
    pub(crate) fn hide(&mut self, entity: &str, id: &str) {
        self.head += 1;
        let info = TransactionInfo {
            op_id: OpId::parse(format!("{:032x}", self.head)).unwrap(),
            client_id: None,
            user_id: None,
            issued_at: Timestamp(0),
            committed_at: Timestamp(0),
            schema: 0,
            first_seq: self.head,
            last_seq: self.head,
        };
        let leave = change(entity, id, self.head, ChangeKind::Leave, None);
        self.log.push(Logged { info, changes: vec![leave] });
        self.rows.remove(&(entity.to_owned(), id.to_owned()));
        self.history.insert(self.head, self.rows.clone());
    }

    /// Forgets the log up to the present, or to somewhere before it.
    pub(crate) fn truncate(&mut self, back: usize) {
        let keep = self.log.len().saturating_sub(back);
        for logged in self.log.drain(..keep) {
            self.floor = logged.info.last_seq;
        }
    }
}

fn change(entity: &str, id: &str, seq: u64, kind: ChangeKind, row: Option<&Row>) -> Change {
    Change {
        seq,
        entity: syncline_protocol::EntityName::parse(entity).unwrap(),
        row_id: syncline_protocol::RowId::parse(id).unwrap(),
        kind,
        data: row.map(|row| to_raw_value(row).unwrap().into()),
        columns: None,
        column_seqs: None,
        base: None,
    }
}

fn outcome(op_id: &OpId, status: OutcomeStatus, seqs: Option<(u64, u64)>, code: Option<ErrorCode>) -> OutcomeResult {
    OutcomeResult {
        op_id: op_id.clone(),
        status,
        first_seq: seqs.map(|(first, _)| first),
        last_seq: seqs.map(|(_, last)| last),
        replayed: false,
        error: code.map(|code| ErrorDetail::new(code, "as the test wants it")),
    }
}
