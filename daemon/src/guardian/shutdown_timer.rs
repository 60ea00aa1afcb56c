//! How long a shutdown may still take. Pure.
//!
//! Only time in which the guardian itself ran is counted: who stops the whole job in a terminal
//! (Ctrl-Z) and lets it go on later finds it as it was.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks, at most.
const STEP: Duration = Duration::from_secs(1);
/// A longer time between two calls means that the guardian itself was stopped.
const LONGEST_STEP: Duration = Duration::from_millis(1500);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Nothing has to be over at any time.
    WaitForEver,
    /// Look again after this.
    Wait(Duration),
    /// The time is over.
    Over,
}

/// Counts.
pub struct ShutdownTimer {
    spent: Duration,
    last: Option<Instant>,
}

impl ShutdownTimer {
    /// Nothing is to be waited for yet.
    pub fn new() -> Self {
        Self { spent: Duration::ZERO, last: None }
    }

    /// What is left of this bound.
    pub fn look(&mut self, now: Instant, bound: Option<Duration>) -> Poll {
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
        assert_eq!(shutdown_timer.look(deadline::now(), None), Poll::WaitForEver);
        assert_eq!(shutdown_timer.look(deadline::now() + 999 * SECOND, None), Poll::WaitForEver);
    }

    #[test]
    fn the_bound_counts_from_the_first_look_at_it() {
        let mut shutdown_timer = ShutdownTimer::new();
        let begin = deadline::now();
        assert_eq!(shutdown_timer.look(begin, None), Poll::WaitForEver);
        let bound = Some(SECOND * 5 / 2);
        assert_eq!(shutdown_timer.look(begin + 100 * SECOND, bound), Poll::Wait(SECOND));
        assert_eq!(shutdown_timer.look(begin + 101 * SECOND, bound), Poll::Wait(SECOND));
        assert_eq!(shutdown_timer.look(begin + 102 * SECOND, bound), Poll::Wait(SECOND / 2));
        assert_eq!(shutdown_timer.look(begin + 103 * SECOND, bound), Poll::Over);
    }

    /// Job control: an hour in which the whole job was stopped is no hour of the shutdown's.
    #[test]
    fn a_stopped_guardian_does_not_count() {
        let mut shutdown_timer = ShutdownTimer::new();
        let begin = deadline::now();
        let bound = Some(10 * SECOND);
        assert_eq!(shutdown_timer.look(begin, bound), Poll::Wait(SECOND));
        assert_eq!(shutdown_timer.look(begin + 3600 * SECOND, bound), Poll::Wait(SECOND));
    }
}
