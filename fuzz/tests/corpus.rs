//! Every input that was ever worth keeping: what reaches another part of the code, and what once broke it.

use std::fs;
use std::path::{Path, PathBuf};

use syncline_fuzz::TARGETS;

#[test]
fn kept_inputs_break_nothing() {
    let mut count = 0;
    for (name, target) in TARGETS {
        for file in inputs(name) {
            let data = fs::read(&file).unwrap();
            let named = Named(&file);
            target(&data);
            std::mem::forget(named);
            count += 1;
        }
    }
    println!("{count} inputs of {} targets", TARGETS.len());
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    let listed = fs::read_dir(root().join("corpus")).unwrap().count();
    assert_eq!(listed, TARGETS.len());
    for (name, _) in TARGETS {
        assert!(!inputs(name).is_empty(), "{name} has no inputs");
        assert!(root().join("fuzz_targets").join(name).with_extension("rs").is_file(), "{name} has no program");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn inputs(name: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for kind in ["corpus", "crashers"] {
        let Ok(entries) = fs::read_dir(root().join(kind).join(name)) else { continue };
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    files.sort();
    files
}

/// Says which input it was that broke something.
struct Named<'a>(&'a Path);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        println!("the input is {}", self.0.display());
    }
}
