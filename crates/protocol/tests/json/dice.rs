//! Random choices that a seed repeats.

/// `SplitMix64` (Steele, Lea, Flood 2014).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.next() % bound).unwrap()
    }

    pub(crate) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64)]
    }
}

/// Runs a test for each of `count` seeds, `SYNCLINE_SOAK` times as many if that is set, or for the one in `SYNCLINE_SEED`; a
/// failure names its seed.
pub(crate) fn for_seeds(name: &str, count: u64, test: impl Fn(&mut Dice)) {
    let number = |variable| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("SYNCLINE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..count * number("SYNCLINE_SOAK").unwrap_or(1),
    };
    for seed in seeds {
        let guard = NameSeed { name, seed };
        test(&mut Dice(seed));
        std::mem::forget(guard);
    }
}

/// Prints the seed when the test panics.
struct NameSeed<'a> {
    name: &'a str,
    seed: u64,
}

impl Drop for NameSeed<'_> {
    fn drop(&mut self) {
        let Self { name, seed } = self;
        println!("{name} failed: SYNCLINE_SEED={seed} cargo test -p syncline-protocol --test json {name}");
    }
}
