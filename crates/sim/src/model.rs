//! The server as a naive model: rules written out by hand, every past state kept whole, views computed from scratch.
//!
//! It shares no code with what it checks.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;
use syncline_protocol::{ChangeKind, Identity, Intent, OutcomeResult, OutcomeStatus, Row};

/// The manifest of the simulated application.
pub(crate) const MANIFEST: &str = r#"
[tenants]
entity = "members"
tenant_field = "org_id"
user_field = "user_id"

[entities.members]
fields = { org_id = "string", user_id = "string" }
policies = { read = "user_id = user", insert = "signed-in", update = "signed-in", delete = "signed-in" }

[entities.Todo]
fields = { title = "string", slug = { type = "string", optional = true, unique = true }, link = { type = "string", optional = true }, done = { type = "bool", optional = true }, count = { type = "int", optional = true } }
policies = { read = "signed-in", insert = "signed-in", update = "signed-in", delete = "signed-in" }

[entities.Seat]
fields = { channel = "string", who = "string" }
policies = { read = "signed-in", insert = "signed-in", update = "signed-in", delete = "signed-in" }

[entities.Message]
fields = { channel = "string", text = "string", author = { type = "string", stamp = "user" } }
[entities.Message.policies]
read = "channel in Seat where who = user"
insert = "channel in Seat where who = user"
update = "channel in Seat where who = user"
delete = "author = user"

[entities.Secret]
fields = { text = "string", owner = { type = "string", stamp = "user" } }
policies = { read = "owner = user", insert = "owner = user", update = "owner = user", delete = "owner = user" }
"#;

/// What clients show.
pub(crate) const ENTITIES: [&str; 5] = ["members", "Message", "Seat", "Secret", "Todo"];

/// An entity and a row's id.
pub(crate) type Key = (String, String);
/// Rows as an application sees them.
pub(crate) type View = BTreeMap<Key, Row>;
type Tables = BTreeMap<Key, Rc<Row>>;

/// One organisation's rows at every end of a transaction.
#[derive(Debug, Clone)]
struct Tenant {
    head: u64,
    now: Tables,
    deleted: BTreeSet<Key>,
    history: BTreeMap<u64, Rc<Tables>>,
}

impl Default for Tenant {
    fn default() -> Self {
        let history = [(0, Rc::new(Tables::new()))].into();
        Self { head: 0, now: Tables::new(), deleted: BTreeSet::new(), history }
    }
}

/// What became of a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Whether it was applied.
    pub(crate) applied: bool,
    /// The code of its rejection.
    pub(crate) code: Option<String>,
    /// Last seq of its range.
    pub(crate) last_seq: u64,
    /// Who sent it.
    pub(crate) user: Option<String>,
    text: String,
    /// The server does not know it any more.
    forgotten: bool,
}

/// A server's life: from a start or a restored backup to the next restored backup.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life {
    tenants: BTreeMap<String, Tenant>,
    outcomes: BTreeMap<(String, String), Outcome>,
    /// How often each write had an effect.
    effects: BTreeMap<(String, String), u32>,
    /// The highest fence that pushed for each replica.
    fences: BTreeMap<String, u64>,
    /// For each replica and row, the issue number of the last write that was applied.
    pub(crate) order: BTreeMap<(String, Key), u64>,
    views: BTreeMap<(String, u64, Option<String>), Rc<View>>,
}

/// Who pushed.
#[derive(Debug, Clone)]
pub(crate) struct Pusher {
    /// User and tenant of the session.
    pub(crate) identity: Identity,
    /// Replica and user.
    pub(crate) replica: String,
    /// Number of the leader.
    pub(crate) fence: u64,
}

fn tenant_of(identity: &Identity) -> String {
    identity.tenant_id.clone().unwrap_or_default()
}

impl Life {
    /// Last seq of a tenant.
    pub(crate) fn head(&self, tenant: &str) -> u64 {
        self.tenants.get(tenant).map_or(0, |tenant| tenant.head)
    }

