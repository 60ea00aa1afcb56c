//! The whole configuration, and its small tables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::shutdown::ShutdownConfig;
use super::worker::WorkerConfig;
use crate::ids::WorkerName;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it was read from; `None` for `--repo` and for a start without arguments inside a repository.
    pub file: Option<PathBuf>,
    /// `[daemon]`.
    pub daemon: DaemonConfig,
    /// `[shutdown]`.
    pub shutdown: ShutdownConfig,
    /// `[workers.NAME]` and the elements of `repos`.
    pub workers: BTreeMap<WorkerName, WorkerConfig>,
    /// `[resources.NAME]`, in the order of the file.
    pub resources: Vec<ResourceConfig>,
}

/// `[daemon]`: the files of the daemon, all paths absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The control socket.
    pub socket: PathBuf,
    /// Directory for the journal, the run file, remembered ports and the last shutdown's report.
    pub state_dir: PathBuf,
    /// Directory for the daemon's log and, in `workers/`, for the workers' logs.
    pub log_dir: PathBuf,
}

/// `[resources.NAME]`: something outside mcpd that the shutdown closes and verifies (R-VER-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceConfig {
    /// The `NAME` of the table, as the report shows it.
    pub name: String,
    /// Command that closes the resource.
    pub close: Option<Vec<String>>,
    /// Command that exits 0 if the resource is closed.
    pub check: Option<Vec<String>>,
    /// A file or socket that must not exist after the shutdown.
    pub path: Option<PathBuf>,
    /// Limit for `close` and `check` together.
    pub timeout: Duration,
}
