//! When a worker that exited is started again (R-SUP-3). Pure.

use std::time::Duration;

use tokio::time::Instant;

pub const FIRST: Duration = Duration::from_millis(200);
pub const LONGEST: Duration = Duration::from_secs(30);
/// Time in good health that resets the backoff.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(30);
/// Quick deaths in a row after which the worker has failed.
pub const QUICK_DEATHS: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start again after this time.
    Wait(Duration),
    /// Only `mcpctl restart` starts it again.
    GiveUp,
}

/// Counts quick deaths.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    deaths: u32,
    seed: u64,
}

impl Backoff {
    /// No deaths yet. The seed spreads the jitter, so that workers that died together
    /// do not start together.
    pub fn new(seed: u64) -> Self {
        Self { first: FIRST, deaths: 0, seed: seed | 1 }
    }

    /// With another first wait, from which the later ones follow.
    #[must_use]
    pub fn starting_with(self, first: Duration) -> Self {
        Self { first, ..self }
    }

    /// Deaths in a row so far.
    pub fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Resets the count (`mcpctl restart`, `mcpctl start`).
    pub fn forget(&mut self) {
        self.deaths = 0;
    }

    /// The worker died at `now`, in good health since `healthy_since`.
    #[must_use]
    pub fn died(&mut self, healthy_since: Option<Instant>, now: Instant) -> RestartDecision {
        if healthy_since.is_some_and(|since| now.saturating_duration_since(since) >= FORGIVEN_AFTER) {
            self.deaths = 0;
        }
        self.deaths += 1;
        match self.deaths {
            QUICK_DEATHS.. => RestartDecision::GiveUp,
            deaths => {
                let wait = self.first.saturating_mul(1 << (deaths - 1)).min(LONGEST);
                RestartDecision::Wait(self.jittered(wait))
            }
        }
    }

    /// Three quarters to all of `wait`, by xorshift: spreading restarts needs no good randomness.
    fn jittered(&mut self, wait: Duration) -> Duration {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let quarter = wait / 4;
        wait - quarter.mul_f64((self.seed % 1024) as f64 / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline;
    use proptest::prelude::*;

    proptest! {
        /// R-SUP-3: from 200 ms, at most 30 s, never less than three quarters of the step.
        #[test]
        fn waits_grow_within_their_bounds(seed: u64) {
            let mut backoff = Backoff::new(seed);
            let now = deadline::now();
            for death in 1..QUICK_DEATHS {
                let step = FIRST.saturating_mul(1 << (death - 1)).min(LONGEST);
                match backoff.died(None, now) {
                    RestartDecision::Wait(wait) => prop_assert!(wait <= step && wait >= step * 3 / 4),
                    RestartDecision::GiveUp => prop_assert!(false, "gave up after {death}"),
                }
            }
            prop_assert_eq!(backoff.died(None, now), RestartDecision::GiveUp);
        }
    }

    #[test]
    fn good_health_is_rewarded() {
        let mut backoff = Backoff::new(7);
        let start = deadline::now();
        for _ in 0..50 {
            let verdict = backoff.died(Some(start), start + FORGIVEN_AFTER);
            assert!(matches!(verdict, RestartDecision::Wait(wait) if wait <= FIRST));
        }
    }
}
