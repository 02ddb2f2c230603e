//! Files of a web application beside the API, for the demo and for small installations.

use std::path::Path;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tower_http::services::ServeDir;

use crate::http::not_found;

/// Serves a folder. Every answer is revalidated, so that a new version of the application is seen at once.
pub(super) fn service(directory: &Path, cross_origin_isolated: bool, connect: &[String]) -> Router {
    let files = ServeDir::new(directory)
        .call_fallback_on_method_not_allowed(true)
        .fallback(axum::handler::HandlerWithoutStateExt::into_service(not_found));
    let connect = connect.join(" ");
    Router::new().fallback_service(files).layer(middleware::from_fn(move |request: Request, next: Next| {
        let policy = content_security_policy(request.headers(), &connect);
        async move {
            let mut response = next.run(request).await;
            secure(&mut response, policy, cross_origin_isolated);
            response
        }
    }))
}

fn secure(response: &mut Response, policy: HeaderValue, cross_origin_isolated: bool) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if cross_origin_isolated {
        headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
        headers.insert(HeaderName::from_static("cross-origin-embedder-policy"), HeaderValue::from_static("require-corp"));
    }
}

/// `'self'` covers the WebSocket of the same host in current browsers; older ones need it named.
fn content_security_policy(headers: &HeaderMap, connect: &str) -> HeaderValue {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).filter(|host| is_plain_host(host));
    let sockets = host.map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    let policy = format!(
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'{sockets} {connect}; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'self'"))
}

/// Whether a host can stand in a policy without ending the directive it stands in.
fn is_plain_host(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
}
