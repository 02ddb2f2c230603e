//! What a server decides: policies, visibility, how an intent changes a row.
//!
//! All of it is pure: rows, the user and the user's memberships are arguments. Specified in `docs/server.md` (schema and
//! policies) and `docs/values.md` (typed fields).

mod apply;
mod datetime;
mod membership;
mod policy;
mod schema;
mod schema_change;
mod stamp;

pub use apply::{FieldError, insert_image, update_image};
pub use datetime::normalise_datetime;
pub use membership::{MembershipCounts, Memberships, value_key};
pub use policy::{MembershipSpec, Policy, PolicyError};
pub use schema::{Entity, Field, FieldType, Operation, Policies, Schema, SchemaError};
pub use schema_change::{SchemaChange, StoredRows};
pub use stamp::{Stamp, Stamper, check_stamps};
