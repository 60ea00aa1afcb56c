//! How one worker is stopped: stop request, then `SIGTERM`, then `SIGKILL`. Pure.
//!
//! ```text
//!               2xx, 4xx: wait
//!   Requested -------------------- grace over --> Terminating --- limit over ---> Killing
//!     |  \__ 5xx, refused, no response: at once _____/                             |   \__ 5 s over: GivenUp
//!     |-- leader gone, descendants not, may linger --> Lingering --- time over ---> Orphans
//!     `-- leader gone, descendants not --> Orphans (SIGTERM) --- 2 s over ---------/
//! ```
//!
//! In every stage, the worker **has stopped** when its leader and all its
//! descendants are gone ([`StopSequence::gone`]).

use std::time::Duration;

use mcpd_common::os::ProcessInfo;
use mcpd_common::outcome::{Asked, Departure, ExitStatus};
use tokio::time::Instant;

use mcpd_common::time_limits::KILL_LIMIT;

/// Limit between `SIGTERM` and `SIGKILL` for descendants that outlived their leader.
pub const ORPHAN_LIMIT: Duration = Duration::from_secs(2);
/// Limit for the response to `POST /shutdown`.
pub const RESPONSE_LIMIT: Duration = Duration::from_secs(5);

/// What the supervisor has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAction {
    /// `POST` to the shutdown route.
    Post,
    /// The end of its standard input.
    EndInput,
    /// `SIGTERM`, then `SIGCONT`, to the whole family.
    Terminate(SignalReason),
    /// `SIGKILL` to the whole family, repeated until it is gone.
    KillUntilGone(SignalReason),
    /// Stop killing and report what is left.
    GiveUp,
}

/// Why a signal is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalReason {
    /// It is this worker's stop request.
    IsTheRequest,
    /// The response to the stop request was an error, or none came.
    BadAnswer,
    /// It was still running after the graceful time.
    GraceOver,
    /// It was still running after the time for `SIGTERM`.
    TermOver,
    /// Its leader exited, descendants did not.
    OutlivedLeader,
    /// The remaining waits were cut short.
    Hurried,
}

impl SignalReason {
    /// For logs and events.
    pub fn text(self) -> &'static str {
        match self {
            Self::IsTheRequest => "this is its stop request",
            Self::BadAnswer => "it did not accept the stop request",
            Self::GraceOver => "still running after the graceful time",
            Self::TermOver => "still running after the time for SIGTERM",
            Self::OutlivedLeader => "descendants outlived their leader",
            Self::Hurried => "the remaining waits were cut short",
        }
    }
}

/// The response to `POST /shutdown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopResponse {
    Status(u16),
    /// None came; the text says why.
    None(String),
}

impl std::fmt::Display for StopResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::None(why) => f.write_str(why),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterGrace {
    /// `SIGTERM` at once: the worker is stopped alone.
    Escalate,
    /// Wait for [`StopSequence::escalate`]: in a shutdown the clients come before any signal that
    /// is not the stop request.
    Hold,
}

#[derive(Clone, Copy, Debug)]
pub struct StopTimes {
    /// End of the graceful time.
    pub grace_until: Instant,
    /// Limit between `SIGTERM` and `SIGKILL`.
    pub term: Duration,
    /// How long descendants may outlive a leader that exited on request, before they get `SIGTERM`.
    pub linger: Duration,
    /// What follows the graceful time.
    pub after_grace: AfterGrace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopStage {
    Requested { grace_until: Option<Instant> },
    Terminating { until: Instant },
    Lingering { until: Instant },
    Orphans { until: Instant },
    Killing { until: Instant },
    GivenUp,
}

/// The stop of one worker.
#[derive(Clone, Debug)]
pub struct StopSequence {
    began: Instant,
    times: StopTimes,
    stage: StopStage,
    asked: Asked,
    answer: Option<StopResponse>,
    needed: Departure,
    forced: Option<SignalReason>,
    exit: Option<ExitStatus>,
    outlived: Vec<ProcessInfo>,
    /// Descendants that may still exit by themselves.
    lingering: Vec<ProcessInfo>,
}

/// How the stop went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopOutcome {
    /// How the stop was requested.
    pub asked: Asked,
    /// The response to the stop request.
    pub answer: Option<String>,
    /// What was needed.
    pub departure: Departure,
    /// Why the last signal was sent that was not the stop request; `None`: there was none.
    pub forced: Option<SignalReason>,
    /// How its leader exited.
    pub exit: Option<ExitStatus>,
    /// From the stop request until nothing was left.
    pub after: Duration,
    /// Descendants that outlived the leader.
    pub outlived: Vec<ProcessInfo>,
}

