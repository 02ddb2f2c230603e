//! The manifest: a TOML file that declares entities, fields and policies and configures the server.
//! `docs/server.md` is its reference.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use syncline_core::server::{
    Entity, Field, FieldType, MembershipSpec, Operation, Policies, Policy, PolicyError, Schema, SchemaError, Stamp,
};

use crate::backend::{BackendTable, BackendTables, FunctionTable, HooksTable};
use crate::jwt::AuthTable;
use crate::store::LogRetention;

/// A manifest that was read and checked.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The `[server]` table.
    pub server: ServerTable,
    /// The `[auth]` table.
    pub auth: Option<AuthTable>,
    /// The `[backend]`, `[functions]` and `[hooks]` tables.
    pub backend: BackendTables,
    /// The `[log]` table.
    pub log: LogRetention,
    /// Entities, fields and policies.
    pub schema: Schema,
}

/// The `[server]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTable {
    /// Pages that may call the server: `https://app.example`.
    pub allowed_origins: Vec<String>,
    /// Whether anybody may have a guest's session.
    pub guests: bool,
    /// The address users know the server by; pages of its origin may call it too.
    pub public_url: Option<String>,
    /// Whether a proxy of ours stands in front; the last entry of its `X-Forwarded-For` is then the caller's address.
    pub behind_proxy: bool,
    /// Calls a minute of one session, or of one address without one.
    pub requests_per_minute: Option<NonZeroU32>,
}

/// Why a file is no manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or with keys or values that do not belong there.
    #[error("{0}")]
    Shape(#[from] toml::de::Error),
    /// A type that does not exist.
    #[error("entities.{entity}.fields.{field}: no type {found:?}; there are string, int, float, bool, datetime and json")]
    Type {
        /// Whose field.
        entity: String,
        /// Which.
        field: String,
        /// What stands there.
        found: String,
    },
    /// A stamp that does not exist.
    #[error("entities.{entity}.fields.{field}: no stamp {found:?}; there are user and tenant")]
    Stamp {
        /// Whose field.
        entity: String,
        /// Which.
        field: String,
        /// What stands there.
        found: String,
    },
    /// A default that JSON cannot hold.
    #[error("entities.{entity}.fields.{field}: the default cannot be stored")]
    Default {
        /// Whose field.
        entity: String,
        /// Which.
        field: String,
    },
    /// A policy that does not parse.
    #[error("entities.{entity}.policies.{operation}: {source}")]
    Policy {
        /// Whose policy.
        entity: String,
        /// Which.
        operation: &'static str,
        /// Why.
        source: PolicyError,
    },
    /// A hook on an entity that does not exist.
    #[error("hooks.entities names {0}, which is not declared")]
    Hook(String),
    /// The parts do not fit each other.
    #[error("entities: {0}")]
    Schema(#[from] SchemaError),
}

impl Manifest {
    /// Reads and checks a manifest file.
    ///
    /// # Errors
    /// When it cannot be read, is no manifest, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path).map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Checks a manifest's text.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let file: ManifestFile = toml::from_str(text)?;
        let mut entities = BTreeMap::new();
        for (name, table) in file.entities {
            let entity = entity(&name, table)?;
            entities.insert(name, entity);
        }
        let mut schema = Schema::declared(entities)?;
        if let Some(TenantsTable { entity, tenant_field, user_field }) = file.tenants {
            schema = schema.with_tenants(MembershipSpec { entity, value_field: tenant_field, user_field })?;
        }
        let backend = BackendTables { backend: file.backend, functions: file.functions, hooks: file.hooks };
        let watched = backend.hooks.iter().flat_map(|hooks| hooks.entities.iter().flatten());
        if let Some(unknown) = watched.into_iter().find(|entity| schema.entity(entity).is_none()) {
            return Err(ManifestError::Hook(unknown.clone()));
        }
        Ok(Self { server: file.server, auth: file.auth, backend, log: file.log, schema })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    #[serde(default)]
    server: ServerTable,
    auth: Option<AuthTable>,
    #[serde(default)]
    log: LogRetention,
    tenants: Option<TenantsTable>,
    backend: Option<BackendTable>,
    #[serde(default)]
    functions: BTreeMap<String, FunctionTable>,
    hooks: Option<HooksTable>,
    #[serde(default)]
    entities: BTreeMap<String, EntityTable>,
}

/// The `[tenants]` table: whose rows make a user a member of an organisation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantsTable {
    entity: String,
    tenant_field: String,
    user_field: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntityTable {
    #[serde(default)]
    fields: BTreeMap<String, FieldEntry>,
    #[serde(default)]
    policies: PolicyTable,
}

/// `body = "string"`, or a table with more.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a type, or a table with type, optional, default, unique, index, stamp and nothing else")]
enum FieldEntry {
    Type(String),
    Table(FieldTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldTable {
    r#type: String,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    default: Option<toml::Value>,
    #[serde(default)]
    unique: bool,
    #[serde(default)]
    index: bool,
    stamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyTable {
    read: Option<String>,
    insert: Option<String>,
    update: Option<String>,
    delete: Option<String>,
}

fn entity(name: &str, table: EntityTable) -> Result<Entity, ManifestError> {
    let mut fields = BTreeMap::new();
    for (field_name, entry) in table.fields {
        let field = field(name, &field_name, entry)?;
        fields.insert(field_name, field);
    }
    let policy = |operation: Operation, text: Option<String>| match text {
        None => Ok(Policy::Nobody),
        Some(text) => Policy::parse(&text).map_err(|source| ManifestError::Policy {
            entity: name.to_owned(),
            operation: operation.as_str(),
            source,
        }),
    };
    let policies = Policies {
        read: policy(Operation::Read, table.policies.read)?,
        insert: policy(Operation::Insert, table.policies.insert)?,
        update: policy(Operation::Update, table.policies.update)?,
        delete: policy(Operation::Delete, table.policies.delete)?,
    };
    Ok(Entity { fields, policies })
}

fn field(entity: &str, name: &str, entry: FieldEntry) -> Result<Field, ManifestError> {
    let table = match entry {
        FieldEntry::Type(kind) => {
            FieldTable { r#type: kind, optional: false, default: None, unique: false, index: false, stamp: None }
        }
        FieldEntry::Table(table) => table,
    };
    let Some(kind) = FieldType::from_name(&table.r#type) else {
        return Err(ManifestError::Type { entity: entity.to_owned(), field: name.to_owned(), found: table.r#type });
    };
    let default = match table.default {
        None => None,
        Some(value) => Some(
            serde_json::to_value(value)
                .map_err(|_| ManifestError::Default { entity: entity.to_owned(), field: name.to_owned() })?,
        ),
    };
    let stamp = match table.stamp {
        None => None,
        Some(found) => Some(Stamp::from_name(&found).ok_or_else(|| ManifestError::Stamp {
            entity: entity.to_owned(),
            field: name.to_owned(),
            found,
        })?),
    };
    Ok(Field { kind, optional: table.optional, default, unique: table.unique, index: table.index, stamp })
}
