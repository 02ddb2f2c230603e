//! Formatting, lints, documentation warnings and types: everything that reads sources without running them.

use crate::npm::{self, Packages};
use crate::process::Program;
use crate::progress::step;
use crate::repo::Repo;
use crate::{package, wasm};

/// Runs all of them; the first failure ends it.
pub(crate) fn check(repo: &Repo) -> anyhow::Result<()> {
    step("cargo fmt --check", || Program::cargo(repo).args(["fmt", "--all", "--check"]).hint("Run `cargo fmt`.").run())?;
    step("Biome: format and lint of TypeScript, JavaScript and JSON", || {
        npm::ensure(repo, Packages::All)?;
        npm::tool(repo, "@biomejs/biome/bin/biome")
            .args(["check", "--error-on-warnings", "."])
            .hint("`npx biome check --write .` fixes what can be fixed by a machine.")
            .run()
    })?;
    step("clippy, all targets of the host", || {
        Program::cargo(repo).args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run()
    })?;
    step("clippy, wasm32", || {
        wasm::ensure_target(repo, wasm::WASM_TARGET)?;
        let packages = ["syncline-protocol", "syncline-core", "syncline-web"].map(|name| format!("--package={name}"));
        Program::cargo(repo)
            .arg("clippy")
            .args(packages)
            .args(["--lib", "--target", wasm::WASM_TARGET, "--", "-D", "warnings"])
            .run()
    })?;
    step("rustdoc", || {
        Program::cargo(repo)
            .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run()
    })?;
    step("tsc --strict, the JavaScript of crates/web", || {
        npm::tool(repo, "typescript/bin/tsc").args(["--project", "crates/web/js"]).run()
    })?;
    package::build(repo)?;
    for folder in ["pkg", "www"] {
        // The package first: the demo is checked against the types it publishes.
        step(&format!("tsc --strict (the script `check` of {folder}/package.json)"), || {
            npm::script(repo, folder, "check").run()
        })?;
    }
    Ok(())
}
