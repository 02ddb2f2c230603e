//! How often one caller may call: the generic cell rate algorithm, one instant of state for each caller.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A steady rate and how much of it may come at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    interval: Duration,
    burst: Duration,
}

impl Rate {
    /// `count` calls in `period` on average, and as many at once.
    pub(crate) fn per(count: NonZeroU32, period: Duration) -> Self {
        Self { interval: period / count.get(), burst: period }
    }
}

/// The state of one caller: when all it has used so far would have been used at the steady rate.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter(Option<Instant>);

impl Meter {
    /// Counts one call.
    ///
    /// # Errors
    /// How long to wait when it is one too many; it is not counted then.
    pub(crate) fn count(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let used_until = self.0.map_or(now, |at| at.max(now)) + rate.interval;
        let excess = used_until.saturating_duration_since(now).saturating_sub(rate.burst);
        if !excess.is_zero() {
            return Err(excess);
        }
        self.0 = Some(used_until);
        Ok(())
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.0.is_none_or(|at| at <= now)
    }
}

/// The meters of all callers.
#[derive(Debug)]
pub(crate) struct RateLimiter<K> {
    rate: Rate,
    meters: Mutex<HashMap<K, Meter>>,
}

impl<K: Eq + Hash> RateLimiter<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, meters: Mutex::default() }
    }

    /// Counts one call of `caller`.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(crate) fn count(&self, caller: K, now: Instant) -> Result<(), Duration> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= CALLERS_MAX && !meters.contains_key(&caller) {
            meters.retain(|_, meter| !meter.is_idle(now));
            if meters.len() >= CALLERS_MAX {
                // Forgetting everybody admits a burst; refusing newcomers would let an attacker lock them out.
                meters.clear();
            }
        }
        meters.entry(caller).or_default().count(self.rate, now)
    }
}

/// Callers remembered at once; 40 bytes each.
const CALLERS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_steady_rate() {
        let rate = Rate::per(NonZeroU32::new(10).unwrap(), Duration::from_secs(1));
        let start = Instant::now();
        let mut meter = Meter::default();
        for _ in 0..10 {
            assert_eq!(meter.count(rate, start), Ok(()));
        }
        assert_eq!(meter.count(rate, start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        assert_eq!(meter.count(rate, later), Ok(()));
        assert!(meter.count(rate, later).is_err());
    }

    #[test]
    fn callers_do_not_share_a_meter() {
        let limiter = RateLimiter::new(Rate::per(NonZeroU32::new(1).unwrap(), Duration::from_mins(1)));
        let now = Instant::now();
        assert!(limiter.count("a", now).is_ok());
        assert!(limiter.count("a", now).is_err());
        assert!(limiter.count("b", now).is_ok());
    }
}
