//! Measures what sockets cost the server: memory of idle ones, and time and processor to tell many of one commit.
//!
//! ```text
//! cargo build --release -p syncline-server --bins --examples
//! target/release/examples/socket_load idle 1000
//! target/release/examples/socket_load fanout 500 200
//! ```
//!
//! The server is the program beside this one, a process of its own; each socket is of another user, all are members of one
//! channel. Linux only: memory and processor time are read from `/proc`.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement that finds something else than it expects has failed, and says what it found"
)]

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use syncline_protocol::{ClientId, OpId, RawJson, SUBPROTOCOL, ServerMessage, bearer_subprotocol};
use syncline_server::manifest::Manifest;
use syncline_server::store::{PageLimits, Reader, SessionKind, Store, StoreOptions, Writer};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

const MANIFEST: &str = r#"
[entities.members]
fields = { channel = "string", member = "string" }
policies = { read = "member = user", insert = "signed-in" }
[entities.messages]
fields = { channel = "string", author = "string", body = "string" }
[entities.messages.policies]
read = "channel in members where member = user"
insert = "author = user and channel in members where member = user"
"#;

/// One user: who, with which token, standing where.
struct User {
    name: String,
    token: String,
    cursor: String,
}

type Socket = WebSocketStream<TcpStream>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, or: usize| arguments.get(index).map_or(Ok(or), |text| text.parse());
    let folder = tempfile::tempdir()?;
    let count = number(1, 500)?;
    let users = prepare(folder.path(), count).await?;
    let server = Program::start(folder.path())?;
    match arguments.first().map(String::as_str) {
        Some("idle") => idle(&server, &users).await,
        Some("fanout") => fan_out(&server, &users, number(2, 200)?).await,
        _ => Err("say `idle SOCKETS` or `fanout SOCKETS COMMITS`".into()),
    }
}

/// Makes users, their memberships and sessions before the server starts.
async fn prepare(folder: &Path, count: usize) -> Result<Vec<User>, Box<dyn Error>> {
    std::fs::write(folder.join("load.toml"), MANIFEST)?;
    let store = Store::open(&folder.join("load.db"), Manifest::parse(MANIFEST)?.schema, StoreOptions::default())?;
    let mut users = Vec::new();
    for index in 0..count {
        let name = format!("user{index}");
        let reader = Reader { user_id: Some(name.clone()), ..Reader::default() };
        let member = json!({"channel": "c", "member": name});
        let change = json!({"entity": "members", "row_id": name, "kind": "insert", "data": member});
        let writer = Writer { reader: reader.clone(), ..Writer::default() };
        store.push(writer, vec![intent(1, index, &change)], Vec::new()).await?;
        let token = store.create_session(&name, SessionKind::Dev, Duration::from_hours(1)).await?;
        users.push((name, token, reader));
    }
    let mut ready = Vec::new();
    for (name, token, reader) in users {
        let cursor = store.pull(&reader, None, PageLimits::default()).await?.cursor.token;
        ready.push(User { name, token, cursor });
    }
    store.shutdown().await;
    Ok(ready)
}

fn intent(kind: u64, index: usize, change: &Value) -> RawJson {
    let index = u64::try_from(index).expect("a small number");
    let op_id = OpId::from_bytes((u128::from(kind) << 64 | u128::from(index)).to_be_bytes());
    let intent = json!({"op_id": op_id, "issued_at": 1, "schema": 0, "changes": [change]});
    serde_json::value::to_raw_value(&intent).expect("an intent is JSON").into()
}

async fn idle(server: &Program, users: &[User]) -> Result<(), Box<dyn Error>> {
    let (first, rest) = users.split_first().ok_or("at least two sockets")?;
    let mut sockets = vec![connect(server.address, first, 0).await?];
    let before = server.memory_kib()?;
    for (index, user) in rest.iter().enumerate() {
        sockets.push(connect(server.address, user, index + 1).await?);
    }
    let after = server.memory_kib()?;
    let each = (after - before) * 1_024 / rest.len();
    println!("{} idle sockets: {each} bytes of resident memory each ({before} KiB with one, {after} KiB with all)", users.len());
    Ok(())
}

