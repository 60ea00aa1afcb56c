//! What a shutdown found: findings, evidence, the report.
//!
//! The report is one value. It is stored in the journal, written as
//! `last-shutdown.json`, sent with the final event, and shown by `mcpctl report`;
//! its exit code is computed from its findings and from nothing else
//! (see [`crate::exit_code`]).

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::ports::PortReport;
use crate::ids::{Pid, Port, RunId, WorkerName};
use crate::os::{Backend, Containment, ProcessInfo};
use crate::phase::Phase;

/// The `schema` of a [`ShutdownReport`] in JSON.
pub const REPORT_SCHEMA: &str = "mcpd.shutdown-report.v1";

/// Something that was not as it should be, or is worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing it is; decides the exit code.
    pub kind: FindingKind,
    /// The worker, port, resource or process it is about.
    pub subject: String,
    /// One sentence for a person.
    pub detail: String,
}

impl Finding {
    /// A finding of this kind.
    pub fn new(kind: FindingKind, subject: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self { kind, subject: subject.to_string(), detail: detail.into() }
    }
}

/// The kinds of finding. Their severity, and so the exit code, is
/// [`FindingKind::severity`](crate::exit_code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Worth telling, no fault: `TIME_WAIT`, a stranger on a port we gave back.
    Information,
    /// A client did not take its bytes in time and was cut off.
    ClientForced,
    /// A worker left only after `SIGTERM`, which was not its way of being asked.
    WorkerTerminated,
    /// Descendants outlived their leader and left after `SIGTERM`.
    DescendantsTerminated,
    /// A worker left only by `SIGKILL`.
    WorkerKilled,
    /// Descendants outlived their leader and left only by `SIGKILL`.
    DescendantsKilled,
    /// A port can't be bound again.
    PortInUse,
    /// A zombie that can't be reaped.
    ZombieLeft,
    /// A process that could not be ended.
    ProcessLeft,
    /// A resource failed to close.
    ResourceFailed,
    /// A panic, or an emergency.
    InternalError,
    /// The daemon died and its guardian cleaned up.
    DaemonDied,
    /// The shutdown overran its total bound.
    Overrun,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called exit(3) with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// 0, 143, or death by `SIGTERM`: what a server that was asked to leave says.
    pub fn is_ordinary(self) -> bool {
        matches!(self, Self::Code(0 | 143) | Self::Signal(15))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => f.pad(&format!("exit {code}")),
            Self::Signal(number) => f.pad(&crate::os::signal_name(*number)),
        }
    }
}

/// How a worker was asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// It was not running.
    NotAsked,
    /// By `POST` to its shutdown route.
    Http,
    /// By `SIGTERM`, because it has no shutdown route or was never ready.
    Sigterm,
    /// By the end of its standard input.
    EndOfInput,
}

/// How a worker left. Ordered by what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Departure {
    /// It was not running when the shutdown began.
    NotRunning,
    /// It left when asked.
    Left,
    /// It needed `SIGTERM`.
    Terminated,
    /// It needed `SIGKILL`.
    Killed,
    /// Something of it is still there.
    Remains,
}

/// What was verified of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckSubject {
    /// Leader and descendants are gone.
    Processes,
    /// The stored process group is empty.
    Group,
    /// No zombie of it is left.
    Zombies,
    /// Its port can be bound again.
    Port,
    /// Its runtime files are removed and its log is closed.
    Resources,
}

/// One check and its evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub subject: CheckSubject,
    /// Whether it was as it should be.
    pub passed: bool,
    /// What was seen.
    pub evidence: String,
    /// How long looking took, milliseconds.
    pub duration_ms: u64,
}

