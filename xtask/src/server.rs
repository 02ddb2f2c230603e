//! The `syncline` server: building it, and running it beside tests and the demo.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::ports;
use crate::process::Program;
use crate::progress::step;
use crate::repo::Repo;

/// How the server is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to compile, with assertions: the demo and all tests, which share its dependencies with `cargo test`.
    Test,
    /// Optimised: what is measured.
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Release => "release",
        }
    }

    /// Cargo's folder for this profile.
    fn folder(self) -> &'static str {
        match self {
            Self::Test => "debug",
            Self::Release => "release",
        }
    }
}

/// Builds the server and returns the program.
pub(crate) fn build(repo: &Repo, profile: Profile) -> anyhow::Result<PathBuf> {
    step(&format!("Compiling the server (profile {})", profile.name()), || {
        Program::cargo(repo)
            .args(["build", "--package", "syncline-server", "--bin", "syncline", "--profile", profile.name()])
            .hint(
                "The reason stands above. If cargo could not reach crates.io, connect to the network and run the command again.",
            )
            .run()
    })?;
    let name = format!("syncline{}", std::env::consts::EXE_SUFFIX);
    Ok(repo.target().join(profile.folder()).join(name))
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens, as a URL without a path.
    pub(crate) url: String,
}

impl Server {
    /// Starts `syncline dev` on a database file and waits until it answers.
    pub(crate) fn start(repo: &Repo, program: &Path, options: &Options<'_>) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{}", options.port);
        let mut command = Program::new(repo, program).arg("dev");
        command = command.arg("--db").arg(options.db).args(["--addr", &address]);
        if let Some(folder) = options.static_dir {
            command = command.arg("--static").arg(folder);
        }
        if let Some(file) = options.manifest {
            command = command.arg("--manifest").arg(file);
        }
        if let Some(origin) = options.connect {
            command = command.args(["--allow-connect", origin]);
        }
        let mut child = command
            .into_command()
            // A test's own output must stay readable; what the server says of itself goes where steps go.
            .stdout(Stdio::from(std::io::stderr()))
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        if let Err(error) = wait_until_healthy(&mut child, &address) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        Ok(Self { child, url: format!("http://{address}") })
    }

    /// Starts one for a test run: a free port and an empty database in `folder`.
    pub(crate) fn start_empty(repo: &Repo, program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let db = folder.join("syncline.db");
        Self::start(repo, program, &Options { port: ports::any()?, db: &db, static_dir: None, manifest: None, connect: None })
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Lets it finish what it does, for a while.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        // A terminal's Ctrl-C reached the server too. A signal meant for this process alone did not, so it is passed on.
        let _ = Command::new("kill").arg(self.child.id().to_string()).stderr(Stdio::null()).status();
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && self.ended()?.is_none() {
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Ends it in the middle of whatever it does (SIGKILL).
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killing is safe at any time: the server promises that nothing acknowledged is lost.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    /// Port on 127.0.0.1.
    pub(crate) port: u16,
    /// Database file.
    pub(crate) db: &'a Path,
    /// Folder whose files it serves.
    pub(crate) static_dir: Option<&'a Path>,
    /// What declares entities and policies; without it any entity is open to anybody.
    pub(crate) manifest: Option<&'a Path>,
    /// One more origin that its pages may call.
    pub(crate) connect: Option<&'a str>,
}

fn wait_until_healthy(child: &mut Child, address: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    while start.elapsed() < START_LIMIT {
        if let Some(status) = child.try_wait()? {
            bail!("The server stopped at once ({status}); its reason stands above.");
        }
        if is_healthy(address) {
            return Ok(());
        }
        thread::sleep(POLL_INTERVAL);
    }
    bail!("The server did not answer on {address} within {} s.", START_LIMIT.as_secs())
}

fn is_healthy(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let answered = stream.set_read_timeout(Some(ANSWER_LIMIT)).is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).is_ok();
    answered && answer.split_whitespace().nth(1) == Some("200")
}

/// How long a server may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(3);
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often something that takes a moment is looked at.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(50);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
