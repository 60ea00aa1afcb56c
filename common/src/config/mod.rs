//! The configuration: what the daemon does, checked and complete.
//!
//! ```text
//! text --raw.rs--> Raw --build.rs, workers.rs, environment.rs--> Config
//!             \              |
//!              `--> Notes <--'  --> Problems, warnings
//! ```
//!
//! [`Config`] holds nothing that still has to be looked up: paths are absolute, ports are
//! chosen, transports are inferred. All problems are reported at once (R-CONF-3), and one
//! bad worker does not stop the rest (R-CONF-4).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Port, WorkerName};

mod build;
mod duration;
mod env_file;
mod environment;
pub mod init;
mod load;
mod names;
mod nearest;
mod placeholder;
mod ports;
mod problem;
mod raw;
mod section;
mod usable;
mod worker;
mod workers;

#[cfg(test)]
mod tests;

pub use duration::show as show_duration;
pub use load::{LoadError, Loaded, Source, load, peek};
pub use placeholder::PortText;
pub use problem::{Problem, Severity};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it came from; `None` for `--repo` and for a bare start inside a repository.
    pub file: Option<PathBuf>,
    /// The daemon's own places.
    pub daemon: DaemonConfig,
    /// How long each part of the shutdown may take.
    pub shutdown: ShutdownConfig,
    /// The workers, by name.
    pub workers: BTreeMap<WorkerName, WorkerConfig>,
    /// What the user wants closed and checked at the end, in the order of the file.
    pub resources: Vec<ResourceConfig>,
}

/// `[daemon]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The control socket.
    pub socket: PathBuf,
    /// Journal, run file, remembered ports, last shutdown.
    pub state_dir: PathBuf,
    /// Logs of the daemon and, in `workers/`, of the workers.
    pub log_dir: PathBuf,
}

/// `[shutdown]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// From the request until a worker is late.
    pub worker_graceful: Duration,
    /// All clients together.
    pub clients: Duration,
    /// Request and `SIGTERM` together; `SIGTERM` has what `worker_graceful` leaves of it.
    pub worker_total: Duration,
    /// All checks together.
    pub verification: Duration,
    /// Whose processes may be killed to free a port.
    pub force_ports: ForcePorts,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            worker_graceful: Duration::from_secs(10),
            clients: Duration::from_secs(30),
            worker_total: Duration::from_secs(30),
            verification: Duration::from_secs(15),
            force_ports: ForcePorts::Own,
        }
    }
}

/// `force_ports`: whose processes may be killed to free a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForcePorts {
    /// Only holders that are provably ours.
    Own,
    /// Nobody's.
    Never,
    /// Anybody's: the user's explicit wish.
    Any,
}

/// Who holds the client port (R-CONF-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// mcpd, which forwards to the worker's private port; a restart never loses the client port.
    Http,
    /// The worker itself.
    Direct,
}

/// `ready`: how it is found out that a worker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `http:PATH`: any status below 500 is alive.
    Http(String),
    /// `tcp`: a connection is accepted.
    Tcp,
    /// `none`: alive is ready.
    None,
}

/// `restart`: when a worker that ended comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Whatever its status was.
    Always,
    /// Unless it exited 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// `sessions`: what becomes of MCP sessions when a worker is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionsPolicy {
    /// They go on with the new worker.
    Keep,
    /// They end, as they would without mcpd.
    Forget,
}

/// What to run for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The built-in repository worker: `mcpd worker --repo DIR --port N`.
    BuiltIn,
    /// The user's command, with `{port}`, `{repo}` and `{name}` filled in.
    Command(Vec<PortText>),
}

/// `[workers.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerConfig {
    /// Its name.
    pub name: WorkerName,
    /// Its repository: the working directory.
    pub repo: PathBuf,
    /// The port clients use.
    pub port: Port,
    /// Whether `port` was written down or derived from the path (R-CONF-2).
    pub port_source: PortSource,
    /// Who holds that port.
    pub transport: Transport,
    /// What to run.
    pub program: Program,
    /// What is added to the daemon's environment, `env_file` first, placeholders filled in but for the port.
    pub env: BTreeMap<String, PortText>,
    /// How it is found out that it answers.
    pub ready: Probe,
    /// Where to `POST` to ask it to leave; `None` where it has no such route.
    pub shutdown_path: Option<String>,
    /// Run together with the request to leave.
    pub stop_command: Option<Vec<PortText>>,
    /// When it comes back.
    pub restart: RestartPolicy,
    /// Whether three failed probes in a row restart it.
    pub restart_unhealthy: bool,
    /// How long requests wait for a worker that is being restarted.
    pub hold: Duration,
    /// What becomes of MCP sessions when the worker is restarted.
    pub sessions: SessionsPolicy,
    /// Hosts that clients may name besides loopback.
    pub allowed_hosts: Vec<String>,
    /// Origins of pages that may ask besides those of loopback.
    pub allowed_origins: Vec<String>,
    /// Why it can't be started: repository or command missing. It is shown as `failed`.
    pub unusable: Option<String>,
}

/// Where a port came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortSource {
    /// Written in the configuration.
    Written,
    /// Derived from the repository's path, and remembered.
    Derived,
}

/// `[resources.NAME]`: what the user wants closed and checked at the end (R-VER-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceConfig {
    /// Its name.
    pub name: String,
    /// Closes it.
    pub close: Option<Vec<String>>,
    /// Exits 0 when it is closed.
    pub check: Option<Vec<String>>,
    /// A file or socket that must be gone.
    pub path: Option<PathBuf>,
    /// For `close` and `check` together.
    pub timeout: Duration,
}

impl WorkerConfig {
    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }
}
