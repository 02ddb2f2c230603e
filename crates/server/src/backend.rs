//! The application's own backend: where it is, how it is called, what may come back.
//!
//! A call is one signed POST of JSON. It ends within its timeout, follows no redirect and reads an answer of bounded size;
//! what went wrong is logged here in full and told to others in a sentence without addresses.

mod before_write;
mod signature;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::{Deserialize, Serialize};
use syncline_protocol::{ErrorCode, ErrorDetail};
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub(crate) use crate::backend::before_write::BackendGate;
use crate::backend::before_write::BeforeWrite;
use crate::backend::signature::Secret;
pub use crate::backend::tables::{BackendTable, BackendTableError, BackendTables, FunctionTable, HooksTable};
use crate::http::sync::now;
use crate::store::{Reader, Watched};

/// The backend of one server.
#[derive(Debug)]
pub struct Backend {
    client: HttpClient,
    secret: Secret,
    functions: BTreeMap<String, Endpoint>,
    before_write: Option<BeforeWrite>,
}

/// Who asks, as the backend is told.
#[derive(Debug, Serialize)]
pub(crate) struct SessionView<'a> {
    user_id: Option<&'a str>,
    tenant_id: Option<&'a str>,
    roles: &'a [String],
}

impl<'a> SessionView<'a> {
    pub(crate) fn of(reader: &'a Reader) -> Self {
        Self { user_id: reader.user_id.as_deref(), tenant_id: reader.tenant_id.as_deref(), roles: &reader.roles }
    }
}

/// Where one kind of call goes.
#[derive(Debug)]
pub(crate) struct Endpoint {
    url: Uri,
    timeout: Duration,
    /// Bounds the calls under way: a slow function must not keep writes from being decided.
    calls: Semaphore,
}

/// How long a kind of call may take, when the manifest does not say and at most.
#[derive(Debug, Clone, Copy)]
struct Times {
    usual_ms: u32,
    max_ms: u32,
}

#[derive(Debug)]
enum HttpClient {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// What came of a call that was no success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BackendError {
    /// The backend said no, and why.
    #[error("{code}: {message}")]
    Refused {
        /// The backend's own code.
        code: String,
        /// Its sentence.
        message: String,
    },
    /// It said nothing that could be understood, or nothing at all.
    #[error("the application's backend {0}")]
    Failed(String),
    /// As many calls as may be are under way.
    #[error("too many calls of the application's backend are under way")]
    Busy,
}

impl BackendError {
    /// The error as a client gets it.
    pub(crate) fn into_detail(self) -> ErrorDetail {
        let code = match self {
            Self::Refused { .. } => ErrorCode::BackendRefused,
            Self::Failed(_) => ErrorCode::BackendFailed,
            Self::Busy => ErrorCode::Busy,
        };
        ErrorDetail::new(code, self.to_string())
    }
}

impl Backend {
    /// Reads what a manifest says; `None` when it names nothing to call. The secret's file is looked for from `folder`, its
    /// variable by `variable`.
    ///
    /// # Errors
    /// When the tables contradict themselves, an address is none or the secret cannot be read.
    pub fn load(
        tables: &BackendTables,
        folder: &Path,
        variable: impl FnOnce(&str) -> Option<String>,
    ) -> Result<Option<Self>, BackendTableError> {
        let mut functions = BTreeMap::new();
        for (name, table) in &tables.functions {
            if !is_function_name(name) {
                return Err(BackendTableError::Name(name.clone()));
            }
            let place = format!("functions.{name}");
            let endpoint = Endpoint::new(&format!("{place}.url"), &table.url, &place, table.timeout_ms, FUNCTION_TIMES)?;
            functions.insert(name.clone(), endpoint);
        }
        let before_write = tables.hooks.as_ref().map(before_write).transpose()?;
        if functions.is_empty() && before_write.is_none() && tables.backend.is_none() {
            return Ok(None);
        }
        let secret = secret(tables.backend.as_ref(), folder, variable)?;
        let endpoints = functions.values().chain(before_write.as_ref().map(|hook| &hook.endpoint));
        let uses_tls = endpoints.into_iter().any(|endpoint| endpoint.url.scheme_str() == Some("https"));
        let client = HttpClient::new(uses_tls).map_err(BackendTableError::Certificates)?;
        Ok(Some(Self { client, secret, functions, before_write }))
    }

    /// Where calls of a function go.
    pub(crate) fn function(&self, name: &str) -> Option<&Endpoint> {
        self.functions.get(name)
    }

    /// What decides about writes; `None` when nothing does.
    pub(crate) fn gate(&self) -> Option<BackendGate<'_>> {
        self.before_write.as_ref().map(|hook| BackendGate { backend: self, hook })
    }

    /// Sends a signed message and gives the JSON that came back; `null` for an empty answer. A message that is sent again has
    /// the same `id`.
    pub(crate) async fn call(&self, endpoint: &Endpoint, id: &str, body: String) -> Result<Bytes, BackendError> {
        let Ok(_permit) = endpoint.calls.try_acquire() else { return Err(BackendError::Busy) };
        let answered = match timeout(endpoint.timeout, self.exchange(endpoint, id, body)).await {
            Ok(answered) => answered.and_then(|(status, answer)| understood(status, answer)),
            Err(_) => Err(Failure::plain(format!("did not answer within {} ms", endpoint.timeout.as_millis()))),
        };
        answered.map_err(|failure| {
            if let BackendError::Failed(_) = failure.error {
                tracing::warn!(url = %endpoint.url, id, cause = failure.cause, "{}", failure.error);
            }
            failure.error
        })
    }

    async fn exchange(&self, endpoint: &Endpoint, id: &str, body: String) -> Result<(StatusCode, Bytes), Failure> {
        let timestamp = now().0 / 1_000;
        let request = Request::post(endpoint.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("syncline/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.secret.sign(id, timestamp, &body))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::of("could not be called", &error))?;
        let response = self.client.request(request).await.map_err(|error| Failure::of("could not be reached", &error))?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            let too_large = error.downcast_ref::<LengthLimitError>().is_some();
            let what = if too_large { "answered with too many bytes" } else { "broke off its answer" };
            Failure::of(what, error.as_ref())
        })?;
        Ok((status, answer.to_bytes()))
    }
}

