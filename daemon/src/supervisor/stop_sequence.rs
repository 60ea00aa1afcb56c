//! How one worker leaves: asked, then `SIGTERM`, then `SIGKILL`. Pure.
//!
//! ```text
//!            answered 2xx, 4xx: wait                          everything of it
//!   Asked ------------------------ grace over --> Termed ------ time over ----> Hunted
//!     |  \__ 5xx, refused, no answer: at once __/    |                            |
//!     |                                              |                   5 s over: Abandoned
//!     `-- leader gone, descendants not --> Remnants (SIGTERM) -- 2 s over --/
//! ```
//!
//! Wherever it stands, the worker **has left** when its leader and all of its
//! descendants are gone ([`Course::gone`]). A [`Course`] decides; the supervisor acts.

use std::time::Duration;

use mcpd_common::os::ProcessInfo;
use mcpd_common::outcome::{Asked, Departure, ExitStatus};
use tokio::time::Instant;

/// How long descendants that outlived their leader have between `SIGTERM` and `SIGKILL`.
pub const REMNANTS: Duration = Duration::from_secs(2);
/// How long `SIGKILL` is repeated before what is left is reported.
pub const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How long a worker has to answer `POST /shutdown`.
pub const ANSWER: Duration = Duration::from_secs(5);

/// What the supervisor shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// `POST` to the shutdown route.
    Post,
    /// `SIGTERM`, then `SIGCONT`, to all of it.
    Terminate(Why),
    /// `SIGKILL` to all of it, again and again until it is gone.
    Hunt(Why),
    /// Stop hunting and report what is left.
    GiveUp,
}

/// Why a signal is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
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

impl Why {
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
pub enum Answer {
    /// An HTTP status.
    Status(u16),
    /// Nothing, and why.
    None(String),
}

impl std::fmt::Display for Answer {
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
    /// Wait for [`Course::escalate`]: in a shutdown the clients come before any signal that
    /// was not asked for.
    Hold,
}

/// The times of one course.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When the graceful time is over.
    pub grace_until: Instant,
    /// How long `SIGTERM` may take.
    pub term: Duration,
    /// What follows the graceful time.
    pub after_grace: AfterGrace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked { grace_until: Option<Instant> },
    Termed { until: Instant },
    Remnants { until: Instant },
    Hunted { until: Instant },
    Abandoned,
}

/// One worker's way out.
#[derive(Clone, Debug)]
pub struct Course {
    began: Instant,
    times: Times,
    stage: Stage,
    asked: Asked,
    answer: Option<Answer>,
    needed: Departure,
    forced: Option<Why>,
    exit: Option<ExitStatus>,
    outlived: Vec<ProcessInfo>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// How the worker was asked.
    pub asked: Asked,
    /// What it answered.
    pub answer: Option<String>,
    /// What it took.
    pub departure: Departure,
    /// Why it was last sent a signal that was not the request; `None`: it never was.
    pub forced: Option<Why>,
    /// How its leader ended.
    pub exit: Option<ExitStatus>,
    /// From the request to nothing left.
    pub after: Duration,
    /// Descendants that were still there after the leader.
    pub outlived: Vec<ProcessInfo>,
}

impl Course {
    /// Asks the worker to leave. `asked` is [`Asked::Http`] for a worker with a route that
    /// has been ready, else [`Asked::Sigterm`].
    pub fn begin(asked: Asked, times: Times, now: Instant) -> (Self, Act) {
        let stage = Stage::Asked { grace_until: Some(times.grace_until) };
        let act = match asked {
            Asked::Http => Act::Post,
            Asked::Sigterm | Asked::NotAsked | Asked::EndOfInput => Act::Terminate(Why::IsTheRequest),
        };
        (Self::new(asked, times, stage, now), act)
    }

    /// The leader ended by itself; the rest follows.
    pub fn after_exit(
        exit: ExitStatus,
        remaining: Vec<ProcessInfo>,
        times: Times,
        now: Instant,
    ) -> (Self, Option<Act>) {
        let stage = Stage::Remnants { until: now + REMNANTS };
        let mut course = Self::new(Asked::NotAsked, times, stage, now);
        let act = course.leader_exited(exit, remaining, now);
        (course, act)
    }

