//! The TypeScript halves: the npm package in `pkg/` and the demo in `www/`, each built by its own `build` script.
//!
//! The demo is built as an application of somebody else would be: from the packed package, installed with npm.

use std::fs;

use anyhow::Context as _;

use crate::manifest::Manifest;
use crate::npm::{self, Packages};
use crate::progress::step;
use crate::repo::Repo;
use crate::stamp::{Inputs, Stamp};
use crate::{lock, size, wasm};

/// Builds the modules and the npm package, and fails if they are over the size budget.
pub(crate) fn build_within_budget(repo: &Repo) -> anyhow::Result<Manifest> {
    let manifest = build(repo)?;
    size::check(repo, &manifest)?;
    Ok(manifest)
}

/// Builds the modules and the npm package, whatever their size: a test of behaviour fails for behaviour alone.
pub(crate) fn build(repo: &Repo) -> anyhow::Result<Manifest> {
    let manifest = Manifest::load(repo)?;
    wasm::build(repo, &manifest)?;
    build_folder(repo, "pkg", &["pkg", "tsconfig.base.json", "package-lock.json"])?;
    Ok(manifest)
}

/// Installs what building takes, or says what is missing; quick where it is there.
pub(crate) fn ensure_tools(repo: &Repo) -> anyhow::Result<()> {
    wasm::ensure_target(repo, wasm::WASM_TARGET)?;
    npm::ensure(repo, Packages::Build)
}

/// Builds the demo from the packed package.
pub(crate) fn build_demo(repo: &Repo) -> anyhow::Result<()> {
    lock::alone(repo, || install_packed(repo))?;
    let own = ["www", "tsconfig.base.json", "package-lock.json"];
    build_folder(repo, "www", &[&own, PUBLISHED].concat())
}

/// What `npm pack` puts into the tarball.
const PUBLISHED: &[&str] = &["pkg/package.json", "pkg/dist", "pkg/wasm"];

/// Packs `pkg/` and installs the tarball, and nothing else, into `www/node_modules`.
fn install_packed(repo: &Repo) -> anyhow::Result<()> {
    let stamp = Stamp::new(repo, "packed", Inputs::default().paths(repo, PUBLISHED)?);
    if stamp.is_current(&[repo.path("www/node_modules/syncline/package.json")]) {
        return Ok(());
    }
    let folder = repo.tools().join("packed");
    fs::create_dir_all(&folder)?;
    step("Packing pkg/ and installing it into www/node_modules: syncline, from the tarball", || {
        let answer = npm::pack(repo, "pkg", &folder)?;
        let name = answer.lines().rfind(|line| !line.is_empty()).context("npm pack named no tarball")?;
        npm::install_tarball(repo, "www", &folder.join(name.trim()))
    })?;
    stamp.write()
}

fn build_folder(repo: &Repo, folder: &str, inputs: &[&str]) -> anyhow::Result<()> {
    lock::alone(repo, || build_folder_alone(repo, folder, inputs))
}

fn build_folder_alone(repo: &Repo, folder: &str, inputs: &[&str]) -> anyhow::Result<()> {
    let stamp = Stamp::new(repo, folder, Inputs::default().paths(repo, inputs)?);
    if stamp.is_current(&[repo.path(folder).join("dist")]) {
        return Ok(());
    }
    step(&format!("Building {folder}/dist (the script `build` of {folder}/package.json)"), || {
        npm::script(repo, folder, "build").run()
    })?;
    stamp.write()
}
