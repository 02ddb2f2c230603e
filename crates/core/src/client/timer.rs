//! Everything the client waits for a time for.

use std::collections::BTreeMap;

use syncline_protocol::Timestamp;

/// What happens when a time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The wait after a failed attempt is over: connect, or resolve the identity again.
    Retry,
    /// The socket did not open, `welcome` did not come, or the identity was not resolved: give the attempt up.
    Handshake,
    /// Nothing was sent for a while: send a heartbeat.
    Heartbeat,
    /// Nothing was heard for too long: give the socket up.
    Silence,
    /// A push was not answered: give the socket up.
    Outcomes,
    /// A pull was not answered: give it up.
    Pull,
    /// The connection has stood long enough: the next delay starts from the first step.
    Stable,
    /// Writes were gathered long enough: send them.
    PushWindow,
    /// The server could not take writes: send them again.
    PushRetry,
}

/// When each timer fires.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, Timestamp>,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Timestamp) {
        self.due.insert(timer, at);
    }

    /// Sets a timer that is not running.
    pub(crate) fn start(&mut self, timer: Timer, at: Timestamp) {
        self.due.entry(timer).or_insert(at);
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.due.remove(&timer);
    }

    pub(crate) fn clear_all(&mut self) {
        self.due.clear();
    }

    pub(crate) fn is_running(&self, timer: Timer) -> bool {
        self.due.contains_key(&timer)
    }

    pub(crate) fn at(&self, timer: Timer) -> Option<Timestamp> {
        self.due.get(&timer).copied()
    }

    /// Takes one timer that is due; the earliest first.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<Timer> {
        let (&timer, _) = self.due.iter().filter(|(_, at)| **at <= now).min_by_key(|(timer, at)| (**at, **timer))?;
        self.due.remove(&timer);
        Some(timer)
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.due.values().copied().min()
    }

    /// Moves everything by a clock that was set back, so that no wait grows by the step.
    pub(crate) fn move_back(&mut self, ms: u64) {
        for at in self.due.values_mut() {
            at.0 = at.0.saturating_sub(ms);
        }
    }
}