    fn new(asked: Asked, times: Times, stage: Stage, now: Instant) -> Self {
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
    pub fn answered(&mut self, answer: Answer, now: Instant) -> Option<Act> {
        let act = match (&answer, self.stage) {
            // Its way of being asked is SIGTERM: leaving within the graceful time is clean (R-EXIT-1).
            (Answer::Status(400..=499 | 501), Stage::Asked { .. }) => {
                self.asked = Asked::Sigterm;
                Some(Act::Terminate(Why::IsTheRequest))
            }
            (Answer::Status(500..) | Answer::None(_), Stage::Asked { .. }) => {
                Some(self.terminate(Why::BadAnswer, now))
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
    ) -> Option<Act> {
        self.exit = Some(exit);
        if remaining.is_empty() || matches!(self.stage, Stage::Hunted { .. } | Stage::Abandoned) {
            return None;
        }
        // Where SIGTERM was the request, the rest was asked just like the leader.
        if self.asked == Asked::Http {
            self.needed = self.needed.max(Departure::Terminated);
        }
        self.outlived = remaining;
        self.forced = Some(Why::OutlivedLeader);
        let until = match self.stage {
            // They had their SIGTERM together with the leader, and its deadline is theirs too.
            Stage::Termed { until } => until.min(now + REMNANTS),
            _ => now + REMNANTS,
        };
        self.stage = Stage::Remnants { until };
        Some(Act::Terminate(Why::OutlivedLeader))
    }

    /// The phase that sends `SIGTERM` has come.
    pub fn escalate(&mut self, now: Instant) -> Option<Act> {
        self.times.after_grace = AfterGrace::Escalate;
        match self.stage {
            Stage::Asked { .. } => Some(self.terminate(Why::GraceOver, now)),
            _ => self.tick(now),
        }
    }

    /// All waits are over: straight to `SIGKILL`.
    pub fn hurry(&mut self, now: Instant) -> Option<Act> {
        match self.stage {
            Stage::Hunted { .. } | Stage::Abandoned => None,
            _ => Some(self.hunt(Why::Hurried, now)),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Option<Act> {
        if self.timer().is_none_or(|due| now < due) {
            return None;
        }
        match self.stage {
            Stage::Asked { .. } if self.times.after_grace == AfterGrace::Hold => {
                self.needed = self.needed.max(Departure::Terminated);
                self.stage = Stage::Asked { grace_until: None };
                None
            }
            Stage::Asked { .. } => Some(self.terminate(Why::GraceOver, now)),
            Stage::Termed { .. } => Some(self.hunt(Why::TermOver, now)),
            Stage::Remnants { .. } => Some(self.hunt(Why::OutlivedLeader, now)),
            Stage::Hunted { .. } => {
                self.stage = Stage::Abandoned;
                self.needed = Departure::Remains;
                Some(Act::GiveUp)
            }
            Stage::Abandoned => None,
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn timer(&self) -> Option<Instant> {
        match self.stage {
            Stage::Asked { grace_until } => grace_until,
            // SIGKILL has its own phase, after the clients.
            Stage::Termed { .. } if self.times.after_grace == AfterGrace::Hold => None,
            Stage::Termed { until } | Stage::Remnants { until } | Stage::Hunted { until } => Some(until),
            Stage::Abandoned => None,
        }
    }

    /// Whether hunting was given up.
    pub fn is_abandoned(&self) -> bool {
        self.stage == Stage::Abandoned
    }

    /// The account, now that all of the worker is gone.
    pub fn gone(&self, now: Instant) -> Leave {
        let account = self.so_far(now);
        Leave { departure: account.departure.min(Departure::Killed), ..account }
    }

    /// The account as far as it went.
    pub fn so_far(&self, now: Instant) -> Leave {
        Leave {
            asked: self.asked,
            answer: self.answer.as_ref().map(Answer::to_string),
            departure: self.needed,
            forced: self.forced,
            exit: self.exit,
            after: now.saturating_duration_since(self.began),
            outlived: self.outlived.clone(),
        }
    }

    fn terminate(&mut self, why: Why, now: Instant) -> Act {
        self.needed = self.needed.max(Departure::Terminated);
        self.forced = Some(why);
        self.stage = Stage::Termed { until: now + self.times.term };
        Act::Terminate(why)
    }

    fn hunt(&mut self, why: Why, now: Instant) -> Act {
        self.needed = self.needed.max(Departure::Killed);
        self.forced = Some(why);
        self.stage = Stage::Hunted { until: now + KILL_LIMIT };
        Act::Hunt(why)
    }
}

#[cfg(test)]
#[path = "stop_sequence_tests.rs"]
mod tests;
