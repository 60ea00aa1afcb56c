//! The state machine of one worker. Pure: a [`WorkerEvent`] goes in, [`Action`]s come out, and the supervisor
//! performs them.
//!
//! ```text
//!             Start                LeaderExited                 Gone
//!   Idle ---------------> Running --------------> Stopping ---------------> Idle, or Running again
//!  (stopped, failed,     (starting, ready,  Stop  (stop_sequence.rs)
//!   backing off) <-.      unhealthy) ----------->    |
//!                   `---------- backoff over: Start <---'
//! ```
//!
//! While shutting down nothing is ever started (R-SUP-4): [`Machine::spawn`] is the only
//! place that requests a process, and it refuses then.

use std::time::Duration;

use mcpd_common::config::RestartPolicy;
use mcpd_common::os::ProcessInfo;
use mcpd_common::outcome::{Asked, ExitStatus};
use mcpd_common::status::WorkerState;
use tokio::time::Instant;

use super::backoff::{Backoff, RestartDecision};
use super::stop_sequence::{self, AfterGrace, StopOutcome, StopResponse, StopSequence, StopTimes};

/// Between two liveness probes of a ready worker.
pub const LIVENESS: Duration = Duration::from_secs(10);
/// Between two readiness probes of a starting worker: the first and the longest interval.
const READINESS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// Failed probes in a row after which a worker is unhealthy.
const FAILURES: u8 = 3;

/// The part of a worker's configuration that decides about its state.
#[derive(Clone, Debug)]
pub struct Policy {
    pub restart: RestartPolicy,
    pub restart_unhealthy: bool,
    /// Whether it has a shutdown route for its stop request.
    pub has_route: bool,
    /// Limit for its graceful exit when it is stopped alone.
    pub graceful: Duration,
    /// Limit between `SIGTERM` and `SIGKILL`.
    pub term: Duration,
}

#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// Boot, or `mcpctl start`.
    Start,
    /// `mcpctl stop`.
    Stop,
    /// `mcpctl restart`.
    Restart,
    /// A shutdown was requested: nothing is started again. The stop request comes later.
    DisableRestarts,
    /// The shutdown requests its stop.
    Shutdown {
        /// End of the phase.
        grace_until: Instant,
    },
    /// The phase workers-terminate began.
    Escalate,
    /// `SIGKILL` at once.
    KillAll,
    /// It could not be started.
    SpawnFailed {
        /// Why, for a person.
        reason: String,
    },
    /// A probe succeeded or failed.
    Probed {
        alive: bool,
        /// Whether requests are in flight: then it is never restarted because of failed probes.
        busy: bool,
    },
    /// It listens on another port than its own (R-CONF-1).
    WrongPort {
        /// The text for `status`.
        reason: String,
    },
    /// The response to the stop request, or why there is none.
    Answered(StopResponse),
    /// The leader exited.
    LeaderExited {
        exit: ExitStatus,
        /// Descendants that are still running.
        remaining: Vec<ProcessInfo>,
    },
    /// Leader and descendants are gone.
    Gone,
    /// [`Machine::timer`] is due.
    Timer,
}

/// What the supervisor has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process.
    Spawn,
    Probe,
    /// A step of the stop sequence.
    Stop(stop_sequence::StopAction),
    /// It has stopped, or killing was given up.
    Left(Box<StopOutcome>),
}

/// What follows when it has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NextAction {
    Rest,
    StartAgain,
    BackOff(Duration),
    Fail(String),
}

