//! The life of one worker. Pure: an [`Event`] comes in, [`Act`]s go out, the supervisor
//! performs them.
//!
//! ```text
//!             Start                LeaderExited                 Gone
//!   Idle ---------------> Running --------------> Leaving ---------------> Idle, or Running again
//!  (stopped, failed,     (starting, ready,  Stop  (course of stop.rs)
//!   backing off) <-.      unhealthy) ----------->    |
//!                   `---------- time over: Start <---'
//! ```
//!
//! While shutting down nothing is ever started (R-SUP-4): [`Machine::spawn`] is the only
//! place that asks for a process, and it refuses then.

use std::time::Duration;

use mcpd_common::config::RestartPolicy;
use mcpd_common::os::ProcessInfo;
use mcpd_common::outcome::{Asked, ExitStatus};
use mcpd_common::status::WorkerState;
use tokio::time::Instant;

use super::backoff::{Backoff, Verdict};
use super::stop_sequence::{self, AfterGrace, Answer, Course, Leave, Times};

/// Between two probes of a worker that is ready.
pub const LIVENESS: Duration = Duration::from_secs(10);
/// Between two probes of a worker that is starting: at first, and at most.
const READINESS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// So many failed probes in a row, and a worker is unhealthy.
const FAILURES: u8 = 3;

/// What a worker's configuration says about its life.
#[derive(Clone, Debug)]
pub struct Policy {
    /// When it comes back.
    pub restart: RestartPolicy,
    /// Whether being unhealthy restarts it.
    pub restart_unhealthy: bool,
    /// Whether it has a shutdown route to be asked by.
    pub has_route: bool,
    /// How long it may take to leave when it is stopped alone.
    pub graceful: Duration,
    /// How long `SIGTERM` may take.
    pub term: Duration,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// It shall run (boot, `mcpctl start`).
    Start,
    /// It shall leave and stay away (`mcpctl stop`).
    Stop,
    /// It shall leave and come back (`mcpctl restart`).
    Restart,
    /// The daemon shuts down; the graceful time ends then.
    Shutdown {
        /// End of the phase.
        grace_until: Instant,
    },
    /// The phase that sends `SIGTERM` has come.
    Escalate,
    /// Straight to `SIGKILL`.
    Hurry,
    /// It could not be started.
    SpawnFailed {
        /// Why, for a person.
        reason: String,
    },
    /// The probe was answered, or not.
    Probed {
        /// Whether it was.
        alive: bool,
        /// Whether requests are in flight: then it is never restarted for not answering.
        busy: bool,
    },
    /// It listens, but not where it was told to (R-CONF-1).
    Strayed {
        /// What to say of it.
        reason: String,
    },
    /// The request to leave was answered, or not.
    Answered(Answer),
    /// The leader exited.
    LeaderExited {
        /// How.
        exit: ExitStatus,
        /// Descendants that are still there.
        remaining: Vec<ProcessInfo>,
    },
    /// Leader and descendants are gone.
    Gone,
    /// Time has passed.
    Tick,
}

/// What the supervisor shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Start a process.
    Spawn,
    /// See whether it answers.
    Probe,
    /// A step of leaving.
    Stop(stop_sequence::Act),
    /// It has left, or what is left of it is given up.
    Left(Box<Leave>),
}

/// What it does once it has left.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    Rest,
    StartAgain,
    BackOff(Duration),
    Fail(String),
}

#[derive(Clone, Debug)]
enum Life {
    Stopped,
    Failed,
    BackingOff { until: Instant },
    Running(Running),
    Leaving { course: Box<Course>, then: Then },
}

#[derive(Clone, Debug)]
struct Running {
    health: Health,
    probe_at: Option<Instant>,
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Starting,
    Ready { since: Instant, failures: u8 },
    Unhealthy,
}

/// A worker's life.
#[derive(Clone, Debug)]
pub struct Machine {
    policy: Policy,
    life: Life,
    reason: Option<String>,
    backoff: Backoff,
    last_exit: Option<ExitStatus>,
    shutting_down: bool,
}

