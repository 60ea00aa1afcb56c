//! What the journal stores and returns.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::exit_status::ExitStatus;
use crate::ids::{Pgid, Pid, Port, RunId, WorkerName};
use crate::os::process::StartTime;
use crate::outcome::ShutdownReport;

/// The `schema` of the history in JSON.
pub const HISTORY_SCHEMA: &str = "mcpd.history.v1";

/// An entry to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The daemon started. Replaces an entry of the same run.
    RunStarted(RunStarted),
    /// A run as known from its run file or crash record. An entry of the same run stays as it is.
    RunKnown(RunStarted),
    /// The process of a worker started.
    ProcessStarted(ProcessStarted),
    /// The process of a worker ended.
    ProcessEnded(ProcessEnded),
    /// The restart of a worker was scheduled.
    Restarted(Restarted),
    /// A shutdown is complete. Replaces an earlier report of the same run.
    Report(Box<ShutdownReport>),
    /// An MCP session started or changed.
    SessionKept(KeptSession),
    /// An MCP session ended.
    SessionEnded {
        /// The worker that the session is with.
        worker: WorkerName,
        /// The value of the client's `Mcp-Session-Id` header.
        id: String,
    },
}

/// An MCP session that outlives the daemon (R-CLIENT-3).
#[derive(Clone, PartialEq, Eq)]
pub struct KeptSession {
    /// The worker that the session is with.
    pub worker: WorkerName,
    /// The value of the client's `Mcp-Session-Id` header.
    pub id: String,
    /// The last use by a client that was recorded.
    pub used_at: Timestamp,
    /// The daemon's data about the session, as JSON.
    pub session: String,
}

/// Ids of sessions are as good as passwords.
impl std::fmt::Debug for KeptSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptSession")
            .field("worker", &self.worker)
            .field("used_at", &self.used_at)
            .finish_non_exhaustive()
    }
}

/// The start of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStarted {
    /// Identifies the run.
    pub run: RunId,
    /// The pid of the daemon.
    pub pid: Pid,
    /// The version of mcpd.
    pub version: String,
    /// The configuration file; `None` if the daemon was started without one.
    pub config: Option<String>,
    /// When the daemon started.
    pub started_at: Timestamp,
}

/// The start of a worker's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStarted {
    /// The run it belongs to.
    pub run: RunId,
    /// The worker it belongs to.
    pub worker: WorkerName,
    /// The leader of its process group.
    pub pid: Pid,
    /// Distinguishes the process from later ones with the same pid.
    pub start_time: StartTime,
    /// Its process group.
    pub pgid: Pgid,
    /// The port for clients.
    pub port: Port,
    /// When it was started.
    pub started_at: Timestamp,
}

/// The end of a worker's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessEnded {
    /// The run it belongs to.
    pub run: RunId,
    /// The leader of its process group.
    pub pid: Pid,
    /// Distinguishes the process from later ones with the same pid.
    pub start_time: StartTime,
    /// When it was reaped.
    pub ended_at: Timestamp,
    /// `None` if its status is not known.
    pub exit: Option<ExitStatus>,
}

/// A scheduled restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// The run it belongs to.
    pub run: RunId,
    /// The worker that is started again.
    pub worker: WorkerName,
    /// When it was scheduled.
    pub at: Timestamp,
    /// The cause: "exit 1", "requested", "unhealthy".
    pub reason: String,
}

/// One run in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// Identifies the run.
    pub run: RunId,
    /// The pid of the daemon.
    pub pid: Pid,
    /// The version of mcpd.
    pub version: String,
    /// The configuration file; `None` if the daemon was started without one.
    pub config: Option<String>,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// When its shutdown was complete; `None` if it still runs or died without a shutdown.
    pub ended_at: Option<Timestamp>,
    /// The reason of the shutdown.
    pub reason: Option<String>,
    /// The exit code of the daemon.
    pub exit_code: Option<u8>,
    /// Duration of the shutdown, milliseconds.
    pub shutdown_ms: Option<u64>,
    /// Number of workers that were started at least once.
    pub workers: u32,
    /// Number of restarts of all workers.
    pub restarts: u32,
}