/// A worker in the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its name.
    pub name: WorkerName,
    /// The leader's pid, if it ran.
    pub pid: Option<Pid>,
    /// Its port.
    pub port: Option<Port>,
    /// How it was asked.
    pub asked: Asked,
    /// What it answered: "202", "404", "no answer within 5 s".
    pub answer: Option<String>,
    /// How it left.
    pub departure: Departure,
    /// How its leader ended.
    pub exit: Option<ExitStatus>,
    /// From the request to the last of its processes being gone, milliseconds.
    pub left_after_ms: Option<u64>,
    /// Descendants when the shutdown began.
    pub descendants: u32,
    /// Those that were still there after the leader.
    pub outlived: Vec<ProcessInfo>,
    /// What verification saw.
    pub checks: Vec<Check>,
}

/// How a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseOutcome {
    /// All done.
    Done,
    /// Done, with findings.
    Findings,
    /// Its deadline came first; the next phase took over.
    Deadline,
    /// Cut short by a second `SIGINT` or by `--now`.
    CutShort,
}

/// A phase in the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Which.
    pub phase: Phase,
    /// How it ended.
    pub outcome: PhaseOutcome,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// How long it might have taken, milliseconds.
    pub limit_ms: u64,
}

/// A client connection in the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReport {
    /// The worker it was connected to.
    pub worker: WorkerName,
    /// Its address, `127.0.0.1:40312`.
    pub peer: String,
    /// Its process, if it could be seen.
    pub process: Option<ProcessInfo>,
    /// When it was gone, milliseconds after the shutdown began; `None`: forced.
    pub left_after_ms: Option<u64>,
}

/// All clients in the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientsReport {
    /// Connections when the shutdown began, and those that came later.
    pub seen: u32,
    /// Told in MCP's own words.
    pub told: u32,
    /// Left by themselves.
    pub left: u32,
    /// Closed by force.
    pub forced: u32,
    /// A row each.
    pub connections: Vec<ClientReport>,
}

/// A resource in the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// "journal", "log alpha", or the name the user gave.
    pub name: String,
    /// What went wrong, if anything did.
    pub error: Option<String>,
    /// How long closing it took, milliseconds.
    pub duration_ms: u64,
}

/// What the daemon itself held at the start and at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnReport {
    /// Open descriptors when the daemon had booted.
    pub descriptors_start: u32,
    /// Open descriptors at the end of verification.
    pub descriptors_end: u32,
    /// Threads when the daemon had booted.
    pub threads_start: u32,
    /// Threads at the end of verification.
    pub threads_end: u32,
    /// What was opened in between and is still open, by name.
    pub leaked: Vec<String>,
}

/// The whole account of one shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownReport {
    /// [`REPORT_SCHEMA`].
    pub schema: String,
    /// The run that ended.
    pub run: RunId,
    /// `manual`, the text given, `signal_SIGTERM`, `signal_SIGINT`, `internal_error`.
    pub reason: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When the report was closed.
    pub finished_at: Timestamp,
    /// Between the two, milliseconds.
    pub duration_ms: u64,
    /// What the process exits with.
    pub exit_code: u8,
    /// Which eyes looked.
    pub backend: Backend,
    /// What held the processes of the workers together; `None` if that was not found out.
    #[serde(default)]
    pub containment: Option<Containment>,
    /// The kernel's own statement that no descendant is left; `None` where there is none.
    pub proof: Option<String>,
    /// The phases, in order.
    pub phases: Vec<PhaseReport>,
    /// The workers, by name.
    pub workers: Vec<WorkerReport>,
    /// The clients.
    pub clients: ClientsReport,
    /// The ports.
    pub ports: Vec<PortReport>,
    /// The resources, in the order in which they were closed.
    pub resources: Vec<ResourceReport>,
    /// The daemon itself.
    pub own: OwnReport,
    /// Everything that was not as it should be, worst first.
    pub findings: Vec<Finding>,
}

impl ShutdownReport {
    /// The verdict in one sentence: the meaning of the exit code.
    pub fn verdict(&self) -> &'static str {
        crate::exit_code::meaning(self.exit_code)
    }
}
