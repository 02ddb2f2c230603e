//! Remembering that an output is up to date: the hash of everything it was made from, kept under `.tools/stamps`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::repo::Repo;

/// The hash of a set of inputs, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Inputs {
    hash: Sha256,
}

impl Inputs {
    /// Adds a word such as a version or a flag.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.add(text.as_bytes());
        self
    }

    /// Adds a file or, recursively and in the order of names, a folder; a missing one counts as missing.
    pub(crate) fn path(mut self, path: &Path) -> anyhow::Result<Self> {
        self.add_path(path)?;
        Ok(self)
    }

    /// Adds several files or folders of the checkout.
    pub(crate) fn paths(self, repo: &Repo, relative: &[&str]) -> anyhow::Result<Self> {
        relative.iter().try_fold(self, |inputs, path| inputs.path(&repo.path(path)))
    }

    fn add_path(&mut self, path: &Path) -> anyhow::Result<()> {
        if path.is_dir() {
            let mut entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
            entries.sort();
            // Outputs and packages lie beside sources; they are not inputs.
            entries.retain(|entry| !entry.ends_with("node_modules") && !entry.ends_with("dist"));
            return entries.iter().try_for_each(|entry| self.add_path(entry));
        }
        self.add(path.to_string_lossy().as_bytes());
        if path.exists() {
            self.add(&fs::read(path).with_context(|| format!("reading {}", path.display()))?);
        }
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    fn finish(self) -> String {
        self.hash.finalize().iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// A file that holds the hash of the inputs of the last successful build of something.
#[derive(Debug)]
pub(crate) struct Stamp {
    file: PathBuf,
    hash: String,
}

impl Stamp {
    /// The stamp of `name` for these inputs.
    pub(crate) fn new(repo: &Repo, name: &str, inputs: Inputs) -> Self {
        Self::at(repo.tools().join("stamps").join(name), inputs)
    }

    /// A stamp kept in a file elsewhere, so that it goes when that folder goes.
    pub(crate) fn at(file: PathBuf, inputs: Inputs) -> Self {
        Self { file, hash: inputs.finish() }
    }

    /// Whether the last build had the same inputs and all these outputs are there.
    pub(crate) fn is_current(&self, outputs: &[PathBuf]) -> bool {
        outputs.iter().all(|output| output.exists()) && fs::read_to_string(&self.file).is_ok_and(|stored| stored == self.hash)
    }

    /// Remembers that the build succeeded.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        if let Some(dir) = self.file.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(&self.file, &self.hash).with_context(|| format!("writing {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> Repo {
        let dir = std::env::temp_dir().join(format!("syncline-xtask-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Repo::at(&dir)
    }

    #[test]
    fn a_stamp_is_current_until_an_input_changes() {
        let repo = scratch("inputs");
        fs::create_dir_all(repo.path("src")).unwrap();
        fs::write(repo.path("src/a.rs"), "one").unwrap();
        let stamp = |repo: &Repo| Stamp::new(repo, "x", Inputs::default().paths(repo, &["src", "missing"]).unwrap());

        assert!(!stamp(&repo).is_current(&[]));
        stamp(&repo).write().unwrap();
        assert!(stamp(&repo).is_current(&[]));
        fs::write(repo.path("src/a.rs"), "two").unwrap();
        assert!(!stamp(&repo).is_current(&[]));
        fs::remove_dir_all(repo.root()).unwrap();
    }

    #[test]
    fn a_stamp_is_stale_when_an_output_is_gone() {
        let repo = scratch("outputs");
        let stamp = Stamp::new(&repo, "x", Inputs::default().text("v1"));
        stamp.write().unwrap();
        assert!(stamp.is_current(&[repo.root().to_path_buf()]));
        assert!(!stamp.is_current(&[repo.path("gone.wasm")]));
        fs::remove_dir_all(repo.root()).unwrap();
    }
}