impl Machine {
    /// A worker that has not been started yet.
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            life: Life::Stopped,
            reason: None,
            backoff: Backoff::new(seed),
            last_exit: None,
            shutting_down: false,
        }
    }

    /// The same with another first wait before a restart.
    #[must_use]
    pub fn with_first_wait(self, first: Duration) -> Self {
        Self { backoff: self.backoff.clone().starting_with(first), ..self }
    }

    /// A worker that can't be started at all (R-CONF-4).
    pub fn unusable(policy: Policy, reason: String) -> Self {
        Self { life: Life::Failed, reason: Some(reason), ..Self::new(policy, 1) }
    }

    /// The state that `status` shows.
    pub fn state(&self) -> WorkerState {
        match &self.life {
            Life::Stopped => WorkerState::Stopped,
            Life::Failed => WorkerState::Failed,
            Life::BackingOff { .. } => WorkerState::BackingOff,
            Life::Running(running) => match running.health {
                Health::Starting => WorkerState::Starting,
                Health::Ready { .. } => WorkerState::Ready,
                Health::Unhealthy => WorkerState::Unhealthy,
            },
            Life::Leaving { .. } => WorkerState::Stopping,
        }
    }

    /// Why it is in that state, where that is not plain.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// How its last process ended.
    pub fn last_exit(&self) -> Option<ExitStatus> {
        self.last_exit
    }

    /// Whether any process of it may be there.
    pub fn is_alive(&self) -> bool {
        matches!(&self.life, Life::Running(_)) || self.leaving().is_some_and(|course| !course.is_abandoned())
    }

    /// Its way out, while it is on it.
    pub fn leaving(&self) -> Option<&Course> {
        match &self.life {
            Life::Leaving { course, .. } => Some(course),
            _ => None,
        }
    }

    /// When [`Event::Tick`] has something to do.
    pub fn timer(&self) -> Option<Instant> {
        match &self.life {
            Life::Stopped | Life::Failed => None,
            Life::BackingOff { until } => Some(*until),
            Life::Running(running) => running.probe_at,
            Life::Leaving { course, .. } => course.timer(),
        }
    }

    /// Takes an event in, gives acts out.
    #[must_use]
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Act> {
        match event {
            Event::Start => self.start(now),
            Event::Stop => self.stop(Then::Rest, now),
            Event::Restart => self.restart(now),
            Event::Shutdown { grace_until } => self.shut_down(grace_until, now),
            Event::Escalate => self.steer(|course| course.escalate(now), now),
            Event::Hurry => self.steer(|course| course.hurry(now), now),
            Event::SpawnFailed { reason } => self.spawn_failed(reason, now),
            Event::Probed { alive, busy } => self.probed(alive, busy, now),
            Event::Strayed { reason } => self.strayed(reason),
            Event::Answered(answer) => self.steer(|course| course.answered(answer, now), now),
            Event::LeaderExited { exit, remaining } => self.leader_exited(exit, remaining, now),
            Event::Gone => self.gone(now),
            Event::Tick => self.tick(now),
        }
    }

    fn start(&mut self, now: Instant) -> Vec<Act> {
        match &mut self.life {
            Life::Stopped | Life::Failed | Life::BackingOff { .. } => {
                self.backoff.forget();
                self.spawn(now)
            }
            Life::Leaving { then, .. } if !self.shutting_down => {
                *then = Then::StartAgain;
                vec![]
            }
            Life::Leaving { .. } | Life::Running(_) => vec![],
        }
    }

    fn restart(&mut self, now: Instant) -> Vec<Act> {
        self.backoff.forget();
        match self.life {
            Life::Running(_) | Life::Leaving { .. } if !self.shutting_down => {
                self.stop(Then::StartAgain, now)
            }
            _ => self.start(now),
        }
    }

    /// The only place that asks for a process.
    fn spawn(&mut self, now: Instant) -> Vec<Act> {
        if self.shutting_down {
            self.life = Life::Stopped;
            return vec![];
        }
        self.reason = None;
        let (pause, _) = READINESS;
        self.life = Life::Running(Running { health: Health::Starting, probe_at: Some(now + pause), pause });
        vec![Act::Spawn]
    }

    fn stop(&mut self, then: Then, now: Instant) -> Vec<Act> {
        let times = self.times_alone(now);
        self.leave(then, times, now)
    }

    fn shut_down(&mut self, grace_until: Instant, now: Instant) -> Vec<Act> {
        self.shutting_down = true;
        let times = Times { grace_until, term: self.policy.term, after_grace: AfterGrace::Hold };
        self.leave(Then::Rest, times, now)
    }

    fn leave(&mut self, then: Then, times: Times, now: Instant) -> Vec<Act> {
        match &mut self.life {
            Life::Stopped | Life::Failed => vec![],
            Life::BackingOff { .. } => {
                self.life = Life::Stopped;
                vec![]
            }
            // It keeps the course it is on; only what comes afterwards changes.
            Life::Leaving { then: planned, .. } => {
                *planned = then;
                vec![]
            }
            Life::Running(running) => {
                let was_ready = running.health != Health::Starting;
                let asked = if was_ready && self.policy.has_route { Asked::Http } else { Asked::Sigterm };
                let (course, act) = Course::begin(asked, times, now);
                self.life = Life::Leaving { course: Box::new(course), then };
                vec![Act::Stop(act)]
            }
        }
    }

    fn steer(
        &mut self,
        step: impl FnOnce(&mut Course) -> Option<stop_sequence::Act>,
        now: Instant,
    ) -> Vec<Act> {
        let Life::Leaving { course, .. } = &mut self.life else {
            return vec![];
        };
        let Some(act) = step(course) else {
            return vec![];
        };
        if act != stop_sequence::Act::GiveUp {
            return vec![Act::Stop(act)];
        }
        let account = Act::Left(Box::new(course.so_far(now)));
        if !self.shutting_down {
            self.reason = Some("something of its last process could not be ended".to_owned());
            self.life = Life::Failed;
        }
        vec![Act::Stop(act), account]
    }

    fn spawn_failed(&mut self, reason: String, now: Instant) -> Vec<Act> {
        self.reason = Some(reason);
        match &self.life {
            Life::Running(_) => {
                let then = self.after_death(None, now);
                self.settle(then, now)
            }
            Life::Leaving { .. } => self.gone(now),
            _ => vec![],
        }
    }

    fn probed(&mut self, alive: bool, busy: bool, now: Instant) -> Vec<Act> {
        let Life::Running(running) = &mut self.life else {
            return vec![];
        };
        running.health = match (running.health, alive) {
            (Health::Ready { since, .. }, true) => Health::Ready { since, failures: 0 },
            (_, true) => {
                self.reason = None;
                Health::Ready { since: now, failures: 0 }
            }
            (Health::Ready { since, failures }, false) if failures + 1 < FAILURES => {
                Health::Ready { since, failures: failures + 1 }
            }
            (Health::Ready { .. }, false) => {
                self.reason = Some(format!("{FAILURES} probes in a row were not answered"));
                Health::Unhealthy
            }
            (health, false) => health,
        };
        running.probe_at = Some(now + running.next_pause());
        match running.health {
            Health::Unhealthy if self.policy.restart_unhealthy && !busy => {
                let then = self.after_death(None, now);
                self.stop(then, now)
            }
            _ => vec![],
        }
    }

    fn strayed(&mut self, reason: String) -> Vec<Act> {
        if self.state() == WorkerState::Starting {
            self.reason = Some(reason);
        }
        vec![]
    }

    fn leader_exited(&mut self, exit: ExitStatus, remaining: Vec<ProcessInfo>, now: Instant) -> Vec<Act> {
        self.last_exit = Some(exit);
        if matches!(self.life, Life::Leaving { .. }) {
            return self.steer(|course| course.leader_exited(exit, remaining, now), now);
        }
        let Life::Running(running) = &self.life else {
            return vec![];
        };
        let then = self.after_exit(exit, running.healthy_since(), now);
        let (course, act) = Course::after_exit(exit, remaining, self.times_alone(now), now);
        self.life = Life::Leaving { course: Box::new(course), then };
        act.map(Act::Stop).into_iter().collect()
    }

    fn gone(&mut self, now: Instant) -> Vec<Act> {
        let Life::Leaving { course, then } = &self.life else {
            return vec![];
        };
        let (leave, then) = (course.gone(now), then.clone());
        let mut acts = vec![Act::Left(Box::new(leave))];
        acts.extend(self.settle(then, now));
        acts
    }

    fn settle(&mut self, then: Then, now: Instant) -> Vec<Act> {
        match then {
            Then::StartAgain => return self.spawn(now),
            Then::BackOff(wait) if !self.shutting_down => {
                self.life = Life::BackingOff { until: now + wait };
            }
            Then::Fail(reason) => {
                self.reason = Some(reason);
                self.life = Life::Failed;
            }
            Then::Rest | Then::BackOff(_) => self.life = Life::Stopped,
        }
        vec![]
    }

    fn tick(&mut self, now: Instant) -> Vec<Act> {
        if self.timer().is_none_or(|due| now < due) {
            return vec![];
        }
        match &mut self.life {
            Life::BackingOff { .. } => self.spawn(now),
            Life::Running(running) => {
                // The next one is planned when this one has been answered.
                running.probe_at = None;
                vec![Act::Probe]
            }
            Life::Leaving { .. } => self.steer(|course| course.tick(now), now),
            Life::Stopped | Life::Failed => vec![],
        }
    }

    fn after_exit(&mut self, exit: ExitStatus, healthy_since: Option<Instant>, now: Instant) -> Then {
        let clean = exit == ExitStatus::Code(0);
        match self.policy.restart {
            RestartPolicy::OnFailure | RestartPolicy::Never if clean => Then::Rest,
            RestartPolicy::Never => Then::Fail(format!("{exit}, and restart = \"never\"")),
            RestartPolicy::Always | RestartPolicy::OnFailure => {
                self.reason = Some(exit.to_string());
                self.after_death(healthy_since, now)
            }
        }
    }

    fn after_death(&mut self, healthy_since: Option<Instant>, now: Instant) -> Then {
        let last = self.reason.clone().unwrap_or_else(|| "it died".to_owned());
        match self.backoff.died(healthy_since, now) {
            Verdict::Wait(wait) => Then::BackOff(wait),
            Verdict::GiveUp => Then::Fail(format!(
                "{last}; {} quick deaths in a row, `mcpctl restart` tries again",
                self.backoff.deaths()
            )),
        }
    }

    fn times_alone(&self, now: Instant) -> Times {
        Times {
            grace_until: now + self.policy.graceful,
            term: self.policy.term,
            after_grace: AfterGrace::Escalate,
        }
    }
}

impl Running {
    fn healthy_since(&self) -> Option<Instant> {
        match self.health {
            Health::Ready { since, .. } => Some(since),
            Health::Starting | Health::Unhealthy => None,
        }
    }

    fn next_pause(&mut self) -> Duration {
        match self.health {
            Health::Starting => {
                self.pause = (self.pause * 2).min(READINESS.1);
                self.pause
            }
            Health::Ready { .. } | Health::Unhealthy => LIVENESS,
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