#[derive(Clone, Debug)]
enum State {
    Stopped,
    Failed,
    BackingOff { until: Instant },
    Running(Running),
    Stopping { sequence: Box<StopSequence>, then: NextAction },
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

#[derive(Clone, Debug)]
pub struct Machine {
    policy: Policy,
    state: State,
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
            state: State::Stopped,
            reason: None,
            backoff: Backoff::new(seed),
            last_exit: None,
            shutting_down: false,
        }
    }

    /// With another first backoff, for tests.
    #[must_use]
    pub fn with_first_wait(self, first: Duration) -> Self {
        Self { backoff: self.backoff.clone().starting_with(first), ..self }
    }

    /// A worker that can't be started at all (R-CONF-4).
    pub fn unusable(policy: Policy, reason: String) -> Self {
        Self { state: State::Failed, reason: Some(reason), ..Self::new(policy, 1) }
    }

    /// The state that `status` shows.
    pub fn state(&self) -> WorkerState {
        match &self.state {
            State::Stopped => WorkerState::Stopped,
            State::Failed => WorkerState::Failed,
            State::BackingOff { .. } => WorkerState::BackingOff,
            State::Running(running) => match running.health {
                Health::Starting => WorkerState::Starting,
                Health::Ready { .. } => WorkerState::Ready,
                Health::Unhealthy => WorkerState::Unhealthy,
            },
            State::Stopping { .. } => WorkerState::Stopping,
        }
    }

    /// Why it is in that state, if the state alone does not say it.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// How its last process ended.
    pub fn last_exit(&self) -> Option<ExitStatus> {
        self.last_exit
    }

    /// Whether a process of it may be running.
    pub fn is_alive(&self) -> bool {
        matches!(&self.state, State::Running(_))
            || self.stop_sequence().is_some_and(|sequence| !sequence.is_given_up())
    }

    /// Its stop sequence, while it is stopping.
    pub fn stop_sequence(&self) -> Option<&StopSequence> {
        match &self.state {
            State::Stopping { sequence, .. } => Some(sequence),
            _ => None,
        }
    }

    /// When [`WorkerEvent::Timer`] has something to do.
    pub fn timer(&self) -> Option<Instant> {
        match &self.state {
            State::Stopped | State::Failed => None,
            State::BackingOff { until } => Some(*until),
            State::Running(running) => running.probe_at,
            State::Stopping { sequence, .. } => sequence.timer(),
        }
    }

    #[must_use]
    pub fn on(&mut self, event: WorkerEvent, now: Instant) -> Vec<Action> {
        match event {
            WorkerEvent::Start => self.start(now),
            WorkerEvent::Stop => self.stop(NextAction::Rest, now),
            WorkerEvent::Restart => self.restart(now),
            WorkerEvent::DisableRestarts => self.disable_restarts(),
            WorkerEvent::Shutdown { grace_until } => self.shut_down(grace_until, now),
            WorkerEvent::Escalate => self.steer(|sequence| sequence.escalate(now), now),
            WorkerEvent::KillAll => self.steer(|sequence| sequence.kill_now(now), now),
            WorkerEvent::SpawnFailed { reason } => self.spawn_failed(reason, now),
            WorkerEvent::Probed { alive, busy } => self.probed(alive, busy, now),
            WorkerEvent::WrongPort { reason } => self.wrong_port(reason),
            WorkerEvent::Answered(answer) => self.steer(|sequence| sequence.answered(answer, now), now),
            WorkerEvent::LeaderExited { exit, remaining } => self.leader_exited(exit, remaining, now),
            WorkerEvent::Gone => self.gone(now),
            WorkerEvent::Timer => self.tick(now),
        }
    }

    fn start(&mut self, now: Instant) -> Vec<Action> {
        match &mut self.state {
            State::Stopped | State::Failed | State::BackingOff { .. } => {
                self.backoff.forget();
                self.spawn(now)
            }
            State::Stopping { then, .. } if !self.shutting_down => {
                *then = NextAction::StartAgain;
                vec![]
            }
            State::Stopping { .. } | State::Running(_) => vec![],
        }
    }

    fn restart(&mut self, now: Instant) -> Vec<Action> {
        self.backoff.forget();
        match self.state {
            State::Running(_) | State::Stopping { .. } if !self.shutting_down => {
                self.stop(NextAction::StartAgain, now)
            }
            _ => self.start(now),
        }
    }

    /// The only place that requests a process.
    fn spawn(&mut self, now: Instant) -> Vec<Action> {
        if self.shutting_down {
            self.state = State::Stopped;
            return vec![];
        }
        self.reason = None;
        let (pause, _) = READINESS;
        self.state = State::Running(Running { health: Health::Starting, probe_at: Some(now + pause), pause });
        vec![Action::Spawn]
    }

    fn stop(&mut self, then: NextAction, now: Instant) -> Vec<Action> {
        let times = self.times_alone(now);
        self.begin_stop(then, times, now)
    }

    fn disable_restarts(&mut self) -> Vec<Action> {
        self.shutting_down = true;
        if matches!(self.state, State::BackingOff { .. }) {
            self.state = State::Stopped;
        }
        vec![]
    }

    fn shut_down(&mut self, grace_until: Instant, now: Instant) -> Vec<Action> {
        self.shutting_down = true;
        let times = StopTimes { grace_until, term: self.policy.term, after_grace: AfterGrace::Hold };
        self.begin_stop(NextAction::Rest, times, now)
    }

    fn begin_stop(&mut self, then: NextAction, times: StopTimes, now: Instant) -> Vec<Action> {
        match &mut self.state {
            State::Stopped | State::Failed => vec![],
            State::BackingOff { .. } => {
                self.state = State::Stopped;
                vec![]
            }
            // The running stop sequence continues; only the next action changes.
            State::Stopping { then: planned, .. } => {
                *planned = then;
                vec![]
            }
            State::Running(running) => {
                let was_ready = running.health != Health::Starting;
                let asked = if was_ready && self.policy.has_route { Asked::Http } else { Asked::Sigterm };
                let (sequence, act) = StopSequence::begin(asked, times, now);
                self.state = State::Stopping { sequence: Box::new(sequence), then };
                vec![Action::Stop(act)]
            }
        }
    }

    fn steer(
        &mut self,
        step: impl FnOnce(&mut StopSequence) -> Option<stop_sequence::StopAction>,
        now: Instant,
    ) -> Vec<Action> {
        let State::Stopping { sequence, .. } = &mut self.state else {
            return vec![];
        };
        let Some(act) = step(sequence) else {
            return vec![];
        };
        if act != stop_sequence::StopAction::GiveUp {
            return vec![Action::Stop(act)];
        }
        let outcome = Action::Left(Box::new(sequence.so_far(now)));
        if !self.shutting_down {
            self.reason = Some("something of its last process could not be ended".to_owned());
            self.state = State::Failed;
        }
        vec![Action::Stop(act), outcome]
    }

    fn spawn_failed(&mut self, reason: String, now: Instant) -> Vec<Action> {
        self.reason = Some(reason);
        match &self.state {
            State::Running(_) => {
                let then = self.after_death(None, now);
                self.settle(then, now)
            }
            State::Stopping { .. } => self.gone(now),
            _ => vec![],
        }
    }

    fn probed(&mut self, alive: bool, busy: bool, now: Instant) -> Vec<Action> {
        let State::Running(running) = &mut self.state else {
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

    fn wrong_port(&mut self, reason: String) -> Vec<Action> {
        if self.state() == WorkerState::Starting {
            self.reason = Some(reason);
        }
        vec![]
    }

    fn leader_exited(&mut self, exit: ExitStatus, remaining: Vec<ProcessInfo>, now: Instant) -> Vec<Action> {
        self.last_exit = Some(exit);
        if matches!(self.state, State::Stopping { .. }) {
            return self.steer(|sequence| sequence.leader_exited(exit, remaining, now), now);
        }
        let State::Running(running) = &self.state else {
            return vec![];
        };
        let then = self.after_exit(exit, running.healthy_since(), now);
        let (sequence, act) = StopSequence::after_exit(exit, remaining, self.times_alone(now), now);
        self.state = State::Stopping { sequence: Box::new(sequence), then };
        act.map(Action::Stop).into_iter().collect()
    }

    fn gone(&mut self, now: Instant) -> Vec<Action> {
        let State::Stopping { sequence, then } = &self.state else {
            return vec![];
        };
        let leave = sequence.gone(now);
        let then = then.clone();
        let mut acts = vec![Action::Left(Box::new(leave))];
        acts.extend(self.settle(then, now));
        acts
    }

    fn settle(&mut self, then: NextAction, now: Instant) -> Vec<Action> {
        match then {
            NextAction::StartAgain => return self.spawn(now),
            NextAction::BackOff(wait) if !self.shutting_down => {
                self.state = State::BackingOff { until: now + wait };
            }
            NextAction::Fail(reason) => {
                self.reason = Some(reason);
                self.state = State::Failed;
            }
            NextAction::Rest | NextAction::BackOff(_) => self.state = State::Stopped,
        }
        vec![]
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        if self.timer().is_none_or(|due| now < due) {
            return vec![];
        }
        match &mut self.state {
            State::BackingOff { .. } => self.spawn(now),
            State::Running(running) => {
                // The next probe is scheduled when this one has a result.
                running.probe_at = None;
                vec![Action::Probe]
            }
            State::Stopping { .. } => self.steer(|sequence| sequence.tick(now), now),
            State::Stopped | State::Failed => vec![],
        }
    }

    fn after_exit(&mut self, exit: ExitStatus, healthy_since: Option<Instant>, now: Instant) -> NextAction {
        let clean = exit == ExitStatus::Code(0);
        match self.policy.restart {
            RestartPolicy::OnFailure | RestartPolicy::Never if clean => NextAction::Rest,
            RestartPolicy::Never => NextAction::Fail(format!("{exit}, and restart = \"never\"")),
            RestartPolicy::Always | RestartPolicy::OnFailure => {
                self.reason = Some(exit.to_string());
                self.after_death(healthy_since, now)
            }
        }
    }

    fn after_death(&mut self, healthy_since: Option<Instant>, now: Instant) -> NextAction {
        let last = self.reason.clone().unwrap_or_else(|| "it died".to_owned());
        match self.backoff.died(healthy_since, now) {
            RestartDecision::Wait(wait) => NextAction::BackOff(wait),
            RestartDecision::GiveUp => NextAction::Fail(format!(
                "{last}; {} quick deaths in a row, `mcpctl restart` tries again",
                self.backoff.deaths()
            )),
        }
    }

    fn times_alone(&self, now: Instant) -> StopTimes {
        StopTimes {
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
