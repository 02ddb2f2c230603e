//! Tokens that another program signs: JWTs, checked against a secret, a public key or a set of keys.
//!
//! Which signature a key stands for follows from the key, never from the token, so a token cannot choose a weaker one. What
//! a token says about its holder is read from the claims that the manifest names.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use syncline_protocol::Timestamp;

use crate::store::{Reader, Session, SessionError, SessionKind, is_identity_text, token_hash};

/// The `[auth]` table: whose tokens are taken, and what their claims mean.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthTable {
    /// The environment variable that holds the secret of HS256.
    pub secret_env: Option<String>,
    /// A file with a public key in PEM: RS256, ES256 or `EdDSA`, as the key is.
    pub public_key_file: Option<PathBuf>,
    /// A file with a set of keys (JWKS).
    pub jwks_file: Option<PathBuf>,
    /// What `iss` has to be.
    pub issuer: Option<String>,
    /// What `aud` has to contain.
    pub audience: Option<String>,
    /// By how much the clocks may differ, in seconds.
    pub leeway_secs: Option<u32>,
    /// Which claims say who the user is.
    pub claims: ClaimsTable,
}

/// The `[auth.claims]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimsTable {
    /// The user's id.
    pub user: String,
    /// The organisation; none unless it is named.
    pub tenant: Option<String>,
    /// A list of roles, or a text with blanks between them.
    pub roles: String,
}

impl Default for ClaimsTable {
    fn default() -> Self {
        Self { user: "sub".to_owned(), tenant: None, roles: "roles".to_owned() }
    }
}

/// Why tokens cannot be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthTableError {
    /// None or several ways to check a signature.
    #[error("[auth] names one of secret_env, public_key_file and jwks_file")]
    Source,
    /// The variable is not set.
    #[error("[auth] secret_env: there is no environment variable {0}")]
    NoSecret(String),
    /// Short enough to be guessed.
    #[error("[auth] secret_env: the secret has {0} bytes; HS256 needs {SECRET_BYTES_MIN} at least (RFC 7518)")]
    ShortSecret(usize),
    /// A file that cannot be read.
    #[error("[auth] cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file without a key of a known kind.
    #[error("[auth] {0} holds no public key for RS256, ES256 or EdDSA")]
    NoKey(PathBuf),
    /// More than clocks differ by.
    #[error("[auth] leeway_secs is at most {LEEWAY_SECS_MAX}")]
    Leeway,
}

/// Checks tokens.
pub struct JwtVerifier {
    keys: Vec<Key>,
    claims: ClaimsTable,
    leeway_secs: u64,
}

struct Key {
    id: Option<String>,
    decoding: DecodingKey,
    algorithm: Algorithm,
    validation: Validation,
}

