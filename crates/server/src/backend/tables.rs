//! The tables of the manifest that name the application's backend. `docs/server.md` is their reference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

/// Everything a manifest says about the backend.
#[derive(Debug, Clone, Default)]
pub struct BackendTables {
    /// The `[backend]` table.
    pub backend: Option<BackendTable>,
    /// The `[functions.NAME]` tables.
    pub functions: BTreeMap<String, FunctionTable>,
    /// The `[hooks]` table.
    pub hooks: Option<HooksTable>,
}

/// The `[backend]` table: what calls are signed with.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackendTable {
    /// The environment variable that holds the secret.
    pub secret_env: Option<String>,
    /// The file that holds it.
    pub secret_file: Option<PathBuf>,
}

/// A `[functions.NAME]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionTable {
    /// Where calls go.
    pub url: String,
    /// How long an answer may take.
    pub timeout_ms: Option<u32>,
}

/// The `[hooks]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HooksTable {
    /// Where a transaction is sent to be decided.
    pub before_write: String,
    /// Only those that change one of these entities; all without it.
    pub entities: Option<BTreeSet<String>>,
    /// How long a decision may take.
    pub timeout_ms: Option<u32>,
}

/// Why the backend cannot be called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendTableError {
    /// None or two places for the secret.
    #[error(
        "[backend] names one of secret_env and secret_file: what it holds signs the calls of [functions] and [hooks], so that the backend knows them"
    )]
    Source,
    /// The variable is not set.
    #[error("[backend] secret_env: there is no environment variable {0}")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("[backend] cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Too short, or not base64.
    #[error("[backend] the secret is `whsec_` and base64 of 24 to 64 bytes; `openssl rand -base64 32` makes one")]
    Secret,
    /// A name that a caller could not write.
    #[error("functions.{0:?}: a name has 1 to 64 letters, digits and the signs . _ -")]
    Name(String),
    /// An address that cannot be called.
    #[error("{place}: {url:?} is no address like https://app.example/path")]
    Url {
        /// Which key.
        place: String,
        /// What stands there.
        url: String,
    },
    /// A time that is none, or too long to wait for.
    #[error("{place}: a timeout has 1 to {max} milliseconds")]
    Timeout {
        /// Which key.
        place: String,
        /// The longest.
        max: u32,
    },
    /// The system has no certificates to check an https address with.
    #[error("no certificates to check https addresses with: {0}")]
    Certificates(std::io::Error),
}
