//! The engine of the browser over a real socket: the state machine of `core` with a memory for a disk.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use syncline_core::client::{Client, ClientConfig, Event, Input, NewChange, Output, StorageKind, StoredReplica, StoredValue};
use syncline_protocol::{Identity, ServerMessage, Timestamp};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::http_client::Http;
use crate::socket_client::{Event as SocketEvent, PATIENCE, Socket};
use crate::test_server::TestServer;

pub(crate) struct Engine<'a> {
    pub(crate) client: Client,
    pub(crate) events: Vec<Event>,
    server: &'a TestServer,
    http: Http,
    socket: Option<Socket>,
    queue_keys: u64,
}

impl<'a> Engine<'a> {
    /// Starts the engine of `user` and waits until it has everything.
    pub(crate) async fn start(server: &'a TestServer, user: &str) -> Self {
        let http = server.sign_in(user).await;
        let config = ClientConfig { reconnect_ms_base: 5, push_window_ms: 1, ..ClientConfig::with_seed([3; 32]) };
        let client = Client::new(config);
        let mut engine = Self { client, events: Vec::new(), server, http, socket: None, queue_keys: 0 };
        let identity = Some(Identity { user_id: Some(user.to_owned()), tenant_id: None });
        engine.client.handle_input(now(), Input::Start { identity });
        engine.until(|engine| engine.events.iter().any(|event| matches!(event, Event::Synced { .. }))).await;
        engine
    }

    /// Writes as the application would.
    pub(crate) fn write(&mut self, changes: &Value) {
        self.client.mutate(now(), NewChange::parse_list(&changes.to_string()).unwrap()).unwrap();
    }

    /// What the application sees of a row.
    pub(crate) fn row(&self, entity: &str, id: &str) -> Value {
        self.client.row_json(entity, id).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
    }

    /// The writes that are not yet in the base, or failed.
    pub(crate) fn mutations(&self) -> Value {
        serde_json::from_str(&self.client.mutations_json()).unwrap()
    }

    /// Runs until something is so.
    pub(crate) async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let run = async {
            loop {
                let wake_at = self.drain().await;
                if done(self) {
                    return;
                }
                self.wait(wake_at).await;
            }
        };
        timeout(PATIENCE, run).await.expect("the engine does not get there");
    }

    /// Carries out what the client asks for; returns when it wants to be woken.
    async fn drain(&mut self) -> Option<Timestamp> {
        loop {
            let input = match self.client.poll_output() {
                Output::Idle { wake_at } => return wake_at,
                Output::ResolveIdentity => panic!("the identity is known"),
                Output::OpenStorage { .. } => {
                    Input::Opened(Box::new(StoredReplica { fence: 1, leads: true, ..StoredReplica::default() }))
                }
                Output::Store(request) => Input::Stored { request: request.id, result: Ok(self.store(request.kind)) },
                Output::OpenSocket => {
                    self.socket = Some(Socket::open(self.server.address, self.http.token.as_deref()).await);
                    Input::SocketOpened
                }
                Output::ReadStorage { .. } | Output::TakeLead | Output::Resign => panic!("there is one tab"),
                Output::TellTabs(_) => continue,
                Output::CloseSocket { .. } => {
                    self.socket = None;
                    continue;
                }
                Output::Send(text) => {
                    if let Some(socket) = &mut self.socket {
                        socket.try_send(Message::text(text)).await;
                    }
                    continue;
                }
                Output::Pull { request, path_and_query } => {
                    let answer = self.http.get(&path_and_query).await;
                    let status = answer.status.as_u16();
                    Input::PullAnswered { request, status, body: answer.text(), retry_after_ms: None }
                }
                Output::Notify(event) => {
                    self.events.push(event);
                    continue;
                }
            };
            self.client.handle_input(now(), input);
        }
    }

    fn store(&mut self, kind: StorageKind) -> StoredValue {
        match kind {
            StorageKind::Enqueue { records, .. } => {
                let first = self.queue_keys + 1;
                self.queue_keys += records.len() as u64;
                StoredValue::Keys((first..=self.queue_keys).collect())
            }
            StorageKind::UpdateQueue { put, remove, .. } | StorageKind::FoldQueue { put, remove, .. } => {
                StoredValue::Keys(put.into_iter().map(|(key, _)| key).chain(remove).collect())
            }
            StorageKind::Discard { .. } => panic!("this tab leads"),
            StorageKind::Commit { .. }
            | StorageKind::Compact { .. }
            | StorageKind::DeleteGeneration { .. }
            | StorageKind::Quarantine { .. } => StoredValue::Done,
        }
    }

    async fn wait(&mut self, wake_at: Option<Timestamp>) {
        let left = wake_at.map_or(PATIENCE, |at| Duration::from_millis(at.0.saturating_sub(now().0)));
        let heard = async {
            match &mut self.socket {
                Some(socket) => socket.next().await,
                None => std::future::pending().await,
            }
        };
        let input = tokio::select! {
            event = heard => match event {
                SocketEvent::Message(message) => Input::Received(ServerMessage::encode(&message)),
                SocketEvent::Close { code, reason } => Input::SocketClosed { code, reason },
            },
            () = sleep(left) => Input::Tick,
        };
        self.client.handle_input(now(), input);
    }
}

fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(elapsed.as_millis()).unwrap())
}

#[tokio::test]
async fn two_engines_show_each_others_rows() {
    let server = TestServer::dev().await;
    let (mut one, mut other) = (Engine::start(&server, "alice").await, Engine::start(&server, "alice").await);
    one.write(&json!([{"entity": "Todo", "kind": "insert", "row_id": "t1", "data": {"title": "milk"}}]));
    assert_eq!(one.row("Todo", "t1")["title"], "milk", "at once");
    one.until(|one| one.mutations() == json!([])).await;
    other.until(|other| other.row("Todo", "t1")["title"] == "milk").await;
}
