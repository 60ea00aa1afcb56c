//! What `mcpctl status` shows.

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
    /// Its process runs, its probe has not answered yet.
    Starting,
    /// Its probe answers.
    Ready,
    /// Three probes in a row failed.
    Unhealthy,
    /// It died; the next start waits.
    BackingOff,
    /// It will not be started again before `mcpctl restart`.
    Failed,
    /// It was asked to leave.
    Stopping,
    /// It was stopped on request, or ended by itself and need not come back.
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

/// A worker as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its name.
    pub name: WorkerName,
    /// Its state.
    pub state: WorkerState,
    /// Why it is in that state, where that is not plain: the last failure, the wait.
    pub reason: Option<String>,
    /// Its leader.
    pub pid: Option<Pid>,
    /// The port clients use.
    pub port: Port,
    /// Who holds that port.
    pub transport: Transport,
    /// Where clients find it: `http://127.0.0.1:8081/mcp`.
    pub url: String,
    /// Its repository.
    pub repo: String,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When its present process was started.
    pub started_at: Option<Timestamp>,
    /// Restarts since the daemon began.
    pub restarts: u32,
    /// Its living descendants.
    pub descendants: u32,
    /// Its client connections.
    pub clients: u32,
    /// How its last process ended.
    pub last_exit: Option<ExitStatus>,
}

/// Whether the daemon goes on or ends (R-SHUT-7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownStatus {
    /// Why it ends.
    pub reason: String,
    /// Where it is.
    pub phase: Phase,
    /// All workers have left.
    pub workers_gone: bool,
    /// All clients have left.
    pub clients_gone: bool,
}

/// The daemon as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its process.
    pub pid: Pid,
    /// Its parent, which cleans up if it dies: the process that a service manager sees.
    #[serde(default)]
    pub guardian: Option<Pid>,
    /// Its version.
    pub version: String,
    /// Its run.
    pub run: RunId,
    /// When it began.
    pub started_at: Timestamp,
    /// The control socket.
    pub socket: String,
    /// The state directory.
    pub state_dir: String,
    /// The log directory.
    pub log_dir: String,
    /// The configuration file, if there is one.
    pub config: Option<String>,
    /// Which eyes it has.
    pub backend: Backend,
    /// What holds the processes of the workers together; `None` if the daemon can't say just now.
    pub containment: Option<Containment>,
    /// Set while it shuts down.
    pub shutdown: Option<ShutdownStatus>,
    /// What it had to put up with at the start: a damaged journal, an unwritable log directory.
    pub warnings: Vec<String>,
}

/// The last shutdown in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastShutdown {
    /// The run that ended.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// How.
    pub exit_code: u8,
    /// How long it took, milliseconds.
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

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// [`STATUS_SCHEMA`].
    pub schema: String,
    /// The daemon; `None` when it is not running.
    pub daemon: Option<DaemonStatus>,
    /// The workers, by name.
    pub workers: Vec<WorkerStatus>,
    /// The last shutdown, if one is known.
    pub last_shutdown: Option<LastShutdown>,
}

/// The `schema` of a [`ClientList`] in JSON.
pub const CLIENTS_SCHEMA: &str = "mcpd.clients.v1";

/// A client connection as it is now. Of clients of `direct` workers only what the kernel knows is
/// known: worker, address, process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientConnection {
    /// Its number since the daemon began.
    pub id: Option<u64>,
    /// The worker.
    pub worker: WorkerName,
    /// The client's address.
    pub peer: String,
    /// The client's process, which is on the same machine.
    pub process: Option<ProcessInfo>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Requests that came on it.
    pub requests: Option<u64>,
    /// The MCP session that was last used on it.
    pub session: Option<String>,
    /// Event streams that are open on it.
    pub streams: Option<u32>,
}

/// All client connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientList {
    /// [`CLIENTS_SCHEMA`].
    pub schema: String,
    /// By worker, oldest first.
    pub clients: Vec<ClientConnection>,
}
