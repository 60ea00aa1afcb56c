//! The health of a running worker, from the results of its probes (R-SUP-2).
//!
//! ```text
//!   Starting --- success ---> Ready --- 3 failures in a row ---> Unhealthy
//!                               ^----------- success ----------------'
//! ```

use std::time::Duration;

use mcpd_common::status::WorkerState;
use tokio::time::Instant;

use crate::deadline;

/// Interval between probes of a worker that is ready or unhealthy; all workers are probed at the same moments.
pub const LIVENESS_INTERVAL: Duration = Duration::from_secs(10);
/// First interval between probes of a worker that is starting. The interval doubles with every probe.
const FIRST_READINESS_INTERVAL: Duration = Duration::from_millis(10);
const MAX_READINESS_INTERVAL: Duration = Duration::from_millis(100);
/// From then on a worker that is starting shows why, and is probed less often (R-SUP-8).
pub const SLOW_START: Duration = Duration::from_secs(5);
const SLOW_READINESS_INTERVAL: Duration = Duration::from_millis(500);
/// Failed probes in a row after which a worker is unhealthy.
pub const MAX_FAILED_PROBES: u8 = 3;

/// A worker between its start and its exit or stop request.
#[derive(Clone, Debug)]
pub struct Running {
    health: Health,
    began: Instant,
    /// When the start counts as failed.
    ready_by: Instant,
    probe_at: Option<Instant>,
    readiness_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Starting,
    Ready { since: Instant, failures: u8 },
    Unhealthy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum HealthChange {
    Unchanged,
    BecameReady,
    BecameUnhealthy,
}

impl Running {
    pub fn starting(now: Instant, ready_within: Duration) -> Self {
        Self {
            health: Health::Starting,
            began: now,
            ready_by: now + ready_within,
            probe_at: Some(now + FIRST_READINESS_INTERVAL),
            readiness_interval: FIRST_READINESS_INTERVAL,
        }
    }

    /// There is no process yet: it is looked at seldom.
    #[must_use]
    pub fn waiting(self, now: Instant) -> Self {
        Self { probe_at: Some(now + SLOW_READINESS_INTERVAL), ..self }
    }

    pub fn state(&self) -> WorkerState {
        match self.health {
            Health::Starting => WorkerState::Starting,
            Health::Ready { .. } => WorkerState::Ready,
            Health::Unhealthy => WorkerState::Unhealthy,
        }
    }

    /// `None` if the worker is not ready.
    pub fn ready_since(&self) -> Option<Instant> {
        match self.health {
            Health::Ready { since, .. } => Some(since),
            Health::Starting | Health::Unhealthy => None,
        }
    }

    /// Whether it has been starting longer than [`SLOW_START`].
    pub fn is_slow_to_start(&self, now: Instant) -> bool {
        self.health == Health::Starting && now >= self.began + SLOW_START
    }

    /// Whether the time for the start is over.
    pub fn is_start_overdue(&self, now: Instant) -> bool {
        self.health == Health::Starting && now >= self.ready_by
    }

    /// When the next probe is due, or the time for the start is over.
    pub fn timer(&self) -> Option<Instant> {
        let ready_by = Some(self.ready_by).filter(|_| self.health == Health::Starting);
        self.probe_at.into_iter().chain(ready_by).min()
    }

    /// A probe was started. The next one is scheduled when this one has a result.
    pub fn probe_started(&mut self) {
        self.probe_at = None;
    }

    /// A probe has a result.
    pub fn probed(&mut self, alive: bool, now: Instant) -> HealthChange {
        let (health, change) = match (self.health, alive) {
            (Health::Ready { since, .. }, true) => {
                (Health::Ready { since, failures: 0 }, HealthChange::Unchanged)
            }
            (Health::Starting | Health::Unhealthy, true) => {
                (Health::Ready { since: now, failures: 0 }, HealthChange::BecameReady)
            }
            (Health::Ready { since, failures }, false) if failures + 1 < MAX_FAILED_PROBES => {
                (Health::Ready { since, failures: failures + 1 }, HealthChange::Unchanged)
            }
            (Health::Ready { .. }, false) => (Health::Unhealthy, HealthChange::BecameUnhealthy),
            (health, false) => (health, HealthChange::Unchanged),
        };
        self.health = health;
        self.probe_at = Some(self.next_probe(now));
        change
    }

    fn next_probe(&mut self, now: Instant) -> Instant {
        match self.health {
            Health::Starting if self.is_slow_to_start(now) => now + SLOW_READINESS_INTERVAL,
            Health::Starting => {
                self.readiness_interval = (self.readiness_interval * 2).min(MAX_READINESS_INTERVAL);
                now + self.readiness_interval
            }
            Health::Ready { .. } | Health::Unhealthy => deadline::next_beat(now, LIVENESS_INTERVAL),
        }
    }
}
