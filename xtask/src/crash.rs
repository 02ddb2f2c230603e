//! `cargo xtask crash`: real browsers, killed at random moments while a page writes, and tabs that take the place of others.

use clap::{Args, ValueEnum};

use crate::browsers::{self, Browser};
use crate::npm::{self, Packages};
use crate::package;
use crate::process::Program;
use crate::repo::Repo;
use crate::server::{self, Profile};

/// What is killed, how often, and in the middle of what.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Wishes {
    /// The browser
    #[arg(long, value_enum, default_value_t = Killed::Chromium)]
    browser: Killed,
    /// How many times
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Fixes the writes and the moments of the kills; drawn if absent
    #[arg(long)]
    seed: Option<u32>,
    /// Delete the browser's databases after each kill
    #[arg(long)]
    wipe: bool,
    /// Open two tabs and kill one of them first
    #[arg(long)]
    two_tabs: bool,
    /// Kill while this goes on
    #[arg(long, value_enum)]
    during: Option<Moment>,
    /// Instead take the leading tab away this often in each way, and measure how long the next one needs
    #[arg(long, value_name = "TIMES", conflicts_with_all = ["kills", "wipe", "two_tabs", "during"])]
    handover: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Wishes {
    /// So many kills and nothing else out of the ordinary.
    pub(crate) const fn short(browser: Killed, kills: u32) -> Self {
        Self { browser, kills, seed: None, wipe: false, two_tabs: false, during: None, handover: None, json: false }
    }
}

/// A browser that the harness can start without a driver.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Killed {
    Chromium,
    Firefox,
}

/// What the engine is doing when the kill comes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Moment {
    /// It exchanges records on disk for a merged one
    Compaction,
    /// It fetches every row anew beside those that are shown
    Resync,
    /// It makes the database and fills it for the first time
    Bootstrap,
    /// It upgrades the database to the layout of a later version, made for this test
    Upgrade,
    /// It makes the database anew, after it was deleted, and comes back from the second copy of the queue
    Recovery,
}

/// Builds server and package and runs `tests/crash/run.mjs`, which fails when an acknowledged write is lost or doubled.
pub(crate) fn run(repo: &Repo, wishes: Wishes) -> anyhow::Result<()> {
    let browser = match wishes.browser {
        Killed::Chromium => Browser::Chromium,
        Killed::Firefox => Browser::Firefox,
    };
    npm::ensure(repo, Packages::All)?;
    browsers::ensure(repo, &[browser])?;
    let program = server::build(repo, Profile::Test)?;
    package::build(repo)?;
    // A judge that sees nothing would pass everything.
    Program::new(repo, "node").args(["--test", "tests/crash/expected.test.mjs"]).run()?;

    let mut node = match wishes.handover {
        Some(times) => Program::new(repo, "node").args(["tests/crash/handover.mjs", "--times"]).arg(times.to_string()),
        None => kills(repo, wishes),
    };
    node = node.args(["--browser", browser.name()]).args(wishes.json.then_some("--json"));
    if let Some(seed) = wishes.seed {
        node = node.arg("--seed").arg(seed.to_string());
    }
    node.env("SYNCLINE_SERVER_BIN", program).envs(browsers::environment(repo, browser)?).run_shown()
}

fn kills(repo: &Repo, wishes: Wishes) -> Program {
    let node = Program::new(repo, "node")
        .args(["tests/crash/run.mjs", "--kills"])
        .arg(wishes.kills.to_string())
        .args(wishes.wipe.then_some("--wipe"))
        .args(wishes.two_tabs.then_some("--two-tabs"));
    match wishes.during.and_then(|moment| moment.to_possible_value()) {
        Some(moment) => node.arg("--during").arg(moment.get_name()),
        None => node,
    }
}
