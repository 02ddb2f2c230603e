//! `cargo xtask test`: the suites in order, each with its time, and one line that sums them up.

mod suites;

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::progress::seconds;
use crate::repo::Repo;
use suites::SUITES;

/// A group of tests that is run, timed and counted as one.
pub(crate) struct Suite {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// What it holds, in one line.
    pub(crate) about: &'static str,
    /// Runs it, installing what it needs first.
    pub(crate) run: fn(&Repo) -> anyhow::Result<()>,
}

/// Runs the named suites, or all, in the order of the table.
pub(crate) fn run(repo: &Repo, names: &[String]) -> anyhow::Result<()> {
    run_all("test", &choose("test suite", SUITES, names)?, |suite| (suite.run)(repo))
}

/// Runs each and says how long it took; goes on after a failure.
#[expect(clippy::print_stdout, reason = "the verdict is the answer of these commands")]
pub(crate) fn run_all<T: Named>(command: &str, chosen: &[&T], run: impl Fn(&T) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut results = Vec::new();
    for one in chosen {
        println!("\n=== {}: {}", one.name(), one.about());
        let start = Instant::now();
        let outcome = run(one);
        if let Err(error) = &outcome {
            println!("=== {} FAILED: {error:#}", one.name());
        }
        results.push(Finished { name: one.name(), took: start.elapsed(), passed: outcome.is_ok() });
    }
    println!("\n{}", table(&results));
    let failed = results.iter().filter(|result| !result.passed).count();
    println!("{} passed, {failed} failed", results.len() - failed);
    if failed > 0 {
        bail!(again(command, &results));
    }
    Ok(())
}

/// The names and contents of all suites, one a line.
pub(crate) fn list() -> String {
    list_of(SUITES)
}

fn list_of<T: Named>(all: &[T]) -> String {
    let lines: Vec<String> = all.iter().map(|one| format!("  {:<17} {}", one.name(), one.about())).collect();
    lines.join("\n")
}

/// What the command line can name.
pub(crate) trait Named {
    /// What the command line calls it.
    fn name(&self) -> &'static str;
    /// What it holds, in one line.
    fn about(&self) -> &'static str;
}

impl Named for Suite {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }
}

struct Finished {
    name: &'static str,
    took: Duration,
    passed: bool,
}

/// Those with the given names, or all when none is given.
pub(crate) fn choose<'a, T: Named>(kind: &str, all: &'a [T], names: &[String]) -> anyhow::Result<Vec<&'a T>> {
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|one| one.name() != *name)) {
        bail!("There is no {kind} `{unknown}`. These exist:\n{}", list_of(all));
    }
    Ok(all.iter().filter(|one| names.is_empty() || names.iter().any(|name| name == one.name())).collect())
}

fn table(results: &[Finished]) -> String {
    let line = |name: &str, took: Duration, verdict: &str| format!("{name:<17} {:>12}  {verdict}", seconds(took));
    let mut lines: Vec<String> =
        results.iter().map(|result| line(result.name, result.took, if result.passed { "passed" } else { "FAILED" })).collect();
    lines.push(line("all", results.iter().map(|result| result.took).sum(), ""));
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

fn again(command: &str, results: &[Finished]) -> String {
    let names: Vec<&str> = results.iter().filter(|result| !result.passed).map(|result| result.name).collect();
    format!("To run what failed again: cargo xtask {command} {}", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_run_in_the_order_of_the_table_whatever_the_order_of_names() {
        let chosen = choose("test suite", SUITES, &["tidy".to_owned(), "lint".to_owned()]).unwrap();
        let names: Vec<&str> = chosen.iter().map(|suite| suite.name).collect();
        assert_eq!(names, ["lint", "tidy"]);
        assert_eq!(choose("test suite", SUITES, &[]).unwrap().len(), SUITES.len());
    }

    #[test]
    fn an_unknown_suite_is_refused_with_the_names_that_exist() {
        let message = choose("test suite", SUITES, &["browser".to_owned()]).err().unwrap().to_string();
        assert!(message.starts_with("There is no test suite `browser`"), "{message}");
        assert!(message.contains("browser-webkit"), "{message}");
    }

    #[test]
    fn failures_are_named_for_the_next_run() {
        let results = [
            Finished { name: "lint", took: Duration::from_secs(1), passed: true },
            Finished { name: "tidy", took: Duration::from_secs(2), passed: false },
        ];
        assert_eq!(again("test", &results), "To run what failed again: cargo xtask test tidy");
        assert_eq!(
            table(&results),
            "lint                     1.0 s  passed\ntidy                     2.0 s  FAILED\nall                      3.0 s"
        );
    }
}
