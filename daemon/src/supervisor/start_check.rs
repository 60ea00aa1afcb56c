//! What is checked right before each start. It may block for as long as the file system does.

use mcpd_common::config::{Transport, Variables, WorkerConfig};
use mcpd_common::paths;

use super::private_ports;

/// Returns the variables for the start.
///
/// # Errors
/// Why the worker can't be started, and what to do.
pub fn check(worker: &WorkerConfig) -> Result<Variables, String> {
    let variables = worker.check_start(&paths::process_environment)?;
    if worker.transport == Transport::Direct {
        private_ports::is_free(worker)?;
    }
    Ok(variables)
}