    /// What became of a write.
    pub(crate) fn outcome(&self, tenant: &str, op_id: &str) -> Option<&Outcome> {
        self.outcomes.get(&(tenant.to_owned(), op_id.to_owned()))
    }

    /// Rows that an identity sees at a seq; `None` when no transaction ends there.
    pub(crate) fn view(&mut self, identity: &Identity, seq: u64) -> Option<Rc<View>> {
        let key = (tenant_of(identity), seq, identity.user_id.clone());
        if let Some(view) = self.views.get(&key) {
            return Some(Rc::clone(view));
        }
        let empty = Tenant::default();
        let tables = self.tenants.get(&key.0).unwrap_or(&empty).history.get(&seq)?;
        let user = identity.user_id.as_deref();
        let seen = tables.iter().filter(|((entity, _), row)| may_read(tables, user, entity, row));
        let view: Rc<View> = Rc::new(seen.map(|(key, row)| (key.clone(), Row::clone(row))).collect());
        self.views.insert(key, Rc::clone(&view));
        Some(view)
    }

    /// So much time passes that the server forgets what became of writes, and ids that were deleted.
    pub(crate) fn forget(&mut self) {
        self.outcomes.values_mut().for_each(|outcome| outcome.forgotten = true);
        self.effects.clear();
        self.tenants.values_mut().for_each(|tenant| tenant.deleted.clear());
    }

    /// Ids that exist or did, for writes that will collide.
    pub(crate) fn rows(&self, tenant: &str) -> Vec<Key> {
        self.tenants.get(tenant).map(|tenant| tenant.now.keys().cloned().collect()).unwrap_or_default()
    }

    /// Follows one push and compares what the server said with what the rules say.
    pub(crate) fn pushed(&mut self, pusher: &Pusher, intents: &[&str], results: &[OutcomeResult]) {
        let highest = self.fences.entry(pusher.replica.clone()).or_default();
        assert!(pusher.fence >= *highest, "I12: a push with fence {} was looked at after one with {highest}", pusher.fence);
        *highest = pusher.fence;
        assert_eq!(intents.len(), results.len(), "one result for each transaction");
        for (text, result) in intents.iter().zip(results) {
            if !matches!(result.status, OutcomeStatus::Retry | OutcomeStatus::NotEvaluated) {
                self.decided(pusher, text, result);
            }
        }
    }

    fn decided(&mut self, pusher: &Pusher, text: &str, result: &OutcomeResult) {
        let tenant = tenant_of(&pusher.identity);
        let op_id = result.op_id.to_string();
        let id = (tenant.clone(), op_id.clone());
        let code = result.error.as_ref().map(|error| error.code.as_str());
        let applied = result.status == OutcomeStatus::Applied;
        let known = self.outcomes.get(&id);
        let is_same = known.is_some_and(|known| known.text == text && known.user == pusher.identity.user_id);
        if let Some(known) = known.filter(|known| !known.forgotten || is_same) {
            if !is_same {
                assert_eq!(
                    code,
                    Some("OP_ID_REUSED"),
                    "I3: {op_id} was used for another transaction and the server did not say so"
                );
                return;
            }
            assert!(result.replayed, "I3: {op_id} was decided twice");
            assert_eq!((known.applied, known.code.as_deref()), (applied, code), "I3: a replay of {op_id} got another answer");
            assert_eq!(known.last_seq, result.last_seq.unwrap_or(0), "I3: a replay of {op_id} got another place");
            return;
        }
        assert!(!result.replayed, "{op_id} is answered as a replay and was never seen");
        let intent = Intent::parse(text).expect("what the server decided about is an intent");
        let user = pusher.identity.user_id.as_deref();
        for needed in &intent.after {
            let outcome = self.outcomes.get(&(tenant.clone(), needed.to_string()));
            let applied = outcome.is_some_and(|outcome| outcome.applied && outcome.user == pusher.identity.user_id);
            assert!(applied, "I9: {op_id} was decided and {needed}, which it depends on, did not apply");
        }
        let decided = self.tenants.entry(tenant.clone()).or_default().evaluate(&tenant, user, &intent);
        let outcome = match decided {
            Ok(changes) => {
                assert!(applied, "the server refuses {op_id} with {code:?}, the rules allow it: {text}");
                let effects = self.effects.entry(id.clone()).or_default();
                *effects += 1;
                assert_eq!(*effects, 1, "I3: {op_id} had an effect more than once");
                let first = self.tenants.entry(tenant).or_default().append(changes);
                let last_seq = result.last_seq.expect("an applied transaction has a place");
                assert_eq!(
                    result.first_seq.map(|seq| (seq, last_seq)),
                    Some((first, first + intent.changes.len() as u64 - 1)),
                    "seqs have no gaps"
                );
                Outcome {
                    applied,
                    code: None,
                    last_seq,
                    user: pusher.identity.user_id.clone(),
                    text: text.to_owned(),
                    forgotten: false,
                }
            }
            Err(reason) => {
                assert!(!applied, "I8: the server applied {op_id} against the rules ({reason}): {text}");
                assert_eq!(code, Some(reason), "the server refuses {op_id} for another reason: {text}");
                let code = code.map(str::to_owned);
                Outcome {
                    applied,
                    code,
                    last_seq: 0,
                    user: pusher.identity.user_id.clone(),
                    text: text.to_owned(),
                    forgotten: false,
                }
            }
        };
        self.outcomes.insert(id, outcome);
    }

