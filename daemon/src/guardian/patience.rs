//! How long a shutdown may still take. Pure.
//!
//! Only time in which the guardian itself ran is counted: who stops the whole job in a terminal
//! (Ctrl-Z) and lets it go on later finds it as it was.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks, at most.
const STEP: Duration = Duration::from_secs(1);
/// A longer pause between two looks was not the guardian's wish: it was stopped.
const LONGEST_STEP: Duration = Duration::from_millis(1500);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing has to be over at any time.
    WaitForEver,
    /// Look again after this.
    Wait(Duration),
    /// The time is over.
    Over,
}

/// Counts.
pub struct Patience {
    spent: Duration,
    last: Option<Instant>,
}

impl Patience {
    /// Nothing is to be waited for yet.
    pub fn new() -> Self {
        Self { spent: Duration::ZERO, last: None }
    }

    /// What is left of this bound.
    pub fn look(&mut self, now: Instant, bound: Option<Duration>) -> Next {
        let Some(bound) = bound else {
            *self = Self::new();
            return Next::WaitForEver;
        };
        let since = self.last.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.spent += since.min(LONGEST_STEP);
        match bound.saturating_sub(self.spent) {
            Duration::ZERO => Next::Over,
            left => Next::Wait(left.min(STEP)),
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
        let mut patience = Patience::new();
        assert_eq!(patience.look(deadline::now(), None), Next::WaitForEver);
        assert_eq!(patience.look(deadline::now() + 999 * SECOND, None), Next::WaitForEver);
    }

    #[test]
    fn the_bound_counts_from_the_first_look_at_it() {
        let (mut patience, begin) = (Patience::new(), deadline::now());
        assert_eq!(patience.look(begin, None), Next::WaitForEver);
        let bound = Some(SECOND * 5 / 2);
        assert_eq!(patience.look(begin + 100 * SECOND, bound), Next::Wait(SECOND));
        assert_eq!(patience.look(begin + 101 * SECOND, bound), Next::Wait(SECOND));
        assert_eq!(patience.look(begin + 102 * SECOND, bound), Next::Wait(SECOND / 2));
        assert_eq!(patience.look(begin + 103 * SECOND, bound), Next::Over);
    }

    /// Job control: an hour in which the whole job was stopped is no hour of the shutdown's.
    #[test]
    fn a_stopped_guardian_does_not_count() {
        let (mut patience, begin) = (Patience::new(), deadline::now());
        let bound = Some(10 * SECOND);
        assert_eq!(patience.look(begin, bound), Next::Wait(SECOND));
        assert_eq!(patience.look(begin + 3600 * SECOND, bound), Next::Wait(SECOND));
    }
}
