//! Running other programs, with errors that say what to do.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::repo::Repo;

/// A program to run from the top folder of the checkout.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    name: String,
    shown: String,
    hint: Option<String>,
}

impl Program {
    /// Names the program; its folder is the top of the checkout.
    pub(crate) fn new(repo: &Repo, name: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(&name);
        // No program may wait for a keyboard: continuous integration has none.
        command.current_dir(repo.root()).stdin(Stdio::null());
        let name = Path::new(&name).file_name().unwrap_or(name.as_ref()).to_string_lossy().into_owned();
        Self { command, shown: name.clone(), name, hint: None }
    }

    /// The cargo that runs this program.
    pub(crate) fn cargo(repo: &Repo) -> Self {
        Self::new(repo, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(crate) fn args(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Sets environment variables.
    pub(crate) fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        self.command.envs(vars);
        self
    }

    /// Hides environment variables from it.
    pub(crate) fn without<K: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = K>) -> Self {
        for var in vars {
            self.command.env_remove(var);
        }
        self
    }

    /// Says what a person can do if the program is missing or fails.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Runs it as a step of a build: all that it prints goes to stderr.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        self.command.stdout(io::stderr());
        self.finish()
    }

    /// Runs it as a test: what it prints goes where this program's output goes.
    pub(crate) fn run_shown(self) -> anyhow::Result<()> {
        self.finish()
    }

    /// Runs it and returns what it printed on stdout.
    pub(crate) fn capture(mut self) -> anyhow::Result<String> {
        self.command.stderr(Stdio::inherit());
        let output = self.command.output().with_context(|| self.not_started())?;
        if !output.status.success() {
            bail!(self.failed(&output.status.to_string()));
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{}` printed something that is not UTF-8", self.shown))
    }

    /// Gives the command to callers who keep the process running.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let status = self.command.status().with_context(|| self.not_started())?;
        if status.success() {
            return Ok(());
        }
        bail!(self.failed(&status.to_string()))
    }

    fn not_started(&self) -> String {
        let hint = self.hint.as_deref().unwrap_or("Install it or put its folder on PATH.");
        format!("`{}` cannot be started. {hint}", self.name)
    }

    fn failed(&self, status: &str) -> String {
        let hint = self.hint.as_deref().unwrap_or_default();
        format!("`{}` failed ({status}). {hint}", self.shown).trim_end().to_owned()
    }
}

/// Finds a program on PATH.
pub(crate) fn on_path(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_what_to_do() {
        let error = Program::new(&Repo::locate(), "syncline-no-such-program").hint("Install it.").run().unwrap_err();
        assert_eq!(error.to_string(), "`syncline-no-such-program` cannot be started. Install it.");
    }

    #[test]
    fn a_failing_program_is_shown_with_its_arguments() {
        let error = Program::cargo(&Repo::locate()).arg("no-such-command").run().unwrap_err().to_string();
        assert!(error.starts_with("`cargo no-such-command` failed (exit status: 101)"), "{error}");
    }
}