    /// A transaction of somebody who writes past the clients.
    pub(crate) fn written(&mut self, tenant: &str, user: &str, text: &str, result: &OutcomeResult) {
        let tenant_id = (!tenant.is_empty()).then(|| tenant.to_owned());
        let identity = Identity { user_id: Some(user.to_owned()), tenant_id };
        self.decided(&Pusher { identity, replica: String::new(), fence: 0 }, text, result);
    }
}

impl Tenant {
    fn evaluate(&self, tenant: &str, user: Option<&str>, intent: &Intent) -> Result<Vec<(Key, Option<Row>)>, &'static str> {
        let mut tables = self.now.clone();
        let mut deleted = self.deleted.clone();
        let mut done = Vec::new();
        for change in &intent.changes {
            let key = (change.entity.to_string(), change.row_id.to_string());
            let data: Row =
                change.data.as_ref().map(|data| serde_json::from_str(data.get()).expect("rows are JSON")).unwrap_or_default();
            let after = evaluate_change(&tables, &deleted, tenant, user, &key, &change.kind, data)?;
            change_row(&mut tables, &mut deleted, &key, after.clone());
            done.push((key, after));
        }
        Ok(done)
    }

    fn append(&mut self, changes: Vec<(Key, Option<Row>)>) -> u64 {
        let first = self.head + 1;
        for (key, after) in changes {
            self.head += 1;
            change_row(&mut self.now, &mut self.deleted, &key, after);
        }
        self.history.insert(self.head, Rc::new(self.now.clone()));
        first
    }
}

fn change_row(tables: &mut Tables, deleted: &mut BTreeSet<Key>, key: &Key, after: Option<Row>) {
    if let Some(row) = after {
        tables.insert(key.clone(), Rc::new(row));
    } else {
        tables.remove(key);
        deleted.insert(key.clone());
    }
}

