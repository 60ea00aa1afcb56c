//! Ports: can they be bound again, and if not, who holds them (R-VER-2).

use serde::{Deserialize, Serialize};

use crate::ids::{Pid, Port, WorkerName};

/// The `schema` of a [`PortReport`] in JSON.
pub const PORT_SCHEMA: &str = "mcpd.port.v1";

/// Whether a port can be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortState {
    /// It can be bound on every address, with and without `SO_REUSEADDR`.
    Free,
    /// It can be bound with `SO_REUSEADDR`; only past connections linger. Not a leak.
    TimeWait,
    /// One of our workers, which runs, listens on it.
    Serving,
    /// Somebody holds it.
    InUse,
}

/// A process with a socket on the port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortHolder {
    /// Its pid; `None` where the kernel hides it (another user's process).
    pub pid: Option<Pid>,
    /// Its command line.
    pub command: String,
    /// Its user.
    pub user: String,
    /// The socket's state: `LISTEN`, `ESTABLISHED`.
    pub state: String,
    /// The socket's local address.
    pub address: String,
    /// The worker it belongs to, if it is one of ours.
    pub worker: Option<WorkerName>,
}

/// What was seen of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortReport {
    /// The port.
    pub port: Port,
    /// The worker whose port it is.
    pub worker: Option<WorkerName>,
    /// Whether it can be bound.
    pub state: PortState,
    /// The addresses on which it can't be bound, with the error: `[::1]:8081: address in use`.
    pub refused: Vec<String>,
    /// All its holders.
    pub holders: Vec<PortHolder>,
    /// Connections in `TIME_WAIT`.
    pub time_wait: u32,
    /// Seconds until the last of them is forgotten.
    pub time_wait_seconds: u32,
}

/// A port to look at, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPort {
    /// The port.
    pub port: Port,
    /// The worker it is for, if any.
    pub worker: Option<WorkerName>,
}

/// Looks at all these ports with one view of the socket table. `ours` says to which worker a
/// process belongs.
pub fn examine(_ports: &[KnownPort], _ours: &dyn Fn(Pid) -> Option<WorkerName>) -> Vec<PortReport> {
    Vec::new()
}

/// Whether the port can be bound on every address, past connections aside. Only probes: who
/// holds it is not asked.
pub fn is_bindable(_port: Port) -> bool {
    true
}

impl PortReport {
    /// Who holds it: "port 8081 is held by python3 server.py (pid 4711, user kim, LISTEN on
    /// 127.0.0.1:8081)".
    pub fn holders_sentence(&self) -> String {
        format!("port {} is held", self.port)
    }
}
