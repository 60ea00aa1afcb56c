//! The state machine of one worker. Pure: it polls a [`WorkerEvent`] into [`Action`]s, which the supervisor
//! performs.
//!
//! ```text
//!                 Start, Restart,                      Stop, Restart, Shutdown,
//!                 backoff over                         LeaderExited, unhealthy
//!   Stopped     -----------------> Running           ---------------------------> Stopping
//!   BackingOff                     (starting, ready,                              (stop_sequence.rs)
//!   Failed      <----------------- unhealthy)        <---------------------------    |
//!     ^            SpawnFailed                         Gone, if it is started again  |
//!     |                                                                              |
//!     `---------------- Gone, or processes that survive SIGKILL ---------------------'
//! ```
//!
//! Which state follows [`WorkerEvent::Gone`] is decided when the stop begins, and can be changed by further
//! events until then ([`NextAction`]). `Stop`, `DisableRestarts` and `Shutdown` turn `BackingOff` into `Stopped`.
//! A worker whose processes survive `SIGKILL` is `Failed`; in a shutdown it stays in `Stopping`.
//!
//! During a shutdown no process is started (R-SUP-4): only [`Machine::spawn`] returns [`Action::Spawn`], and
//! it does not do so once a shutdown was requested.
//!
//! `events.rs` has the events and actions, `health.rs` what probes say about a running worker.

mod events;
mod health;

use std::time::Duration;

use mcpd_common::config::RestartPolicy;
use mcpd_common::os::ProcessInfo;
use mcpd_common::outcome::{Asked, ExitStatus};
use mcpd_common::status::WorkerState;
use tokio::time::Instant;

pub use self::events::{Action, Policy, ProbeResult, WorkerEvent};
use self::health::{HealthChange, MAX_FAILED_PROBES, Running};
use super::backoff::{Backoff, RestartDecision};
use super::stop_sequence::{AfterGrace, StopAction, StopSequence, StopTimes};

/// A server that speaks MCP on its standard input exits when it reads the end of `/dev/null`.
const STDIO_HINT: &str = "it seems to speak MCP on standard input and output: write transport = \"stdio\", or pass it {port} \
                          if it can listen on a port";
/// What follows when all processes of the worker are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NextAction {
    StayStopped,
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
    Stopping { sequence: Box<StopSequence>, next: NextAction },
}

