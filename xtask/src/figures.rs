//! `cargo xtask figures`: the numbers the README quotes, measured in one run of headless Chromium.

use crate::browsers::{self, Browser};
use crate::npm::{self, Packages};
use crate::process::Program;
use crate::repo::Repo;
use crate::server::{self, Profile};
use crate::{package, size};

/// Builds everything optimised and runs `tests/figures/run.mjs`, which prints the table or the object.
pub(crate) fn run(repo: &Repo, json: bool) -> anyhow::Result<()> {
    npm::ensure(repo, Packages::All)?;
    browsers::ensure(repo, &[Browser::Chromium])?;
    let program = server::build(repo, Profile::Release)?;
    let manifest = package::build(repo)?;
    package::build_demo(repo)?;
    let sizes = repo.scratch("figures")?.join("sizes.json");
    std::fs::write(&sizes, size::report(repo, &manifest, true)?)?;

    Program::new(repo, "node")
        .arg("tests/figures/run.mjs")
        .args(json.then_some("--json"))
        .env("SYNCLINE_SERVER_BIN", program)
        .env("SYNCLINE_SIZES_JSON", sizes)
        .envs(browsers::environment(repo, Browser::Chromium)?)
        .run_shown()
}