const SECRET_BYTES_MIN: usize = 32;
const LEEWAY_SECS_DEFAULT: u32 = 60;
const LEEWAY_SECS_MAX: u32 = 600;

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl JwtVerifier {
    /// Reads the keys that a table names; files are looked for from `folder`, secrets by `variable`.
    ///
    /// # Errors
    /// When the table contradicts itself or a key cannot be read.
    pub fn load(table: &AuthTable, folder: &Path, variable: impl FnOnce(&str) -> Option<String>) -> Result<Self, AuthTableError> {
        let leeway_secs = table.leeway_secs.unwrap_or(LEEWAY_SECS_DEFAULT);
        if leeway_secs > LEEWAY_SECS_MAX {
            return Err(AuthTableError::Leeway);
        }
        let found = match (&table.secret_env, &table.public_key_file, &table.jwks_file) {
            (Some(name), None, None) => vec![secret(name, variable)?],
            (None, Some(path), None) => vec![public_key(&folder.join(path))?],
            (None, None, Some(path)) => key_set(&folder.join(path))?,
            _ => return Err(AuthTableError::Source),
        };
        let keys = found.into_iter().map(|(id, algorithm, key)| {
            let validation = validation(table, algorithm, u64::from(leeway_secs));
            Key { id, decoding: key, algorithm, validation }
        });
        Ok(Self { keys: keys.collect(), claims: table.claims.clone(), leeway_secs: u64::from(leeway_secs) })
    }

    /// Whether a token has the form of a JWT; those of this server have no dots.
    pub(crate) fn is_jwt(token: &str) -> bool {
        token.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Who a token says its holder is.
    pub(crate) fn session(&self, token: &str) -> Result<Session, SessionError> {
        let header = decode_header(token).map_err(|_| SessionError::Unknown)?;
        let may_be =
            |key: &&Key| key.algorithm == header.alg && (key.id.is_none() || header.kid.is_none() || key.id == header.kid);
        let mut refused = SessionError::Unknown;
        for key in self.keys.iter().filter(may_be) {
            match decode::<Map<String, Value>>(token, &key.decoding, &key.validation) {
                Ok(decoded) => return self.read_claims(token, &decoded.claims).ok_or(SessionError::Unknown),
                Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => refused = SessionError::Expired,
                Err(error) => tracing::debug!(%error, "a token was refused"),
            }
        }
        Err(refused)
    }

    fn read_claims(&self, token: &str, claims: &Map<String, Value>) -> Option<Session> {
        let user_id = Some(identity(claims.get(&self.claims.user)?)?);
        let tenant_id = match self.claims.tenant.as_ref().and_then(|name| claims.get(name)) {
            None | Some(Value::Null) => None,
            Some(tenant) => Some(identity(tenant)?),
        };
        let roles = match claims.get(&self.claims.roles) {
            Some(Value::Array(roles)) => roles.iter().filter_map(|role| role.as_str().map(str::to_owned)).collect(),
            Some(Value::String(roles)) => roles.split_whitespace().map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let expires_secs = claims.get("exp").and_then(|exp| exp.as_u64().or_else(|| whole(exp.as_f64()?)))?;
        let expires = Timestamp(expires_secs.saturating_add(self.leeway_secs).saturating_mul(1_000));
        let reader = Reader { user_id, tenant_id, roles };
        Some(Session { token_hash: token_hash(token), reader, kind: SessionKind::Signed, expires })
    }
}

type FoundKey = (Option<String>, Algorithm, DecodingKey);

fn secret(name: &str, variable: impl FnOnce(&str) -> Option<String>) -> Result<FoundKey, AuthTableError> {
    let secret = variable(name).ok_or_else(|| AuthTableError::NoSecret(name.to_owned()))?;
    if secret.len() < SECRET_BYTES_MIN {
        return Err(AuthTableError::ShortSecret(secret.len()));
    }
    Ok((None, Algorithm::HS256, DecodingKey::from_secret(secret.as_bytes())))
}

fn public_key(path: &Path) -> Result<FoundKey, AuthTableError> {
    let pem = read(path)?;
    let kinds = [
        (Algorithm::RS256, DecodingKey::from_rsa_pem(&pem)),
        (Algorithm::ES256, DecodingKey::from_ec_pem(&pem)),
        (Algorithm::EdDSA, DecodingKey::from_ed_pem(&pem)),
    ];
    let found = kinds.into_iter().find_map(|(algorithm, key)| Some((None, algorithm, key.ok()?)));
    found.ok_or_else(|| AuthTableError::NoKey(path.to_owned()))
}

fn key_set(path: &Path) -> Result<Vec<FoundKey>, AuthTableError> {
    let none = || AuthTableError::NoKey(path.to_owned());
    let set: JwkSet = serde_json::from_slice(&read(path)?).map_err(|_| none())?;
    let usable = |jwk: &Jwk| Some((jwk.common.key_id.clone(), algorithm(jwk)?, DecodingKey::from_jwk(jwk).ok()?));
    let keys: Vec<FoundKey> = set.keys.iter().filter_map(usable).collect();
    if keys.is_empty() { Err(none()) } else { Ok(keys) }
}

/// The signature a key of a set stands for. Shared secrets have no place in a set of public keys.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::EllipticCurve(_)
        | AlgorithmParameters::OctetKeyPair(_)
        | AlgorithmParameters::OctetKey(_)
        | AlgorithmParameters::Other(_)
        | _ => return None,
    };
    let said = jwk.common.key_algorithm;
    said.is_none_or(|said| said == algorithm.into()).then_some(algorithm)
}

fn read(path: &Path) -> Result<Vec<u8>, AuthTableError> {
    std::fs::read(path).map_err(|source| AuthTableError::Read { path: path.to_owned(), source })
}

fn validation(table: &AuthTable, algorithm: Algorithm, leeway_secs: u64) -> Validation {
    let mut validation = Validation::new(algorithm);
    let mut required = HashSet::from(["exp".to_owned()]);
    validation.leeway = leeway_secs;
    validation.validate_nbf = true;
    // A token for an audience that nobody named is for somebody else only where an audience is named here.
    validation.validate_aud = table.audience.is_some();
    if let Some(audience) = &table.audience {
        validation.set_audience(&[audience]);
        required.insert("aud".to_owned());
    }
    if let Some(issuer) = &table.issuer {
        validation.set_issuer(&[issuer]);
        required.insert("iss".to_owned());
    }
    validation.required_spec_claims = required;
    validation
}

/// A claim as an id: text, or a whole number as some issuers write it.
fn identity(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    is_identity_text(&text).then_some(text)
}

fn whole(number: f64) -> Option<u64> {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and 2^53 - 1; the fraction may go")]
    let whole = (0.0..=LARGEST).contains(&number).then_some(number as u64);
    whole
}
