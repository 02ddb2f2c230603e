//! `cargo xtask sim`: seeds of the simulation in `crates/sim`.

use crate::process::Program;
use crate::repo::Repo;

/// What to run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Wishes {
    /// How many seeds
    #[arg(long, default_value_t = 2_000)]
    pub(crate) seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u64,
    /// Run this seed alone
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Options to change, as `drop=0,devices=1`
    #[arg(long)]
    pub(crate) options: Option<String>,
    /// Print everything that happens; with --seed
    #[arg(long)]
    pub(crate) trace: bool,
    /// Look for each of the planted bugs instead, and say how many seeds that took
    #[arg(long)]
    pub(crate) planted: bool,
}

/// Runs the seeds; a failing one is named with the command that runs it again.
pub(crate) fn run(repo: &Repo, seeds: &Wishes) -> anyhow::Result<()> {
    // The profile of the tests: it shares their dependencies, and it checks for overflow.
    let mut program = Program::cargo(repo).args(["run", "--quiet", "--profile", "test", "--package", "syncline-sim"]);
    if seeds.planted {
        program = program.args(["--features", "planted"]);
    }
    program = program.arg("--").arg(format!("--seeds={}", seeds.seeds)).arg(format!("--from={}", seeds.from));
    if let Some(seed) = seeds.seed {
        program = program.arg(format!("--seed={seed}"));
    }
    if let Some(options) = &seeds.options {
        program = program.arg(format!("--options={options}"));
    }
    if seeds.planted {
        program = program.arg("--planted");
    }
    if seeds.trace {
        program = program.arg("--trace");
    }
    program.run_shown()
}
