//! Makes the modules that `wasm-pack.toml` lists: cargo, then wasm-bindgen (as a library), then wasm-opt, then the order of
//! the functions.
//!
//! The wasm-pack program is not used: with the library inside this program a first build needs no tool to be compiled
//! beside it, and the version cannot differ from the one in `Cargo.lock`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use wasm_bindgen_cli_support::Bindgen;

use crate::manifest::{Build, Manifest, Target};
use crate::npm::{self, Packages};
use crate::process::{Program, on_path};
use crate::progress::{note, step};
use crate::repo::Repo;
use crate::stamp::{Inputs, Stamp};
use crate::{lock, tools};
use short_names::ShortNames;

mod function_order;
mod likeness;
mod short_names;

/// The files that one build makes.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// The module.
    pub(crate) wasm: PathBuf,
    /// The JavaScript that loads it.
    pub(crate) js: PathBuf,
}

/// Builds every module whose inputs changed.
pub(crate) fn build(repo: &Repo, manifest: &Manifest) -> anyhow::Result<()> {
    ensure_target(repo, WASM_TARGET)?;
    npm::ensure(repo, Packages::Build)?;
    manifest.builds.iter().try_for_each(|build| build_one(repo, build))
}

/// Where the files of a build are.
pub(crate) fn outputs(repo: &Repo, build: &Build) -> anyhow::Result<Outputs> {
    let stem = package_name(repo, &build.crate_dir)?.replace('-', "_");
    let out = repo.path(&build.out);
    Ok(Outputs { wasm: out.join(format!("{stem}_bg.wasm")), js: out.join(format!("{stem}.js")) })
}

/// The name in a crate's `Cargo.toml`.
pub(crate) fn package_name(repo: &Repo, crate_dir: &str) -> anyhow::Result<String> {
    let file = repo.path(crate_dir).join("Cargo.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let manifest: toml::Table = toml::from_str(&text).with_context(|| format!("{} is not TOML", file.display()))?;
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(|name| name.as_str());
    name.map(str::to_owned).with_context(|| format!("{} names no package", file.display()))
}

/// What runs programs of [`WASI_TARGET`]: Node.
pub(crate) fn wasi_runner(repo: &Repo) -> String {
    format!("node --no-warnings {}", repo.path("xtask/wasi_runner.mjs").display())
}

/// Adds a target's standard library if this toolchain has none.
pub(crate) fn ensure_target(repo: &Repo, target: &str) -> anyhow::Result<()> {
    let sysroot = Program::new(repo, "rustc").args(["--print", "sysroot"]).capture()?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).exists() {
        return Ok(());
    }
    if on_path("rustup").is_none() {
        anyhow::bail!(
            "This Rust has no standard library for {target}, and rustup is not there to add it. \
             Install Rust with rustup, or your system's package of that library."
        );
    }
    step(&format!("Adding the Rust target {target} (rustup target add, about 20 MB)"), || {
        Program::new(repo, "rustup")
            .args(["target", "add", target])
            .hint("If rustup could not reach its server, connect to the network and run the command again.")
            .run()
    })
}

/// What browsers load.
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";
/// The same instruction set with files, arguments and output, so that ordinary tests can run outside a browser.
pub(crate) const WASI_TARGET: &str = "wasm32-wasip1";
/// Where cargo looks for what runs programs of that target.
pub(crate) const WASI_RUNNER_VARIABLE: &str = "CARGO_TARGET_WASM32_WASIP1_RUNNER";

fn build_one(repo: &Repo, build: &Build) -> anyhow::Result<()> {
    let package = package_name(repo, &build.crate_dir)?;
    step(&format!("Compiling {package} to WebAssembly ({})", build.profile), || {
        // Cargo knows best whether its inputs changed; it answers in a fraction of a second when they did not.
        // A crate that is made into a library too is not optimised as a whole, whatever the profile says.
        Program::cargo(repo)
            .args(["rustc", "--package", &package, "--lib", "--crate-type", "cdylib"])
            .args(["--target", WASM_TARGET, "--profile", &build.profile])
            .args(["--features", &build.features.join(",")])
            .args(["--config", &without_machine_paths(repo)?])
            .arg("--")
            // The crates were compiled without these; all machine code is made here, when the whole is optimised.
            .args(known_switches(repo, build))
            .run()
    })?;
    let compiled = repo.target().join(WASM_TARGET).join(&build.profile).join(format!("{}.wasm", package.replace('-', "_")));
    lock::alone(repo, || generate(repo, build, &compiled))
}

