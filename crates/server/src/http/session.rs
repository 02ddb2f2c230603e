//! The auth routes: sessions, guests and the choice of an organisation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use syncline_protocol::ErrorCode;

use crate::api_error::ApiError;
use crate::app::{App, CallerKey, Mode};
use crate::auth::{Caller, ClientAddress};
use crate::http::body::{Body, parse_body};
use crate::random;
use crate::store::{IDENTITY_BYTES_MAX, Session, SessionKind, StoreError, is_identity_text};

/// How long a session lasts that nobody set a length for.
pub(crate) const SESSION_AGE: Duration = Duration::from_hours(30 * 24);

#[derive(Deserialize)]
struct SessionRequest {
    user_id: Option<String>,
}

/// `POST /api/auth/session`
pub(super) async fn create(
    State(app): State<Arc<App>>,
    ClientAddress(address): ClientAddress,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    app.count_call(CallerKey::Address(address))?;
    if app.mode == Mode::Serve {
        return Err(ApiError::new(ErrorCode::Forbidden, "this server gives no sessions for the asking")
            .with_hint("`syncline token` issues one; `syncline dev` gives them for the asking"));
    }
    let request: SessionRequest = parse_body(&body)?;
    let Some(user_id) = request.user_id.filter(|user_id| !user_id.is_empty()) else {
        return Err(ApiError::new(ErrorCode::MissingUserId, "the body names no user_id"));
    };
    check_id("user_id", &user_id)?;
    let token = app.store.create_session(&user_id, SessionKind::Dev, SESSION_AGE).await?;
    Ok((StatusCode::CREATED, Json(json!({"token": token, "user_id": user_id}))))
}

/// `POST /api/auth/guest`
pub(super) async fn guest(
    State(app): State<Arc<App>>,
    ClientAddress(address): ClientAddress,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    app.count_call(CallerKey::Address(address))?;
    if !app.guests {
        return Err(ApiError::new(ErrorCode::Forbidden, "this server has no guests")
            .with_hint("`guests = true` in [server] of the manifest"));
    }
    let user_id = format!("guest_{}", random::op_id()?);
    let token = app.store.create_session(&user_id, SessionKind::Guest, SESSION_AGE).await?;
    Ok((StatusCode::CREATED, Json(json!({"token": token, "user_id": user_id, "guest": true}))))
}

/// `GET /api/auth/me`
pub(super) async fn me(caller: Caller) -> Json<Value> {
    let identity = caller.identity();
    Json(json!({"user_id": identity.user_id, "tenant_id": identity.tenant_id, "is_admin": false, "roles": caller.reader().roles}))
}

/// `DELETE /api/auth/session`
pub(super) async fn revoke(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    let (token, session) = caller.session().ok_or_else(signed_out)?;
    refuse_signed(session, "end it where it was issued")?;
    let revoked = app.store.revoke_session(token).await?;
    Ok(Json(json!({"revoked": revoked})))
}

/// `POST /api/auth/select-org`
pub(super) async fn select_org(State(app): State<Arc<App>>, caller: Caller, body: Body) -> Result<Json<Value>, ApiError> {
    let (token, session) = caller.session().ok_or_else(signed_out)?;
    refuse_signed(session, "its issuer says which organisation it is for")?;
    // Absent is a mistake, null selects none; a derived reader would not tell them apart.
    let request: BTreeMap<String, Value> = parse_body(&body)?;
    let org_id = match request.get("orgId") {
        Some(Value::Null) => None,
        Some(Value::String(org_id)) => Some(org_id.clone()),
        Some(_) | None => {
            return Err(ApiError::new(ErrorCode::MissingOrgId, "the body names no orgId").with_hint("null selects none"));
        }
    };
    if let Some(org_id) = &org_id {
        check_id("orgId", org_id)?;
        check_membership(&app, session, org_id).await?;
    }
    match app.store.select_tenant(token, org_id.as_deref()).await {
        Ok(()) => Ok(Json(json!({"tenantId": org_id}))),
        Err(StoreError::NoSession) => Err(signed_out()),
        Err(error) => Err(error.into()),
    }
}

async fn check_membership(app: &App, session: &Session, org_id: &str) -> Result<(), ApiError> {
    if app.store.schema().tenants().is_none() {
        if app.mode == Mode::Dev {
            return Ok(());
        }
        let message = format!("nobody is a member of {org_id:?}: the manifest declares no organisations");
        return Err(ApiError::new(ErrorCode::NotAMember, message).with_hint("[tenants] of the manifest names their memberships"));
    }
    let user_id = session.reader.user_id.as_deref().unwrap_or_default();
    if app.store.may_be_in(user_id, org_id).await? {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::NotAMember, format!("{user_id:?} is no member of {org_id:?}")))
}

fn signed_out() -> ApiError {
    ApiError::unauthenticated("this call needs the token of a session")
}

/// Nothing about somebody else's token is stored here, so nothing can be changed.
fn refuse_signed(session: &Session, hint: &str) -> Result<(), ApiError> {
    if session.kind != SessionKind::Signed {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::Forbidden, "this token was not issued by this server").with_hint(hint))
}

fn check_id(name: &str, id: &str) -> Result<(), ApiError> {
    if !is_identity_text(id) {
        let message = format!("{name} has 1 to {IDENTITY_BYTES_MAX} bytes and no control characters");
        return Err(ApiError::new(ErrorCode::InvalidValue, message));
    }
    Ok(())
}
