//! Who may speak to this server from a browser: the checks of Host, Origin and forwarding headers.
//!
//! `syncline dev` hands out sessions for the asking, so it must be out of reach of every page but the developer's own:
//! a foreign page in the same browser (Origin), a name that was rebound to this address (Host), the network (a proxy).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use syncline_protocol::ErrorCode;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::api_error::ApiError;
use crate::app::App;

/// Which hosts and origins are answered.
#[derive(Debug, Clone)]
pub(crate) struct OriginPolicy {
    /// Whether only loopback names are answered, and all of them.
    loopback_only: bool,
    listed: BTreeSet<String>,
    /// The origins that were refused and logged; clones share them.
    refused: Arc<Mutex<BTreeSet<String>>>,
}

impl OriginPolicy {
    /// The rule of `syncline dev`: loopback, and what the command line adds.
    pub(crate) fn loopback(listed: impl IntoIterator<Item = String>) -> Self {
        Self { loopback_only: true, listed: normalised(listed), refused: Arc::default() }
    }

    /// The rule of `syncline serve`: the list of the manifest and the command line.
    pub(crate) fn listed(listed: impl IntoIterator<Item = String>) -> Self {
        Self { loopback_only: false, listed: normalised(listed), refused: Arc::default() }
    }

    /// Whether a page of this origin may talk to the server.
    pub(crate) fn admits(&self, origin: &str) -> bool {
        self.listed.contains(origin) || (self.loopback_only && is_loopback_origin(origin))
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.loopback_only {
            check_direct(headers)?;
            check_host(headers)?;
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or("(unreadable)");
        if self.admits(origin) {
            return Ok(());
        }
        let shown: String = origin.chars().take(ORIGIN_CHARS_SHOWN).collect();
        let remedy = self.remedy(&shown);
        self.log_once(&shown, &remedy);
        Err(ApiError::new(ErrorCode::OriginRefused, format!("pages of {shown} may not use this server")).with_hint(remedy))
    }

    /// What somebody who wants the page to be admitted has to do.
    fn remedy(&self, origin: &str) -> String {
        if !is_origin(origin) {
            return "such a page has no origin that could be admitted: serve it over http or https, not from a file or a sandboxed frame"
                .to_owned();
        }
        if self.loopback_only {
            return format!("to admit them, start `syncline dev` with --allow-origin {origin}");
        }
        format!(
            "to admit them, add {origin:?} to `allowed_origins` in the [server] table of the manifest, or start `syncline serve` with --allow-origin {origin}"
        )
    }

    /// Logs an origin the first time only: a page that is refused tries again and again, and so may a thousand readers of it.
    fn log_once(&self, origin: &str, remedy: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REFUSED_ORIGINS_MAX || !refused.insert(origin.to_owned()) {
            return;
        }
        tracing::warn!("refused pages of {origin:?}; {remedy}");
        if refused.len() == REFUSED_ORIGINS_MAX {
            tracing::warn!("{REFUSED_ORIGINS_MAX} origins were refused; further ones are refused without a line");
        }
    }
}

/// Refuses what [`OriginPolicy`] does not admit, before anything else looks at the request.
pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, ApiError> {
    app.origins.check(request.headers())?;
    Ok(next.run(request).await)
}

/// Lets admitted pages of other origins read the answers. No credentials: the server knows no cookies.
pub(crate) fn cors(policy: OriginPolicy) -> CorsLayer {
    let admits = move |origin: &HeaderValue, _: &_| origin.to_str().is_ok_and(|origin| policy.admits(origin));
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(admits))
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, IDEMPOTENCY_KEY])
        .expose_headers([header::RETRY_AFTER])
        .max_age(PREFLIGHT_AGE)
}

/// Makes a REST write repeatable; its value is an op_id.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Origins whose refusal is logged; who sends made-up ones must fill neither the log nor the memory.
const REFUSED_ORIGINS_MAX: usize = 100;
/// How much of an origin is shown; names of hosts are shorter.
const ORIGIN_CHARS_SHOWN: usize = 300;

/// What Chromium caps it at; without it a browser asks again after five seconds.
const PREFLIGHT_AGE: Duration = Duration::from_hours(2);

/// Whether `host`, with or without a port, names this machine.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_is_number = port.is_none_or(|port| port.parse::<u16>().is_ok());
    port_is_number && (name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]")
}

fn is_loopback_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_loopback_host)
}

fn check_direct(headers: &HeaderMap) -> Result<(), ApiError> {
    let forwarded = headers.keys().find(|name| *name == header::FORWARDED || name.as_str().starts_with("x-forwarded-"));
    let Some(name) = forwarded else { return Ok(()) };
    let message = format!("`syncline dev` does not answer behind a proxy: the request carries {name}");
    Err(ApiError::new(ErrorCode::HostRefused, message).with_hint("use `syncline serve` for anything that others can reach"))
}

fn check_host(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_loopback_host(host) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::HostRefused, format!("`syncline dev` does not answer to the host {host:.200}"))
        .with_hint("use localhost, 127.0.0.1 or [::1]; `syncline serve` answers to other names"))
}

/// Brings an origin into the form browsers send: no path, lower case.
fn normalised(origins: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    origins.into_iter().map(|origin| origin.trim().trim_end_matches('/').to_ascii_lowercase()).collect()
}

/// Whether `text` has the form of an origin: scheme, host, maybe a port, nothing else.
pub(crate) fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.trim_end_matches('/').parse::<Uri>() else { return false };
    let scheme_known = matches!(uri.scheme_str(), Some("http" | "https"));
    scheme_known && uri.authority().is_some_and(|authority| !authority.as_str().contains('@')) && matches!(uri.path(), "" | "/")
}

/// The origin of an address that may have a path; `None` when it has none.
pub(crate) fn origin_of(url: &str) -> Option<String> {
    let uri = url.parse::<Uri>().ok()?;
    let origin = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    is_origin(&origin).then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "localhost:4321", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:4321"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in
            ["", "example.com", "localhost.example.com", "127.0.0.1.nip.io:80", "localhost:x", "::1", "[::1]x:1", "0.0.0.0"]
        {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn an_origin_is_admitted_by_loopback_or_by_list() {
        let dev = OriginPolicy::loopback(["https://App.example/".to_owned()]);
        for origin in ["http://localhost:5173", "https://127.0.0.1", "https://app.example"] {
            assert!(dev.admits(origin), "{origin}");
        }
        for origin in ["null", "http://evil.example", "http://localhost@evil.example", "file://", "https://app.example:8443"] {
            assert!(!dev.admits(origin), "{origin}");
        }
        assert!(!OriginPolicy::listed(["https://app.example".to_owned()]).admits("http://localhost"));
    }

    #[test]
    fn a_configured_origin_has_scheme_and_host_only() {
        for good in ["https://app.example", "http://localhost:5173", "https://app.example/"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in ["*", "app.example", "https://app.example/path", "ftp://app.example", "https://a@b"] {
            assert!(!is_origin(bad), "{bad}");
        }
        assert_eq!(origin_of("https://app.example/sync/").as_deref(), Some("https://app.example"));
        assert_eq!(origin_of("app.example/sync"), None);
    }
}
