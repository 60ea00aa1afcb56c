//! The report of a shutdown: findings, checks with their evidence, exit code.
//!
//! The report is one value. It is stored in the journal, written to `last-shutdown.json`, sent with
//! the final event, and shown by `mcpctl report`. Its exit code is computed from its findings alone
//! (see [`crate::exit_code`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::ports::PortReport;
use crate::exit_code;
pub use crate::exit_status::ExitStatus;
pub use crate::finding::{Finding, FindingKind};
use crate::ids::{Pid, Port, RunId, WorkerName};
use crate::os::{Backend, Containment, ProcessInfo};
use crate::phase::Phase;

/// The `schema` of a [`ShutdownReport`] in JSON.
pub const REPORT_SCHEMA: &str = "mcpd.shutdown-report.v1";

/// How the exit of a worker was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Not at all: the worker was not running.
    NotAsked,
    /// By `POST` to its shutdown route.
    Http,
    /// By `SIGTERM`: the worker has no shutdown route or was never ready.
    Sigterm,
    /// By closing its standard input.
    EndOfInput,
}

/// How a worker ended. Ordered by severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Departure {
    /// It was not running when the shutdown began.
    NotRunning,
    /// It exited on request.
    Left,
    /// It needed `SIGTERM`.
    Terminated,
    /// It needed `SIGKILL`.
    Killed,
    /// At least one of its processes still exists.
    Remains,
}

/// What a check of a worker verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckSubject {
    /// Leader and descendants are gone.
    Processes,
    /// The stored process group is empty.
    Group,
    /// None of its processes is a zombie.
    Zombies,
    /// Its port can be bound again.
    Port,
    /// Its runtime files are removed and its log is closed.
    Resources,
    /// Its container engine lists no container of it.
    Container,
}

/// One check of a worker, and its evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was verified.
    pub subject: CheckSubject,
    /// False if a finding belongs to this check.
    pub passed: bool,
    /// What the check saw, in one line for people.
    pub evidence: String,
    /// Duration of the check, milliseconds.
    pub duration_ms: u64,
}

/// How the shutdown of one worker went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// As configured.
    pub name: WorkerName,
    /// The pid of its leader; `None` if the worker was not running.
    pub pid: Option<Pid>,
    /// The port for clients.
    pub port: Option<Port>,
    /// How its exit was requested.
    pub asked: Asked,
    /// The answer to an HTTP request: "202", "404", "no answer within 5 s".
    pub answer: Option<String>,
    /// How it ended.
    pub departure: Departure,
    /// The exit status of its leader; `None` if it was not running or could not be reaped.
    pub exit: Option<ExitStatus>,
    /// Milliseconds from the request until its last process was gone; `None` if one remains.
    pub left_after_ms: Option<u64>,
    /// Number of processes that served one session each when the shutdown began, besides `pid`.
    #[serde(default)]
    pub session_processes: u32,
    /// Number of descendants when the shutdown began.
    pub descendants: u32,
    /// The descendants that outlived the leader.
    pub outlived: Vec<ProcessInfo>,
    /// The checks of the verification phase.
    pub checks: Vec<Check>,
}

/// How a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseOutcome {
    /// Complete, without findings.
    Done,
    /// Complete, with findings.
    Findings,
    /// It reached its time limit; the next phase continues with what is left.
    Deadline,
    /// Cut short by a second `SIGINT` or by `--now`.
    CutShort,
}

/// How one phase of the shutdown went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// The phase that ended.
    pub phase: Phase,
    /// How it ended.
    pub outcome: PhaseOutcome,
    /// Its duration, milliseconds.
    pub duration_ms: u64,
    /// Its time limit, milliseconds.
    pub limit_ms: u64,
}

/// One client connection during the shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReport {
    /// The worker it was connected to.
    pub worker: WorkerName,
    /// The client's address: `127.0.0.1:40312`.
    pub peer: String,
    /// The client's process; `None` if the kernel hides it (another user's process).
    pub process: Option<ProcessInfo>,
    /// Milliseconds from the start of the shutdown until it disconnected; `None` if it was closed by force.
    pub left_after_ms: Option<u64>,
}

/// All client connections during the shutdown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientsReport {
    /// Number of connections, also those accepted after the shutdown began.
    pub seen: u32,
    /// Number of event streams that got an MCP shutdown notice.
    pub told: u32,
    /// Number of connections that the client closed.
    pub left: u32,
    /// Number of connections that were closed by force.
    pub forced: u32,
    /// Number of sessions that mcpd ended before the shutdown because all processes of their clients had exited.
    #[serde(default)]
    pub ended_sessions: u32,
    /// One element for each connection.
    pub connections: Vec<ClientReport>,
}

/// How closing one resource went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// "journal", "log alpha", or the name from the configuration.
    pub name: String,
    /// Why it failed to close; `None` if it was closed.
    pub error: Option<String>,
    /// Duration of closing it, milliseconds.
    pub duration_ms: u64,
}

/// Descriptors and threads of the daemon itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnReport {
    /// Open descriptors at the end of start-up.
    pub descriptors_start: u32,
    /// Open descriptors at the end of verification.
    pub descriptors_end: u32,
    /// Threads at the end of start-up.
    pub threads_start: u32,
    /// Threads at the end of verification.
    pub threads_end: u32,
    /// Targets of descriptors that were opened in between and are still open.
    pub leaked: Vec<String>,
}

/// The report of one shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownReport {
    /// [`REPORT_SCHEMA`].
    pub schema: String,
    /// The run that ended.
    pub run: RunId,
    /// `manual`, the text of `--reason`, `signal_SIGTERM`, `signal_SIGINT`, `internal_error`, or a
    /// [reason of a crash](crate::crash).
    pub reason: String,
    /// When the shutdown was requested.
    pub started_at: Timestamp,
    /// When the report was complete.
    pub finished_at: Timestamp,
    /// From `started_at` to `finished_at`, milliseconds.
    pub duration_ms: u64,
    /// The exit code of the daemon.
    pub exit_code: u8,
    /// The backend that read processes and sockets.
    pub backend: Backend,
    /// How the processes of workers were contained; `None` if that is unknown, as after a crash.
    #[serde(default)]
    pub containment: Option<Containment>,
    /// The system call by which the kernel confirmed that no descendant is left; `None` without confirmation.
    pub proof: Option<String>,
    /// In the order in which they ran.
    pub phases: Vec<PhaseReport>,
    /// Sorted by name.
    pub workers: Vec<WorkerReport>,
    /// Counts, and one element for each connection.
    pub clients: ClientsReport,
    /// The ports of all workers, as the last check saw them.
    pub ports: Vec<PortReport>,
    /// In the order in which they were closed.
    pub resources: Vec<ResourceReport>,
    /// Descriptors and threads of the daemon itself.
    pub own: OwnReport,
    /// The most severe first.
    pub findings: Vec<Finding>,
}

impl ShutdownReport {
    /// The meaning of the exit code in one sentence, without a full stop.
    pub fn verdict(&self) -> &'static str {
        exit_code::meaning(self.exit_code)
    }
}
