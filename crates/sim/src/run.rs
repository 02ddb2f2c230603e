//! Runs seeds: each twice, a failing one again with less until nothing can be left out.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::options::{FAULTS, Options};
use crate::world::World;

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The options that lead to it.
    pub options: Options,
    /// What did not hold, and where.
    pub message: String,
    /// After how many events.
    pub steps: u64,
}

/// What one run did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    /// Events.
    pub steps: u64,
    /// Number of the trace.
    pub digest: u64,
    /// Writes that applications made.
    pub writes: u64,
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what panics say instead of printing it: shrinking makes many.
fn catch_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
            let place =
                info.location().map_or_else(String::new, |location| format!(" ({}:{})", location.file(), location.line()));
            LAST_PANIC.set(format!("{}{place}", text.unwrap_or("a panic without a message")));
        }));
    });
}

/// Runs something; what it panics with is the error.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_messages();
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| LAST_PANIC.with(|last| last.borrow().clone()))
}

/// Runs one set of options once.
///
/// # Errors
/// With what did not hold.
pub fn once(options: &Options, checking: bool, shown: bool) -> Result<Done, Box<Failure>> {
    let mut world = World::new(options.clone(), checking, shown);
    let ran = caught(|| world.run());
    let steps = world.steps;
    let message = match ran {
        Ok(()) => return Ok(Done { steps, digest: world.trace.digest(), writes: world.writes.len() as u64 }),
        Err(message) => message,
    };
    // What a panic left half done is of no use to anybody.
    std::mem::forget(world);
    Err(Box::new(Failure { options: options.clone(), message, steps }))
}

/// Runs one set of options twice: with the checkers, and without them to compare the traces.
///
/// # Errors
/// With what did not hold.
pub fn twice(options: &Options) -> Result<Done, Box<Failure>> {
    let first = once(options, true, false)?;
    let second = once(options, false, false)?;
    if first.digest != second.digest {
        let message = format!("two runs differ: {:016x} and {:016x}", first.digest, second.digest);
        return Err(Box::new(Failure { options: options.clone(), message, steps: first.steps }));
    }
    Ok(second)
}

/// Leaves out what a failure does not need: faults, devices, tabs, steps. Whatever fails in the same way counts.
pub fn shrink(failure: Box<Failure>) -> Box<Failure> {
    let kind = kind_of(&failure.message).to_owned();
    let mut best = failure;
    let mut tries = Vec::new();
    tries.extend(FAULTS.iter().map(|name| (*name, 0)));
    tries.extend([("devices", 1), ("devices", 2), ("tabs", 1), ("tabs", 2), ("users", 1), ("page", 1_000)]);
    for (name, value) in tries {
        let mut options = best.options.clone();
        match options.named(name) {
            Some(option) if *option > value => *option = value,
            _ => continue,
        }
        keep_if_it_fails(&mut best, &options, &kind);
    }
    for divisor in [8, 4, 2] {
        let mut options = best.options.clone();
        options.steps = (best.steps.min(options.steps) / divisor).max(1);
        keep_if_it_fails(&mut best, &options, &kind);
    }
    let mut options = best.options.clone();
    options.steps = options.steps.min(best.steps + 1);
    keep_if_it_fails(&mut best, &options, &kind);
    best
}

fn keep_if_it_fails(best: &mut Box<Failure>, options: &Options, kind: &str) {
    if let Err(failure) = once(options, true, false)
        && kind_of(&failure.message) == kind
    {
        *best = failure;
    }
}

/// The name of an invariant, or the beginning of a message.
pub fn kind_of(message: &str) -> &str {
    let end = message.find(':').unwrap_or(message.len()).min(40);
    message.get(..message.floor_char_boundary(end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_seeds_hold_and_give_the_same_trace_twice() {
        for seed in 0..12 {
            println!("cargo xtask sim --seed {seed}");
            let mut options = Options::draw(seed);
            options.steps = options.steps.min(200);
            let done = twice(&options).unwrap();
            assert!(done.steps >= options.steps);
        }
    }

    #[test]
    fn options_are_read_as_they_are_printed() {
        let mut options = Options::draw(3);
        options.drop = 7;
        options.steps = 11;
        let mut read = Options::draw(3);
        read.set(&options.difference()).unwrap();
        assert_eq!(read, options);
        assert!(read.set("nonsense=1").is_err());
        assert!(read.set("drop").is_err());
    }

    #[test]
    fn a_shrunk_failure_fails_in_the_same_way_with_less() {
        // A patience that nobody can meet stands for a bug.
        let failure = Box::new(Failure { options: Options::draw(5), message: "I16: never".to_owned(), steps: 10 });
        let shrunk = shrink(failure.clone());
        assert_eq!(shrunk, failure, "what does not fail is left as it was");
    }
}
