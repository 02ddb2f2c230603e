//! What a user is a member of, and the values that memberships are about.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeMap;
use alloc::string::String;

use serde_json::Value;
use syncline_protocol::canonical_json;

use crate::server::MembershipSpec;

/// Answers whether a user is a member of a value.
pub trait Memberships {
    /// Whether one of the membership entity's rows makes `user` a member of the value with this [`value_key`].
    fn contains(&self, spec: &MembershipSpec, user: &str, key: &str) -> bool;
}

/// Names a value in a membership: its canonical JSON. Null, lists and objects are equal to nothing and have no key.
pub fn value_key(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(canonical_json(value)),
    }
}

/// The memberships of one user, counted, since two rows may say the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembershipCounts {
    user: String,
    counts: BTreeMap<MembershipSpec, BTreeMap<String, u32>>,
}

impl MembershipCounts {
    /// No memberships yet, of `user`.
    pub fn new(user: &str) -> Self {
        Self { user: user.to_owned(), counts: BTreeMap::new() }
    }

    /// Counts one row; true when it is the first for this value.
    pub fn add(&mut self, spec: &MembershipSpec, key: &str) -> bool {
        if !self.counts.contains_key(spec) {
            self.counts.insert(spec.clone(), BTreeMap::new());
        }
        let Some(values) = self.counts.get_mut(spec) else { return false };
        let count = values.entry(key.to_owned()).or_default();
        *count += 1;
        *count == 1
    }

    /// Takes one row back; true when it was the last for this value.
    pub fn remove(&mut self, spec: &MembershipSpec, key: &str) -> bool {
        let Some(values) = self.counts.get_mut(spec) else { return false };
        let Some(count) = values.get_mut(key) else { return false };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return false;
        }
        values.remove(key);
        true
    }
}

impl Memberships for MembershipCounts {
    fn contains(&self, spec: &MembershipSpec, user: &str, key: &str) -> bool {
        user == self.user && self.counts.get(spec).is_some_and(|values| values.contains_key(key))
    }
}
