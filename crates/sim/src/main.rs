//! `syncline-sim`: runs seeds of the simulation. `cargo xtask sim` is how to call it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;
use syncline_sim::options::Options;
use syncline_sim::planted;
use syncline_sim::run::{self, Failure};
use syncline_sim::scenario::{self, Plan, Scenario};

/// Runs seeds of the simulation.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this seed alone
    #[arg(long)]
    seed: Option<u64>,
    /// Options to change, as `drop=0,devices=1`
    #[arg(long, default_value = "")]
    options: String,
    /// Print everything that happens; with --seed
    #[arg(long)]
    trace: bool,
    /// Look for each planted bug, or for those with these numbers; needs the feature `planted`
    #[arg(long, num_args = 0.., value_delimiter = ',')]
    planted: Option<Vec<u64>>,
    /// Play all scenarios, or those with these names; with --planted, with each bug that they must notice
    #[arg(long, num_args = 0..)]
    scenarios: Option<Vec<String>>,
    /// Put a tape of each scenario's cores into this folder
    #[arg(long)]
    tapes: Option<PathBuf>,
    /// Make each expectation of the scenarios wrong, one at a time: each must fail
    #[arg(long)]
    spoil: bool,
    /// Threads; all cores if absent
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    if let Some(names) = &arguments.scenarios {
        return play_scenarios(arguments, names);
    }
    if let Some(seed) = arguments.seed {
        return one(arguments, seed);
    }
    if let Some(wanted) = &arguments.planted {
        return look_for_bugs(arguments, wanted);
    }
    let started = Instant::now();
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for _ in 0..threads(arguments) {
            scope.spawn(|| work(arguments, &tally));
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let failures = tally.failures.into_inner().unwrap_or_default();
    let (ran, steps) = (tally.next.into_inner().min(arguments.seeds), tally.steps.into_inner());
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = ran as f64 / seconds;
    say(&format!(
        "{ran} seeds from {}, each twice: {steps} events, {} writes, {seconds:.1} s, {rate:.1} seeds/s, {} failed",
        arguments.from,
        tally.writes.into_inner(),
        failures.len()
    ));
    for failure in &failures {
        report(failure);
    }
    Ok(failures.is_empty())
}

#[derive(Debug, Default)]
struct Tally {
    next: AtomicU64,
    steps: AtomicU64,
    writes: AtomicU64,
    failures: Mutex<Vec<Failure>>,
}

/// More failures than these tell nothing new.
const FAILURES_MAX: usize = 5;

fn work(arguments: &Arguments, tally: &Tally) {
    loop {
        let number = tally.next.fetch_add(1, Ordering::Relaxed);
        let enough = tally.failures.lock().map_or(true, |failures| failures.len() >= FAILURES_MAX);
        if number >= arguments.seeds || enough {
            return;
        }
        let mut options = Options::draw(arguments.from + number);
        if options.set(&arguments.options).is_err() {
            return;
        }
        match run::twice(&options) {
            Ok(done) => {
                tally.steps.fetch_add(done.steps, Ordering::Relaxed);
                tally.writes.fetch_add(done.writes, Ordering::Relaxed);
            }
            Err(failure) => {
                let failure = run::shrink(failure);
                if let Ok(mut failures) = tally.failures.lock() {
                    failures.push(*failure);
                }
            }
        }
    }
}

/// A scenario and what its play or plays came to: a line, or what failed.
type Played = (String, Result<String, String>);

