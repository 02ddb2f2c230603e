//! `cargo xtask soak`: the random tests of `cargo xtask test`, for many more seeds, kills and sockets.

use crate::process::Program;
use crate::repo::Repo;
use crate::test::{self, Named};

/// How many times the usual amount the tests do; they read it.
const FACTOR_VARIABLE: &str = "SYNCLINE_SOAK";

struct Soak {
    name: &'static str,
    about: &'static str,
    /// Arguments of cargo.
    arguments: &'static [&'static str],
}

impl Named for Soak {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }
}

const SOAKS: &[Soak] = &[
    Soak {
        name: "simulation",
        about: "replicas and a server with faults of network, disk and clock, seed by seed",
        arguments: &["test", "--package", "syncline-core", "--test", "client", "--", "converge::", "two_servers::"],
    },
    Soak {
        name: "json",
        about: "texts, rows and intents against another reader and the written rules",
        arguments: &["test", "--package", "syncline-protocol", "--test", "json"],
    },
    Soak {
        name: "damage",
        about: "random and damaged bytes in every store and message",
        arguments: &["test", "--package", "syncline-core", "--test", "client", "opening::"],
    },
    Soak {
        name: "leaks",
        about: "every path of the server against a naive filter, while memberships change",
        arguments: &["test", "--package", "syncline-server", "--test", "store", "--test", "wire", "isolation::"],
    },
    Soak {
        name: "kills",
        about: "the server killed while clients write, started again, compared",
        arguments: &["test", "--package", "syncline-server", "--test", "wire", "kill_under_load::"],
    },
    Soak {
        name: "load",
        about: "500 sockets that hear of 500 commits",
        arguments: &[
            "run",
            "--release",
            "--package",
            "syncline-server",
            "--example",
            "socket_load",
            "--",
            "fanout",
            "500",
            "500",
        ],
    },
];

/// Runs the named ones, or all.
pub(crate) fn run(repo: &Repo, factor: u32, names: &[String]) -> anyhow::Result<()> {
    let chosen = test::choose("long run", SOAKS, names)?;
    if chosen.iter().any(|soak| soak.name == "load") {
        // The example starts the program beside it.
        Program::cargo(repo).args(["build", "--release", "--package", "syncline-server", "--bins"]).run()?;
    }
    test::run_all("soak", &chosen, |soak| {
        Program::cargo(repo).args(soak.arguments).env(FACTOR_VARIABLE, factor.to_string()).run_shown()
    })
}
