//! What each suite runs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use super::Suite;
use crate::browsers::{self, Browser};
use crate::crash::{self, Killed};
use crate::npm::{self, Packages};
use crate::process::Program;
use crate::repo::Repo;
use crate::server::{self, Profile, Server};
use crate::tools::{self, Tool};
use crate::{deny, fuzz, lint, package, scenarios, sim, tidy, wasm};

/// All suites: first what reads sources, then what runs quickly, browsers last.
pub(super) const SUITES: &[Suite] = &[
    Suite { name: "lint", about: "rustfmt, clippy on the host and wasm32, rustdoc, Biome, tsc --strict", run: lint::check },
    Suite { name: "tidy", about: "the rules of this repository that no other tool checks", run: tidy::check },
    Suite { name: "deny", about: "licences, bans and sources of dependencies", run: deny::check },
    Suite { name: "native", about: "all Rust tests that run on the host", run: native },
    Suite { name: "sim", about: "client and server simulated with every fault: 2,000 seeds, each twice", run: sim },
    Suite {
        name: "scenarios",
        about: "what must hold, written down case by case: with the core natively and in wasm",
        run: scenarios,
    },
    Suite { name: "core-wasm", about: "the same tests of protocol and core, compiled to wasm32", run: core_wasm },
    Suite { name: "corpora", about: "every input that fuzzing found worth keeping", run: fuzz::run_corpora },
    Suite { name: "size", about: "the download within the budget of wasm-pack.toml", run: size },
    Suite { name: "conformance", about: "the wire vectors, read by a second implementation", run: conformance },
    Suite { name: "pkg", about: "unit and type tests of the npm package", run: pkg },
    Suite {
        name: "browser-chromium",
        about: "the engine over real IndexedDB and WebSocket in Chromium",
        run: |repo| browser(repo, Browser::Chromium),
    },
    Suite { name: "browser-firefox", about: "the same in Firefox", run: |repo| browser(repo, Browser::Firefox) },
    Suite { name: "browser-webkit", about: "the same in WebKitGTK", run: |repo| browser(repo, Browser::Webkit) },
    Suite { name: "e2e-chromium", about: "the whole story of the demo in Chromium (playwright-core)", run: e2e_chromium },
    Suite {
        name: "e2e-firefox",
        about: "a shorter story of the demo in Firefox (WebDriver)",
        run: |repo| e2e_webdriver(repo, Browser::Firefox),
    },
    Suite {
        name: "e2e-webkit",
        about: "a shorter story of the demo in WebKitGTK (WebDriver)",
        run: |repo| e2e_webdriver(repo, Browser::Webkit),
    },
    Suite { name: "readme", about: "the README's own lines in an empty Vite folder, in Chromium", run: readme },
    Suite { name: "import", about: "real data: imported, synced to a browser, exported, compared", run: import },
    Suite {
        name: "sessions",
        about: "sessions in several tabs, a module that traps, a store that is lost, full or newer: in Chromium",
        run: sessions,
    },
    Suite { name: "hostile", about: "portals, other versions and epochs, wrong clocks, no storage: in Chromium", run: hostile },
    Suite {
        name: "crash-chromium",
        about: "Chromium killed while a page writes: nothing acknowledged is lost or doubled",
        run: |repo| crash::run(repo, crash::Wishes::short(Killed::Chromium, KILLS)),
    },
    Suite {
        name: "crash-firefox",
        about: "the same in Firefox",
        run: |repo| crash::run(repo, crash::Wishes::short(Killed::Firefox, KILLS)),
    },
];

fn native(repo: &Repo) -> anyhow::Result<()> {
    let mut cargo = Program::cargo(repo).args(["test", "--workspace"]);
    // These two need a browser and have suites of their own.
    for folder in [BROWSER_TESTS, WEBDRIVER_TESTS] {
        if repo.path(folder).join("Cargo.toml").exists() {
            cargo = cargo.arg("--exclude").arg(wasm::package_name(repo, folder)?);
        }
    }
    cargo.run_shown()
}

fn sim(repo: &Repo) -> anyhow::Result<()> {
    sim::run(repo, &sim::Wishes { seeds: 2_000, ..sim::Wishes::default() })
}

fn scenarios(repo: &Repo) -> anyhow::Result<()> {
    scenarios::run(repo, &scenarios::Wishes::default())
}

fn core_wasm(repo: &Repo) -> anyhow::Result<()> {
    wasm::ensure_target(repo, wasm::WASI_TARGET)?;
    Program::cargo(repo)
        .args(["test", "--package", "syncline-protocol", "--package", "syncline-core", "--target", wasm::WASI_TARGET])
        .env(wasm::WASI_RUNNER_VARIABLE, wasm::wasi_runner(repo))
        .run_shown()
}

fn size(repo: &Repo) -> anyhow::Result<()> {
    package::build_within_budget(repo).map(drop)
}

fn conformance(repo: &Repo) -> anyhow::Result<()> {
    Program::new(repo, "node").args(["--test", "--test-reporter=spec"]).args(test_files(repo, "tests/conformance")?).run_shown()
}

