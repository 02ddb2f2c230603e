//! Relative links in documents lead to files that exist.

use super::TextFile;
use crate::repo::Repo;

/// The broken links of one Markdown file.
pub(super) fn check(repo: &Repo, file: &TextFile) -> Vec<String> {
    if !file.has_extension(&["md"]) {
        return Vec::new();
    }
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let broken = targets(&file.text).into_iter().filter(|(_, target)| {
        let path = target.split_once('#').map_or(target.as_str(), |(path, _)| path);
        !path.is_empty() && !repo.path(folder).join(path).exists()
    });
    broken.map(|(number, target)| format!("{}:{number}: the link `{target}` leads nowhere", file.path)).collect()
}

/// The relative targets of `[text](target)` and `[label]: target` with their line numbers; code is skipped.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        // Every second piece between back-ticks is code.
        let prose: String = line.split('`').step_by(2).collect();
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let reference = prose.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target.trim());
        let relative = inline.chain(reference).filter(|target| is_relative(target));
        found.extend(relative.map(|target| (number, target.to_owned())));
    }
    found
}

fn is_relative(target: &str) -> bool {
    !target.is_empty() && !target.starts_with('#') && !target.contains("://") && !target.starts_with("mailto:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_both_kinds_are_found_and_code_is_not() {
        let text =
            "See [a](docs/a.md#top) and [b](https://b.example) and `[c](c.md)`.\n```\n[d](d.md)\n```\n[e]: e.md\n[f](#f)\n";
        assert_eq!(targets(text), [(1, "docs/a.md#top".to_owned()), (5, "e.md".to_owned())]);
    }

    #[test]
    fn a_link_is_relative_to_its_own_file() {
        let repo = Repo::locate();
        let file = |target: &str| TextFile { path: "docs/x.md".to_owned(), text: format!("[x]({target})") };
        assert!(check(&repo, &file("../Cargo.toml")).is_empty());
        assert_eq!(check(&repo, &file("Cargo.toml")), ["docs/x.md:1: the link `Cargo.toml` leads nowhere"]);
    }
}
