//! What is checked right before each start. It may block for as long as the file system does.

use mcpd_common::config::{Transport, WorkerConfig};

use super::private_ports;

/// # Errors
/// Why the worker can't be started, and what to do.
pub fn check(worker: &WorkerConfig) -> Result<(), String> {
    match worker.transport {
        Transport::Http => Ok(()),
        Transport::Direct => private_ports::is_free(worker),
    }
}
