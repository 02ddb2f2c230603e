//! Which entities, fields and policies there are.

use alloc::borrow::ToOwned as _;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;
use syncline_protocol::EntityName;

use crate::server::{MembershipSpec, Policy, Stamp};

/// What a server accepts and shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// The declared entities by name; `None` for an open schema: any entity, any JSON row, readable and writable by
    /// everybody within the tenant. For development only.
    entities: Option<BTreeMap<String, Entity>>,
    specs: BTreeSet<MembershipSpec>,
    fingerprint: String,
    /// Which rows make a user a member of an organisation; `None` declares no organisations.
    tenants: Option<MembershipSpec>,
}

/// One kind of row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entity {
    /// Its fields by name.
    pub fields: BTreeMap<String, Field>,
    /// Who may do what with its rows.
    pub policies: Policies,
}

/// One field.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What it holds.
    pub kind: FieldType,
    /// Whether it may be null.
    pub optional: bool,
    /// What it holds when an insert does not say.
    pub default: Option<Value>,
    /// Whether two rows of one tenant may not hold the same value. Null is not compared.
    pub unique: bool,
    /// Whether the store keeps an index of it.
    pub index: bool,
    /// What the server writes into it when a row is inserted; nobody else writes it then.
    pub stamp: Option<Stamp>,
}

/// What a field holds; `docs/values.md` has the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// Text.
    String,
    /// An integer up to 2^53 - 1.
    Int,
    /// A number.
    Float,
    /// True or false.
    Bool,
    /// A moment: `2026-11-21T10:00:00.000Z`.
    Datetime,
    /// Any JSON.
    Json,
}

impl FieldType {
    /// The name in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Datetime => "datetime",
            Self::Json => "json",
        }
    }

    /// Reads the name in a manifest.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::String, Self::Int, Self::Float, Self::Bool, Self::Datetime, Self::Json]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    /// See a row.
    pub read: Policy,
    /// Make a row; evaluated on what would be stored.
    pub insert: Policy,
    /// Change a row; evaluated on what is stored and on what would be.
    pub update: Policy,
    /// Remove a row; evaluated on what is stored.
    pub delete: Policy,
}

impl Policies {
    /// The same for everything.
    pub fn all(policy: &Policy) -> Self {
        Self { read: policy.clone(), insert: policy.clone(), update: policy.clone(), delete: policy.clone() }
    }

    /// The policy for one operation.
    pub const fn of(&self, operation: Operation) -> &Policy {
        match operation {
            Operation::Read => &self.read,
            Operation::Insert => &self.insert,
            Operation::Update => &self.update,
            Operation::Delete => &self.delete,
        }
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self::all(&Policy::Nobody)
    }
}

/// What a policy is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// See a row.
    Read,
    /// Make a row.
    Insert,
    /// Change a row.
    Update,
    /// Remove a row.
    Delete,
}

impl Operation {
    /// The name in a manifest and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Why entities are no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// A name that cannot stand in a policy or an index.
    #[error("{0:?} is no name for an entity: letters, digits and _, not starting with a digit or __, at most 64, not id")]
    Name(String),
    /// A name that no row may have.
    #[error("{entity} cannot have a field {field:?}: {reason}")]
    FieldName {
        /// Whose field.
        entity: String,
        /// Which.
        field: String,
        /// Why not.
        reason: &'static str,
    },
    /// A default that the field could not hold.
    #[error("the default of {entity}.{field} is not of its type")]
    Default {
        /// Whose field.
        entity: String,
        /// Which.
        field: String,
    },
    /// A field that holds any JSON has no order and no equality.
    #[error("{entity}.{field} is json and can have neither index nor unique")]
    JsonIndex {
        /// Whose field.
        entity: String,
        /// Which.
        field: String,
    },
    /// A field that cannot hold what the server is to write into it.
    #[error("{entity}.{field} has a stamp, so it is a string without a default")]
    Stamp {
        /// Whose field.
        entity: String,
        /// Which.
        field: String,
    },
    /// The membership of organisations names what is not declared.
    #[error("[tenants] names {0}, which is not declared")]
    Tenants(String),
    /// A policy that names what is not declared.
    #[error("the {operation} policy of {entity} names {name}, which is not declared")]
    Undeclared {
        /// Whose policy.
        entity: String,
        /// Which.
        operation: &'static str,
        /// What is missing.
        name: String,
    },
}

impl Schema {
    /// Any entity, any JSON row, everything readable and writable by everybody. For development.
    pub fn open() -> Self {
        Self { entities: None, specs: BTreeSet::new(), fingerprint: "open".to_owned(), tenants: None }
    }

    /// Checks declared entities.
    ///
    /// # Errors
    /// When a name is malformed, a default is not of its field's type, or a policy names something undeclared.
    pub fn declared(entities: BTreeMap<String, Entity>) -> Result<Self, SchemaError> {
        let mut specs = BTreeSet::new();
        for (name, entity) in &entities {
            check_name(name)?;
            check_fields(name, entity)?;
            for operation in [Operation::Read, Operation::Insert, Operation::Update, Operation::Delete] {
                check_policy(&entities, name, entity, operation)?;
            }
            entity.policies.read.visit_fields(&mut |_, spec| specs.extend(spec.cloned()));
        }
        let policies: Vec<String> = entities.iter().map(|(name, entity)| format!("{name}:{:?}", entity.policies.read)).collect();
        let fingerprint = policies.join(";");
        Ok(Self { entities: Some(entities), specs, fingerprint, tenants: None })
    }

