//! `cargo xtask tidy`: this repository's own rules, those that neither compiler nor linter knows.

mod dependencies;
mod glossary;
mod links;
mod sources;

use std::fs;

use anyhow::{Context as _, bail};

use crate::process::Program;
use crate::progress::step;
use crate::repo::Repo;

/// Checks every file that git tracks or would track, then what is built from them.
pub(crate) fn check(repo: &Repo) -> anyhow::Result<()> {
    let findings = step("Reading sources and documents", || read_all(repo))?;
    if !findings.is_empty() {
        bail!("{} finding(s):\n{}", findings.len(), findings.join("\n"));
    }
    step("Checking which crate depends on which", || dependencies::check_dependencies(repo))
}

/// A file of the checkout: its path from the top folder, with `/`, and its text.
#[derive(Debug)]
struct TextFile {
    path: String,
    text: String,
}

impl TextFile {
    fn has_extension(&self, extensions: &[&str]) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
    }
}

/// The findings of all rules over all text files, each as `path: what is wrong`.
fn read_all(repo: &Repo) -> anyhow::Result<Vec<String>> {
    let files = text_files(repo)?;
    let words = fs::read_to_string(repo.path("docs/glossary.md")).map(|text| glossary::avoided(&text)).unwrap_or_default();
    let mut findings = Vec::new();
    for file in &files {
        findings.extend(sources::check(file));
        findings.extend(links::check(repo, file));
        findings.extend(glossary::check(&words, file));
    }
    Ok(findings)
}

fn text_files(repo: &Repo) -> anyhow::Result<Vec<TextFile>> {
    let listing = Program::new(repo, "git")
        // A file that is not yet added is checked too: it will be committed next.
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .hint("The list of files comes from git, so this check works in a clone only.")
        .capture()?;
    let mut files = Vec::new();
    for path in listing.split('\0').filter(|path| !path.is_empty()) {
        let Ok(bytes) = fs::read(repo.path(path)) else { continue };
        // A picture or a database is no text; the rules are about text.
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(TextFile { path: path.to_owned(), text });
        }
    }
    files.first().context("git lists no files")?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_follows_its_own_rules() {
        let findings = read_all(&Repo::locate()).unwrap();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}
