//! Fields that the server writes itself: who made a row, and for which organisation. `docs/server.md` has the rules.

use alloc::borrow::ToOwned as _;

use serde_json::Value;
use syncline_protocol::Row;

use crate::server::{Entity, FieldError};

/// What the server writes into a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// The id of the user who inserts the row.
    User,
    /// The organisation it is inserted in.
    Tenant,
}

impl Stamp {
    /// Reads the name in a manifest.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "user" => Some(Self::User),
            "tenant" => Some(Self::Tenant),
            _ => None,
        }
    }
}

/// What the session of a writer says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamper<'a> {
    /// The user; `None` for anonymous.
    pub user: Option<&'a str>,
    /// The selected organisation.
    pub tenant: Option<&'a str>,
}

impl Stamper<'_> {
    /// Fills the stamped fields of a row that is inserted. Leaving one out and null are the same.
    ///
    /// # Errors
    /// When the row claims somebody else's user or organisation.
    pub fn stamp(&self, entity: &Entity, row: &mut Row) -> Result<(), FieldError> {
        for (name, stamp) in stamps(entity) {
            let own = match stamp {
                Stamp::User => self.user,
                Stamp::Tenant => self.tenant,
            };
            let claimed = row.get(name).filter(|value| !value.is_null());
            if claimed.is_some_and(|claimed| claimed.as_str().is_none_or(|claimed| Some(claimed) != own)) {
                return Err(FieldError::Stamped { field: name.to_owned() });
            }
            if let Some(own) = own {
                row.insert(name.to_owned(), Value::from(own));
            }
        }
        Ok(())
    }
}

/// Checks that an update leaves the stamped fields as they are.
///
/// # Errors
/// When it changes one.
pub fn check_stamps(entity: &Entity, before: &Row, after: &Row) -> Result<(), FieldError> {
    let value = |row: &Row, name: &str| row.get(name).cloned().unwrap_or_default();
    match stamps(entity).find(|(name, _)| value(before, name) != value(after, name)) {
        None => Ok(()),
        Some((name, _)) => Err(FieldError::Stamped { field: name.to_owned() }),
    }
}

fn stamps(entity: &Entity) -> impl Iterator<Item = (&str, Stamp)> {
    entity.fields.iter().filter_map(|(name, field)| Some((name.as_str(), field.stamp?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::{Field, FieldType};

    fn row(value: Value) -> Row {
        let Value::Object(row) = value else { panic!("{value} is no row") };
        row
    }

    fn entity() -> Entity {
        let field = |stamp| Field { kind: FieldType::String, optional: true, default: None, unique: false, index: false, stamp };
        let fields = [("author", Some(Stamp::User)), ("org", Some(Stamp::Tenant)), ("title", None)];
        let fields = fields.into_iter().map(|(name, stamp)| (name.to_owned(), field(stamp)));
        Entity { fields: fields.collect(), ..Entity::default() }
    }

    #[test]
    fn a_row_gets_its_writers_marks_and_may_claim_no_others() {
        let writer = Stamper { user: Some("alice"), tenant: Some("acme") };
        let own = json!({"author": "alice", "org": "acme", "title": "t"});
        let same =
            [json!({"title": "t"}), json!({"title": "t", "author": null}), json!({"title": "t", "org": "acme"}), own.clone()];
        for data in same {
            let mut data = row(data);
            writer.stamp(&entity(), &mut data).unwrap();
            assert_eq!(Value::Object(data), own);
        }
        for data in [json!({"author": "bob"}), json!({"org": "other"}), json!({"author": 7}), json!({"org": ["acme"]})] {
            assert!(matches!(writer.stamp(&entity(), &mut row(data)), Err(FieldError::Stamped { .. })));
        }
        let nobody = Stamper::default();
        let mut data = row(json!({"title": "t"}));
        nobody.stamp(&entity(), &mut data).unwrap();
        assert_eq!(Value::Object(data), json!({"title": "t"}), "nobody leaves no mark");
        assert!(nobody.stamp(&entity(), &mut row(json!({"author": "alice"}))).is_err());
    }

    #[test]
    fn a_mark_stays() {
        let before = row(json!({"author": "alice", "title": "t"}));
        let check = |after| check_stamps(&entity(), &before, &row(after));
        assert!(check(json!({"author": "alice", "title": "u"})).is_ok());
        assert!(check(json!({"author": "alice", "org": null})).is_ok());
        for after in [json!({"author": "bob"}), json!({"author": null}), json!({}), json!({"author": "alice", "org": "acme"})] {
            assert!(check(after).is_err());
        }
    }
}