async fn fan_out(server: &Program, users: &[User], commits: usize) -> Result<(), Box<dyn Error>> {
    let mut sockets = Vec::new();
    for (index, user) in users.iter().enumerate() {
        sockets.push(connect(server.address, user, index).await?);
    }
    let author = users.first().ok_or("at least one socket")?;
    let mut times = Vec::new();
    let cpu_before = server.cpu_ticks()?;
    for commit in 0..commits {
        let body = "x".repeat(200);
        let data = json!({"channel": "c", "author": author.name, "body": body});
        let change = json!({"entity": "messages", "row_id": format!("m{commit}"), "kind": "insert", "data": data});
        let push = json!({
            "type": "push", "id": commit, "client_id": client_id(0), "fence": 0, "transactions": [intent(2, commit, &change)],
            "identity": {"user_id": author.name, "tenant_id": null},
        });
        let began = Instant::now();
        sockets.first_mut().ok_or("no socket")?.send(Message::text(push.to_string())).await?;
        for socket in &mut sockets {
            next_frame(socket).await?;
        }
        times.push(began.elapsed());
    }
    let ticks = server.cpu_ticks()? - cpu_before;
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let cpu_ms = f64::from(ticks) * 10.0 / f64::from(u32::try_from(commits)?);
    println!(
        "{} sockets, {commits} commits: all told after {:.1} ms (p50), {:.1} ms (p99); {cpu_ms:.1} ms of the server's processor time a commit",
        users.len(),
        at(50).as_secs_f64() * 1_000.0,
        at(99).as_secs_f64() * 1_000.0,
    );
    Ok(())
}

/// Opens a socket that streams. Addresses take turns, because one address holds 256 sockets.
async fn connect(address: SocketAddr, user: &User, index: usize) -> Result<Socket, Box<dyn Error>> {
    let tcp = TcpSocket::new_v4()?;
    let host = u8::try_from(2 + index / 200)?;
    tcp.bind(SocketAddr::from(([127, 0, 0, host], 0)))?;
    let mut request = format!("ws://{address}/api/sync/ws").into_client_request()?;
    let offered = format!("{SUBPROTOCOL}, {}", bearer_subprotocol(&user.token).map_err(syncline_protocol::ErrorCode::code)?);
    request.headers_mut().insert("sec-websocket-protocol", offered.parse()?);
    let (mut socket, _) = client_async(request, tcp.connect(address).await?).await?;
    let hello = json!({
        "type": "hello", "protocol": 1, "client_id": client_id(index), "cursor": user.cursor,
        "identity": {"user_id": user.name, "tenant_id": null},
    });
    socket.send(Message::text(hello.to_string())).await?;
    loop {
        if let ServerMessage::Welcome(_) = next_message(&mut socket).await? {
            return Ok(socket);
        }
    }
}

fn client_id(index: usize) -> ClientId {
    ClientId::from_bytes(u128::try_from(index).expect("a small number").to_be_bytes())
}

async fn next_message(socket: &mut Socket) -> Result<ServerMessage, Box<dyn Error>> {
    loop {
        match socket.next().await.ok_or("the socket ended")?? {
            Message::Text(text) => return Ok(ServerMessage::parse(&text)?),
            Message::Close(frame) => return Err(format!("closed: {frame:?}").into()),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

async fn next_frame(socket: &mut Socket) -> Result<(), Box<dyn Error>> {
    loop {
        if let ServerMessage::Frame(page) = next_message(socket).await?
            && !page.changes.is_empty()
        {
            return Ok(());
        }
    }
}

/// The server's process.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    fn start(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let here = std::env::current_exe()?;
        let program = here.parent().and_then(Path::parent).ok_or("no folder")?.join("syncline");
        let mut child = Command::new(program)
            .args(["dev", "--addr", "127.0.0.1:0", "--db"])
            .arg(folder.join("load.db"))
            .arg("--manifest")
            .arg(folder.join("load.toml"))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let address = loop {
            let line = lines.next().ok_or("the server did not start")??;
            if let Some(address) = line.strip_prefix("listening on http://") {
                break address.parse()?;
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address })
    }

    fn memory_kib(&self) -> Result<usize, Box<dyn Error>> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// User and system time, in hundredths of a second.
    fn cpu_ticks(&self) -> Result<u32, Box<dyn Error>> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
        let mut times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
        Ok(times.next().ok_or("no time")?? + times.next().ok_or("no time")??)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
