//! What a person sees while a command works: one line per step, with the time it took.
//!
//! Steps go to stderr, so that the stdout of `size --json` and `figures --json` holds nothing but the answer.

use std::time::{Duration, Instant};

/// Says what starts now; the caller's closure does it; says how long it took if that was noticeable.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    eprintln!("==> {what}");
    let start = Instant::now();
    let result = work()?;
    let took = start.elapsed();
    if took >= NOTICEABLE {
        eprintln!("    done in {}", seconds(took));
    }
    Ok(result)
}

/// Says something that is not a step of its own.
pub(crate) fn note(text: &str) {
    eprintln!("    {text}");
}

/// Formats a duration as people read it: `0.4 s`, `12.3 s`, `3 min 20 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_mins(2) {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    let whole = duration.as_secs();
    format!("{} min {:02} s", whole / 60, whole % 60)
}

/// Below this a "done in" line is noise.
const NOTICEABLE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        assert_eq!(seconds(Duration::from_millis(430)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(119)), "119.0 s");
        assert_eq!(seconds(Duration::from_secs(200)), "3 min 20 s");
    }
}
