//! Rules about dependencies and about the built module.

use anyhow::bail;

use crate::manifest::Manifest;
use crate::process::Program;
use crate::repo::Repo;
use crate::wasm;

/// The arrows between crates point inward, and only `crates/web` knows JavaScript.
pub(super) fn check_dependencies(repo: &Repo) -> anyhow::Result<()> {
    for (package, forbidden) in FORBIDDEN {
        let tree = Program::cargo(repo)
            .args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--target", wasm::WASM_TARGET])
            .capture()?;
        if let Some(found) = first_forbidden(&tree, forbidden) {
            bail!("{package} depends on {found}; `cargo tree --package {package} --invert {found}` shows how");
        }
    }
    Ok(())
}

/// An import from `env` is a C function nobody provides: the page would fail when it loads.
pub(super) fn check_imports(repo: &Repo) -> anyhow::Result<()> {
    let manifest = Manifest::load(repo)?;
    wasm::build(repo, &manifest)?;
    for build in &manifest.builds {
        let module = wasm::outputs(repo, build)?.wasm;
        let imports = Program::new(repo, "node").args(["-e", LIST_IMPORTS]).arg(&module).capture()?;
        if let Some(import) = imports.lines().find(|line| line.starts_with("env ")) {
            bail!("{} imports `{}` from `env`, which no page provides", module.display(), import.trim_start_matches("env "));
        }
    }
    Ok(())
}

fn first_forbidden<'a>(tree: &str, forbidden: &[&'a str]) -> Option<&'a str> {
    let packages: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    forbidden.iter().copied().find(|name| packages.contains(name))
}

const FORBIDDEN: [(&str, &[&str]); 4] = [
    ("syncline-protocol", &["syncline-core", "wasm-bindgen", "js-sys", "web-sys"]),
    ("syncline-core", &["syncline-web", "syncline-server", "wasm-bindgen", "js-sys", "web-sys"]),
    ("syncline-web", &["syncline-server"]),
    ("syncline-server", &["syncline-web"]),
];
const LIST_IMPORTS: &str = "for (const { module, name } of WebAssembly.Module.imports(\
    new WebAssembly.Module(require('node:fs').readFileSync(process.argv[1])))) console.log(module, name)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_package_is_found_by_its_whole_name() {
        let tree = "syncline-core v0.1.0 (/x)\nwasm-bindgen-shared v0.2.130\nserde v1.0.0\n";
        assert_eq!(first_forbidden(tree, &["wasm-bindgen"]), None);
        assert_eq!(first_forbidden(tree, &["js-sys", "serde"]), Some("serde"));
    }
}
