//! `cargo xtask scenarios`: the scenarios of `crates/sim/scenarios`, with the native core and with the same core in wasm.

use crate::process::Program;
use crate::repo::Repo;
use crate::wasm;

/// What to play.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Wishes {
    /// Names of scenarios, as their files are called; all if absent
    pub(crate) names: Vec<String>,
    /// Print everything that happens
    #[arg(long)]
    pub(crate) trace: bool,
    /// Play each with the planted bugs that it must notice instead
    #[arg(long)]
    pub(crate) planted: bool,
}

/// Plays them natively, makes each expectation wrong once, then plays what the cores were given to cores in wasm.
pub(crate) fn run(repo: &Repo, wishes: &Wishes) -> anyhow::Result<()> {
    if wishes.planted {
        return player(repo, wishes).arg("--planted").run_shown();
    }
    let tapes = repo.scratch("tapes")?;
    let mut program = player(repo, wishes).arg("--tapes").arg(&tapes);
    if wishes.trace {
        program = program.arg("--trace");
    }
    program.run_shown()?;
    if !wishes.trace {
        player(repo, wishes).arg("--spoil").run_shown()?;
    }
    wasm::ensure_target(repo, wasm::WASI_TARGET)?;
    Program::cargo(repo)
        .args(["run", "--quiet", "--profile", "test", "--package", "syncline-replay", "--target", wasm::WASI_TARGET, "--"])
        .arg(&tapes)
        .env(wasm::WASI_RUNNER_VARIABLE, wasm::wasi_runner(repo))
        .run_shown()
}

fn player(repo: &Repo, wishes: &Wishes) -> Program {
    // The profile of the tests, as for seeds.
    let mut program = Program::cargo(repo).args(["run", "--quiet", "--profile", "test", "--package", "syncline-sim"]);
    if wishes.planted {
        program = program.args(["--features", "planted"]);
    }
    program.args(["--", "--scenarios"]).args(&wishes.names)
}