#[derive(Clone, Debug)]
pub struct Machine {
    policy: Policy,
    state: State,
    /// Shown to the user.
    reason: Option<String>,
    /// Why the last probe failed; `None` if it did not.
    last_failure: Option<String>,
    backoff: Backoff,
    /// Starts in a row that failed.
    failed_starts: u32,
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
            last_failure: None,
            backoff: Backoff::new(seed),
            failed_starts: 0,
            last_exit: None,
            shutting_down: false,
        }
    }

    /// Replaces the first wait before a restart, for tests.
    #[must_use]
    pub fn with_first_wait(self, first: Duration) -> Self {
        Self { backoff: self.backoff.clone().starting_with(first), ..self }
    }

    /// A worker whose configuration does not allow to start it (R-CONF-4).
    pub fn unusable(policy: Policy, reason: String) -> Self {
        Self { state: State::Failed, reason: Some(reason), ..Self::new(policy, 1) }
    }

    /// The state that `status` shows.
    pub fn state(&self) -> WorkerState {
        match &self.state {
            State::Stopped => WorkerState::Stopped,
            State::Failed => WorkerState::Failed,
            State::BackingOff { .. } => WorkerState::BackingOff,
            State::Running(running) => running.state(),
            State::Stopping { .. } => WorkerState::Stopping,
        }
    }

    /// Whether a probe should find out in detail why the worker is not ready.
    pub fn is_slow_to_start(&self, now: Instant) -> bool {
        matches!(&self.state, State::Running(running) if running.is_slow_to_start(now))
    }

    /// Why the worker is in its state; `None` if the state needs no explanation.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether its last starts failed, so that requests do not wait for the next one (R-CLIENT-11).
    pub fn is_failing(&self) -> bool {
        const TOLERATED: u32 = 2;
        self.failed_starts >= TOLERATED
    }

    /// The exit status of the last leader.
    pub fn last_exit(&self) -> Option<ExitStatus> {
        self.last_exit
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether a shutdown was requested: nothing is started any more.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// Whether processes of the worker may exist, apart from processes that survived `SIGKILL`.
    pub fn is_alive(&self) -> bool {
        matches!(&self.state, State::Running(_))
            || self.stop_sequence().is_some_and(|sequence| !sequence.is_given_up())
    }

    /// The stop sequence in progress.
    pub fn stop_sequence(&self) -> Option<&StopSequence> {
        match &self.state {
            State::Stopping { sequence, .. } => Some(sequence),
            _ => None,
        }
    }

    /// When [`WorkerEvent::Timer`] is due.
    pub fn timer(&self) -> Option<Instant> {
        match &self.state {
            State::Stopped | State::Failed => None,
            State::BackingOff { until } => Some(*until),
            State::Running(running) => running.timer(),
            State::Stopping { sequence, .. } => sequence.timer(),
        }
    }

    /// Handles an event and returns the actions to perform.
    #[must_use]
    pub fn on(&mut self, event: WorkerEvent, now: Instant) -> Vec<Action> {
        match event {
            WorkerEvent::Start => self.start(now),
            WorkerEvent::Stop => self.stop(NextAction::StayStopped, now),
            WorkerEvent::Restart => self.restart(now),
            WorkerEvent::DisableRestarts => self.disable_restarts(),
            WorkerEvent::Shutdown { grace_until } => self.shut_down(grace_until, now),
            WorkerEvent::Escalate => self.advance(|sequence| sequence.escalate(now), now),
            WorkerEvent::KillAll => self.advance(|sequence| sequence.kill_now(now), now),
            WorkerEvent::StartWaits { why } => self.start_waits(why, now),
            WorkerEvent::SpawnFailed { reason } => self.spawn_failed(reason, now),
            WorkerEvent::StartHangs { reason } => self.start_hangs(reason, now),
            WorkerEvent::Probed { result, busy } => self.probed(result, busy, now),
            WorkerEvent::Answered(response) => self.advance(|sequence| sequence.answered(response, now), now),
            WorkerEvent::LeaderExited { exit, remaining } => self.leader_exited(exit, remaining, now),
            WorkerEvent::Gone => self.gone(now),
            WorkerEvent::Timer => self.on_timer(now),
        }
    }

    fn start(&mut self, now: Instant) -> Vec<Action> {
        match &mut self.state {
            State::Stopped | State::Failed | State::BackingOff { .. } => {
                self.forget_failures();
                self.spawn(now)
            }
            State::Stopping { next, .. } if !self.shutting_down => {
                *next = NextAction::StartAgain;
                vec![]
            }
            State::Stopping { .. } | State::Running(_) => vec![],
        }
    }

    fn forget_failures(&mut self) {
        self.backoff.forget();
        self.failed_starts = 0;
    }

    fn restart(&mut self, now: Instant) -> Vec<Action> {
        self.forget_failures();
        match self.state {
            State::Running(_) | State::Stopping { .. } if !self.shutting_down => {
                self.stop(NextAction::StartAgain, now)
            }
            _ => self.start(now),
        }
    }

    /// The only function that returns [`Action::Spawn`].
    fn spawn(&mut self, now: Instant) -> Vec<Action> {
        if self.shutting_down {
            self.state = State::Stopped;
            return vec![];
        }
        (self.reason, self.last_failure) = (None, None);
        self.state = State::Running(Running::starting(now, self.policy.ready_within));
        vec![Action::Spawn]
    }

    fn stop(&mut self, next: NextAction, now: Instant) -> Vec<Action> {
        let times = self.single_stop_times(now);
        self.begin_stop(next, times, now)
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
        let Policy { term, linger, .. } = self.policy;
        let times = StopTimes { grace_until, term, linger, after_grace: AfterGrace::Hold };
        self.begin_stop(NextAction::StayStopped, times, now)
    }

    fn begin_stop(&mut self, next: NextAction, times: StopTimes, now: Instant) -> Vec<Action> {
        match &mut self.state {
            State::Stopped | State::Failed => vec![],
            State::BackingOff { .. } => {
                self.state = State::Stopped;
                vec![]
            }
            // The stop sequence continues; only what follows it changes.
            State::Stopping { next: planned, .. } => {
                *planned = next;
                vec![]
            }
            State::Running(running) => {
                let was_ready = running.state() != WorkerState::Starting;
                let asked = if was_ready { self.policy.stop_request } else { Asked::Sigterm };
                let (sequence, action) = StopSequence::begin(asked, times, now);
                self.state = State::Stopping { sequence: Box::new(sequence), next };
                vec![Action::Stop(action)]
            }
        }
    }

    /// Passes an event to the stop sequence in progress.
    fn advance(
        &mut self,
        step: impl FnOnce(&mut StopSequence) -> Option<StopAction>,
        now: Instant,
    ) -> Vec<Action> {
        let State::Stopping { sequence, .. } = &mut self.state else {
            return vec![];
        };
        let Some(action) = step(sequence) else {
            return vec![];
        };
        if action != StopAction::GiveUp {
            return vec![Action::Stop(action)];
        }
        let outcome = Action::Left(Box::new(sequence.so_far(now)));
        if !self.shutting_down {
            self.reason = Some("processes of its last run could not be ended".to_owned());
            self.state = State::Failed;
        }
        vec![Action::Stop(action), outcome]
    }

    fn start_waits(&mut self, why: Option<String>, now: Instant) -> Vec<Action> {
        if self.state() == WorkerState::Starting {
            let running = Running::starting(now, self.policy.ready_within);
            self.state = State::Running(if why.is_some() { running.waiting(now) } else { running });
            self.reason = why;
        }
        vec![]
    }

    fn spawn_failed(&mut self, reason: String, now: Instant) -> Vec<Action> {
        self.reason = Some(reason);
        self.failed_starts += 1;
        match &self.state {
            State::Running(_) => {
                let next = self.after_failure(None, now);
                self.settle(next, now)
            }
            State::Stopping { .. } => self.gone(now),
            _ => vec![],
        }
    }

    /// A worker that is being stopped continues with that: the exit of its process ends the stop.
    fn start_hangs(&mut self, reason: String, now: Instant) -> Vec<Action> {
        match &self.state {
            State::Running(_) => self.fail_and_stop(reason, now),
            _ => vec![],
        }
    }

    fn probed(&mut self, result: ProbeResult, busy: bool, now: Instant) -> Vec<Action> {
        let State::Running(running) = &mut self.state else {
            return vec![];
        };
        let failure = match result {
            ProbeResult::Alive => None,
            ProbeResult::NotReady(why) => Some(why),
            ProbeResult::ForeignListener(holder) => return self.fail_and_stop(holder, now),
        };
        self.last_failure.clone_from(&failure);
        match (running.probed(failure.is_none(), now), failure) {
            (HealthChange::BecameReady, _) => {
                self.reason = None;
                self.failed_starts = 0;
            }
            (HealthChange::BecameUnhealthy, Some(why)) => {
                self.reason = Some(format!("{MAX_FAILED_PROBES} probes in a row failed: {why}"));
            }
            (_, why) if running.is_slow_to_start(now) => self.reason = why,
            _ => {}
        }
        if running.state() == WorkerState::Unhealthy && self.policy.restart_unhealthy && !busy {
            let next = self.after_failure(None, now);
            return self.stop(next, now);
        }
        vec![]
    }

    /// The process can't become ready: it is stopped, and the worker started again (behind the proxy with another port).
    fn fail_and_stop(&mut self, reason: String, now: Instant) -> Vec<Action> {
        self.reason = Some(reason);
        self.failed_starts += 1;
        let next = self.after_failure(None, now);
        self.stop(next, now)
    }

    fn start_timed_out(&mut self, now: Instant) -> Vec<Action> {
        self.failed_starts += 1;
        let seconds = self.policy.ready_within.as_secs_f64();
        let why = self.last_failure.take().unwrap_or_else(|| "it did not pass its probe".to_owned());
        let reason = format!("not ready within {seconds} s (ready_within): {why}");
        self.reason = Some(reason.clone());
        let next = match self.policy.restart {
            RestartPolicy::Never => NextAction::Fail(format!("{reason}, and restart = \"never\"")),
            RestartPolicy::Always | RestartPolicy::OnFailure => self.after_failure(None, now),
        };
        self.stop(next, now)
    }

    fn leader_exited(&mut self, exit: ExitStatus, remaining: Vec<ProcessInfo>, now: Instant) -> Vec<Action> {
        self.last_exit = Some(exit);
        if matches!(self.state, State::Stopping { .. }) {
            return self.advance(|sequence| sequence.leader_exited(exit, remaining, now), now);
        }
        let State::Running(running) = &self.state else {
            return vec![];
        };
        let was_ready = running.state() != WorkerState::Starting;
        if !was_ready {
            self.failed_starts += 1;
        }
        let next = self.after_exit(exit, was_ready, running.ready_since(), now);
        let times = self.single_stop_times(now);
        let (sequence, action) = StopSequence::after_exit(exit, remaining, times, now);
        self.state = State::Stopping { sequence: Box::new(sequence), next };
        action.map(Action::Stop).into_iter().collect()
    }

    fn gone(&mut self, now: Instant) -> Vec<Action> {
        let State::Stopping { sequence, next } = &self.state else {
            return vec![];
        };
        let outcome = sequence.gone(now);
        let next = next.clone();
        let mut actions = vec![Action::Left(Box::new(outcome))];
        actions.extend(self.settle(next, now));
        actions
    }

    /// No process of the worker exists: enters the next state.
    fn settle(&mut self, next: NextAction, now: Instant) -> Vec<Action> {
        match next {
            NextAction::StartAgain => return self.spawn(now),
            NextAction::BackOff(wait) if !self.shutting_down => {
                self.state = State::BackingOff { until: now + wait };
            }
            NextAction::Fail(reason) => {
                self.reason = Some(reason);
                self.state = State::Failed;
            }
            NextAction::StayStopped | NextAction::BackOff(_) => self.state = State::Stopped,
        }
        vec![]
    }

    fn on_timer(&mut self, now: Instant) -> Vec<Action> {
        if self.timer().is_none_or(|due| now < due) {
            return vec![];
        }
        match &mut self.state {
            State::BackingOff { .. } => self.spawn(now),
            State::Running(running) if running.is_start_overdue(now) => self.start_timed_out(now),
            State::Running(running) => {
                running.probe_started();
                vec![Action::Probe]
            }
            State::Stopping { .. } => self.advance(|sequence| sequence.tick(now), now),
            State::Stopped | State::Failed => vec![],
        }
    }

    fn after_exit(
        &mut self,
        exit: ExitStatus,
        was_ready: bool,
        ready_since: Option<Instant>,
        now: Instant,
    ) -> NextAction {
        let clean = exit == ExitStatus::Code(0);
        let reason = match self.hint(clean).filter(|_| !was_ready) {
            Some(hint) => format!("{exit} before it was ready; {hint}"),
            None => exit.to_string(),
        };
        if self.policy.permanent_failure == Some(exit) {
            return NextAction::Fail(format!("{reason}: it can't serve this repository, its log says why"));
        }
        match self.policy.restart {
            RestartPolicy::OnFailure | RestartPolicy::Never if clean => {
                self.reason = Some(reason).filter(|_| !was_ready);
                NextAction::StayStopped
            }
            RestartPolicy::Never => NextAction::Fail(format!("{reason}, and restart = \"never\"")),
            RestartPolicy::Always | RestartPolicy::OnFailure => {
                self.reason = Some(reason);
                self.after_failure(ready_since, now)
            }
        }
    }

    /// What is probably wrong with a worker that exited before it was ready.
    fn hint(&self, clean: bool) -> Option<&str> {
        self.policy.hint.as_deref().or_else(|| clean.then_some(STDIO_HINT))
    }

    fn after_failure(&mut self, ready_since: Option<Instant>, now: Instant) -> NextAction {
        let last = self.reason.clone().unwrap_or_else(|| "exited without a status".to_owned());
        match self.backoff.died(ready_since, now) {
            RestartDecision::Wait(wait) => NextAction::BackOff(wait),
            RestartDecision::GiveUp => NextAction::Fail(format!(
                "{last}; {} quick deaths in a row, `mcpctl restart` tries again",
                self.backoff.deaths()
            )),
        }
    }

    /// For a worker that is stopped outside a shutdown.
    fn single_stop_times(&self, now: Instant) -> StopTimes {
        StopTimes {
            grace_until: now + self.policy.graceful,
            term: self.policy.term,
            linger: self.policy.linger,
            after_grace: AfterGrace::Escalate,
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
