//! `cargo xtask demo`: from a checkout to a running chat.

use std::fs;
use std::io::IsTerminal as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use anyhow::Context as _;

use crate::process::on_path;
use crate::progress::note;
use crate::repo::Repo;
use crate::server::{self, Options, Profile, Server};
use crate::{package, ports};

/// Builds what changed, starts the server on `.demo/syncline.db`, and stays until Ctrl-C.
pub(crate) fn run(repo: &Repo, port: Option<u16>, open: bool) -> anyhow::Result<()> {
    // Before minutes of building: a port that is taken is known now.
    let port = ports::choose(port)?;
    note("The first run compiles everything, which takes a few minutes; later runs start in seconds.");
    let program = server::build(repo, Profile::Test)?;
    package::build(repo)?;
    package::build_demo(repo)?;

    let db = repo.path(".demo/syncline.db");
    if let Some(folder) = db.parent() {
        fs::create_dir_all(folder)?;
    }
    let stop = when_interrupted()?;
    let pages = repo.path("www/dist");
    let manifest = repo.path("www/syncline.toml");
    let options = Options { port, db: &db, static_dir: Some(&pages), manifest: Some(&manifest) };
    let mut server = Server::start(repo, &program, &options)?;
    announce(&server.url);
    if open {
        open_browser(&server.url);
    }
    server.wait(&stop)
}

#[expect(clippy::print_stdout, reason = "the address is the answer of this command")]
fn announce(url: &str) {
    println!();
    println!("Syncline's demo runs at {url}");
    println!();
    println!("  1. Open {url}/?user=alice in one window and {url}/?user=bob in another, and sign in.");
    println!("  2. As one of them create a channel with both as members, and write.");
    println!("  3. Switch one window offline, go on writing, close it, open it again, go online.");
    println!();
    println!("Data stays in .demo/syncline.db; delete that folder to start anew. Ctrl-C stops the server.");
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
