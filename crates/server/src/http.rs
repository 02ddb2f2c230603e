//! The routes of the server. What each does is in `docs/protocol.md`; what the rules are is decided behind the store.

pub(crate) mod body;
mod entities;
mod functions;
mod pylon;
mod session;
mod static_files;
pub(crate) mod sync;

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::routing::{any, get, post};
use axum::{Json, Router, middleware};
use serde_json::{Value, json};
use syncline_protocol::{ErrorCode, limits};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::api_error::ApiError;
use crate::app::{App, Mode};
use crate::{origin, socket};

/// Files beside the API.
#[derive(Debug, Clone, Default)]
pub struct StaticFiles {
    /// Their folder; `None` serves no files.
    pub directory: Option<PathBuf>,
    /// Whether pages are cross-origin isolated, which measuring with precise clocks needs.
    pub cross_origin_isolated: bool,
    /// Origins beside this server's that pages may call, in the form `http://127.0.0.1:5000`.
    pub connect: Vec<String>,
}

/// Builds all routes with what stands in front of them.
pub(crate) fn router(app: Arc<App>, files: StaticFiles) -> Router {
    let api = Router::new()
        .route("/health", get(health))
        .route("/api/sync/hello", post(sync::hello))
        .route("/api/sync/pull", get(sync::pull))
        .route("/api/sync/push", post(sync::push))
        .route("/api/sync/ws", get(socket::upgrade))
        .route("/api/auth/session", post(session::create).delete(session::revoke))
        .route("/api/auth/guest", post(session::guest))
        .route("/api/auth/me", get(session::me))
        .route("/api/auth/select-org", post(session::select_org))
        .route("/api/entities/{entity}", get(entities::list).post(entities::insert))
        .route("/api/entities/{entity}/{id}", get(entities::get).patch(entities::update).delete(entities::delete))
        .route("/api/query/{entity}", post(entities::query))
        .route("/api/fn/{name}", post(functions::call))
        .route("/api/{*rest}", any(not_found))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(limits::BODY_BYTES_MAX))
        .layer(no_store())
        .with_state(app.clone());
    let routes = match files.directory {
        Some(directory) => api.fallback_service(static_files::service(&directory, files.cross_origin_isolated, &files.connect)),
        None => api.fallback(not_found),
    };
    let nosniff = SetResponseHeaderLayer::overriding(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let guarded = compressed(routes, app.mode).layer(origin::cors(app.origins.clone())).layer(nosniff);
    guarded.layer(middleware::from_fn_with_state(app, origin::guard))
}

/// On loopback compressing costs more than it saves.
fn compressed(routes: Router, mode: Mode) -> Router {
    match mode {
        Mode::Dev => routes,
        Mode::Serve => routes.layer(CompressionLayer::new().quality(CompressionLevel::Fastest)),
    }
}

/// Answers are somebody's data; no cache on the way keeps them.
fn no_store() -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(HeaderName::from_static("cache-control"), HeaderValue::from_static("no-store"))
}

async fn health(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION"), "uptime_secs": app.started.elapsed().as_secs()}))
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no {:.200}", uri.path())).with_hint("docs/protocol.md lists the routes")
}

async fn method_not_allowed(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, format!("{:.200} does not take this method", uri.path()))
}
