//! Rules about one source file at a time.

use super::TextFile;

/// All findings of this module's rules in one file.
pub(super) fn check(file: &TextFile) -> Vec<String> {
    let single = [too_long(file), mod_file(file)].into_iter().flatten();
    single.chain(exclusive_exports(file)).chain(machine_traces(file)).chain(text_as_code(file)).collect()
}

/// A long file hides what it is about, unless its first sentence says why it is one.
fn too_long(file: &TextFile) -> Option<String> {
    if !file.has_extension(&["rs", "ts", "tsx", "js", "mjs", "css", "html"]) {
        return None;
    }
    let lines = file.text.lines().position(|line| line == "mod tests {").unwrap_or_else(|| file.text.lines().count());
    let is_defended = file.text.lines().take(5).any(|line| line.contains(DEFENCE));
    (lines > LINES_MAX && !is_defended).then(|| {
        format!("{}: {lines} lines without tests; split it, or say at its top why it is one (\"{DEFENCE} …\")", file.path)
    })
}

/// Editor tabs and search results named `mod.rs` all look alike.
fn mod_file(file: &TextFile) -> Option<String> {
    (file.path == "mod.rs" || file.path.ends_with("/mod.rs"))
        .then(|| format!("{}: a module is `name.rs` beside the folder `name/`", file.path))
}

/// JavaScript can call back into an export that is still running, and `&mut self` then throws.
fn exclusive_exports(file: &TextFile) -> Vec<String> {
    if !(file.path.starts_with("crates/web/src/") && file.has_extension(&["rs"])) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut was_exported = false;
    let mut in_export = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.starts_with("#[wasm_bindgen") {
            was_exported = true;
        } else if line.starts_with("impl") {
            in_export = was_exported;
            was_exported = false;
        } else if line == "}" {
            in_export = false;
            was_exported = false;
        } else if in_export && line.contains("&mut self") {
            findings.push(format!("{}:{number}: an exported method takes `&self`; keep state in a RefCell", file.path));
        } else if !line.starts_with("#[") && !line.starts_with("//") && !line.is_empty() && !line.starts_with(' ') {
            was_exported = false;
        }
    }
    findings
}

/// Paths of one machine and hosts of one registry mean nothing to anybody else.
fn machine_traces(file: &TextFile) -> Vec<String> {
    // Cargo's own name of crates.io stands in every lock file.
    if file.path == "Cargo.lock" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for trace in TRACES.iter().filter(|trace| has_trace(line, trace)) {
            findings.push(format!("{}:{number}: `{trace}` belongs to one machine or registry", file.path));
        }
    }
    findings
}

/// What the browser would read as HTML or code may be a user's text one day.
fn text_as_code(file: &TextFile) -> Vec<String> {
    let is_shipped = ["www/src/", "pkg/src/", "crates/web/js/"].iter().any(|folder| file.path.starts_with(folder));
    if !(is_shipped && file.has_extension(&["ts", "js"])) {
        return Vec::new();
    }
    let found = |(number, line): (usize, &str)| {
        let name = CODE_FROM_TEXT.iter().find(|name| line.contains(**name))?;
        Some(format!("{}:{number}: `{name}` reads text as HTML or code; make elements and set their text", file.path))
    };
    (1..).zip(file.text.lines()).filter_map(found).collect()
}

/// Whether the line holds the trace as the start of a path or host, not inside a longer word.
fn has_trace(line: &str, trace: &str) -> bool {
    line.match_indices(trace).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !trace.starts_with('/') || before.is_none_or(|char| !(char.is_alphanumeric() || "._-/}*".contains(char)))
    })
}

const LINES_MAX: usize = 600;
const DEFENCE: &str = "One file because";
const CODE_FROM_TEXT: [&str; 8] = [
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "setHTMLUnsafe",
    "document.write",
    "createContextualFragment",
    "new Function",
    "eval(",
];
/// Written in pieces, so that this file does not contain what it looks for.
const TRACES: [&str; 6] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tm", "p/"),
    concat!("registry.", "npmjs"),
    concat!("arti", "factory"),
    concat!("index.crates", ".io"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: impl Into<String>) -> TextFile {
        TextFile { path: path.to_owned(), text: text.into() }
    }

    #[test]
    fn a_long_file_needs_a_defence() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert!(too_long(&file("a.rs", long.clone())).unwrap().starts_with("a.rs: 601 lines"));
        assert_eq!(too_long(&file("a.rs", format!("//! {DEFENCE} it is one table.\n{long}"))), None);
        assert_eq!(too_long(&file("a.json", long)), None);
        assert_eq!(too_long(&file("a.rs", "x\n".repeat(LINES_MAX))), None);
    }

    #[test]
    fn inline_tests_do_not_count() {
        let text = format!("{}#[cfg(test)]\nmod tests {{\n{}", "x\n".repeat(500), "x\n".repeat(500));
        assert_eq!(too_long(&file("a.rs", text)), None);
    }

    #[test]
    fn mod_files_are_refused() {
        assert!(mod_file(&file("crates/core/src/queue/mod.rs", "")).is_some());
        assert!(mod_file(&file("crates/core/src/queue/model.rs", "")).is_none());
    }

    #[test]
    fn exclusive_exports_are_refused_and_private_ones_allowed() {
        let text = "#[wasm_bindgen]\nimpl Raw {\n    pub fn set(&mut self) {}\n}\n\nimpl Raw {\n    fn own(&mut self) {}\n}\n";
        let findings = exclusive_exports(&file("crates/web/src/raw.rs", text));
        assert_eq!(findings, ["crates/web/src/raw.rs:3: an exported method takes `&self`; keep state in a RefCell"]);
        assert!(exclusive_exports(&file("crates/core/src/raw.rs", text)).is_empty());
    }

    #[test]
    fn an_exported_struct_does_not_export_the_next_impl() {
        let text = "#[wasm_bindgen]\npub struct Raw;\n\nimpl Raw {\n    fn own(&mut self) {}\n}\n";
        assert!(exclusive_exports(&file("crates/web/src/raw.rs", text)).is_empty());
    }

    #[test]
    fn text_as_code_is_refused_in_what_a_page_loads() {
        let text = "note.textContent = name;\nnote.innerHTML = name;\n";
        assert_eq!(text_as_code(&file("www/src/view/note.ts", text)).len(), 1);
        assert!(text_as_code(&file("tests/e2e/note.test.mjs", text)).is_empty());
    }

    #[test]
    fn paths_of_a_machine_are_found_and_similar_words_are_not() {
        let path = concat!("see /wo", "rk/main");
        assert_eq!(machine_traces(&file("a.md", path)).len(), 1);
        assert!(machine_traces(&file("a.md", concat!("src/net/wo", "rk/queue.rs"))).is_empty());
        assert!(machine_traces(&file("Cargo.lock", path)).is_empty());
    }
}