fn pkg(repo: &Repo) -> anyhow::Result<()> {
    npm::ensure(repo, Packages::All)?;
    package::build(repo)?;
    let program = server::build(repo, Profile::Test)?;
    let server = Server::start_empty(repo, &program, &repo.scratch("pkg-server")?)?;
    npm::script(repo, "pkg", "test").env("SYNCLINE_TEST_SERVER", &server.url).run_shown()
}

fn browser(repo: &Repo, browser: Browser) -> anyhow::Result<()> {
    wasm::ensure_target(repo, wasm::WASM_TARGET)?;
    browsers::ensure(repo, &[browser])?;
    let runner = tools::ensure(repo, Tool::WasmTestRunner)?;
    let program = server::build(repo, Profile::Test)?;
    let server = Server::start_empty(repo, &program, &repo.scratch(&format!("browser-{}", browser.name()))?)?;
    let package = wasm::package_name(repo, BROWSER_TESTS)?;
    browsers::on_display(repo, browser, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))?
        .args(["test", "--package", &package, "--target", wasm::WASM_TARGET])
        .without(browsers::DRIVER_VARIABLES)
        .envs(browsers::environment(repo, browser)?)
        .env(RUNNER_VARIABLE, runner)
        .env("WASM_BINDGEN_TEST_TIMEOUT", TEST_SECONDS_MAX)
        // Read by the tests when they are compiled: a page has no environment.
        .env("SYNCLINE_TEST_SERVER", &server.url)
        .run_shown()
}

fn e2e_chromium(repo: &Repo) -> anyhow::Result<()> {
    node_tests(repo, "tests/e2e")
}

fn readme(repo: &Repo) -> anyhow::Result<()> {
    node_tests(repo, "tests/readme")
}

fn import(repo: &Repo) -> anyhow::Result<()> {
    node_tests(repo, "tests/import")
}

fn sessions(repo: &Repo) -> anyhow::Result<()> {
    node_tests(repo, "tests/sessions")
}

fn hostile(repo: &Repo) -> anyhow::Result<()> {
    node_tests(repo, "tests/hostile")
}

/// Runs the `*.test.mjs` files of a folder with Node's test runner; they drive Chromium through playwright-core.
fn node_tests(repo: &Repo, folder: &str) -> anyhow::Result<()> {
    npm::ensure(repo, Packages::All)?;
    browsers::ensure(repo, &[Browser::Chromium])?;
    let files = test_files(repo, folder)?;
    let program = build_demo(repo)?;
    Program::new(repo, "node")
        .args(["--test", "--test-concurrency=1", "--test-reporter=spec"])
        .args(files)
        .env("SYNCLINE_SERVER_BIN", program)
        .env("SYNCLINE_STATIC_DIR", repo.path("www/dist"))
        .env("SYNCLINE_ARTEFACTS", repo.path("artefacts"))
        // Some start the demo as a person does.
        .env("SYNCLINE_XTASK", std::env::current_exe()?)
        .envs(browsers::environment(repo, Browser::Chromium)?)
        .run_shown()
}

fn e2e_webdriver(repo: &Repo, browser: Browser) -> anyhow::Result<()> {
    browsers::ensure(repo, &[browser])?;
    let program = build_demo(repo)?;
    let package = wasm::package_name(repo, WEBDRIVER_TESTS)?;
    browsers::on_display(repo, browser, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))?
        .args(["test", "--package", &package])
        .without(browsers::DRIVER_VARIABLES)
        .envs(browsers::environment(repo, browser)?)
        .env("SYNCLINE_TEST_BROWSER", browser.name())
        .env("SYNCLINE_SERVER_BIN", program)
        .env("SYNCLINE_STATIC_DIR", repo.path("www/dist"))
        .env("SYNCLINE_ARTEFACTS", repo.path("artefacts"))
        .run_shown()
}

/// Builds all that the demo consists of and returns the server.
fn build_demo(repo: &Repo) -> anyhow::Result<PathBuf> {
    let program = server::build(repo, Profile::Test)?;
    package::build(repo)?;
    package::build_demo(repo)?;
    fs::create_dir_all(repo.path("artefacts"))?;
    Ok(program)
}

fn test_files(repo: &Repo, folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(repo.path(folder)).with_context(|| format!("there is no folder {folder}"))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.retain(|file| file.to_string_lossy().ends_with(".test.mjs"));
    files.sort();
    // Node would look for tests everywhere if it were given none.
    ensure!(!files.is_empty(), "{folder} holds no *.test.mjs");
    Ok(files)
}

/// Kills of a test run; `cargo xtask crash` does more.
const KILLS: u32 = 5;
const BROWSER_TESTS: &str = "tests/browser";
const WEBDRIVER_TESTS: &str = "tests/webdriver";
const RUNNER_VARIABLE: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER";
/// How long the tests of one file may take together, in seconds.
const TEST_SECONDS_MAX: &str = "300";
