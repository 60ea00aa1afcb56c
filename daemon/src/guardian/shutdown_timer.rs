//! The remaining time of a shutdown. Pure.
//!
//! Only time in which the guardian itself ran counts: when the whole job is stopped in a terminal
//! (Ctrl-Z) and continued later, the shutdown continues where it was.

use std::time::Duration;

use tokio::time::Instant;

/// The longest time between two calls.
const STEP: Duration = Duration::from_secs(1);
/// A longer time between two calls means that the guardian itself was stopped.
const LONGEST_STEP: Duration = Duration::from_millis(1500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// No shutdown is running.
    WaitForEver,
    /// Call again after this time.
    Wait(Duration),
    /// The bound has passed.
    Over,
}

/// Counts the time of the running shutdown.
pub struct ShutdownTimer {
    spent: Duration,
    last: Option<Instant>,
}

impl ShutdownTimer {
    pub fn new() -> Self {
        Self { spent: Duration::ZERO, last: None }
    }

    /// Adds the time since the last call.
    pub fn poll(&mut self, now: Instant, bound: Option<Duration>) -> Poll {
        let Some(bound) = bound else {
            *self = Self::new();
            return Poll::WaitForEver;
        };
        let since = self.last.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.spent += since.min(LONGEST_STEP);
        match bound.saturating_sub(self.spent) {
            Duration::ZERO => Poll::Over,
            left => Poll::Wait(left.min(STEP)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_bound_it_waits_for_ever() {
        let mut shutdown_timer = ShutdownTimer::new();
        assert_eq!(shutdown_timer.poll(deadline::now(), None), Poll::WaitForEver);
        assert_eq!(shutdown_timer.poll(deadline::now() + 999 * SECOND, None), Poll::WaitForEver);
    }

    #[test]
    fn the_bound_counts_from_the_first_poll() {
        let mut shutdown_timer = ShutdownTimer::new();
        let begin = deadline::now();
        assert_eq!(shutdown_timer.poll(begin, None), Poll::WaitForEver);
        let bound = Some(SECOND * 5 / 2);
        assert_eq!(shutdown_timer.poll(begin + 100 * SECOND, bound), Poll::Wait(SECOND));
        assert_eq!(shutdown_timer.poll(begin + 101 * SECOND, bound), Poll::Wait(SECOND));
        assert_eq!(shutdown_timer.poll(begin + 102 * SECOND, bound), Poll::Wait(SECOND / 2));
        assert_eq!(shutdown_timer.poll(begin + 103 * SECOND, bound), Poll::Over);
    }

    /// Job control: an hour in which the whole job was stopped does not count.
    #[test]
    fn a_stopped_guardian_does_not_count() {
        let mut shutdown_timer = ShutdownTimer::new();
        let begin = deadline::now();
        let bound = Some(10 * SECOND);
        assert_eq!(shutdown_timer.poll(begin, bound), Poll::Wait(SECOND));
        assert_eq!(shutdown_timer.poll(begin + 3600 * SECOND, bound), Poll::Wait(SECOND));
    }
}
