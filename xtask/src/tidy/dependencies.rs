//! Rules about dependencies.

use anyhow::bail;

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
