//! The TypeScript halves: the npm package in `pkg/` and the demo in `www/`, each built by its own `build` script.

use crate::manifest::Manifest;
use crate::npm;
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

/// Builds the demo from the package.
pub(crate) fn build_demo(repo: &Repo) -> anyhow::Result<()> {
    let made = ["pkg/package.json", "pkg/dist", "pkg/wasm"];
    let own = ["www", "tsconfig.base.json", "package-lock.json"];
    build_folder(repo, "www", &[own, made].concat())
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
