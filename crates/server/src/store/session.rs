//! Who holds which token. Tokens are stored as SHA-256 only.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use syncline_core::server::Schema;
use syncline_protocol::{ErrorCode, Timestamp};
use tokio::sync::broadcast;

use crate::store::log::unsigned;
use crate::store::member_lookup::may_be_in;
use crate::store::{Reader, StoreError};

/// How a session came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// For the asking, in `syncline dev`.
    Dev,
    /// A guest's.
    Guest,
    /// Issued with `syncline token`.
    Issued,
    /// Somebody else's: a JWT, of which nothing is stored.
    Signed,
}

impl SessionKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Guest => "guest",
            Self::Issued => "issued",
            Self::Signed => "signed",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Dev, Self::Guest, Self::Issued].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Who a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// Who reads and writes.
    pub reader: Reader,
    /// How it came about.
    pub kind: SessionKind,
    /// When it ends.
    pub expires: Timestamp,
}

/// Why a token is no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The server never issued it.
    #[error("the token is not known")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was ended.
    #[error("the token was revoked")]
    Revoked,
    /// The store could not look.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SessionError {
    /// The stable code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::Unauthenticated,
            Self::Expired | Self::Revoked => ErrorCode::TokenExpired,
            Self::Store(_) => ErrorCode::Internal,
        }
    }
}

/// Something happened to a session that its sockets must notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// It is over.
    Revoked {
        /// SHA-256 of the token.
        token_hash: [u8; 32],
    },
    /// It has another tenant.
    TenantChanged {
        /// SHA-256 of the token.
        token_hash: [u8; 32],
    },
    /// A user is no member of an organisation any more; all sessions of theirs that have selected it lose it.
    MembershipEnded {
        /// Whose.
        user_id: String,
        /// The organisation.
        tenant_id: String,
    },
}

/// Longest user or organisation id, in bytes. They are keys of indexes and parts of log records.
pub(crate) const IDENTITY_BYTES_MAX: usize = 256;

/// Whether a text can be the id of a user or an organisation.
pub(crate) fn is_identity_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= IDENTITY_BYTES_MAX && !text.chars().any(char::is_control)
}

