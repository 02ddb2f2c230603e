//! What a page downloads: each module with the minified JavaScript that goes with it, after gzip.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::manifest::{Build, Manifest};
use crate::repo::Repo;
use crate::{npm, wasm};

/// The download of one build in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Download {
    wasm: Size,
    /// Minified.
    js: Size,
}

/// The size of one file in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    raw: u64,
    /// After gzip -9.
    gzip: u64,
}

impl Size {
    fn of(bytes: &[u8]) -> anyhow::Result<Self> {
        Ok(Self { raw: bytes.len() as u64, gzip: gzip_bytes(bytes)? })
    }
}

/// The number of bytes after gzip -9.
pub(crate) fn gzip_bytes(bytes: &[u8]) -> anyhow::Result<u64> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len() as u64)
}

impl Download {
    /// What the budget limits.
    fn gzip_bytes(self) -> u64 {
        self.wasm.gzip + self.js.gzip
    }
}

/// Fails if a build is over its budget.
pub(crate) fn check(repo: &Repo, manifest: &Manifest) -> anyhow::Result<()> {
    for build in &manifest.builds {
        if let Some(limit) = manifest.budget(build) {
            verdict(&build.name, measure(repo, build)?, limit)?;
        }
    }
    Ok(())
}

/// The sizes of all builds as text or as one JSON object.
pub(crate) fn report(repo: &Repo, manifest: &Manifest, json: bool) -> anyhow::Result<String> {
    let mut lines = Vec::new();
    let mut object = serde_json::Map::new();
    for build in &manifest.builds {
        let download = measure(repo, build)?;
        lines.push(describe(&build.name, download, manifest.budget(build)));
        object.insert(
            build.name.clone(),
            serde_json::json!({
                "wasm_bytes": download.wasm.raw,
                "wasm_gzip_bytes": download.wasm.gzip,
                "js_bytes": download.js.raw,
                "js_gzip_bytes": download.js.gzip,
                "budget_gzip_bytes": manifest.budget(build),
            }),
        );
    }
    Ok(if json { serde_json::to_string_pretty(&object)? } else { lines.join("\n") })
}

/// Measures the download of one build that was built before.
fn measure(repo: &Repo, build: &Build) -> anyhow::Result<Download> {
    let outputs = wasm::outputs(repo, build)?;
    let module = fs::read(&outputs.wasm).with_context(|| format!("reading {}", outputs.wasm.display()))?;
    Ok(Download { wasm: Size::of(&module)?, js: Size::of(&bundle(repo, build, outputs.js)?)? })
}

fn verdict(name: &str, download: Download, limit: u64) -> anyhow::Result<()> {
    let used = download.gzip_bytes();
    if used > limit {
        bail!("`{name}` is {} bytes over its budget in wasm-pack.toml:\n{}", used - limit, describe(name, download, Some(limit)));
    }
    Ok(())
}

fn describe(name: &str, download: Download, limit: Option<u64>) -> String {
    let budget = limit.map_or_else(|| "no budget".to_owned(), |limit| format!("of {limit} allowed"));
    let line = |what: &str, size: Size| format!("  {what:<4} {:>8} bytes, {:>7} after gzip", size.raw, size.gzip);
    format!(
        "{name}: {} bytes after gzip -9, {budget}\n{}\n{}",
        download.gzip_bytes(),
        line("wasm", download.wasm),
        line("js", download.js)
    )
}

/// What a page loads before its first row, bundled and minified as an application's bundler does it: what it imports to run an
/// engine, without what the package loads on demand and without the calls that work without an engine.
fn bundle(repo: &Repo, build: &Build, glue: PathBuf) -> anyhow::Result<Vec<u8>> {
    let facade = repo.path("pkg/dist/index.js");
    let scratch = repo.scratch("size")?;
    let page = scratch.join("page.js");
    let entry = if build.name == "sdk" && facade.exists() {
        fs::write(&page, format!("export {{ {START} }} from \"{}\";\n", facade.display()))?;
        page
    } else {
        glue
    };
    let out = scratch.join("out");
    npm::tool(repo, "esbuild/bin/esbuild")
        .arg(entry)
        .args(["--bundle", "--minify", "--splitting", "--format=esm", "--target=es2022", "--log-level=warning"])
        .args(["--entry-names=bundle".to_owned(), format!("--outdir={}", out.display())])
        .run()?;
    let script = fs::read(out.join("bundle.js")).with_context(|| format!("reading {}", out.display()))?;
    // A file that the script imports at once would be downloaded too, and not be counted.
    let text = String::from_utf8_lossy(&script);
    ensure!(
        !text.contains("from\"./") && !text.contains("import\"./"),
        "the package shares code between the start and what it loads on demand"
    );
    Ok(script)
}

/// What a page names to run an engine.
const START: &str = "createSyncEngine, init, mutationQueueListener, SynclineError";

#[cfg(test)]
mod tests {
    use super::*;

    const DOWNLOAD: Download = Download { wasm: Size { raw: 250_000, gzip: 90_000 }, js: Size { raw: 40_000, gzip: 15_000 } };

    #[test]
    fn a_build_at_its_budget_passes() {
        verdict("sdk", DOWNLOAD, 105_000).unwrap();
    }

    #[test]
    fn a_build_over_its_budget_fails_with_the_numbers() {
        let message = verdict("sdk", DOWNLOAD, 104_999).unwrap_err().to_string();
        assert!(message.starts_with("`sdk` is 1 bytes over its budget"), "{message}");
        assert!(message.contains("105000 bytes after gzip -9, of 104999 allowed"), "{message}");
        assert!(message.contains("90000 after gzip"), "{message}");
    }

    #[test]
    fn gzip_counts_compressed_bytes() {
        let repeated = vec![b'a'; 10_000];
        let size = Size::of(&repeated).unwrap();
        assert_eq!(size.raw, 10_000);
        assert!(size.gzip < 100);
    }
}
