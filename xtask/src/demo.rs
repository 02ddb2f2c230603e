//! `cargo xtask demo`: from a checkout to a running chat.

mod control;
mod supervisor;

use std::fs;
use std::io::IsTerminal as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use anyhow::Context as _;

use crate::process::on_path;
use crate::progress::note;
use crate::repo::Repo;
use crate::server::{self, Profile};
use crate::{package, ports};
use control::Admission;
use supervisor::{Plan, Supervisor};

/// How the demo is started.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    /// Port on 127.0.0.1; the first free one if absent.
    pub(crate) port: Option<u16>,
    /// The folder of its database; `.demo` if absent.
    pub(crate) data: Option<PathBuf>,
    /// Whether a browser window is opened.
    pub(crate) open: bool,
}

/// Builds what changed, starts the server, and stays until Ctrl-C.
pub(crate) fn run(repo: &Repo, wishes: Wishes) -> anyhow::Result<()> {
    // Before minutes of building: a port that is taken is known now.
    let port = ports::choose(wishes.port)?;
    note("The first run compiles everything, which takes a few minutes; later runs start in seconds.");
    // So is what has to be installed first: a missing Node or target.
    package::ensure_tools(repo)?;
    let program = server::build(repo, Profile::Test)?;
    package::build(repo)?;
    package::build_demo(repo)?;

    let data = wishes.data.unwrap_or_else(|| repo.path(".demo"));
    fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
    let stop = when_interrupted()?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("opening a port for the page's buttons")?;
    let control_port = listener.local_addr()?.port();
    let admission = Admission::new(port, control_port)?;
    let address = format!("http://127.0.0.1:{port}");
    let page = format!("{address}/?devices=2#{}", admission.fragment());
    let supervisor = Arc::new(Supervisor::start(Plan {
        repo: repo.clone(),
        program,
        port,
        db: data.join("syncline.db"),
        pages: repo.path("www/dist"),
        manifest: repo.path("www/syncline.toml"),
        connect: format!("http://127.0.0.1:{control_port}"),
    })?);
    control::serve(listener, admission, supervisor.clone());
    announce(&address, &page, &data.display().to_string());
    if wishes.open {
        open_browser(&page);
    }
    supervisor.watch(&stop)
}

#[expect(clippy::print_stdout, reason = "the address is the answer of this command")]
fn announce(address: &str, page: &str, data: &str) {
    println!();
    println!("Two devices side by side, with buttons to cut their networks and to kill the server:");
    println!();
    println!("  {page}");
    println!();
    println!("The chat itself, a window for each user: {address}/?user=alice and {address}/?user=bob");
    println!();
    println!("Data stays in {data}; delete that folder to start anew. Ctrl-C stops the server.");
}

/// A channel that speaks when this process is asked to end.
fn when_interrupted() -> anyhow::Result<Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    ctrlc::set_handler(move || {
        // Nobody listens any more once the server is being stopped.
        let _ = sender.send(());
    })
    .context("setting up Ctrl-C")?;
    Ok(receiver)
}

fn open_browser(url: &str) {
    let desktop = cfg!(target_os = "macos") || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if !desktop || !std::io::stdout().is_terminal() {
        return;
    }
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    if on_path(opener).is_some() {
        // A desktop without a browser is no reason to stop: the address is printed.
        let _ = Command::new(opener).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}
