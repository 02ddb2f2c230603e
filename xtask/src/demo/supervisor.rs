//! The demo's server as somebody who may be killed and started again.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::bail;

use crate::progress::note;
use crate::repo::Repo;
use crate::server::{Options, POLL_INTERVAL, Server};

/// What may be done to the server from outside.
pub(super) trait Machine: Send + Sync {
    /// Whether it runs.
    fn runs(&self) -> bool;
    /// Ends it in the middle of whatever it does, as a power cut would.
    fn kill(&self) -> anyhow::Result<()>;
    /// Starts it again on the same address and database, and returns when it answers.
    fn start(&self) -> anyhow::Result<()>;
}

/// What the server is started with, each time.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) repo: Repo,
    pub(super) program: PathBuf,
    pub(super) port: u16,
    pub(super) db: PathBuf,
    pub(super) pages: PathBuf,
    pub(super) manifest: PathBuf,
    /// Where the pages find the control endpoint.
    pub(super) connect: String,
}

/// The server, unless it was killed.
#[derive(Debug)]
pub(super) struct Supervisor {
    plan: Plan,
    server: Mutex<Option<Server>>,
}

impl Supervisor {
    /// Starts the server for the first time.
    pub(super) fn start(plan: Plan) -> anyhow::Result<Self> {
        let server = launch(&plan)?;
        Ok(Self { plan, server: Mutex::new(Some(server)) })
    }

    /// Stays until `stop` speaks; fails when the server ends without having been killed.
    pub(super) fn watch(&self, stop: &Receiver<()>) -> anyhow::Result<()> {
        while stop.recv_timeout(POLL_INTERVAL).is_err() {
            if let Some(status) = self.lock().as_mut().map(Server::ended).transpose()?.flatten() {
                bail!("The server stopped ({status}); its reason stands above.");
            }
        }
        let running = self.lock().take();
        running.map_or(Ok(()), Server::end)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Server>> {
        // A thread that panicked left either a server or none, and both are in order.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine for Supervisor {
    fn runs(&self) -> bool {
        self.lock().is_some()
    }

    fn kill(&self) -> anyhow::Result<()> {
        let Some(server) = self.lock().take() else { return Ok(()) };
        server.kill()?;
        note("the page killed the server (SIGKILL); its button starts it again");
        Ok(())
    }

    fn start(&self) -> anyhow::Result<()> {
        let mut server = self.lock();
        if server.is_none() {
            *server = Some(launch(&self.plan)?);
        }
        Ok(())
    }
}

fn launch(plan: &Plan) -> anyhow::Result<Server> {
    let options = Options {
        port: plan.port,
        db: &plan.db,
        static_dir: Some(&plan.pages),
        manifest: Some(&plan.manifest),
        connect: Some(&plan.connect),
    };
    Server::start(&plan.repo, &plan.program, &options)
}
