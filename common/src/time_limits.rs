//! The time limits of the phases. Pure.

use std::time::Duration;

use crate::config::ShutdownConfig;
use crate::phase::Phase;

/// How long `SIGKILL` is repeated before the remaining processes are reported.
pub const KILL_LIMIT: Duration = Duration::from_secs(5);

/// For the phase exit: report, journal and last event.
pub const EXIT: Duration = Duration::from_secs(1);

/// The limit of each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    graceful: Duration,
    clients: Duration,
    term: Duration,
    verification: Duration,
}

impl TimeLimits {
    /// From the configuration.
    pub fn new(config: &ShutdownConfig) -> Self {
        Self {
            graceful: config.worker_graceful,
            clients: config.clients,
            term: config.worker_total.saturating_sub(config.worker_graceful),
            verification: config.verification,
        }
    }

    /// Limit between `SIGTERM` and `SIGKILL`, however long the clients took.
    pub fn term(&self) -> Duration {
        self.term
    }

    /// The limit of this phase.
    pub fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Initiated => Duration::ZERO,
            Phase::WorkersGraceful => self.graceful,
            Phase::Clients => self.clients,
            Phase::WorkersTerminate => self.term + KILL_LIMIT,
            Phase::Verification => self.verification,
            Phase::Exit => EXIT,
        }
    }

    /// The bound of the whole shutdown: past it the exit code is 102.
    pub fn total(&self) -> Duration {
        Phase::ALL.into_iter().map(|phase| self.of(phase)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_total_is_the_sum_of_the_specification() {
        assert_eq!(TimeLimits::new(&ShutdownConfig::default()).total(), Duration::from_secs(81));
    }
}
