//! The `[workers.NAME]` table, complete: no value has to be looked up any more.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::placeholder::PortText;
use super::usable;
use super::worker_env::{Variables, WorkerEnv};
use crate::ids::{Port, WorkerName};
use crate::paths::Environment;

/// `[workers.NAME]`, with defaults and inferred values filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerConfig {
    /// The `NAME` of the table, or derived from the directory for an element of `repos`.
    pub name: WorkerName,
    /// The repository, absolute; the worker's working directory.
    pub repo: PathBuf,
    /// The port that clients connect to. Behind the proxy the worker itself listens on another one.
    pub port: Port,
    /// Whether `port` was written in the configuration or derived from the path (R-CONF-2).
    pub port_source: PortSource,
    /// Which process listens on `port`.
    pub transport: Transport,
    /// The program to start.
    pub program: Program,
    /// Variables added to the daemon's environment. `env_file` comes before `env`.
    pub env: WorkerEnv,
    /// The readiness probe.
    pub ready: Probe,
    /// Path of the `POST` that requests the worker's exit; `None` if its server has no such route.
    pub shutdown_path: Option<String>,
    /// Command that is run together with the shutdown request.
    pub stop_command: Option<Vec<PortText>>,
    /// When to start the worker again after it exited.
    pub restart: RestartPolicy,
    /// Whether three failed probes in a row restart it.
    pub restart_unhealthy: bool,
    /// How long a start may take before it counts as failed.
    pub ready_within: Duration,
    /// Whether every process of this user may listen on the worker's port, as the port proxy of a container engine
    /// does.
    pub trust_listener: bool,
    /// How long the proxy holds requests while the worker restarts.
    pub hold: Duration,
    /// What becomes of MCP sessions, and whether each has a process of its own.
    pub sessions: SessionsPolicy,
    /// Limit of processes for sessions, of a worker with [`SessionsPolicy::Own`].
    pub max_processes: u16,
    /// Which `Host` the worker gets; `None`: the client's, until the worker refuses it.
    pub host: Option<HostPolicy>,
    /// Whether programs of other users may connect.
    pub allow_other_users: bool,
    /// Values of `Host` that requests may have, besides loopback.
    pub allowed_hosts: Vec<String>,
    /// Values of `Origin` that requests may have, besides loopback.
    pub allowed_origins: Vec<String>,
    /// What is probably wrong if the worker does not start, and what to write instead.
    pub hint: Option<String>,
    /// Why the worker can't be started (repository or command missing); it is then listed as `failed`.
    pub unusable: Option<String>,
}

impl WorkerConfig {
    /// The MCP endpoint for clients: `http://127.0.0.1:PORT/mcp`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// Checks what may have changed since the configuration was read: the repository, the program and the
    /// `env_file`. Returns the variables as they are now. Blocks for as long as the file system does.
    ///
    /// # Errors
    /// Why the worker can't be started.
    pub fn check_start(&self, environment: Environment) -> Result<Variables, String> {
        let env = self.env.read();
        let search = env.variables.get("PATH").map(ToString::to_string).or_else(|| environment("PATH"));
        let program = || match &self.program {
            Program::BuiltIn => usable::git_repository(&self.repo, None),
            Program::Command(command) => {
                usable::command("command", &command[0].to_string(), search.as_deref())
            }
        };
        let obstacle = usable::directory(&self.repo).or_else(program);
        match env.problem.or(obstacle.map(|obstacle| obstacle.message)) {
            Some(problem) => Err(problem),
            None => Ok(env.variables),
        }
    }
}

/// Which process listens on the port for clients (R-CONF-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// mcpd, which forwards to the worker's private port. The port stays open while the worker restarts.
    Http,
    /// mcpd, for a worker that speaks MCP on its standard input and output.
    Stdio,
    /// The worker.
    Direct,
}

/// `ready`: the probe that decides whether a worker is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `http:PATH`: `GET PATH` answers with any status below 500.
    Http(String),
    /// `tcp`: a connection is accepted.
    Tcp,
    /// `none`: a running worker counts as ready.
    None,
    /// The answer to `initialize`, of a worker that speaks stdio.
    Initialize,
}

/// `restart`: when a worker that exited is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// After any exit status.
    Always,
    /// After any exit status but 0.
    OnFailure,
    /// Only on request.
    Never,
}

/// `sessions`: what happens to MCP sessions when their worker restarts, and which process serves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionsPolicy {
    /// They continue with the new process.
    Keep,
    /// They end, as they would without mcpd.
    Forget,
    /// The same as [`Keep`](Self::Keep), for a worker that speaks stdio: one process serves all sessions.
    Shared,
    /// Each session has a process of its own, of a worker that speaks stdio. It continues with another one if that one
    /// exits.
    Own,
}

/// `host`: the value of `Host` in requests to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostPolicy {
    /// The client's.
    Keep,
    /// The address of the worker's own port.
    Worker,
}

/// What to run for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The built-in repository worker: `mcpd worker --repo DIR --port N`.
    BuiltIn,
    /// The configured command; `{repo}` and `{name}` are filled in, `{port}` is filled in at each start.
    Command(Vec<PortText>),
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
