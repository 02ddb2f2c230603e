//! How long to wait before the next attempt.

use syncline_protocol::limits;

use super::rng::Rng;

/// Counts attempts that did not lead to a stable connection.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    base_ms: u64,
    attempt: u32,
}

impl Backoff {
    pub(crate) const fn new(base_ms: u64) -> Self {
        Self { base_ms, attempt: 0 }
    }

    /// Returns how long to wait, in milliseconds, and counts the attempt.
    ///
    /// Doubles up to [`limits::BACKOFF_MS_MAX`], then picks a uniform point below it, so that clients which lost the same
    /// server do not return together ("full jitter", AWS Architecture Blog, 2015).
    pub(crate) fn next_ms(&mut self, rng: &mut Rng) -> u64 {
        let factor = 1_u64.checked_shl(self.attempt).unwrap_or(u64::MAX);
        self.attempt = self.attempt.saturating_add(1);
        rng.up_to(self.base_ms.saturating_mul(factor).min(limits::BACKOFF_MS_MAX))
    }

    pub(crate) const fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_to_thirty_seconds_and_stays() {
        let mut longest = [0; 12];
        for seed in 0..200_u8 {
            let mut rng = Rng::new([seed; 32]);
            let mut backoff = Backoff::new(1_000);
            for slot in &mut longest {
                *slot = backoff.next_ms(&mut rng).max(*slot);
            }
        }
        let ceilings = [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30].map(|seconds| seconds * 1_000);
        for (seen, ceiling) in longest.into_iter().zip(ceilings) {
            assert!(seen <= ceiling && seen > ceiling * 9 / 10, "{seen} of {ceiling}");
        }
    }
}
