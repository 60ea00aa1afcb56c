//! The `[shutdown]` table, with defaults.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[shutdown]`: the time limit of each part of a shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// From the shutdown request to a worker until it counts as late.
    pub worker_graceful: Duration,
    /// For all clients together to disconnect.
    pub clients: Duration,
    /// For the shutdown request and `SIGTERM` together; `SIGTERM` gets what `worker_graceful` leaves.
    pub worker_total: Duration,
    /// For all checks together.
    pub verification: Duration,
    /// Which processes may be killed to free a port.
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

/// `force_ports`: which processes may be killed to free a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForcePorts {
    /// Only holders that provably belong to a worker of this daemon.
    Own,
    /// No process.
    Never,
    /// Any holder, also one that has nothing to do with mcpd.
    Any,
}
