//! Build, demo, test and checks of Syncline; `cargo xtask` lists the commands.

mod browsers;
mod crash;
mod demo;
mod deny;
mod figures;
mod fuzz;
mod lint;
mod lock;
mod manifest;
mod npm;
mod package;
mod ports;
mod process;
mod progress;
mod repo;
mod scenarios;
mod server;
mod setup;
mod sim;
mod size;
mod soak;
mod stamp;
mod test;
mod tidy;
mod tools;
mod wasm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use repo::Repo;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Build, demo, test and checks of Syncline", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build and start the demo, and stay until Ctrl-C
    Demo {
        /// Port on 127.0.0.1; the first free one from 4321 on if absent
        #[arg(long)]
        port: Option<u16>,
        /// Folder for its database; `.demo` if absent
        #[arg(long)]
        data: Option<PathBuf>,
        /// Do not open a browser window
        #[arg(long)]
        no_open: bool,
    },
    /// Run all test suites, or those named
    Test {
        /// Names of suites; `--list` shows them
        suites: Vec<String>,
        /// List the suites and stop
        #[arg(long)]
        list: bool,
    },
    /// Run the random tests for many more seeds and kills than `test` does, and the server under load
    Soak {
        /// Names of long runs: simulation, json, damage, leaks, kills, load
        names: Vec<String>,
        /// How many times the seeds and kills of `test`
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
    },
    /// Kill a browser again and again while a page writes, and look for everything that was acknowledged; or measure handovers of tabs
    Crash(crash::Wishes),
    /// Simulate client and server with every fault, seed by seed
    Sim(sim::Wishes),
    /// Play the scripted scenarios, or those named, with the native core and with the core in wasm
    Scenarios(scenarios::Wishes),
    /// Feed random bytes to everything that reads bytes from outside
    Fuzz {
        /// Names of targets in `fuzz/fuzz_targets`; all if absent
        targets: Vec<String>,
        /// How long each runs
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        minutes: u32,
    },
    /// Build the wasm modules and the npm package, and check the size budget
    Build,
    /// Show what a page downloads, before and after gzip
    Size {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Measure the figures that the README quotes, in headless Chromium
    Figures {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check formatting, lints, documentation and types
    Lint,
    /// Check this repository's own rules: file sizes, names, links, imports
    Tidy,
    /// Check licences, bans and sources of dependencies
    Deny {
        /// Check for known vulnerabilities instead; needs the advisory database of `RustSec`
        #[arg(long)]
        advisories: bool,
    },
    /// Install what the other commands need: all of it, or the parts named
    Setup {
        /// Parts to install
        parts: Vec<setup::Part>,
    },
    /// Remove what was installed into this checkout: .tools and `node_modules`
    CleanTools,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(action) = arguments.command else {
        // Listing the commands is what was asked for, not a mistake.
        return report(Arguments::command().print_help().map_err(anyhow::Error::from));
    };
    report(perform(&Repo::locate(), action))
}

#[expect(clippy::print_stdout, reason = "sizes and lists are the answers of their commands")]
fn perform(repo: &Repo, action: Action) -> anyhow::Result<()> {
    match action {
        Action::Demo { port, data, no_open } => demo::run(repo, demo::Wishes { port, data, open: !no_open })?,
        Action::Test { list: true, .. } => println!("{}", test::list()),
        Action::Test { suites, list: false } => test::run(repo, &suites)?,
        Action::Soak { names, times } => soak::run(repo, times, &names)?,
        Action::Crash(wishes) => crash::run(repo, wishes)?,
        Action::Fuzz { targets, minutes } => fuzz::run(repo, minutes, &targets)?,
        Action::Sim(seeds) => sim::run(repo, &seeds)?,
        Action::Scenarios(wishes) => scenarios::run(repo, &wishes)?,
        Action::Build => {
            let manifest = package::build_within_budget(repo)?;
            println!("{}", size::report(repo, &manifest, false)?);
        }
        Action::Size { json } => {
            // A build over its budget is when its sizes are wanted most.
            let manifest = package::build(repo)?;
            println!("{}", size::report(repo, &manifest, json)?);
        }
        Action::Figures { json } => figures::run(repo, json)?,
        Action::Lint => lint::check(repo)?,
        Action::Tidy => tidy::check(repo)?,
        Action::Deny { advisories: false } => deny::check(repo)?,
        Action::Deny { advisories: true } => deny::check_advisories(repo)?,
        Action::Setup { parts } => setup::run(repo, &parts)?,
        Action::CleanTools => {
            tools::clean(repo)?;
            npm::clean(repo)?;
        }
    }
    Ok(())
}

fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_its_line_of_help() {
        for command in Arguments::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
