//! Which process holds a port that can't be bound (R-SUP-6).

use mcpd_common::check::ports::{self, KnownPort, PortState};
use mcpd_common::ids::{Port, WorkerName};
use mcpd_common::wording::count;

/// Names the holder of the port and what to do about it.
pub fn sentence(port: Port, worker: &WorkerName) -> String {
    let known = KnownPort { port, worker: Some(worker.clone()) };
    let reports = ports::examine(&[known], &|_| None);
    if let Some(report) = reports.first().filter(|report| report.state == PortState::TimeWait) {
        let connections = count(report.time_wait as usize, "closed connection");
        let seconds = report.time_wait_seconds;
        return format!(
            "port {port} is free in {seconds} s: {connections} in TIME_WAIT, of a server that does not set \
             SO_REUSEADDR; {worker} starts then"
        );
    }
    let held = reports.first().map_or_else(
        || format!("port {port} is in use; its holder can't be read (another user's process)"),
        ports::PortReport::holders_sentence,
    );
    format!("{held}; end that process or give {worker} another port")
}
