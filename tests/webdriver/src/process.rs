//! Programs that run beside a test and end with it.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use tempfile::TempDir;

/// A child process that is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts a program and waits for the line in which it says where it listens; returns what follows `announcement`.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, or ends or stays silent instead.
    pub fn start(mut command: Command, announcement: &str) -> anyhow::Result<(Self, String)> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            forward(stdout, sender.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            forward(stderr, sender);
        }
        // From here on the child ends with this value, also when the announcement does not come.
        let running = Self { child };
        let rest = announced(&lines, announcement).with_context(|| format!("{name} does not say that it listens"))?;
        Ok((running, rest))
    }

    /// Starts a program that says nothing when it is ready; `wait` returns when it is.
    ///
    /// # Errors
    ///
    /// When the program cannot be started or `wait` gives up.
    pub fn start_silent(mut command: Command, wait: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let running = Self { child: spawn(&mut command)? };
        wait()?;
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `syncline dev` with the demo's pages on an empty database.
#[derive(Debug)]
pub struct ChatServer {
    /// Where it listens, as a URL without a path.
    pub url: String,
    _running: Running,
    _folder: TempDir,
}

impl ChatServer {
    /// Starts what the environment names: `SYNCLINE_SERVER_BIN` and `SYNCLINE_STATIC_DIR`, as `cargo xtask test` sets them.
    ///
    /// # Errors
    ///
    /// When one of the two is missing or the server does not start.
    pub fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(path_of("SYNCLINE_SERVER_BIN")?);
        command.args(["dev", "--addr", "127.0.0.1:0", "--db"]).arg(folder.path().join("syncline.db"));
        command.arg("--static").arg(path_of("SYNCLINE_STATIC_DIR")?);
        command.arg("--manifest").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../www/syncline.toml"));
        let (running, address) = Running::start(command, "listening on ")?;
        Ok(Self { url: address, _running: running, _folder: folder })
    }
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).spawn().with_context(|| format!("starting {name}"))
}

/// The path that a variable of the environment holds.
pub(crate) fn path_of(variable: &str) -> anyhow::Result<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).with_context(|| {
        format!("{variable} is not set; `cargo xtask test e2e-firefox` and `e2e-webkit` build what these tests need and set it")
    })
}

/// Reads to the end, so that the program never waits for a full pipe; lines go to whoever still listens and to the test's output.
fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            eprintln!("| {line}");
            let _ = lines.send(line);
        }
    });
}

fn announced(lines: &Receiver<String>, announcement: &str) -> anyhow::Result<String> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = lines.recv_timeout(left) else {
            if left.is_zero() {
                bail!("nothing was said within {} s", START_LIMIT.as_secs());
            }
            return Err(anyhow!("it ended; its last words stand above"));
        };
        if let Some((_, rest)) = line.split_once(announcement) {
            return Ok(rest.trim().to_owned());
        }
    }
}

const START_LIMIT: Duration = Duration::from_secs(30);
