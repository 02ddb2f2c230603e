//! `cargo xtask fuzz`: random bytes for everything that reads bytes from outside. A workspace of its own, because its build has
//! other flags.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::process::Program;
use crate::repo::Repo;
use crate::test::{self, Named};
use crate::tools::{self, Tool};

const FOLDER: &str = "fuzz";

/// Feeds each named target, or all, for so many minutes, one after the other. What breaks one is kept in `fuzz/crashers`, where
/// the test command finds it.
pub(crate) fn run(repo: &Repo, minutes: u32, names: &[String]) -> anyhow::Result<()> {
    let targets = targets(repo)?;
    let chosen = test::choose("fuzz target", &targets, names)?;
    let program = tools::ensure(repo, Tool::CargoFuzz)?;
    test::run_all("fuzz", &chosen, |target| {
        let crashers = repo.path(FOLDER).join("crashers").join(target.name);
        // What is found on the way is large and mostly alike; `fuzz/corpus` holds a choice of it.
        let found = repo.target().join("fuzz-corpus").join(target.name);
        fs::create_dir_all(&crashers)?;
        fs::create_dir_all(&found)?;
        Program::new(repo, &program)
            // No sanitizer: there is no unsafe code to find faults in, and those need a nightly compiler.
            .args(["run", "--sanitizer", "none", "--features", "libfuzzer", "--target-dir"])
            .arg(repo.target().join(FOLDER))
            .arg(target.name)
            .arg(found)
            .arg(repo.path(FOLDER).join("corpus").join(target.name))
            .arg("--")
            .arg(format!("-max_total_time={}", minutes * 60))
            .arg(format!("-artifact_prefix={}/", crashers.display()))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
            .run_shown()
    })
}

/// Runs every input that was kept, as an ordinary test: no fuzzer is needed for it.
pub(crate) fn run_corpora(repo: &Repo) -> anyhow::Result<()> {
    Program::cargo(repo)
        .args(["test", "--manifest-path", "fuzz/Cargo.toml", "--", "--nocapture"])
        // What the other tests compiled serves this one.
        .env("CARGO_TARGET_DIR", repo.target())
        .run_shown()
}

struct Target {
    name: &'static str,
}

impl Named for Target {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        "see fuzz/src"
    }
}

/// The programs of `fuzz/fuzz_targets`.
fn targets(repo: &Repo) -> anyhow::Result<Vec<Target>> {
    let folder = repo.path(FOLDER).join("fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<PathBuf>>>()?;
    files.sort();
    // A name lives as long as this program: there is one run in it.
    let name = |file: &PathBuf| Some(Target { name: file.file_stem()?.to_str()?.to_owned().leak() });
    Ok(files.iter().filter_map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_a_target() {
        let repo = Repo::locate();
        let manifest = fs::read_to_string(repo.path("fuzz/Cargo.toml")).unwrap();
        let targets = targets(&repo).unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
        }
    }
}
