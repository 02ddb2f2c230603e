//! Node and the npm packages of the repository: `package-lock.json` installed into the top `node_modules`.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::process::Program;
use crate::progress::{note, step};
use crate::repo::Repo;
use crate::stamp::{Inputs, Stamp};

/// How much of the lock file is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packages {
    /// What makes the web package and the demo: `dependencies`.
    Build,
    /// That, and what tests and lints use: `devDependencies`.
    All,
}

/// Installs the packages unless they are there already.
pub(crate) fn ensure(repo: &Repo, packages: Packages) -> anyhow::Result<()> {
    check_node(repo)?;
    let all = stamp(repo, Packages::All)?;
    let wanted = stamp(repo, packages)?;
    if all.is_current(&[]) || wanted.is_current(&[]) {
        return Ok(());
    }
    // What tests use stays when the demo brings the rest up to date; else the next test run would install it again.
    let packages = if repo.path("node_modules").join(TEST_PACKAGE).exists() { Packages::All } else { packages };
    let wanted = stamp(repo, packages)?;
    let names = names(repo, packages)?.join(", ");
    step(&format!("Installing npm packages into node_modules: {names}"), || {
        // No package's own install script runs: none of these needs one.
        Program::new(repo, npm())
            .args(["ci", "--ignore-scripts", "--loglevel=error"])
            .args((packages == Packages::Build).then_some("--omit=dev"))
            .hint("If npm could not reach its registry, connect to the network (or set npm's proxy) and run the command again.")
            .run()
    })?;
    wanted.write()
}

/// Removes the packages.
pub(crate) fn clean(repo: &Repo) -> anyhow::Result<()> {
    for name in ["node_modules", "www/node_modules"] {
        let dir = repo.path(name);
        if dir.exists() {
            note(&format!("removing {name}"));
            std::fs::remove_dir_all(dir)?;
        }
    }
    Ok(())
}

/// A program of an installed package: `script` is the path below `node_modules`.
///
/// Started through node, because the links in `node_modules/.bin` differ between systems.
pub(crate) fn tool(repo: &Repo, script: &str) -> Program {
    Program::new(repo, "node").arg(repo.path("node_modules").join(script)).hint(NODE_HINT)
}

/// Runs a script of `package.json` in a folder, with the programs of the top `node_modules` on PATH.
pub(crate) fn script(repo: &Repo, folder: &str, name: &str) -> Program {
    let bin = repo.path("node_modules/.bin");
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&rest))).unwrap_or(rest);
    Program::new(repo, npm())
        .args(["run", "--silent", "--prefix", folder, name])
        .env("PATH", path)
        .hint(format!("It ran the script `{name}` of {folder}/package.json; the reason stands above."))
}

/// Makes the tarball that would be published, in the folder `into`; npm's answer ends with its name.
pub(crate) fn pack(repo: &Repo, folder: &str, into: &Path) -> anyhow::Result<String> {
    let target = repo.path(folder);
    Program::new(repo, npm())
        .args(["pack", "--ignore-scripts", "--silent", "--pack-destination"])
        .arg(into)
        .arg(target)
        .hint(NODE_HINT)
        .capture()
}

/// Installs one tarball into a folder's own `node_modules`, as a user of the package does. Needs no network.
pub(crate) fn install_tarball(repo: &Repo, folder: &str, tarball: &Path) -> anyhow::Result<()> {
    Program::new(repo, npm())
        .args(["install", "--no-save", "--no-package-lock", "--ignore-scripts", "--silent", "--prefix", folder])
        .arg(tarball)
        .hint(NODE_HINT)
        .run()
}

fn check_node(repo: &Repo) -> anyhow::Result<()> {
    let version = Program::new(repo, "node").arg("--version").hint(NODE_HINT).capture()?;
    match release(&version) {
        Some(release) if release >= NODE_MIN => Ok(()),
        Some(_) | None => bail!("Node {} is too old. {NODE_HINT}", version.trim()),
    }
}

/// The first two numbers of a version.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().trim_start_matches('v').split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn npm() -> &'static str {
    if cfg!(windows) { "npm.cmd" } else { "npm" }
}

fn names(repo: &Repo, packages: Packages) -> anyhow::Result<Vec<String>> {
    let manifest = read_json(&repo.path("package.json"))?;
    let sections: &[&str] = match packages {
        Packages::Build => &["dependencies"],
        Packages::All => &["dependencies", "devDependencies"],
    };
    let entries = sections.iter().filter_map(|section| manifest.get(section)?.as_object()).flatten();
    Ok(entries.map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?"))).collect())
}

fn read_json(file: &Path) -> anyhow::Result<serde_json::Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}

fn stamp(repo: &Repo, packages: Packages) -> anyhow::Result<Stamp> {
    let inputs = Inputs::default().text(&format!("{packages:?}")).path(&repo.path("package-lock.json"))?;
    // Inside node_modules, so that removing the folder removes the claim that it is complete.
    Ok(Stamp::at(repo.path("node_modules").join(".syncline-stamp"), inputs))
}

/// A package that only tests use.
const TEST_PACKAGE: &str = "playwright-core";
/// The oldest Node that the tools and tests run on.
const NODE_MIN: (u32, u32) = (20, 19);
const NODE_HINT: &str = "Install Node 20.19 or newer with npm (package `nodejs` of your system, or the Node website).";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_versions_are_read() {
        assert_eq!(release("v20.20.2\n"), Some((20, 20)));
        assert!(release("v22.0.0") > Some(NODE_MIN) && release("v20.9.1") < Some(NODE_MIN));
        assert_eq!(release("garbage"), None);
    }

    #[test]
    fn a_build_needs_fewer_packages_than_all_checks() {
        let repo = Repo::locate();
        let build = names(&repo, Packages::Build).unwrap();
        let all = names(&repo, Packages::All).unwrap();
        assert!(build.iter().any(|name| name.starts_with("binaryen ")));
        assert!(all.len() > build.len());
        assert!(all.iter().any(|name| name.starts_with(TEST_PACKAGE)));
        assert!(!build.iter().any(|name| name.starts_with(TEST_PACKAGE)));
    }
}
