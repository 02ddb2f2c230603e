//! A server in this process on a free port, with a database in a folder of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use syncline_core::server::Schema;
use syncline_protocol::{ClientId, OpId};
use syncline_server::manifest::Manifest;
use syncline_server::store::{SessionKind, Store, StoreOptions};
use syncline_server::{Mode, Server, ServerOptions};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::http_client::Http;
use crate::socket_client::PATIENCE;

/// A chat with members, as the demo has it.
pub(crate) const CHAT: &str = r#"
[server]
allowed_origins = ["https://app.example"]

[entities.channels.fields]
name = "string"
[entities.channels.policies]
read = "id in channel_members.channel_id where member_id = user"
insert = "signed-in"

[entities.channel_members.fields]
channel_id = { type = "string", index = true }
member_id = { type = "string", index = true }
[entities.channel_members.policies]
read = "channel_id in channel_members where member_id = user"
insert = "signed-in"
delete = "signed-in"

[entities.messages.fields]
channel_id = { type = "string", index = true }
author_id = "string"
body = "string"
[entities.messages.policies]
read = "channel_id in channel_members where member_id = user"
insert = "author_id = user and channel_id in channel_members where member_id = user"
update = "author_id = user"
delete = "author_id = user"
"#;

pub(crate) struct TestServer {
    pub(crate) store: Store,
    pub(crate) address: SocketAddr,
    server: Server,
    /// Dropped last: it removes the files.
    _folder: TempDir,
}

impl TestServer {
    /// `syncline dev` without a manifest.
    pub(crate) async fn dev() -> Self {
        Self::start(ServerOptions::dev(loopback()), Schema::open()).await
    }

    /// `syncline dev` with a manifest.
    pub(crate) async fn dev_with(manifest: &str) -> Self {
        Self::start(ServerOptions::dev(loopback()), Manifest::parse(manifest).unwrap().schema).await
    }

    /// `syncline serve`.
    pub(crate) async fn serve(manifest: &str) -> Self {
        let Manifest { server, log, schema, .. } = Manifest::parse(manifest).unwrap();
        let options = ServerOptions {
            mode: Mode::Serve,
            allowed_origins: server.allowed_origins,
            guests: server.guests,
            requests_per_minute: server.requests_per_minute,
            behind_proxy: server.behind_proxy,
            log,
            ..ServerOptions::dev(loopback())
        };
        Self::start(options, schema).await
    }

    pub(crate) async fn start(options: ServerOptions, schema: Schema) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("test.db"), schema, StoreOptions::default()).unwrap();
        Self::with_store(options, store, folder).await
    }

    /// A server on a database that somebody wrote to before.
    pub(crate) async fn with_store(options: ServerOptions, store: Store, folder: TempDir) -> Self {
        let server = Server::start(options, store.clone()).await.unwrap();
        Self { store, address: server.address(), server, _folder: folder }
    }

    /// Calls without a token.
    pub(crate) fn anonymous(&self) -> Http {
        Http::new(self.address, None)
    }

    /// Calls with a session of `user`.
    pub(crate) async fn sign_in(&self, user: &str) -> Http {
        let token = self.store.create_session(user, SessionKind::Issued, Duration::from_hours(1)).await.unwrap();
        Http::new(self.address, Some(token))
    }

    /// Waits until the server holds this many sockets.
    pub(crate) async fn wait_for_sockets(&self, count: usize) {
        let mut sockets = self.server.watch_sockets();
        timeout(PATIENCE, sockets.wait_for(|open| *open == count)).await.unwrap().unwrap();
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Ids that differ from all others of this process.
pub(crate) fn op_id() -> OpId {
    OpId::from_bytes(number(1).to_be_bytes())
}

pub(crate) fn client_id() -> ClientId {
    ClientId::from_bytes(number(2).to_be_bytes())
}

fn number(kind: u128) -> u128 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    kind << 120 | u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A transaction of one insert into `Todo`.
pub(crate) fn todo(row_id: &str, title: &str) -> Value {
    transaction([json!({"entity": "Todo", "row_id": row_id, "kind": "insert", "data": {"title": title}})])
}

pub(crate) fn transaction(changes: impl Into<Vec<Value>>) -> Value {
    json!({"op_id": op_id(), "issued_at": 1, "schema": 1, "changes": changes.into()})
}

/// A push of some transactions as `user`.
pub(crate) fn push_of(user: Option<&str>, cursor: Option<&str>, transactions: &[Value]) -> Value {
    json!({
        "id": 1,
        "client_id": client_id(),
        "identity": {"user_id": user, "tenant_id": null},
        "cursor": cursor,
        "fence": 0,
        "transactions": transactions,
    })
}
