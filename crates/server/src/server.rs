//! The listener: accepts connections, bounds what a connection may cost before it is understood, and ends in order.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::app::{App, Mode};
use crate::auth::PeerAddress;
use crate::backend::Backend;
use crate::http::sync::now;
use crate::http::{self, StaticFiles};
use crate::jwt::JwtVerifier;
use crate::origin::{OriginPolicy, is_origin};
use crate::rate_limit::{Rate, RateLimiter};
use crate::socket::SocketRegistry;
use crate::store::{LogRetention, Store};

/// How a server is started.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Who it is for.
    pub mode: Mode,
    /// Where it listens; port 0 picks a free one.
    pub address: SocketAddr,
    /// Pages that may call it: `https://app.example`. In [`Mode::Dev`] beside those of this machine.
    pub allowed_origins: Vec<String>,
    /// Whether anybody may have a guest's session.
    pub guests: bool,
    /// Checks tokens that another program signs; `None` takes those of this server only.
    pub jwt: Option<Arc<JwtVerifier>>,
    /// The application's own backend; `None` when it has none to call.
    pub backend: Option<Arc<Backend>>,
    /// Whether a proxy of ours stands in front, so that the last entry of `X-Forwarded-For` is the caller.
    pub behind_proxy: bool,
    /// Calls a minute of one session, or of one address without a session; `None` for no limit.
    pub requests_per_minute: Option<NonZeroU32>,
    /// How much of the log is kept.
    pub log: LogRetention,
    /// Files beside the API.
    pub files: StaticFiles,
}

impl ServerOptions {
    /// The options of `syncline dev` on an address.
    pub fn dev(address: SocketAddr) -> Self {
        Self {
            mode: Mode::Dev,
            address,
            allowed_origins: Vec::new(),
            guests: true,
            jwt: None,
            backend: None,
            behind_proxy: false,
            requests_per_minute: None,
            log: LogRetention::default(),
            files: StaticFiles::default(),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// `syncline dev` was to listen where others can reach it.
    #[error(
        "`syncline dev` gives a session to everybody who asks, so it listens on this machine only, not on {address}; use 127.0.0.1 or [::1], or `syncline serve`"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An allowed origin is none.
    #[error("{origin:?} is no origin; write scheme, host and port as in https://app.example or http://localhost:5173")]
    Origin {
        /// What was given.
        origin: String,
    },
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    ending: watch::Sender<bool>,
    listener: JoinHandle<()>,
    sockets: SocketRegistry,
    store: Store,
}

impl Server {
    /// Starts listening; returns when connections are accepted.
    ///
    /// # Errors
    /// When the options contradict each other or the address is not free.
    pub async fn start(options: ServerOptions, store: Store) -> Result<Self, StartError> {
        let address = options.address;
        if options.mode == Mode::Dev && !address.ip().is_loopback() {
            return Err(StartError::NotLoopback { address });
        }
        if let Some(origin) = options.allowed_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(StartError::Origin { origin: origin.clone() });
        }
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (ending, watch_ending) = watch::channel(false);
        let files = options.files.clone();
        if !options.log.keeps_everything() {
            tokio::spawn(trim_log(store.clone(), options.log, watch_ending.clone()));
        }
        let app = Arc::new(app(options, store.clone(), watch_ending.clone()));
        let router = http::router(app.clone(), files);
        let sockets = app.sockets.clone();
        let listener = tokio::spawn(accept(listener, router, sockets.clone(), watch_ending));
        Ok(Self { address, ending, listener, sockets, store })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Follows the number of open sockets.
    pub fn watch_sockets(&self) -> watch::Receiver<usize> {
        self.sockets.watch()
    }

    /// Closes the sockets, finishes requests and waiting writes.
    pub async fn stop(self) {
        self.ending.send_replace(true);
        if self.listener.await.is_err() {
            tracing::error!("the listener had ended in a panic");
        }
        self.store.shutdown().await;
    }
}

fn app(options: ServerOptions, store: Store, ending: watch::Receiver<bool>) -> App {
    let origins = match options.mode {
        Mode::Dev => OriginPolicy::loopback(options.allowed_origins),
        Mode::Serve => OriginPolicy::listed(options.allowed_origins),
    };
    App {
        store,
        mode: options.mode,
        guests: options.guests,
        jwt: options.jwt,
        backend: options.backend,
        origins,
        limiter: options.requests_per_minute.map(|count| RateLimiter::new(Rate::per(count, Duration::from_mins(1)))),
        behind_proxy: options.behind_proxy,
        sockets: SocketRegistry::default(),
        started: Instant::now(),
        ending,
    }
}

/// Drops what is not to be kept of the log, now and every hour.
async fn trim_log(store: Store, retention: LogRetention, mut ending: watch::Receiver<bool>) {
    loop {
        match store.trim_log(retention, now()).await {
            Ok(0) => {}
            Ok(changes) => tracing::info!(changes, "dropped old changes from the log"),
            Err(error) => tracing::warn!(%error, "the log could not be cut; the next try is in an hour"),
        }
        tokio::select! {
            () = is_ending(&mut ending) => return,
            () = tokio::time::sleep(TRIM_EVERY) => {}
        }
    }
}

async fn accept(listener: TcpListener, router: Router, sockets: SocketRegistry, mut ending: watch::Receiver<bool>) {
    // Each connection holds a sender; when all are dropped, all have ended.
    let (open, mut all_ended) = mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            () = is_ending(&mut ending) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, ending, open) = (router.clone(), ending.clone(), open.clone());
                tokio::spawn(async move {
                    serve_connection(stream, peer, router, ending).await;
                    drop(open);
                });
            }
            Err(error) => {
                // Out of file descriptors, usually: others have to end first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(open);
    let ended = async {
        all_ended.recv().await;
        sockets.emptied().await;
    };
    if timeout(GRACE, ended).await.is_err() {
        tracing::warn!("some requests or sockets did not end in time");
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, router: Router, mut ending: watch::Receiver<bool>) {
    // Frames are small and wait for nothing; an error here costs some milliseconds, no more.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = is_ending(&mut ending) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

pub(crate) async fn is_ending(ending: &mut watch::Receiver<bool>) {
    // The error is a sender that is gone, which means the same.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Largest request head, in bytes: a token of 4 KiB is 12 KiB as a subprotocol at worst.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long a connection may take to send a request's head, idle time before it included.
const HEAD_WAIT: Duration = Duration::from_secs(75);
/// How long requests and sockets have to end when the server does.
const GRACE: Duration = Duration::from_secs(5);
/// How often the log is looked through for what is not to be kept.
const TRIM_EVERY: Duration = Duration::from_hours(1);
/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