impl StopSequence {
    /// Begins with the stop request: for a worker that was never ready it is [`Asked::Sigterm`].
    pub fn begin(asked: Asked, times: StopTimes, now: Instant) -> (Self, StopAction) {
        let stage = StopStage::Requested { grace_until: Some(times.grace_until) };
        let action = match asked {
            Asked::Http => StopAction::Post,
            Asked::EndOfInput => StopAction::EndInput,
            Asked::Sigterm | Asked::NotAsked => StopAction::Terminate(SignalReason::IsTheRequest),
        };
        (Self::new(asked, times, stage, now), action)
    }

    /// The leader exited without a request; its descendants are stopped.
    pub fn after_exit(
        exit: ExitStatus,
        remaining: Vec<ProcessInfo>,
        times: StopTimes,
        now: Instant,
    ) -> (Self, Option<StopAction>) {
        let stage = StopStage::Orphans { until: now + ORPHAN_LIMIT };
        let mut sequence = Self::new(Asked::NotAsked, times, stage, now);
        let action = sequence.leader_exited(exit, remaining, now);
        (sequence, action)
    }

    fn new(asked: Asked, times: StopTimes, stage: StopStage, now: Instant) -> Self {
        Self {
            began: now,
            times,
            stage,
            asked,
            answer: None,
            needed: Departure::Left,
            forced: None,
            exit: None,
            outlived: vec![],
            lingering: vec![],
        }
    }

    /// The response to the stop request arrived.
    pub fn answered(&mut self, answer: StopResponse, now: Instant) -> Option<StopAction> {
        let action = match (&answer, self.stage) {
            // SIGTERM is its stop request: an exit within the graceful time is clean (R-EXIT-1).
            (StopResponse::Status(400..=499 | 501), StopStage::Requested { .. }) => {
                self.asked = Asked::Sigterm;
                Some(StopAction::Terminate(SignalReason::IsTheRequest))
            }
            (StopResponse::Status(500..) | StopResponse::None(_), StopStage::Requested { .. }) => {
                Some(self.terminate(SignalReason::BadAnswer, now))
            }
            _ => None,
        };
        self.answer = Some(answer);
        action
    }

    /// The leader exited; `remaining` descendants are still running.
    pub fn leader_exited(
        &mut self,
        exit: ExitStatus,
        remaining: Vec<ProcessInfo>,
        now: Instant,
    ) -> Option<StopAction> {
        self.exit = Some(exit);
        if remaining.is_empty() || matches!(self.stage, StopStage::Killing { .. } | StopStage::GivenUp) {
            return None;
        }
        if self.may_linger(now) {
            self.lingering = remaining;
            return None;
        }
        Some(self.stop_orphans(remaining, now))
    }

    /// Descendants of a leader that has just exited on request may have time to exit by themselves.
    fn may_linger(&mut self, now: Instant) -> bool {
        if matches!(self.stage, StopStage::Requested { .. }) && !self.times.linger.is_zero() {
            self.stage = StopStage::Lingering { until: now + self.times.linger };
        }
        matches!(self.stage, StopStage::Lingering { until } if now < until)
    }

    fn stop_orphans(&mut self, remaining: Vec<ProcessInfo>, now: Instant) -> StopAction {
        // If SIGTERM was the stop request, the descendants got it together with the leader.
        if matches!(self.asked, Asked::Http | Asked::EndOfInput) {
            self.needed = self.needed.max(Departure::Terminated);
        }
        self.outlived = remaining;
        self.forced = Some(SignalReason::OutlivedLeader);
        let until = match self.stage {
            // They got their SIGTERM together with the leader, and have its deadline.
            StopStage::Terminating { until } => until.min(now + ORPHAN_LIMIT),
            _ => now + ORPHAN_LIMIT,
        };
        self.stage = StopStage::Orphans { until };
        StopAction::Terminate(SignalReason::OutlivedLeader)
    }

