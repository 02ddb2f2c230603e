//! GET requests with the bearer token.

use js_sys::Promise;
use syncline_core::client::Input;
use syncline_protocol::{ErrorBody, Identity, limits};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, Response};

use crate::global::{object, to_u64};

#[wasm_bindgen]
extern "C" {
    // The global function: a page's and a worker's are different interfaces to `web-sys`, and Node has neither.
    #[wasm_bindgen(catch, js_name = fetch)]
    fn global_fetch(url: &str, init: &js_sys::Object) -> Result<Promise, JsValue>;
}

/// What an HTTP server said, whoever it was.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) retry_after_ms: Option<u64>,
}

/// Fetches a URL. Redirects are followed, and the page of HTML they may lead to is an answer like any other: the core
/// judges status and body.
///
/// # Errors
/// What was thrown: there was no answer, or `signal` was aborted.
pub(crate) async fn get(url: &str, token: Option<&str>, signal: &AbortSignal) -> Result<Answer, JsValue> {
    let headers = object(&[]);
    if let Some(token) = token {
        js_sys::Reflect::set(&headers, &"Authorization".into(), &["Bearer ", token].concat().into())?;
    }
    // No cookies: a session is its token, and nothing else.
    let init =
        object(&[("headers", &headers), ("signal", signal), ("credentials", &"omit".into()), ("cache", &"no-store".into())]);
    let response: Response = JsFuture::from(global_fetch(url, &init)?).await?.unchecked_into();
    // Bytes are copied once; a text would be decoded to UTF-16 first and encoded again, for pages of up to 4 MiB.
    let bytes = js_sys::Uint8Array::new(&JsFuture::from(response.array_buffer()?).await?).to_vec();
    let body = String::from_utf8(bytes).unwrap_or_default();
    let retry_after = response.headers().get("retry-after").ok().flatten();
    Ok(Answer { status: response.status(), body, retry_after_ms: retry_after.as_deref().and_then(retry_after_ms) })
}

/// What `GET /api/auth/me` means for the core.
pub(crate) fn identity_input(answer: Result<Answer, JsValue>) -> Input {
    let Ok(answer) = answer else {
        return Input::IdentityUnavailable { status: None, code: None, retry_after_ms: None };
    };
    if answer.status == 200
        && let Ok(identity) = Identity::parse(&answer.body)
    {
        return Input::IdentityResolved(identity);
    }
    let code = ErrorBody::parse(&answer.body).ok().map(|body| body.error.code);
    Input::IdentityUnavailable { status: Some(answer.status), code, retry_after_ms: answer.retry_after_ms }
}

/// The header holds seconds, or a date (RFC 9110 §10.2.3).
fn retry_after_ms(header: &str) -> Option<u64> {
    let wait_ms = header
        .parse::<u64>()
        .map_or_else(|_| to_u64(js_sys::Date::parse(header) - js_sys::Date::now()), |seconds| seconds.saturating_mul(1_000));
    (wait_ms > 0).then(|| wait_ms.min(limits::RETRY_AFTER_MS_MAX))
}
