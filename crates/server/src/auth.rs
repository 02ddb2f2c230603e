//! Who calls: bearer tokens, sessions and the identity a client states.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use syncline_protocol::{ErrorCode, Identity, Timestamp, limits};

use crate::api_error::ApiError;
use crate::app::{App, CallerKey};
use crate::jwt::JwtVerifier;
use crate::store::{Reader, Session};

/// The session behind a request, or the anonymous user.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    identity: Identity,
    session: Option<(String, Session)>,
}

impl Caller {
    /// Looks a token up. No token is the anonymous user; one that is no session is an error.
    pub(crate) async fn of_token(app: &App, token: Option<String>) -> Result<Self, ApiError> {
        let Some(token) = token else { return Ok(Self { identity: Identity::default(), session: None }) };
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(ApiError::new(ErrorCode::TokenTooLong, format!("a token has at most {} bytes", limits::TOKEN_BYTES_MAX)));
        }
        let session = match &app.jwt {
            Some(verifier) if JwtVerifier::is_jwt(&token) => member_session(app, verifier.session(&token)?).await?,
            Some(_) | None => app.store.session(&token).await?,
        };
        Ok(Self::of_session(token, session))
    }

    /// Who holds a token that was looked up.
    pub(crate) fn of_session(token: String, session: Session) -> Self {
        let Reader { user_id, tenant_id, .. } = session.reader.clone();
        Self { identity: Identity { user_id, tenant_id }, session: Some((token, session)) }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn tenant_id(&self) -> Option<&str> {
        self.identity.tenant_id.as_deref()
    }

    /// The token and its session; `None` for the anonymous user.
    pub(crate) fn session(&self) -> Option<(&str, &Session)> {
        self.session.as_ref().map(|(token, session)| (token.as_str(), session))
    }

    pub(crate) fn token_hash(&self) -> Option<[u8; 32]> {
        self.session.as_ref().map(|(_, session)| session.token_hash)
    }

    pub(crate) fn expires(&self) -> Option<Timestamp> {
        self.session.as_ref().map(|(_, session)| session.expires)
    }

    pub(crate) fn reader(&self) -> Reader {
        self.session.as_ref().map_or_else(Reader::default, |(_, session)| session.reader.clone())
    }

    /// Compares what the client believes with what is so; its word is never taken for it.
    pub(crate) fn assert_identity(&self, claimed: &Identity) -> Result<(), ApiError> {
        if *claimed == self.identity {
            return Ok(());
        }
        let message = format!("the session is {}, the client states {}", described(&self.identity), described(claimed));
        Err(ApiError::new(ErrorCode::IdentityChanged, message).with_hint("ask /api/auth/me who the session is"))
    }
}

/// Nothing of such a session is stored, so the store has not looked whether its user is a member.
async fn member_session(app: &App, mut session: Session) -> Result<Session, ApiError> {
    if let Reader { user_id: Some(user), tenant_id: Some(tenant), .. } = &session.reader
        && app.store.schema().tenants().is_some()
        && !app.store.may_be_in(user, tenant).await?
    {
        session.reader.tenant_id = None;
    }
    Ok(session)
}

fn described(identity: &Identity) -> String {
    let Identity { user_id, tenant_id } = identity;
    let user = user_id.as_ref().map_or_else(|| "anonymous".to_owned(), |user| format!("user {user:?}"));
    tenant_id.as_ref().map_or_else(|| user.clone(), |tenant| format!("{user} in tenant {tenant:?}"))
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let address = ClientAddress::of(parts, app);
        let caller = match bearer_token(&parts.headers) {
            Ok(token) => Self::of_token(app, token).await,
            Err(error) => Err(error),
        };
        // A token that is no session counts for its address, else every wrong token would have an allowance of its own.
        let key = caller.as_ref().ok().and_then(Self::token_hash).map_or(CallerKey::Address(address.0), CallerKey::Session);
        app.count_call(key)?;
        caller
    }
}

/// Reads `Authorization: Bearer <token>`.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    match token {
        Some(token) if !token.is_empty() => Ok(Some(token)),
        _ => Err(ApiError::unauthenticated("the Authorization header is not `Bearer <token>`")),
    }
}

/// Where a request comes from, as far as limits are concerned: an IPv4 address, or the first half of an IPv6 one, because
/// one subscriber has all of the second half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// The other end of the connection; put into every request by the listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

impl ClientAddress {
    fn of(parts: &Parts, app: &App) -> Self {
        let peer = parts.extensions.get::<PeerAddress>().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0.ip());
        let forwarded = if app.behind_proxy { forwarded_for(&parts.headers) } else { None };
        Self(network(forwarded.unwrap_or(peer)))
    }
}

impl FromRequestParts<Arc<App>> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts, app))
    }
}

/// The last entry is the one our own proxy added; those before it are the caller's word.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}
