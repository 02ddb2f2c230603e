//! Randomness that a seed repeats, in streams that do not disturb each other.

/// `SplitMix64` (Steele, Lea, Flood 2014): one word of state, good enough to pick steps.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u64,
    is_steady: bool,
}

impl Random {
    /// A stream of a seed. Streams of different names differ, so that a fault that is left out moves nothing else.
    pub(crate) fn stream(seed: u64, name: &str) -> Self {
        Self { state: xxhash_rust::xxh64::xxh64(name.as_bytes(), seed), is_steady: false }
    }

    /// A stream that decides nothing: always the least, the first, and no fault.
    pub(crate) const fn steady() -> Self {
        Self { state: 0, is_steady: true }
    }

    /// The next 64 bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        if self.is_steady {
            return 0;
        }
        usize::try_from(self.next() % count.max(1) as u64).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) const fn between(&mut self, low: u64, high: u64) -> u64 {
        if self.is_steady { low } else { low + self.next() % (high - low + 1) }
    }

    /// True so many times in a thousand.
    pub(crate) const fn permille(&mut self, chance: u64) -> bool {
        if self.is_steady { chance >= 1_000 } else { self.next() % 1_000 < chance }
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let index = self.below(choices.len());
        choices.get(index).expect("there is something to choose from")
    }

    /// Seed of a client.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}