fn play_scenarios(arguments: &Arguments, names: &[String]) -> anyhow::Result<bool> {
    let all = scenario::load_all().map_err(anyhow::Error::msg)?;
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|scenario| scenario.name != **name)) {
        let known: Vec<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        anyhow::bail!("there is no scenario {unknown}; there are\n  {}", known.join("\n  "));
    }
    let chosen: Vec<&Scenario> = all.iter().filter(|scenario| names.is_empty() || names.contains(&scenario.name)).collect();
    if let Some(folder) = &arguments.tapes {
        std::fs::create_dir_all(folder)?;
    }
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Played>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads(arguments) {
            scope.spawn(|| {
                while let Some(scenario) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = play_one(arguments, scenario);
                    if let Ok(mut results) = results.lock() {
                        results.push((scenario.name.clone(), result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort();
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    for (name, result) in &results {
        match result {
            Ok(line) => say(&format!("  {name}{line}")),
            Err(error) => say(&format!("FAILED {error}\n  again: cargo xtask scenarios {name} --trace")),
        }
    }
    say(&format!("{} scenarios, {failed} failed, {:.1} s", results.len(), started.elapsed().as_secs_f64()));
    Ok(failed == 0)
}

/// Plays a scenario as the arguments say.
fn play_one(arguments: &Arguments, scenario: &Scenario) -> Result<String, String> {
    if arguments.planted.is_some() {
        return notice_bugs(scenario);
    }
    if arguments.spoil {
        let all = scenario.spoilt();
        for (step, wrong) in &all {
            match wrong.play(Plan::default()) {
                Err(error) if error.starts_with(&format!("{}, step {step}:", scenario.name)) => {}
                Err(error) => {
                    return Err(format!("{}: step {step} was made wrong, and another one failed: {error}", scenario.name));
                }
                Ok(_) => return Err(format!("{}: step {step} was made wrong and holds: {}", scenario.name, wrong.last_step())),
            }
        }
        return Ok(format!(": {} wrong expectations fail", all.len()));
    }
    let tape = scenario.play(Plan { records: arguments.tapes.is_some(), shown: arguments.trace, ..Plan::default() })?;
    if let Some(folder) = &arguments.tapes {
        let file = folder.join(format!("{}.jsonl", scenario.name));
        std::fs::write(&file, tape).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(String::new())
}

/// Plays a scenario with each of its planted bugs.
fn notice_bugs(scenario: &Scenario) -> Result<String, String> {
    if !cfg!(feature = "planted") {
        return Err("this program was built without the feature `planted`".to_owned());
    }
    let mut lines = String::new();
    for bug in scenario.planted() {
        match scenario.play(Plan { bug: *bug, ..Plan::default() }) {
            Ok(_) => return Err(format!("{} does not notice the planted bug {bug}", scenario.name)),
            Err(error) => {
                let place = error.lines().nth(1).unwrap_or_default().trim();
                let end = place.floor_char_boundary(110);
                let _ = write!(lines, "\n    {bug:>3}: {}", place.get(..end).unwrap_or_default());
            }
        }
    }
    Ok(lines)
}

fn look_for_bugs(arguments: &Arguments, wanted: &[u64]) -> anyhow::Result<bool> {
    anyhow::ensure!(cfg!(feature = "planted"), "this program was built without the feature `planted`");
    let bugs: Vec<_> = planted::BUGS.iter().filter(|(bug, _)| wanted.is_empty() || wanted.contains(bug)).collect();
    let next = AtomicU64::new(0);
    let needed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads(arguments) {
            scope.spawn(|| {
                while let Some((bug, name)) =
                    usize::try_from(next.fetch_add(1, Ordering::Relaxed)).ok().and_then(|at| bugs.get(at))
                {
                    let found = planted::find(*bug, arguments.from, arguments.seeds);
                    let seeds = found.as_ref().map(|found| found.seeds);
                    let how = found.map_or("NOT FOUND".to_owned(), |found| found.failure.message);
                    let end = how.floor_char_boundary(110);
                    say(&format!("{bug:>3} {name}: {seeds:?} {}", how.get(..end).unwrap_or_default()));
                    if let Ok(mut needed) = needed.lock() {
                        needed.push(seeds);
                    }
                }
            });
        }
    });
    let mut needed = needed.into_inner().unwrap_or_default();
    let found = needed.iter().flatten().count();
    // A bug that was not found counts as the last.
    needed.sort_by_key(|seeds| seeds.unwrap_or(u64::MAX));
    let median = needed.get(needed.len() / 2).copied().flatten();
    say(&format!("{found} of {} planted bugs found; median {median:?} seeds", needed.len()));
    Ok(found == needed.len())
}

fn threads(arguments: &Arguments) -> usize {
    arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn one(arguments: &Arguments, seed: u64) -> anyhow::Result<bool> {
    let mut options = Options::draw(seed);
    options.set(&arguments.options)?;
    say(&options.to_string());
    let ran = if arguments.trace { run::once(&options, true, true) } else { run::twice(&options) };
    match ran {
        Ok(done) => say(&format!("held: {} events, {} writes, trace {:016x}", done.steps, done.writes, done.digest)),
        Err(failure) => {
            report(&failure);
            return Ok(false);
        }
    }
    Ok(true)
}

fn report(failure: &Failure) {
    let Failure { options, message, steps } = failure;
    let difference = options.difference();
    let changed = if difference.is_empty() { String::new() } else { format!(" --options {difference}") };
    let end = message.floor_char_boundary(2_000);
    say(&format!("\nFAILED after {steps} events: {}", message.get(..end).unwrap_or_default()));
    say(&format!("  options: {options}"));
    say(&format!("  again:   cargo xtask sim --seed {}{changed} --trace", options.seed));
}

#[expect(clippy::print_stdout, reason = "the answer of this program")]
fn say(text: &str) {
    println!("{text}");
}
