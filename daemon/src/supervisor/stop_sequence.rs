//! How one worker leaves: asked, then `SIGTERM`, then `SIGKILL`. Pure.
//!
//! ```text
//!            answered 2xx, 4xx: wait                          everything of it
//!   Asked ------------------------ grace over --> Terminating ------ time over ----> Killing
//!     |  \__ 5xx, refused, no answer: at once __/    |                            |
//!     |                                              |                   5 s over: GivenUp
//!     `-- leader gone, descendants not --> Orphans (SIGTERM) -- 2 s over --/
//! ```
//!
//! Wherever it stands, the worker **has left** when its leader and all of its
//! descendants are gone ([`StopSequence::gone`]). A [`StopSequence`] decides; the supervisor acts.

use std::time::Duration;

use mcpd_common::os::ProcessInfo;
use mcpd_common::outcome::{Asked, Departure, ExitStatus};
use tokio::time::Instant;

use crate::time_limits::KILL_LIMIT;

/// How long descendants that outlived their leader have between `SIGTERM` and `SIGKILL`.
pub const ORPHAN_LIMIT: Duration = Duration::from_secs(2);
/// How long a worker has to answer `POST /shutdown`.
pub const RESPONSE_LIMIT: Duration = Duration::from_secs(5);

/// What the supervisor shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAction {
    /// `POST` to the shutdown route.
    Post,
    /// `SIGTERM`, then `SIGCONT`, to all of it.
    Terminate(SignalReason),
    /// `SIGKILL` to all of it, again and again until it is gone.
    KillUntilGone(SignalReason),
    /// Stop killing and report what is left.
    GiveUp,
}

/// SignalReason a signal is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalReason {
    /// It is this worker's way of being asked.
    IsTheRequest,
    /// It answered the request with an error, or not at all.
    BadAnswer,
    /// It was still there after the graceful time.
    GraceOver,
    /// It was still there after the time for `SIGTERM`.
    TermOver,
    /// Its leader left, they did not.
    OutlivedLeader,
    /// The remaining waits were cut short.
    Hurried,
}

impl SignalReason {
    /// For logs and events.
    pub fn text(self) -> &'static str {
        match self {
            Self::IsTheRequest => "this is how it is asked to leave",
            Self::BadAnswer => "it did not accept the request",
            Self::GraceOver => "still there after the graceful time",
            Self::TermOver => "still there after the time for SIGTERM",
            Self::OutlivedLeader => "descendants outlived their leader",
            Self::Hurried => "the remaining waits were cut short",
        }
    }
}

/// What came back from `POST /shutdown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopResponse {
    /// An HTTP status.
    Status(u16),
    /// Nothing, and why.
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

/// What follows when the graceful time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterGrace {
    /// `SIGTERM` at once: the worker is stopped alone.
    Escalate,
    /// Wait for [`StopSequence::escalate`]: in a shutdown the clients come before any signal that
    /// was not asked for.
    Hold,
}

/// The times of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct StopTimes {
    /// When the graceful time is over.
    pub grace_until: Instant,
    /// How long `SIGTERM` may take.
    pub term: Duration,
    /// What follows the graceful time.
    pub after_grace: AfterGrace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopStage {
    Requested { grace_until: Option<Instant> },
    Terminating { until: Instant },
    Orphans { until: Instant },
    Killing { until: Instant },
    GivenUp,
}

/// One worker's way out.
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
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopOutcome {
    /// How the worker was asked.
    pub asked: Asked,
    /// What it answered.
    pub answer: Option<String>,
    /// What it took.
    pub departure: Departure,
    /// SignalReason it was last sent a signal that was not the request; `None`: it never was.
    pub forced: Option<SignalReason>,
    /// How its leader ended.
    pub exit: Option<ExitStatus>,
    /// From the request to nothing left.
    pub after: Duration,
    /// Descendants that were still there after the leader.
    pub outlived: Vec<ProcessInfo>,
}

impl StopSequence {
    /// Asks the worker to leave. `asked` is [`Asked::Http`] for a worker with a route that
    /// has been ready, else [`Asked::Sigterm`].
    pub fn begin(asked: Asked, times: StopTimes, now: Instant) -> (Self, StopAction) {
        let stage = StopStage::Requested { grace_until: Some(times.grace_until) };
        let act = match asked {
            Asked::Http => StopAction::Post,
            Asked::Sigterm | Asked::NotAsked | Asked::EndOfInput => {
                StopAction::Terminate(SignalReason::IsTheRequest)
            }
        };
        (Self::new(asked, times, stage, now), act)
    }

    /// The leader ended by itself; the rest follows.
    pub fn after_exit(
        exit: ExitStatus,
        remaining: Vec<ProcessInfo>,
        times: StopTimes,
        now: Instant,
    ) -> (Self, Option<StopAction>) {
        let stage = StopStage::Orphans { until: now + ORPHAN_LIMIT };
        let mut sequence = Self::new(Asked::NotAsked, times, stage, now);
        let act = sequence.leader_exited(exit, remaining, now);
        (sequence, act)
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
        }
    }

    /// The worker answered the request.
    pub fn answered(&mut self, answer: StopResponse, now: Instant) -> Option<StopAction> {
        let act = match (&answer, self.stage) {
            // Its way of being asked is SIGTERM: leaving within the graceful time is clean (R-EXIT-1).
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
        act
    }

    /// The leader exited; `remaining` descendants are still there.
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
        // Where SIGTERM was the request, the rest was asked just like the leader.
        if self.asked == Asked::Http {
            self.needed = self.needed.max(Departure::Terminated);
        }
        self.outlived = remaining;
        self.forced = Some(SignalReason::OutlivedLeader);
        let until = match self.stage {
            // They had their SIGTERM together with the leader, and its deadline is theirs too.
            StopStage::Terminating { until } => until.min(now + ORPHAN_LIMIT),
            _ => now + ORPHAN_LIMIT,
        };
        self.stage = StopStage::Orphans { until };
        Some(StopAction::Terminate(SignalReason::OutlivedLeader))
    }

    /// The phase that sends `SIGTERM` has come.
    pub fn escalate(&mut self, now: Instant) -> Option<StopAction> {
        self.times.after_grace = AfterGrace::Escalate;
        match self.stage {
            StopStage::Requested { .. } => Some(self.terminate(SignalReason::GraceOver, now)),
            _ => self.tick(now),
        }
    }

    /// All waits are over: straight to `SIGKILL`.
    pub fn hurry(&mut self, now: Instant) -> Option<StopAction> {
        match self.stage {
            StopStage::Killing { .. } | StopStage::GivenUp => None,
            _ => Some(self.kill(SignalReason::Hurried, now)),
        }
    }

    /// Time has passed.
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
            // SIGKILL has its own phase, after the clients.
            StopStage::Terminating { .. } if self.times.after_grace == AfterGrace::Hold => None,
            StopStage::Terminating { until }
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

    /// The outcome as far as it went.
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
