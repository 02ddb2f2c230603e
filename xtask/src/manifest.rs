//! `wasm-pack.toml`: which crate becomes which module, with which flags, and how large the result may be.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::repo::Repo;

/// The whole file. Unknown keys are refused: a misspelt budget would otherwise check nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The modules to build, in order.
    #[serde(rename = "build")]
    pub(crate) builds: Vec<Build>,
    budget: BTreeMap<String, u64>,
}

/// One crate that becomes one module.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Build {
    /// What reports and the budget call it.
    pub(crate) name: String,
    /// Folder of the crate.
    #[serde(rename = "crate")]
    pub(crate) crate_dir: String,
    /// Cargo features.
    #[serde(default)]
    pub(crate) features: Vec<String>,
    /// How the JavaScript around the module loads it, in the words of wasm-pack.
    pub(crate) target: Target,
    /// Cargo profile.
    pub(crate) profile: String,
    /// Folder for the module and its JavaScript.
    pub(crate) out: String,
    /// Arguments of LLVM, which makes the module's code.
    #[serde(default)]
    pub(crate) llvm: Vec<String>,
    /// Arguments of wasm-opt.
    pub(crate) wasm_opt: Vec<String>,
}

/// The wasm-pack targets that Syncline uses.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// An ES module whose `init` fetches the wasm file.
    Web,
    /// For a bundler that imports wasm itself.
    Bundler,
    /// For Node.
    Nodejs,
}

impl Manifest {
    /// Reads the file of this checkout.
    pub(crate) fn load(repo: &Repo) -> anyhow::Result<Self> {
        let file = repo.path("wasm-pack.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(&text).context("wasm-pack.toml is not as it should be")
    }

    /// Parses and checks the text of the file.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let manifest: Self = toml::from_str(text)?;
        ensure!(!manifest.builds.is_empty(), "it has no [[build]]");
        let names: Vec<&str> = manifest.builds.iter().map(|build| build.name.as_str()).collect();
        for key in manifest.budget.keys() {
            let known = key.strip_suffix(BUDGET_SUFFIX).is_some_and(|name| names.contains(&name));
            if !known {
                let expected: Vec<String> = names.iter().map(|name| format!("{name}{BUDGET_SUFFIX}")).collect();
                bail!("unknown key `{key}` in [budget], expected one of: {}", expected.join(", "));
            }
        }
        Ok(manifest)
    }

    /// The limit of a build in gzip bytes, if it has one.
    pub(crate) fn budget(&self, build: &Build) -> Option<u64> {
        self.budget.get(&format!("{}{BUDGET_SUFFIX}", build.name)).copied()
    }
}

const BUDGET_SUFFIX: &str = "_gzip_bytes";

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: &str = r#"
        [[build]]
        name = "sdk"
        crate = "crates/web"
        target = "web"
        profile = "wasm-release"
        out = "pkg/wasm"
        wasm-opt = ["-Os"]
    "#;

    fn refusal(text: &str) -> String {
        format!("{:#}", Manifest::parse(text).unwrap_err())
    }

    #[test]
    fn the_file_of_this_repository_is_valid() {
        let manifest = Manifest::load(&Repo::locate()).unwrap();
        let sdk = manifest.builds.first().unwrap();
        assert_eq!((sdk.name.as_str(), sdk.target), ("sdk", Target::Web));
        assert!(manifest.budget(sdk).is_some(), "the download has no budget");
    }

    #[test]
    fn an_unknown_key_of_a_build_is_refused_by_name() {
        let message = refusal(&format!("{BUILD}\nwasm_opts = []\n[budget]"));
        assert!(message.contains("unknown field `wasm_opts`"), "{message}");
    }

    #[test]
    fn an_unknown_table_is_refused_by_name() {
        let message = refusal(&format!("{BUILD}\n[budget]\n[budgets]"));
        assert!(message.contains("unknown field `budgets`"), "{message}");
    }

    #[test]
    fn a_budget_for_no_build_is_refused_with_the_names_that_exist() {
        let message = refusal(&format!("{BUILD}\n[budget]\nsdk_gzip = 1"));
        assert_eq!(message, "unknown key `sdk_gzip` in [budget], expected one of: sdk_gzip_bytes");
    }

    #[test]
    fn an_unknown_target_is_refused() {
        let message = refusal(&BUILD.replace("\"web\"", "\"browser\""));
        assert!(message.contains("unknown variant `browser`"), "{message}");
    }
}
