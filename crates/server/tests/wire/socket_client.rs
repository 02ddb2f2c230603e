//! A socket as a browser would hold it.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use syncline_protocol::{Page, ResumeMode, SUBPROTOCOL, ServerMessage, Welcome, bearer_subprotocol};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::test_server::client_id;

/// Longer than any step takes on a busy machine, shorter than anybody waits for a hanging test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What the server selected.
    pub(crate) subprotocol: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Event {
    Message(ServerMessage),
    Close { code: u16, reason: String },
}

impl Socket {
    /// Opens a socket the way the client does.
    pub(crate) async fn open(address: SocketAddr, token: Option<&str>) -> Self {
        let mut offered = vec![SUBPROTOCOL.to_owned()];
        offered.extend(token.map(|token| bearer_subprotocol(token).unwrap()));
        Self::offer(address, &offered.join(", "), &[]).await.unwrap()
    }

    pub(crate) async fn offer(
        address: SocketAddr,
        subprotocols: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        let mut request = format!("ws://{address}/api/sync/ws").into_client_request()?;
        if !subprotocols.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", subprotocols.parse().unwrap());
        }
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (stream, response) = connect_async(request).await?;
        let subprotocol = response.headers().get("sec-websocket-protocol").map(|name| name.to_str().unwrap().to_owned());
        Ok(Self { stream, subprotocol })
    }

    /// Opens a socket and says hello as `user`.
    pub(crate) async fn connect(
        address: SocketAddr,
        token: Option<&str>,
        user: Option<&str>,
        cursor: Option<&str>,
    ) -> (Self, Welcome) {
        let mut socket = Self::open(address, token).await;
        socket.send(&hello(user, cursor)).await;
        let Event::Message(ServerMessage::Welcome(welcome)) = socket.next().await else { panic!("no welcome") };
        (socket, welcome)
    }

    /// A socket that streams from the present on.
    pub(crate) async fn streaming(address: SocketAddr, token: Option<&str>, user: Option<&str>, cursor: &str) -> Self {
        let (socket, welcome) = Self::connect(address, token, user, Some(cursor)).await;
        assert_eq!(welcome.resume, ResumeMode::Stream);
        socket
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    pub(crate) async fn send_raw(&mut self, message: Message) {
        self.stream.send(message).await.unwrap();
    }

    /// Sends unless the server has ended the socket.
    pub(crate) async fn try_send(&mut self, message: Message) -> bool {
        self.stream.send(message).await.is_ok()
    }

    pub(crate) async fn next(&mut self) -> Event {
        loop {
            match timeout(PATIENCE, self.stream.next()).await.expect("the server says nothing") {
                Some(Ok(Message::Text(text))) => return Event::Message(ServerMessage::parse(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Event::Close { code: frame.code.into(), reason: frame.reason.to_string() };
                }
                Some(Ok(_)) => {}
                other => panic!("the socket ended without a close: {other:?}"),
            }
        }
    }

    /// The next frame; heartbeats on the way are passed over.
    pub(crate) async fn frame(&mut self) -> Page {
        loop {
            match self.next().await {
                Event::Message(ServerMessage::Frame(page)) => {
                    assert!(page.checksum_matches());
                    return page;
                }
                Event::Message(ServerMessage::Heartbeat) => {}
                other @ (Event::Message(_) | Event::Close { .. }) => panic!("expected a frame: {other:?}"),
            }
        }
    }

    /// The next frame; `None` when the socket ends, with or without a close.
    pub(crate) async fn frame_until_end(&mut self) -> Option<Page> {
        loop {
            let Some(Ok(message)) = timeout(PATIENCE, self.stream.next()).await.expect("the server says nothing") else {
                return None;
            };
            let Message::Text(text) = message else { continue };
            if let ServerMessage::Frame(page) = ServerMessage::parse(&text).unwrap() {
                return Some(page);
            }
        }
    }

    /// The close, with the error that was sent before it.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Event::Close { code, reason } => return (code, reason),
                Event::Message(_) => {}
            }
        }
    }
}

pub(crate) fn hello(user: Option<&str>, cursor: Option<&str>) -> Value {
    json!({
        "type": "hello",
        "protocol": 1,
        "client_id": client_id(),
        "identity": {"user_id": user, "tenant_id": null},
        "cursor": cursor,
    })
}