    /// Says which rows make a user a member of an organisation. Those rows live outside of all organisations.
    ///
    /// # Errors
    /// When the entity or a field of it is not declared.
    pub fn with_tenants(self, membership: MembershipSpec) -> Result<Self, SchemaError> {
        let Some(entity) = self.entity(&membership.entity) else { return Err(SchemaError::Tenants(membership.entity)) };
        for field in [&membership.value_field, &membership.user_field] {
            if !has_field(entity, field) {
                return Err(SchemaError::Tenants(format!("{}.{field}", membership.entity)));
            }
        }
        Ok(Self { tenants: Some(membership), ..self })
    }

    /// Which rows make a user a member of an organisation; `None` when there are none to be a member of.
    pub const fn tenants(&self) -> Option<&MembershipSpec> {
        self.tenants.as_ref()
    }

    /// Whether any entity and any row will do.
    pub const fn is_open(&self) -> bool {
        self.entities.is_none()
    }

    /// The declared entities; none in an open schema.
    pub fn entities(&self) -> impl Iterator<Item = (&str, &Entity)> {
        self.entities.iter().flatten().map(|(name, entity)| (name.as_str(), entity))
    }

    /// One declared entity.
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.as_ref()?.get(name)
    }

    /// Whether rows of this entity can be stored.
    pub fn has_entity(&self, name: &str) -> bool {
        self.is_open() || self.entity(name).is_some()
    }

    /// The policy for an operation on an entity; nobody may do anything with what is not declared.
    pub fn policy(&self, entity: &str, operation: Operation) -> &Policy {
        match &self.entities {
            None => &Policy::Public,
            Some(entities) => entities.get(entity).map_or(&Policy::Nobody, |entity| entity.policies.of(operation)),
        }
    }

    /// The memberships that read policies look up: a row of one of these changes what its user may see.
    pub const fn read_specs(&self) -> &BTreeSet<MembershipSpec> {
        &self.specs
    }

    /// The entities and fields whose visibility hangs on a membership.
    pub fn dependents<'a>(&'a self, spec: &MembershipSpec) -> Vec<(&'a str, &'a str)> {
        let mut found = BTreeSet::new();
        for (name, entity) in self.entities() {
            entity.policies.read.visit_fields(&mut |field, used| {
                if used == Some(spec) {
                    found.insert((name, field));
                }
            });
        }
        found.into_iter().collect()
    }

    /// The fields of an entity that decide who sees what: those its read policy names and, if its rows are memberships,
    /// those that make them so. The log keeps them of every before-image.
    pub fn visibility_fields<'a>(&'a self, entity: &str) -> BTreeSet<&'a str> {
        let mut fields = BTreeSet::new();
        if let Some(declared) = self.entity(entity) {
            declared.policies.read.visit_fields(&mut |field, _| {
                fields.insert(field);
            });
        }
        for spec in self.specs.iter().filter(|spec| spec.entity == entity) {
            fields.insert(spec.value_field.as_str());
            fields.insert(spec.user_field.as_str());
        }
        fields.remove("id");
        fields
    }

    /// A text that differs when the read policies differ.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn check_name(name: &str) -> Result<(), SchemaError> {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let start = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && !name.starts_with("__");
    if !letters || !start || name.len() > 64 || name == "id" || matches!(name, "constructor" | "prototype") {
        return Err(SchemaError::Name(name.to_owned()));
    }
    Ok(())
}

/// A field may be called whatever a row's key may be: the names of real data have blanks, dots and quotes.
fn check_field_name(entity: &str, field: &str) -> Result<(), SchemaError> {
    let reason = match field {
        "id" => "id is the row's id, which every row has",
        "constructor" | "prototype" | "__proto__" => "the name means something else to JavaScript",
        _ if EntityName::check_field(field).is_ok() => return Ok(()),
        _ => "a name has 1 to 128 bytes and no control characters, and does not start with $ or __, which are reserved",
    };
    Err(SchemaError::FieldName { entity: entity.to_owned(), field: field.to_owned(), reason })
}

fn check_fields(entity_name: &str, entity: &Entity) -> Result<(), SchemaError> {
    for (name, field) in &entity.fields {
        check_field_name(entity_name, name)?;
        let place = || (entity_name.to_owned(), name.clone());
        if field.kind == FieldType::Json && (field.unique || field.index) {
            let (entity, field) = place();
            return Err(SchemaError::JsonIndex { entity, field });
        }
        if field.stamp.is_some() && (field.kind != FieldType::String || field.default.is_some()) {
            let (entity, field) = place();
            return Err(SchemaError::Stamp { entity, field });
        }
        if field.default.as_ref().is_some_and(|default| crate::server::apply::typed(name, field, default).is_err()) {
            let (entity, field) = place();
            return Err(SchemaError::Default { entity, field });
        }
    }
    Ok(())
}

fn has_field(entity: &Entity, field: &str) -> bool {
    field == "id" || entity.fields.contains_key(field)
}

fn check_policy(
    entities: &BTreeMap<String, Entity>,
    name: &str,
    entity: &Entity,
    operation: Operation,
) -> Result<(), SchemaError> {
    let mut missing = None;
    entity.policies.of(operation).visit_fields(&mut |field, spec| {
        if !has_field(entity, field) {
            missing = Some(format!("{name}.{field}"));
        }
        let Some(spec) = spec else { return };
        match entities.get(&spec.entity) {
            None => missing = Some(spec.entity.clone()),
            Some(source) => {
                for field in [&spec.value_field, &spec.user_field] {
                    if !has_field(source, field) {
                        missing = Some(format!("{}.{field}", spec.entity));
                    }
                }
            }
        }
    });
    match missing {
        None => Ok(()),
        Some(missing) => Err(SchemaError::Undeclared { entity: name.to_owned(), operation: operation.as_str(), name: missing }),
    }
}