/// SHA-256 of a token: what is stored and compared.
pub(crate) fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A new token of 256 random bits.
pub(crate) fn mint_token() -> Result<String, StoreError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Random(error.to_string()))?;
    Ok(format!("sl_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

const SESSION_FORMAT: i64 = 1;

/// Stores a new session.
pub(crate) fn insert(
    connection: &Connection,
    hash: [u8; 32],
    user_id: &str,
    kind: SessionKind,
    created: Timestamp,
    expires: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO sessions(token_hash, user_id, tenant, kind, created, expires, format) VALUES(?1, ?2, '', ?3, ?4, ?5, ?6)",
        )?
        .execute(params![hash, user_id, kind.as_str(), created.0.cast_signed(), expires.0.cast_signed(), SESSION_FORMAT])?;
    Ok(())
}

/// Ends a session; false when there is none that could end.
pub(crate) fn revoke(connection: &Connection, hash: [u8; 32], now: Timestamp) -> Result<bool, StoreError> {
    let sql = "UPDATE sessions SET revoked = ?2 WHERE token_hash = ?1 AND revoked IS NULL";
    Ok(connection.execute(sql, params![hash, now.0.cast_signed()])? > 0)
}

/// Selects a session's tenant; false when there is no such session.
pub(crate) fn select_tenant(connection: &Connection, hash: [u8; 32], tenant: &str) -> Result<bool, StoreError> {
    let sql = "UPDATE sessions SET tenant = ?2 WHERE token_hash = ?1 AND revoked IS NULL";
    Ok(connection.execute(sql, params![hash, tenant])? > 0)
}

/// Takes an organisation from all sessions of a user.
pub(crate) fn leave_tenant(connection: &Connection, user_id: &str, tenant: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE sessions SET tenant = '' WHERE user_id = ?1 AND tenant = ?2")?
        .execute([user_id, tenant])?;
    Ok(())
}

/// Drops sessions that ended long enough ago for their tokens to be unknown rather than expired.
pub(crate) fn forget(connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
    const KEPT_MS: u64 = 90 * 86_400_000;
    let oldest = now.0.saturating_sub(KEPT_MS).cast_signed();
    connection.execute("DELETE FROM sessions WHERE expires < ?1 OR revoked < ?1", [oldest])?;
    Ok(())
}

/// A session as stored, whether or not it is over.
#[derive(Debug, Clone)]
pub(crate) struct StoredSession {
    session: Session,
    revoked: bool,
}

impl StoredSession {
    /// Reads a session. An organisation its user is no member of is not the session's, whoever put it there.
    pub(crate) fn load(connection: &Connection, schema: &Schema, hash: [u8; 32]) -> Result<Option<Self>, StoreError> {
        let mut statement =
            connection.prepare_cached("SELECT user_id, tenant, kind, expires, revoked FROM sessions WHERE token_hash = ?1")?;
        let found = statement
            .query_row(params![hash], |row| {
                let revoked: Option<i64> = row.get(4)?;
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, unsigned(row, 3)?, revoked))
            })
            .optional()?;
        let Some((user_id, tenant, kind, expires, revoked)) = found else { return Ok(None) };
        let kind = SessionKind::from_name(&kind).ok_or(StoreError::Corrupt { what: "session" })?;
        let mut tenant_id = (!tenant.is_empty()).then_some(tenant);
        if let Some(tenant) = &tenant_id
            && !may_be_in(connection, schema, &user_id, tenant)?
        {
            tenant_id = None;
        }
        let reader = Reader { user_id: Some(user_id), tenant_id, roles: Vec::new() };
        let session = Session { token_hash: hash, reader, kind, expires: Timestamp(expires) };
        Ok(Some(Self { session, revoked: revoked.is_some() }))
    }

    /// The session, if it is not over.
    pub(crate) fn at(self, now: Timestamp) -> Result<Session, SessionError> {
        if self.revoked {
            return Err(SessionError::Revoked);
        }
        if now >= self.session.expires {
            return Err(SessionError::Expired);
        }
        Ok(self.session)
    }
}

/// Sessions looked up lately, and the word that one has changed.
#[derive(Debug)]
pub(crate) struct SessionCache {
    entries: Mutex<HashMap<[u8; 32], (Timestamp, StoredSession)>>,
    events: broadcast::Sender<SessionEvent>,
}

/// Another process may revoke a token too; this is how long that can go unnoticed.
const CACHE_MS: u64 = 2_000;
const CACHE_ENTRIES_MAX: usize = 10_000;

impl SessionCache {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::new(HashMap::new()), events: broadcast::Sender::new(1_024) }
    }

    pub(crate) fn find(&self, hash: [u8; 32], now: Timestamp) -> Option<StoredSession> {
        let entries = self.lock();
        let (read_at, session) = entries.get(&hash)?;
        (now < read_at.plus_ms(CACHE_MS)).then(|| session.clone())
    }

    pub(crate) fn keep(&self, session: StoredSession, now: Timestamp) {
        let mut entries = self.lock();
        if entries.len() >= CACHE_ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(session.session.token_hash, (now, session));
    }

    /// Forgets a session and tells its sockets.
    pub(crate) fn changed(&self, event: SessionEvent) {
        match &event {
            SessionEvent::Revoked { token_hash } | SessionEvent::TenantChanged { token_hash } => {
                self.lock().remove(token_hash);
            }
            SessionEvent::MembershipEnded { user_id, tenant_id } => {
                self.lock().retain(|_, (_, stored)| !stored.session.reader.is(user_id, tenant_id));
            }
        }
        // Nobody listening is no failure.
        let _ = self.events.send(event);
    }

    pub(crate) fn watch(&self) -> broadcast::Receiver<SessionEvent> {
        self.events.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Timestamp, StoredSession)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
