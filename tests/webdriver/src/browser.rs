//! Browsers and their drivers. Each session has a driver of its own, because geckodriver and `WebKitWebDriver` serve one at a time.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use crate::process::{Running, path_of};

/// What the tests can be run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Browser {
    /// Firefox through geckodriver, headless.
    Firefox,
    /// WebKitGTK's `MiniBrowser` through `WebKitWebDriver`, on the display of the environment.
    Webkit,
}

impl Browser {
    /// The one that `SYNCLINE_TEST_BROWSER` names.
    ///
    /// # Errors
    ///
    /// When it names none of them.
    pub fn from_environment() -> anyhow::Result<Self> {
        match std::env::var("SYNCLINE_TEST_BROWSER").as_deref() {
            Ok("firefox") => Ok(Self::Firefox),
            Ok("webkit") => Ok(Self::Webkit),
            Ok(other) => bail!("SYNCLINE_TEST_BROWSER is `{other}`; it must be `firefox` or `webkit`"),
            Err(_) => bail!("SYNCLINE_TEST_BROWSER is not set; `cargo xtask test e2e-firefox` and `e2e-webkit` set it"),
        }
    }

    /// Starts a driver and a browser with an empty profile.
    ///
    /// # Errors
    ///
    /// When the driver or the browser does not start.
    pub async fn open(self) -> anyhow::Result<Session> {
        let port = free_port()?;
        let driver = match self {
            Self::Firefox => {
                let mut command = Command::new(path_of("GECKODRIVER")?);
                // Two drivers run beside each other, so no port may be a fixed one.
                command.args(["--port", &port.to_string(), "--websocket-port", "0"]);
                Running::start(command, "Listening on")?.0
            }
            Self::Webkit => {
                let mut command = Command::new(path_of("SAFARIDRIVER")?);
                command.arg(format!("--port={port}"));
                Running::start_silent(command, || wait_until_open(port))?
            }
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(self.capabilities()?)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .with_context(|| format!("starting a session of {self:?}"))?;
        Ok(Session { client, _driver: driver })
    }

    fn capabilities(self) -> anyhow::Result<Capabilities> {
        let wanted = match self {
            Self::Firefox => {
                let options = match path_of("FIREFOX") {
                    Ok(binary) => json!({ "args": ["-headless"], "binary": binary }),
                    // geckodriver looks for it where it is usually installed.
                    Err(_) => json!({ "args": ["-headless"] }),
                };
                json!({ "moz:firefoxOptions": options })
            }
            Self::Webkit => json!({
                "webkitgtk:browserOptions": { "binary": path_of("SYNCLINE_MINI_BROWSER")?, "args": ["--automation"] }
            }),
        };
        Ok(serde_json::from_value(wanted)?)
    }
}

/// One browser with its driver.
#[derive(Debug)]
pub struct Session {
    /// Speaks to the driver.
    pub client: Client,
    _driver: Running,
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// `WebKitWebDriver` prints nothing when it is ready.
fn wait_until_open(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + OPEN_LIMIT;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(Instant::now() < deadline, "nobody listens on port {port} after {} s", OPEN_LIMIT.as_secs());
        std::thread::yield_now();
    }
    Ok(())
}

const OPEN_LIMIT: Duration = Duration::from_secs(20);