    /// The phase workers-terminate began.
    pub fn escalate(&mut self, now: Instant) -> Option<StopAction> {
        self.times.after_grace = AfterGrace::Escalate;
        match self.stage {
            StopStage::Requested { .. } => Some(self.terminate(SignalReason::GraceOver, now)),
            _ => self.tick(now),
        }
    }

    /// The waits are cut short: `SIGKILL` at once.
    pub fn kill_now(&mut self, now: Instant) -> Option<StopAction> {
        match self.stage {
            StopStage::Killing { .. } | StopStage::GivenUp => None,
            _ => Some(self.kill(SignalReason::Hurried, now)),
        }
    }

    /// [`timer`](Self::timer) is due.
    pub fn tick(&mut self, now: Instant) -> Option<StopAction> {
        if self.timer().is_none_or(|due| now < due) {
            return None;
        }
        match self.stage {
            StopStage::Requested { .. } if self.times.after_grace == AfterGrace::Hold => {
                self.needed = self.needed.max(Departure::Terminated);
                self.stage = StopStage::Requested { grace_until: None };
                None
            }
            StopStage::Requested { .. } => Some(self.terminate(SignalReason::GraceOver, now)),
            StopStage::Terminating { .. } => Some(self.kill(SignalReason::TermOver, now)),
            StopStage::Lingering { .. } => {
                let remaining = std::mem::take(&mut self.lingering);
                Some(self.stop_orphans(remaining, now))
            }
            StopStage::Orphans { .. } => Some(self.kill(SignalReason::OutlivedLeader, now)),
            StopStage::Killing { .. } => {
                self.stage = StopStage::GivenUp;
                self.needed = Departure::Remains;
                Some(StopAction::GiveUp)
            }
            StopStage::GivenUp => None,
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn timer(&self) -> Option<Instant> {
        match self.stage {
            StopStage::Requested { grace_until } => grace_until,
            // `SIGKILL` waits for workers-terminate, after the clients.
            StopStage::Terminating { .. } if self.times.after_grace == AfterGrace::Hold => None,
            StopStage::Terminating { until }
            | StopStage::Lingering { until }
            | StopStage::Orphans { until }
            | StopStage::Killing { until } => Some(until),
            StopStage::GivenUp => None,
        }
    }

    /// Whether killing was given up.
    pub fn is_given_up(&self) -> bool {
        self.stage == StopStage::GivenUp
    }

    /// The outcome, now that all of the worker is gone.
    pub fn gone(&self, now: Instant) -> StopOutcome {
        let outcome = self.so_far(now);
        StopOutcome { departure: outcome.departure.min(Departure::Killed), ..outcome }
    }

    /// The outcome as far as it is known.
    pub fn so_far(&self, now: Instant) -> StopOutcome {
        StopOutcome {
            asked: self.asked,
            answer: self.answer.as_ref().map(StopResponse::to_string),
            departure: self.needed,
            forced: self.forced,
            exit: self.exit,
            after: now.saturating_duration_since(self.began),
            outlived: self.outlived.clone(),
        }
    }

    fn terminate(&mut self, why: SignalReason, now: Instant) -> StopAction {
        self.needed = self.needed.max(Departure::Terminated);
        self.forced = Some(why);
        self.stage = StopStage::Terminating { until: now + self.times.term };
        StopAction::Terminate(why)
    }

    fn kill(&mut self, why: SignalReason, now: Instant) -> StopAction {
        self.needed = self.needed.max(Departure::Killed);
        self.forced = Some(why);
        self.stage = StopStage::Killing { until: now + KILL_LIMIT };
        StopAction::KillUntilGone(why)
    }
}

#[cfg(test)]
#[path = "stop_sequence_tests.rs"]
mod tests;
