//! The events that a shutdown sends while it runs: one for each step.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Pid, RunId, WorkerName};
use crate::outcome::{Asked, Departure, ExitStatus, Finding, PhaseOutcome, ShutdownReport};
use crate::phase::Phase;

/// The `schema` of a [`ShutdownEvent`] in JSON.
pub const EVENT_SCHEMA: &str = "mcpd.shutdown-event.v1";

/// One step of a shutdown. Every subscriber receives all events, from the first one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownEvent {
    /// Counts the events, from 0.
    pub seq: u64,
    /// Wall clock time of the event.
    pub at: Timestamp,
    /// Milliseconds since the shutdown began.
    pub elapsed_ms: u64,
    /// The step, with its data.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The shutdown began.
    Started {
        /// The run that ends.
        run: RunId,
        /// See [`ShutdownReport::reason`].
        reason: String,
        /// All workers, also those that are not running.
        workers: Vec<WorkerName>,
        /// Time limit of the whole shutdown, milliseconds.
        limit_ms: u64,
    },
    /// A phase began.
    PhaseStarted {
        /// The phase that begins.
        phase: Phase,
        /// Time limit of the phase, milliseconds.
        limit_ms: u64,
    },
    /// The shutdown of a worker made a step.
    Worker {
        /// The worker.
        name: WorkerName,
        /// The pid of its leader; `None` if it is not running.
        pid: Option<Pid>,
        /// The step, with its data.
        #[serde(flatten)]
        step: WorkerStep,
    },
    /// Clients disconnected or were disconnected by force.
    Clients {
        /// Number of connections that are still open.
        connected: u32,
        /// Number of connections that the client closed.
        left: u32,
        /// Number of connections that were closed by force.
        forced: u32,
    },
    /// A check of the verification is complete.
    Verified {
        /// "processes", "zombies", "ports", "resources", "descriptors".
        check: String,
        /// False if a finding belongs to this check.
        passed: bool,
        /// What the check saw, in one line for people.
        evidence: String,
        /// Duration of the check, milliseconds.
        duration_ms: u64,
    },
    /// A phase still waits. Sent every 2 s and at each deadline.
    Waiting {
        /// The phase that waits.
        phase: Phase,
        /// The processes or clients that it waits for: "docs (pid 4711)".
        remaining: Vec<String>,
    },
    /// The remaining waits were cut short.
    Hurried {
        /// The cause: "second SIGINT", "mcpctl shutdown --now".
        by: String,
    },
    /// A finding was added to the report.
    Found {
        /// The finding as it will be in the report.
        finding: Finding,
    },
    /// A phase ended.
    PhaseFinished {
        /// The phase that ended.
        phase: Phase,
        /// How it ended.
        outcome: PhaseOutcome,
        /// Duration of the phase, milliseconds.
        duration_ms: u64,
        /// One line for people: "3 of 3 workers exited".
        summary: String,
    },
    /// The shutdown is complete. The last event.
    Finished {
        /// The complete report.
        report: Box<ShutdownReport>,
    },
}

/// A step in the shutdown of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum WorkerStep {
    /// Its exit was requested.
    Asked {
        /// The way of the request.
        how: Asked,
    },
    /// The HTTP request was answered, failed, or timed out.
    Answered {
        /// "202", "404", "no answer within 5 s".
        answer: String,
    },
    /// A signal was sent to its process groups.
    Signalled {
        /// `SIGTERM` or `SIGKILL`.
        signal: String,
        /// The cause: "still running after 10 s".
        why: String,
    },
    /// Its leader exited.
    LeaderExited {
        /// The status of the leader.
        exit: ExitStatus,
        /// Number of descendants that still run.
        remaining: u32,
    },
    /// All of its processes exited.
    Left {
        /// Which means were needed.
        departure: Departure,
        /// The status of the leader; `None` if it is not known.
        exit: Option<ExitStatus>,
        /// Milliseconds since its exit was requested.
        after_ms: u64,
    },
    /// At least one of its processes could not be killed.
    Remains {
        /// The processes, and why they remain.
        detail: String,
    },
}