/// An error with what only the log may say.
#[derive(Debug)]
struct Failure {
    error: BackendError,
    cause: String,
}

impl Failure {
    fn plain(what: impl Into<String>) -> Self {
        Self { error: BackendError::Failed(what.into()), cause: String::new() }
    }

    fn of(what: &str, cause: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(cause), |cause| cause.source());
        let cause = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Self { error: BackendError::Failed(what.to_owned()), cause }
    }
}

impl Endpoint {
    fn new(key: &str, url: &str, table: &str, timeout_ms: Option<u32>, times: Times) -> Result<Self, BackendTableError> {
        let failed = || BackendTableError::Url { place: key.to_owned(), url: url.to_owned() };
        let parsed: Uri = url.parse().map_err(|_| failed())?;
        let known = matches!(parsed.scheme_str(), Some("http" | "https"));
        if !known || parsed.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(failed());
        }
        let timeout_ms = timeout_ms.unwrap_or(times.usual_ms);
        if !(1..=times.max_ms).contains(&timeout_ms) {
            return Err(BackendTableError::Timeout { place: format!("{table}.timeout_ms"), max: times.max_ms });
        }
        let timeout = Duration::from_millis(u64::from(timeout_ms));
        Ok(Self { url: parsed, timeout, calls: Semaphore::new(CALLS_MAX) })
    }
}

impl HttpClient {
    fn new(uses_tls: bool) -> std::io::Result<Self> {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        if !uses_tls {
            return Ok(Self::Plain(builder.build_http()));
        }
        let connector = HttpsConnectorBuilder::new().with_native_roots()?.https_or_http().enable_http1().build();
        Ok(Self::Tls(builder.build(connector)))
    }

    async fn request(&self, request: Request<Full<Bytes>>) -> Result<hyper::Response<Incoming>, ClientError> {
        match self {
            Self::Plain(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
        }
    }
}

fn before_write(table: &HooksTable) -> Result<BeforeWrite, BackendTableError> {
    let endpoint = Endpoint::new("hooks.before_write", &table.before_write, "hooks", table.timeout_ms, HOOK_TIMES)?;
    let watched = match &table.entities {
        None => Watched::Everything,
        Some(entities) => Watched::Entities(Arc::new(entities.clone())),
    };
    Ok(BeforeWrite { endpoint, watched })
}

fn secret(
    table: Option<&BackendTable>,
    folder: &Path,
    variable: impl FnOnce(&str) -> Option<String>,
) -> Result<Secret, BackendTableError> {
    let text = match table.map(|table| (&table.secret_env, &table.secret_file)) {
        Some((Some(name), None)) => variable(name).ok_or_else(|| BackendTableError::NoVariable(name.clone()))?,
        Some((None, Some(path))) => {
            let path = folder.join(path);
            std::fs::read_to_string(&path).map_err(|source| BackendTableError::Read { path, source })?
        }
        _ => return Err(BackendTableError::Source),
    };
    Secret::parse(&text).ok_or(BackendTableError::Secret)
}

fn is_function_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(known) && !name.starts_with('.')
}

/// What a backend says when it refuses: the shape of this server's own errors.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalDetail,
}

#[derive(Deserialize)]
struct RefusalDetail {
    code: String,
    message: String,
}

fn understood(status: StatusCode, answer: Bytes) -> Result<Bytes, Failure> {
    if status.is_redirection() {
        return Err(Failure::plain(format!("answered {}; redirects are not followed", status.as_u16())));
    }
    if status.is_client_error()
        && let Ok(Refusal { error: RefusalDetail { code, message } }) = serde_json::from_slice(&answer)
        && let Some(error) = refused(code, &message)
    {
        return Err(Failure { error, cause: String::new() });
    }
    if !status.is_success() {
        return Err(Failure::plain(format!("answered {} without saying why", status.as_u16())));
    }
    if answer.is_empty() {
        return Ok(Bytes::from_static(b"null"));
    }
    match serde_json::from_slice::<&serde_json::value::RawValue>(&answer) {
        Ok(_) => Ok(answer),
        Err(error) => Err(Failure::of("answered with something that is no JSON", &error)),
    }
}

/// A refusal with the backend's own code; `None` when that is no code.
pub(crate) fn refused(code: String, message: &str) -> Option<BackendError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_code = (1..=64).contains(&code.len()) && code.bytes().all(known);
    is_code.then(|| BackendError::Refused { code, message: message.chars().take(MESSAGE_CHARS_MAX).collect() })
}

/// Largest answer of a backend, in bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Longest sentence of a refusal, in characters; it is stored with the outcome.
const MESSAGE_CHARS_MAX: usize = 1_000;
/// Calls of one kind under way at once; each holds a connection.
const CALLS_MAX: usize = 256;
/// How long a function may take. Proxies in front of this server give up after a minute.
const FUNCTION_TIMES: Times = Times { usual_ms: 10_000, max_ms: 60_000 };
/// How long a decision may take. A client takes a server that is silent for thirty seconds for gone, and one push may ask more
/// than once.
const HOOK_TIMES: Times = Times { usual_ms: 5_000, max_ms: 10_000 };
/// Node closes connections that were idle for five seconds; one that is just being closed must not be used.
const IDLE: Duration = Duration::from_secs(4);
