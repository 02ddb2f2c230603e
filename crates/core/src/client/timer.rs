//! Everything the client waits for a time for.

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
    /// There was no sign of the leader: lead.
    Lead,
}

/// Every timer, in the order of their numbers.
const TIMERS: [Timer; 10] = [
    Timer::Retry,
    Timer::Handshake,
    Timer::Heartbeat,
    Timer::Silence,
    Timer::Outcomes,
    Timer::Pull,
    Timer::Stable,
    Timer::PushWindow,
    Timer::PushRetry,
    Timer::Lead,
];

/// When each timer fires.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: [Option<Timestamp>; TIMERS.len()],
}

impl Timers {
    pub(crate) const fn set(&mut self, timer: Timer, at: Timestamp) {
        *self.place(timer) = Some(at);
    }

    /// Sets a timer that is not running.
    pub(crate) fn start(&mut self, timer: Timer, at: Timestamp) {
        self.place(timer).get_or_insert(at);
    }

    pub(crate) const fn clear(&mut self, timer: Timer) {
        *self.place(timer) = None;
    }

    pub(crate) fn clear_all(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_running(&self, timer: Timer) -> bool {
        self.at(timer).is_some()
    }

    pub(crate) fn at(&self, timer: Timer) -> Option<Timestamp> {
        self.due.get(timer as usize).copied().flatten()
    }

    /// Takes one timer that is due; the earliest first.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<Timer> {
        let at = self.next().filter(|at| *at <= now)?;
        let timer = TIMERS.into_iter().find(|timer| self.at(*timer) == Some(at))?;
        self.clear(timer);
        Some(timer)
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        let mut next = None;
        for at in self.due.iter().flatten() {
            next = Some(next.map_or(*at, |next: Timestamp| next.min(*at)));
        }
        next
    }

    /// Moves everything by a clock that was set back, so that no wait grows by the step.
    pub(crate) fn move_back(&mut self, ms: u64) {
        for at in self.due.iter_mut().flatten() {
            at.0 = at.0.saturating_sub(ms);
        }
    }

    #[expect(clippy::indexing_slicing, reason = "there is a place for each timer")]
    const fn place(&mut self, timer: Timer) -> &mut Option<Timestamp> {
        &mut self.due[timer as usize]
    }
}
