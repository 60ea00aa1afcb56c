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
