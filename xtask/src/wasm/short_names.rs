//! Short names for what the module and its JavaScript have from each other. The generated ones are long, most end in a hash
//! that nothing compresses, and each stands in both files.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// Has wasm-opt give the names, and print what it gave.
pub(super) const GIVE: &str = "--minify-imports-and-exports-and-modules";

/// What wasm-opt prints.
#[derive(Debug, Deserialize)]
pub(super) struct ShortNames {
    /// Module, name, short name. The module gets a short name too, which wasm-opt does not print: there is one.
    imports: Vec<(String, String, String)>,
    /// Name, short name.
    exports: Vec<(String, String)>,
}

impl ShortNames {
    pub(super) fn parse(printed: &str) -> anyhow::Result<Self> {
        serde_json::from_str(printed).context("wasm-opt printed no list of short names")
    }

    /// Has the JavaScript that loads the module say them.
    pub(super) fn write(&self, js: &Path) -> anyhow::Result<()> {
        let text = fs::read_to_string(js)?;
        let module = format!("./{}_bg.js", js.file_stem().unwrap_or_default().to_string_lossy());
        fs::write(js, self.replace_in(text, &module).with_context(|| format!("shortening the names of {}", js.display()))?)?;
        Ok(())
    }

    fn replace_in(&self, mut text: String, module: &str) -> anyhow::Result<String> {
        for (from, name, short) in &self.imports {
            // An import from `env` is a C function nobody provides: the page would fail when it loads.
            ensure!(from == module, "the module imports `{name}` from `{from}`, which no page provides");
            text = replace(&text, &format!("{name}: function("), &format!("{short}: function("))?;
        }
        text = replace(&text, &format!("\"{module}\": import0"), &format!("\"{MODULE}\": import0"))?;
        // `imports.a` and `wasm.a` never meet. What starts with another name is replaced before that.
        let mut exports: Vec<_> = self.exports.iter().collect();
        exports.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        for (name, short) in exports {
            text = text.replace(&format!("wasm.{name}"), &format!("wasm.{short}"));
        }
        Ok(text)
    }
}

/// What wasm-opt calls the only module that is imported.
const MODULE: &str = "a";

fn replace(text: &str, from: &str, to: &str) -> anyhow::Result<String> {
    ensure!(text.matches(from).count() == 1, "`{from}` does not stand there once");
    Ok(text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = r#"{
        "imports": [["./x_bg.js", "__wbg_send_dd0229", "a"]],
        "exports": [["start", "b"], ["startAll", "c"]]
    }"#;

    #[test]
    fn both_sides_get_the_same_names() {
        let js = "{ __wbg_send_dd0229: function(arg0) { wasm.start(arg0); wasm.startAll(); } } { \"./x_bg.js\": import0 }";
        let short = ShortNames::parse(PRINTED).unwrap().replace_in(js.to_owned(), "./x_bg.js").unwrap();
        assert_eq!(short, "{ a: function(arg0) { wasm.b(arg0); wasm.c(); } } { \"a\": import0 }");
    }

    #[test]
    fn an_import_that_no_page_provides_is_refused() {
        let printed = PRINTED.replace("./x_bg.js", "env");
        let error = ShortNames::parse(&printed).unwrap().replace_in(String::new(), "./x_bg.js").unwrap_err();
        assert_eq!(error.to_string(), "the module imports `__wbg_send_dd0229` from `env`, which no page provides");
    }

    #[test]
    fn javascript_that_does_not_know_a_name_is_refused() {
        let error = ShortNames::parse(PRINTED).unwrap().replace_in(String::new(), "./x_bg.js").unwrap_err();
        assert!(error.to_string().contains("__wbg_send_dd0229: function("), "{error}");
    }
}
