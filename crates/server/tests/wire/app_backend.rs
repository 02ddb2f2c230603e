//! An application's own backend: a real HTTP server that verifies signatures, keeps what it was sent and answers as told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use syncline_core::server::Schema;
use syncline_server::ServerOptions;
use syncline_server::backend::Backend;
use syncline_server::manifest::Manifest;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::test_server::{TestServer, loopback};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a call is answered with; called once for each.
type Answer = Box<dyn Fn(&Call) -> Reply + Send + Sync>;

pub(crate) struct AppBackend {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    answer: Mutex<Answer>,
    calls: watch::Sender<Vec<Call>>,
    /// What [`Reply::Wait`] waits for.
    open: watch::Sender<bool>,
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) body: Value,
}

pub(crate) enum Reply {
    Json(u16, Value),
    Raw(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The answer follows when [`AppBackend::open`] is called.
    Wait(Value),
}

impl AppBackend {
    pub(crate) async fn start(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(loopback(), answer).await
    }

    /// Listens where another one did before.
    pub(crate) async fn start_at(address: SocketAddr, answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, open) = (watch::Sender::new(Vec::new()), watch::Sender::new(false));
        let shared = Arc::new(Shared { answer: Mutex::new(Box::new(answer)), calls, open });
        let state = Arc::clone(&shared);
        let router = Router::new().fallback(move |uri: axum::http::Uri, headers: HeaderMap, body: Bytes| {
            let state = Arc::clone(&state);
            async move { state.take(uri.path(), &headers, &body).await }
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, task }
    }

    /// Answers differently from now on.
    pub(crate) fn answer(&self, answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) {
        *self.shared.answer.lock().unwrap() = Box::new(answer);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.borrow().clone()
    }

    /// Waits until so many calls have come.
    pub(crate) async fn called(&self, count: usize) {
        let mut calls = self.shared.calls.subscribe();
        let reached = calls.wait_for(|calls| calls.len() >= count);
        tokio::time::timeout(crate::socket_client::PATIENCE, reached).await.unwrap().unwrap();
    }

    /// Lets those answer that wait.
    pub(crate) fn open(&self) {
        self.shared.open.send_replace(true);
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }

    /// A server whose manifest may name this backend by `BACKEND`.
    pub(crate) async fn serve(&self, manifest: &str) -> TestServer {
        let manifest = manifest.replace("BACKEND", &format!("http://{}", self.address));
        let Manifest { schema, backend, .. } = Manifest::parse(&format!("[backend]\nsecret_env = \"S\"\n{manifest}")).unwrap();
        let schema = if schema.entities().next().is_none() { Schema::open() } else { schema };
        let loaded = Backend::load(&backend, std::path::Path::new(""), |_| Some(SECRET.to_owned())).unwrap();
        TestServer::start(ServerOptions { backend: loaded.map(Arc::new), ..ServerOptions::dev(loopback()) }, schema).await
    }
}

impl Shared {
    async fn take(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Response {
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        let (id, timestamp) = (text("webhook-id"), text("webhook-timestamp"));
        let seconds: u64 = timestamp.parse().unwrap();
        assert!(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().abs_diff(seconds) < 300);
        let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        let signature = text("webhook-signature");
        mac.verify_slice(&STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap()).unwrap();
        assert_eq!(text("content-type"), "application/json");
        assert!(headers.get("authorization").is_none(), "the user's token is nobody else's business");

        let call = Call { path: path.to_owned(), id, body: serde_json::from_slice(body).unwrap() };
        let reply = self.answer.lock().unwrap()(&call);
        self.calls.send_modify(|calls| calls.push(call));
        match reply {
            Reply::Json(status, body) => (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response(),
            Reply::Raw(status, headers, body) => {
                let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
                for (name, value) in headers {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                response
            }
            Reply::Wait(body) => {
                self.open.subscribe().wait_for(|open| *open).await.unwrap();
                axum::Json(body).into_response()
            }
        }
    }
}
