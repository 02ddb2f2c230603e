//! The TypeScript halves: the npm package in `pkg/` and the demo in `www/`, each built by its own `build` script.

use crate::manifest::Manifest;
use crate::npm;
use crate::progress::step;
use crate::repo::Repo;
use crate::stamp::{Inputs, Stamp};
use crate::{size, wasm};

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
    let inputs = Inputs::default().paths(repo, &["pkg", "tsconfig.base.json", "package-lock.json"])?;
    build_folder(repo, "pkg", inputs)?;
    Ok(manifest)
}

/// Builds the demo from the package.
pub(crate) fn build_demo(repo: &Repo) -> anyhow::Result<()> {
    let inputs = Inputs::default()
        .paths(repo, &["www", "pkg/package.json", "pkg/dist", "pkg/wasm", "tsconfig.base.json", "package-lock.json"])?;
    build_folder(repo, "www", inputs)
}

fn build_folder(repo: &Repo, folder: &str, inputs: Inputs) -> anyhow::Result<()> {
    let stamp = Stamp::new(repo, folder, inputs);
    if stamp.is_current(&[repo.path(folder).join("dist")]) {
        return Ok(());
    }
    step(&format!("Building {folder}/dist (the script `build` of {folder}/package.json)"), || {
        npm::script(repo, folder, "build").run()
    })?;
    stamp.write()
}
