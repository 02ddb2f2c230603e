//! Programs that cargo compiles for this repository alone, into `.tools/bin`.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::process::Program;
use crate::progress::{note, step};
use crate::repo::Repo;

/// A program from crates.io.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Runs wasm-bindgen tests in Node and in browsers.
    WasmTestRunner,
    /// Drives Firefox over `WebDriver`.
    Geckodriver,
    /// Checks licences, bans and sources of dependencies.
    CargoDeny,
    /// Builds and runs fuzz targets. `cargo xtask fuzz` alone installs it.
    CargoFuzz,
}

impl Tool {
    /// What tests need.
    pub(crate) const ALL: [Self; 3] = [Self::WasmTestRunner, Self::Geckodriver, Self::CargoDeny];

    fn package(self) -> &'static str {
        match self {
            Self::WasmTestRunner => "wasm-bindgen-cli",
            Self::Geckodriver => "geckodriver",
            Self::CargoDeny => "cargo-deny",
            Self::CargoFuzz => "cargo-fuzz",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::WasmTestRunner => "wasm-bindgen-test-runner",
            Self::Geckodriver => "geckodriver",
            Self::CargoDeny => "cargo-deny",
            Self::CargoFuzz => "cargo-fuzz",
        }
    }

    fn version(self, repo: &Repo) -> anyhow::Result<String> {
        match self {
            // Tool and library must be equal to the last digit.
            Self::WasmTestRunner => locked_version(repo, "wasm-bindgen"),
            Self::Geckodriver => Ok("0.37.1".to_owned()),
            Self::CargoDeny => Ok("0.20.2".to_owned()),
            Self::CargoFuzz => Ok("0.13.2".to_owned()),
        }
    }

    /// Whether to build it with the dependencies its own lock file names.
    fn is_locked(self) -> bool {
        match self {
            // Its lock file may name versions that a registry mirror does not have yet.
            Self::WasmTestRunner => false,
            Self::Geckodriver | Self::CargoDeny | Self::CargoFuzz => true,
        }
    }
}

/// Installs a tool unless its version is there already, and returns the program.
pub(crate) fn ensure(repo: &Repo, tool: Tool) -> anyhow::Result<PathBuf> {
    let version = tool.version(repo)?;
    let program = repo.tools().join("bin").join(format!("{}{}", tool.program(), std::env::consts::EXE_SUFFIX));
    if program.exists() && is_recorded(&record(repo), tool.package(), &version) {
        return Ok(program);
    }
    let what = format!("Installing {} {version} into .tools/bin (cargo install; 1 to 4 minutes)", tool.package());
    step(&what, || {
        Program::cargo(repo)
            .args(["install", tool.package(), "--version", &format!("={version}"), "--root"])
            .arg(repo.tools())
            .args(tool.is_locked().then_some("--locked"))
            .env("CARGO_TARGET_DIR", build_dir(repo))
            .hint("If cargo could not reach crates.io, connect to the network and run the command again.")
            .run()
    })?;
    // What is left of compiling a tool is hundreds of megabytes and of no use.
    if build_dir(repo).exists() {
        fs::remove_dir_all(build_dir(repo))?;
    }
    Ok(program)
}

/// Removes all tools and stamps.
pub(crate) fn clean(repo: &Repo) -> anyhow::Result<()> {
    if repo.tools().exists() {
        note("removing .tools");
        fs::remove_dir_all(repo.tools())?;
    }
    Ok(())
}

/// The version of a package in `Cargo.lock`.
pub(crate) fn locked_version(repo: &Repo, package: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(repo.path("Cargo.lock")).context("reading Cargo.lock")?;
    version_in_lock(&text, package)?.with_context(|| format!("Cargo.lock holds no package `{package}`"))
}

fn version_in_lock(lock: &str, package: &str) -> anyhow::Result<Option<String>> {
    let lock: toml::Table = toml::from_str(lock).context("Cargo.lock is not TOML")?;
    let packages = lock.get("package").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let found = packages.iter().find(|entry| entry.get("name").and_then(toml::Value::as_str) == Some(package));
    Ok(found.and_then(|entry| entry.get("version")?.as_str()).map(str::to_owned))
}

fn build_dir(repo: &Repo) -> PathBuf {
    repo.tools().join("build")
}

/// Cargo's own list of what it installed under `.tools`.
fn record(repo: &Repo) -> String {
    fs::read_to_string(repo.tools().join(".crates.toml")).unwrap_or_default()
}

fn is_recorded(record: &str, package: &str, version: &str) -> bool {
    record.contains(&format!("\"{package} {version} ("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_runner_has_the_version_of_the_library() {
        let repo = Repo::locate();
        let wanted = format!("wasm-bindgen = {{ version = \"={}\"", Tool::WasmTestRunner.version(&repo).unwrap());
        let workspace = fs::read_to_string(repo.path("Cargo.toml")).unwrap();
        assert!(workspace.contains(&wanted), "Cargo.toml must hold {wanted}");
    }

    #[test]
    fn a_version_is_found_by_the_whole_name() {
        let lock = "[[package]]\nname = \"ab\"\nversion = \"2.0.0\"\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n";
        assert_eq!(version_in_lock(lock, "a").unwrap().as_deref(), Some("1.0.0"));
        assert_eq!(version_in_lock(lock, "b").unwrap(), None);
    }

    #[test]
    fn only_the_exact_version_counts_as_installed() {
        let record = "[v1]\n\"geckodriver 0.37.1 (registry+x)\" = [\"geckodriver\"]\n";
        assert!(is_recorded(record, "geckodriver", "0.37.1"));
        assert!(!is_recorded(record, "geckodriver", "0.37.10"));
        assert!(!is_recorded(record, "driver", "0.37.1"));
    }
}
