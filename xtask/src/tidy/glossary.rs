//! One word, one meaning: the words that `docs/glossary.md` says to avoid are not used.
//!
//! Only expressions of two words and more are looked for, as prose and as identifiers. Single words to avoid, such as
//! "event", have a meaning of their own elsewhere, which only a reader can tell.

use super::TextFile;

/// An expression to avoid and the word to use instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Avoided {
    parts: Vec<String>,
    instead: String,
}

/// The expressions in the last column of the glossary's table `| word | meaning | avoid |`.
pub(super) fn avoided(glossary: &str) -> Vec<Avoided> {
    let mut found = Vec::new();
    for line in glossary.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [word, _, avoid] = cells.as_slice() else { continue };
        for expression in avoid.split(',').map(str::trim) {
            let parts: Vec<String> = expression.split([' ', '-', '_']).map(str::to_lowercase).collect();
            if parts.len() > 1 && !parts.iter().any(String::is_empty) && !parts.iter().any(|part| part.contains("--")) {
                found.push(Avoided { parts, instead: (*word).to_owned() });
            }
        }
    }
    found
}

/// Where a file uses an avoided expression.
pub(super) fn check(words: &[Avoided], file: &TextFile) -> Vec<String> {
    if QUOTING.contains(&file.path.as_str()) || !file.has_extension(&["rs", "ts", "tsx", "mjs", "md", "sql"]) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        // The one expression that is also syntax, of SQL.
        let used = words_of(&line.replace("PRIMARY KEY", ""));
        for word in words.iter().filter(|word| used.windows(word.parts.len()).any(|window| window == word.parts)) {
            let expression = word.parts.join(" ");
            findings.push(format!("{}:{number}: the glossary says \"{}\", not \"{expression}\"", file.path, word.instead));
        }
    }
    findings
}

/// The words of a line in lower case; `rowId`, `RowId`, `row_id` and `row id` are all two words.
fn words_of(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for char in line.chars() {
        let starts_word = char.is_uppercase() && was_lower;
        if (starts_word || !char.is_alphanumeric()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| char.is_alphanumeric()) {
            word.extend(char.to_lowercase());
        }
        was_lower = char.is_lowercase() || char.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The files that name what is to be avoided.
const QUOTING: [&str; 2] = ["docs/glossary.md", "xtask/src/tidy/glossary.rs"];

#[cfg(test)]
mod tests {
    use super::*;

    const GLOSSARY: &str =
        "| word | meaning | avoid |\n|---|---|---|\n| replica id | one replica | gadget id, gizmo |\n| page | a piece | |\n";

    fn findings(text: &str) -> Vec<String> {
        check(&avoided(GLOSSARY), &TextFile { path: "a.rs".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn expressions_are_read_from_the_table_and_single_words_are_left_to_readers() {
        let expected = Avoided { parts: vec!["gadget".to_owned(), "id".to_owned()], instead: "replica id".to_owned() };
        assert_eq!(avoided(GLOSSARY), [expected]);
    }

    #[test]
    fn every_spelling_is_found() {
        for spelling in ["a gadget id here", "gadget_id", "gadgetId: 1", "struct GadgetId;", "GADGET_ID", "gadget-id"] {
            assert_eq!(findings(spelling), ["a.rs:1: the glossary says \"replica id\", not \"gadget id\""], "{spelling}");
        }
    }

    #[test]
    fn sql_keeps_its_syntax() {
        let words = avoided("| row id | its name | primary key |");
        let find = |text: &str| check(&words, &TextFile { path: "a.rs".to_owned(), text: text.to_owned() }).len();
        assert_eq!(find("CREATE TABLE a (b TEXT PRIMARY KEY)"), 0);
        assert_eq!(find("the primary key of a"), 1);
    }

    #[test]
    fn parts_of_longer_words_are_not_found() {
        assert!(findings("gadget idea, the device, an id").is_empty());
    }
}
