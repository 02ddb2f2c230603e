//! `syncline-sim`: runs seeds of the simulation. `cargo xtask sim` is how to call it.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use syncline_sim::options::Options;
use syncline_sim::planted;
use syncline_sim::run::{self, Failure};

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
