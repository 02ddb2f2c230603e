//! `cargo xtask setup`: installing ahead of time what the other commands would install when they need it.

use clap::ValueEnum;

use crate::browsers::{self, Browser};
use crate::npm::{self, Packages};
use crate::progress::note;
use crate::repo::Repo;
use crate::tools::{self, Tool};
use crate::wasm;

/// A part of the set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The Rust targets wasm32-unknown-unknown and wasm32-wasip1.
    Wasm,
    /// The npm packages, in `node_modules`.
    Npm,
    /// Chromium, Firefox and WebKitGTK with their drivers, from Debian's archive.
    Browsers,
    /// Test runner, geckodriver and cargo-deny, in `.tools/bin`.
    Tools,
}

/// Installs these parts, or all.
pub(crate) fn run(repo: &Repo, parts: &[Part]) -> anyhow::Result<()> {
    let parts = if parts.is_empty() { Part::value_variants() } else { parts };
    for part in parts {
        match part {
            Part::Wasm => {
                [wasm::WASM_TARGET, wasm::WASI_TARGET].into_iter().try_for_each(|target| wasm::ensure_target(repo, target))?;
            }
            Part::Npm => npm::ensure(repo, Packages::All)?,
            Part::Browsers => browsers::ensure(repo, &Browser::ALL)?,
            Part::Tools => Tool::ALL.into_iter().try_for_each(|tool| tools::ensure(repo, tool).map(drop))?,
        }
    }
    note("everything is installed");
    Ok(())
}
