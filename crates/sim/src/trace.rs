//! What happened, as a number that two runs of a seed must share, and as lines for whoever looks for a bug.

use std::fmt;

use xxhash_rust::xxh64::Xxh64;

/// The record of one run.
#[derive(Clone)]
pub(crate) struct Trace {
    hash: Xxh64,
    shown: bool,
    /// How much was recorded.
    pub(crate) events: u64,
}

impl Trace {
    /// Begins; `shown` prints each line.
    pub(crate) fn new(shown: bool) -> Self {
        Self { hash: Xxh64::new(0), shown, events: 0 }
    }

    /// Records one thing.
    #[expect(clippy::print_stdout, reason = "asked for by whoever looks for a bug")]
    pub(crate) fn note(&mut self, now: u64, what: &str, detail: &str) {
        self.events += 1;
        self.hash.update(&now.to_le_bytes());
        self.hash.update(what.as_bytes());
        self.hash.update(detail.as_bytes());
        if self.shown {
            let end = detail.floor_char_boundary(400);
            println!("{:>9} {what} {}", now - crate::world::START_MS, detail.get(..end).unwrap_or_default());
        }
    }

    /// The number.
    pub(crate) fn digest(&self) -> u64 {
        self.hash.digest()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("events", &self.events).finish_non_exhaustive()
    }
}