/// Nobody promises that LLVM keeps its switches, and a compiler that does not know one ends. Without them the module is larger.
fn known_switches(repo: &Repo, build: &Build) -> Vec<String> {
    let mut switches: Vec<String> = build.llvm.iter().map(|switch| format!("-Cllvm-args={switch}")).collect();
    switches.retain(|switch| {
        let is_known = Program::new(repo, "rustc").args([switch, "--print", "cfg"]).capture().is_ok();
        if !is_known {
            note(&format!("This rustc does not know {switch}, so the module gets larger."));
        }
        is_known
    });
    switches
}

/// A setting that keeps the folders of this machine out of the module: the places of panics are named in it.
fn without_machine_paths(repo: &Repo) -> anyhow::Result<String> {
    let sysroot = Program::new(repo, "rustc").args(["--print", "sysroot"]).capture()?;
    let home = std::env::home_dir().unwrap_or_default().join(".cargo");
    let cargo_home = std::env::var_os("CARGO_HOME").map_or(home, PathBuf::from);
    let folders = [(cargo_home.display().to_string(), "cargo"), (sysroot.trim().to_owned(), "rust")];
    // Cargo adds this list to the one in .cargo/config.toml.
    let flags = folders.map(|(folder, name)| format!("'--remap-path-prefix={folder}={name}'"));
    Ok(format!("target.{WASM_TARGET}.rustflags=[{}]", flags.join(",")))
}

/// Makes the files that a page loads from the compiled module, unless they are there.
fn generate(repo: &Repo, build: &Build, compiled: &Path) -> anyhow::Result<()> {
    let outputs = outputs(repo, build)?;
    let inputs = Inputs::default()
        .text(&format!("{build:?} {} {:?}", short_names::GIVE, function_order::WINDOWS_BYTES))
        // A new wasm-bindgen generates other JavaScript from the same module.
        .text(&tools::locked_version(repo, "wasm-bindgen")?)
        .path(compiled)?
        .path(&repo.path("package-lock.json"))?;
    let stamp = Stamp::new(repo, &format!("wasm-{}", build.name), inputs);
    if stamp.is_current(&[outputs.wasm.clone(), outputs.js.clone()]) {
        return Ok(());
    }
    step(&format!("Generating {} with wasm-bindgen and wasm-opt", build.out), || {
        bindgen(repo, build, compiled)?;
        optimise(repo, build, &outputs)?;
        fs::write(&outputs.wasm, function_order::improve(&fs::read(&outputs.wasm)?)?)?;
        Ok(())
    })?;
    stamp.write()
}

fn bindgen(repo: &Repo, build: &Build, compiled: &Path) -> anyhow::Result<()> {
    let out = repo.path(&build.out);
    if out.exists() {
        // A file that an earlier version made would otherwise be shipped for ever.
        fs::remove_dir_all(&out)?;
    }
    let mut bindgen = Bindgen::new();
    bindgen.input_path(compiled).typescript(true).remove_name_section(false).remove_producers_section(true);
    // Another instance takes the place of one that trapped, and no object of the former can be used on it.
    bindgen.reset_state_function(true);
    match build.target {
        Target::Web => bindgen.web(true)?,
        Target::Bundler => bindgen.bundler(true)?,
        Target::Nodejs => bindgen.nodejs(true)?,
    };
    bindgen.generate(&out).with_context(|| format!("wasm-bindgen could not read {}", compiled.display()))
}

fn optimise(repo: &Repo, build: &Build, Outputs { wasm, js }: &Outputs) -> anyhow::Result<()> {
    let optimised = wasm.with_extension("opt");
    let wasm_opt = npm::tool(repo, "binaryen/bin/wasm-opt").args(&build.wasm_opt).arg(short_names::GIVE);
    let printed = wasm_opt.arg(wasm).arg("-o").arg(&optimised).capture()?;
    ShortNames::parse(&printed)?.write(js)?;
    fs::rename(&optimised, wasm).with_context(|| format!("replacing {}", wasm.display()))
}
