//! Which process holds a port that can't be bound (R-SUP-6).

use mcpd_common::check::ports::{self, KnownPort};
use mcpd_common::ids::{Port, WorkerName};

/// Names the holder of the port and what to do about it.
pub fn sentence(port: Port, worker: &WorkerName) -> String {
    let known = KnownPort { port, worker: Some(worker.clone()) };
    let reports = ports::examine(&[known], &|_| None);
    let held = reports.first().map_or_else(
        || format!("port {port} is in use; its holder can't be read (another user's process)"),
        ports::PortReport::holders_sentence,
    );
    format!("{held}; end that process or give {worker} another port")
}
