//! What a shutdown tells while it runs: one event a step.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Pid, RunId, WorkerName};
use crate::outcome::{Asked, Departure, ExitStatus, Finding, PhaseOutcome, ShutdownReport};
use crate::phase::Phase;

/// The `schema` of a [`ShutdownEvent`] in JSON.
pub const EVENT_SCHEMA: &str = "mcpd.shutdown-event.v1";

/// One step of a shutdown. Every subscriber sees all of them, from the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownEvent {
    /// Its number, from 0.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// Milliseconds since the shutdown began.
    pub elapsed_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The shutdown began.
    Started {
        /// The run that ends.
        run: RunId,
        /// Why.
        reason: String,
        /// The workers that are there.
        workers: Vec<WorkerName>,
        /// The longest this can take, milliseconds.
        limit_ms: u64,
    },
    /// A phase began.
    PhaseStarted {
        /// Which.
        phase: Phase,
        /// The longest it can take, milliseconds.
        limit_ms: u64,
    },
    /// Something happened to a worker.
    Worker {
        /// Its name.
        name: WorkerName,
        /// Its leader.
        pid: Option<Pid>,
        /// The step.
        #[serde(flatten)]
        step: WorkerStep,
    },
    /// Clients left or were forced.
    Clients {
        /// How many are still connected.
        connected: u32,
        /// How many have left.
        left: u32,
        /// How many were closed by force.
        forced: u32,
    },
    /// A check of the verification was finished.
    Verified {
        /// "processes", "zombies", "ports", "resources", "descriptors".
        check: String,
        /// Whether it was as it should be.
        passed: bool,
        /// What was seen.
        evidence: String,
        /// How long it took, milliseconds.
        duration_ms: u64,
    },
    /// Still waiting, said every 2 s and at each deadline.
    Waiting {
        /// The phase that waits.
        phase: Phase,
        /// For whom: "docs (pid 4711)".
        remaining: Vec<String>,
    },
    /// The remaining waits were cut short.
    Hurried {
        /// By what: "second SIGINT", "mcpctl shutdown --now".
        by: String,
    },
    /// Something was found.
    Found {
        /// What.
        finding: Finding,
    },
    /// A phase ended.
    PhaseFinished {
        /// Which.
        phase: Phase,
        /// How.
        outcome: PhaseOutcome,
        /// How long it took, milliseconds.
        duration_ms: u64,
        /// One line: "3 of 3 workers left".
        summary: String,
    },
    /// It is over; the last event.
    Finished {
        /// The whole account.
        report: Box<ShutdownReport>,
    },
}

/// What can happen to a worker during a shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum WorkerStep {
    /// It was asked to leave.
    Asked {
        /// How.
        how: Asked,
    },
    /// It answered the request, or did not.
    Answered {
        /// "202", "404", "no answer within 5 s".
        answer: String,
    },
    /// Its groups were sent this signal.
    Signalled {
        /// `SIGTERM` or `SIGKILL`.
        signal: String,
        /// Why: "still there after 10 s".
        why: String,
    },
    /// Its leader exited.
    LeaderExited {
        /// How.
        exit: ExitStatus,
        /// Descendants that are still there.
        remaining: u32,
    },
    /// All of it is gone.
    Left {
        /// What it took.
        departure: Departure,
        /// How its leader ended.
        exit: Option<ExitStatus>,
        /// Milliseconds since it was asked.
        after_ms: u64,
    },
    /// Something of it could not be ended.
    Remains {
        /// What, and why.
        detail: String,
    },
}
