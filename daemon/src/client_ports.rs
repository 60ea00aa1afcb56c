//! Which worker each client port belongs to.

use std::collections::HashMap;

use mcpd_common::ids::{Port, WorkerName};

/// The port that clients connect to, for every worker.
pub type ClientPorts = HashMap<Port, WorkerName>;
