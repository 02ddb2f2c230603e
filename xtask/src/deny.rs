//! Licences, bans and sources of all dependencies, as `deny.toml` says.

use crate::process::Program;
use crate::repo::Repo;
use crate::tools::{self, Tool};

/// Checks what needs no network.
pub(crate) fn check(repo: &Repo) -> anyhow::Result<()> {
    deny(repo)?.args(["licenses", "bans", "sources"]).run_shown()
}

/// Checks for known vulnerabilities, which needs the `RustSec` advisory database.
pub(crate) fn check_advisories(repo: &Repo) -> anyhow::Result<()> {
    deny(repo)?
        .arg("advisories")
        .hint(
            "This check fetches the RustSec advisory database, a git repository. Where that cannot be reached, put a clone \
             into cargo-deny's database folder (its message above names it) and run the command again.",
        )
        .run_shown()
}

fn deny(repo: &Repo) -> anyhow::Result<Program> {
    let program = tools::ensure(repo, Tool::CargoDeny)?;
    Ok(Program::new(repo, program).args(["--all-features", "check", "--hide-inclusion-graph"]))
}
