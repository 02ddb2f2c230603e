//! Randomness that a seed repeats. `SYNCLINE_SEED=7 cargo test -p syncline-core` runs that one seed alone, and
//! `SYNCLINE_SEEDS=300..9000` those, for a long run.

/// `SplitMix64` (Steele, Lea, Flood 2014): one word of state, good enough to pick steps.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count.max(1) as u64).unwrap()
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}

/// Runs a test for each of `count` seeds, `SYNCLINE_SOAK` times as many if that is set, or for those in `SYNCLINE_SEED` or
/// `SYNCLINE_SEEDS`; a failure names its seed.
pub(crate) fn for_seeds(name: &str, count: u64, test: impl Fn(u64)) {
    if let Some(seed) = option_env!("SYNCLINE_SEED").map(str::to_owned).or_else(|| std::env::var("SYNCLINE_SEED").ok()) {
        return test(seed.parse().expect("SYNCLINE_SEED is a number"));
    }
    // A WebAssembly test shares one process and one patience with the whole suite.
    let count = if cfg!(target_arch = "wasm32") { count.div_ceil(5) } else { count };
    let bound = |text: &str| text.parse::<u64>().expect("SYNCLINE_SEEDS is two numbers: 300..9000");
    let asked = std::env::var("SYNCLINE_SEEDS").ok();
    let asked = asked.as_ref().and_then(|range| range.split_once("..")).map(|(from, to)| bound(from)..bound(to));
    let factor = std::env::var("SYNCLINE_SOAK").map_or(1, |factor| factor.parse().expect("SYNCLINE_SOAK is a number"));
    for seed in asked.unwrap_or(0..count * factor) {
        let guard = NameSeed { name, seed };
        test(seed);
        std::mem::forget(guard);
    }
}

/// Prints the seed when the test panics, on targets that unwind and on those that do not.
struct NameSeed<'a> {
    name: &'a str,
    seed: u64,
}

impl Drop for NameSeed<'_> {
    fn drop(&mut self) {
        let Self { name, seed } = self;
        println!("{name} failed: SYNCLINE_SEED={seed} cargo test -p syncline-core --test client {name}");
    }
}