fn evaluate_change(
    tables: &Tables,
    deleted: &BTreeSet<Key>,
    tenant: &str,
    user: Option<&str>,
    key: &Key,
    kind: &ChangeKind,
    data: Row,
) -> Result<Option<Row>, &'static str> {
    let entity = key.0.as_str();
    if !ENTITIES.contains(&entity) {
        return Err("ENTITY_NOT_FOUND");
    }
    if entity == "members" && !tenant.is_empty() {
        return Err("POLICY_DENIED");
    }
    if *kind == ChangeKind::Insert {
        let row = inserted(entity, user, data)?;
        let allowed = match entity {
            "Message" => has_seat(tables, user, &row),
            "Secret" => is(&row, "owner", user),
            _ => user.is_some(),
        };
        if !allowed {
            return Err("POLICY_DENIED");
        }
        if tables.contains_key(key) || deleted.contains(key) {
            return Err("ROW_EXISTS");
        }
        return unique(tables, key, &row).map(|()| Some(row));
    }
    let before = tables.get(key).filter(|row| may_read(tables, user, entity, row)).ok_or("ROW_NOT_FOUND")?;
    if *kind == ChangeKind::Delete {
        let allowed = if entity == "Message" { is(before, "author", user) } else { user.is_some() };
        return if allowed { Ok(None) } else { Err("POLICY_DENIED") };
    }
    let mut row = Row::clone(before);
    for (name, value) in data {
        if !fields(entity).contains(&name.as_str()) {
            return Err("UNKNOWN_FIELD");
        }
        if ["author", "owner"].contains(&name.as_str()) && row.get(&name) != Some(&value) {
            return Err("POLICY_DENIED");
        }
        row.insert(name, value);
    }
    if entity == "Message" && !has_seat(tables, user, &row) {
        return Err("POLICY_DENIED");
    }
    unique(tables, key, &row).map(|()| Some(row))
}

fn fields(entity: &str) -> &'static [&'static str] {
    match entity {
        "members" => &["org_id", "user_id"],
        "Todo" => &["count", "done", "link", "slug", "title"],
        "Seat" => &["channel", "who"],
        "Message" => &["author", "channel", "text"],
        _ => &["owner", "text"],
    }
}

fn inserted(entity: &str, user: Option<&str>, mut row: Row) -> Result<Row, &'static str> {
    if row.keys().any(|name| !fields(entity).contains(&name.as_str())) {
        return Err("UNKNOWN_FIELD");
    }
    let stamped = match entity {
        "Message" => Some("author"),
        "Secret" => Some("owner"),
        _ => None,
    };
    if let (Some(name), Some(user)) = (stamped, user) {
        row.insert(name.to_owned(), Value::from(user));
    }
    if entity == "Todo" {
        for optional in ["count", "done", "link", "slug"] {
            row.entry(optional).or_insert(Value::Null);
        }
    }
    Ok(row)
}

fn is(row: &Row, field: &str, user: Option<&str>) -> bool {
    user.is_some() && row.get(field).and_then(Value::as_str) == user
}

fn has_seat(tables: &Tables, user: Option<&str>, row: &Row) -> bool {
    let seats = tables.iter().filter(|((entity, _), _)| entity == "Seat");
    seats.into_iter().any(|(_, seat)| is(seat, "who", user) && seat.get("channel") == row.get("channel"))
}

fn may_read(tables: &Tables, user: Option<&str>, entity: &str, row: &Row) -> bool {
    match entity {
        "Message" => has_seat(tables, user, row),
        "Secret" => is(row, "owner", user),
        "members" => is(row, "user_id", user),
        _ => user.is_some(),
    }
}

fn unique(tables: &Tables, key: &Key, row: &Row) -> Result<(), &'static str> {
    let slug = row.get("slug").filter(|slug| !slug.is_null());
    let taken = |other: &Key, theirs: &Rc<Row>| other.0 == "Todo" && other != key && theirs.get("slug") == slug;
    if key.0 == "Todo" && slug.is_some() && tables.iter().any(|(other, theirs)| taken(other, theirs)) {
        return Err("UNIQUE_VIOLATION");
    }
    Ok(())
}

/// The rule of the overlay, in its plainest form: what an application sees of these writes over these rows.
pub(crate) fn fold(view: &mut View, mutations: &[Value]) {
    for mutation in mutations.iter().filter(|mutation| mutation["status"] != "failed") {
        for change in mutation["changes"].as_array().into_iter().flatten() {
            let text = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
            let key = (text("entity"), text("row_id"));
            let data = change["data"].as_object().cloned().unwrap_or_default();
            match change["kind"].as_str() {
                Some("insert") => drop(view.insert(key, data)),
                Some("update") => {
                    if let Some(row) = view.get_mut(&key) {
                        row.extend(data);
                    }
                }
                _ => drop(view.remove(&key)),
            }
        }
    }
}
