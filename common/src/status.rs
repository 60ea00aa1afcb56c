//! The data of `mcpctl status` and `mcpctl clients`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Transport;
use crate::ids::{Pid, Port, RunId, WorkerName};
use crate::os::{Backend, Containment, ProcessInfo};
use crate::outcome::{ExitStatus, ShutdownReport};
use crate::phase::Phase;

/// The `schema` of a [`StatusReport`] in JSON.
pub const STATUS_SCHEMA: &str = "mcpd.status.v1";

/// The state of a worker (R-SUP-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// Its process runs, but no probe has succeeded yet.
    Starting,
    /// The last probe succeeded.
    Ready,
    /// Three probes in a row failed.
    Unhealthy,
    /// Its process exited; the next start waits for the backoff.
    BackingOff,
    /// It is not started again until `mcpctl start` or `mcpctl restart`.
    Failed,
    /// Its exit was requested.
    Stopping,
    /// It was stopped on request, or exited and its restart policy does not start it again.
    Stopped,
}

impl WorkerState {
    /// The name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::BackingOff => "backing-off",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// The current status of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// As configured.
    pub name: WorkerName,
    /// See [`WorkerState`].
    pub state: WorkerState,
    /// The cause of the state, such as the last failure or the wait before the next start; `None` for states
    /// without one.
    pub reason: Option<String>,
    /// The leader of its process group; `None` if it is not running.
    pub pid: Option<Pid>,
    /// The port for clients.
    pub port: Port,
    /// Which process listens on `port`.
    pub transport: Transport,
    /// The MCP endpoint: `http://127.0.0.1:8081/mcp`.
    pub url: String,
    /// The absolute path of its repository.
    pub repo: String,
    /// When it entered this state.
    pub since: Timestamp,
    /// When its current process was started; `None` if it is not running.
    pub started_at: Option<Timestamp>,
    /// Number of restarts since the daemon started.
    pub restarts: u32,
    /// Number of running descendants.
    pub descendants: u32,
    /// Number of client connections.
    pub clients: u32,
    /// The status of its previous process; `None` if none has exited yet, or the status is not known.
    pub last_exit: Option<ExitStatus>,
    /// Lines that a worker that speaks stdio wrote to its standard output and that are no messages; they are in its log.
    #[serde(default)]
    pub stray_lines: u64,
    /// Number of running processes that serve one session each, besides `pid`.
    #[serde(default)]
    pub session_processes: u32,
    /// Sessions that mcpd ended because all processes of their clients had exited.
    #[serde(default)]
    pub ended_sessions: u32,
}

impl WorkerStatus {
    /// Whether its state is about to change without a request. A stopped worker that has never run in this run is
    /// about to be started.
    pub fn is_settling(&self) -> bool {
        match self.state {
            WorkerState::Starting | WorkerState::BackingOff | WorkerState::Stopping => true,
            WorkerState::Stopped => self.last_exit.is_none(),
            WorkerState::Ready | WorkerState::Unhealthy | WorkerState::Failed => false,
        }
    }
}

/// The progress of a running shutdown (R-SHUT-7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownStatus {
    /// See [`ShutdownReport::reason`].
    pub reason: String,
    /// The phase that runs now.
    pub phase: Phase,
    /// Whether all workers have exited.
    pub workers_gone: bool,
    /// Whether all clients have disconnected.
    pub clients_gone: bool,
    /// What the phase still waits for, each as a name with pid; empty for the first seconds of a phase.
    #[serde(default)]
    pub waiting: Vec<String>,
}

/// The current status of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// The daemon, not its guardian.
    pub pid: Pid,
    /// The parent of the daemon, which cleans up after a crash. A service manager supervises this process.
    #[serde(default)]
    pub guardian: Option<Pid>,
    /// The version of mcpd.
    pub version: String,
    /// Identifies this run in history and reports.
    pub run: RunId,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// Absolute path of the control socket.
    pub socket: String,
    /// Absolute path of the state directory.
    pub state_dir: String,
    /// Absolute path of the log directory.
    pub log_dir: String,
    /// The configuration file; `None` if the daemon was started without one.
    pub config: Option<String>,
    /// The backend that reads processes and sockets.
    pub backend: Backend,
    /// How the processes of workers are contained; `None` if it could not be determined in time.
    pub containment: Option<Containment>,
    /// Set during a shutdown.
    pub shutdown: Option<ShutdownStatus>,
    /// Problems at start-up that the daemon tolerated: a damaged journal, a read-only log directory.
    pub warnings: Vec<String>,
}

/// A summary of the last shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastShutdown {
    /// The run that ended.
    pub run: RunId,
    /// When the shutdown was complete.
    pub at: Timestamp,
    /// See [`ShutdownReport::reason`].
    pub reason: String,
    /// The exit code of the daemon.
    pub exit_code: u8,
    /// Duration of the shutdown, milliseconds.
    pub duration_ms: u64,
}

impl From<&ShutdownReport> for LastShutdown {
    fn from(report: &ShutdownReport) -> Self {
        Self {
            run: report.run,
            at: report.finished_at,
            reason: report.reason.clone(),
            exit_code: report.exit_code,
            duration_ms: report.duration_ms,
        }
    }
}

/// The answer to `mcpctl status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// [`STATUS_SCHEMA`].
    pub schema: String,
    /// `None` if no daemon runs.
    pub daemon: Option<DaemonStatus>,
    /// Sorted by name.
    pub workers: Vec<WorkerStatus>,
    /// `None` if the state directory has no report.
    pub last_shutdown: Option<LastShutdown>,
}

/// The `schema` of a [`ClientList`] in JSON.
pub const CLIENTS_SCHEMA: &str = "mcpd.clients.v1";

/// An open client connection. For clients of `direct` workers only the fields from the kernel's socket table
/// are set: worker, peer, process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientConnection {
    /// Counts the connections since the daemon started.
    pub id: Option<u64>,
    /// The worker that the client is connected to.
    pub worker: WorkerName,
    /// The client's address: `127.0.0.1:40312`.
    pub peer: String,
    /// The client's process, on the same machine; `None` if the kernel hides it (another user's process).
    pub process: Option<ProcessInfo>,
    /// When the connection was accepted.
    pub since: Option<Timestamp>,
    /// Number of requests on this connection.
    pub requests: Option<u64>,
    /// The MCP session of the last request.
    pub session: Option<String>,
    /// Number of event streams that are open.
    pub streams: Option<u32>,
}

/// All client connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientList {
    /// [`CLIENTS_SCHEMA`].
    pub schema: String,
    /// Sorted by worker, then by age, the oldest first.
    pub clients: Vec<ClientConnection>,
}
