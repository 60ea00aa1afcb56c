//! Which process holds a port that can't be bound (R-SUP-6).

use mcpd_common::check::ports::{self, KnownPort, PortHolder, PortState};
use mcpd_common::ids::{Port, WorkerName};
use mcpd_common::wording::count;

/// Names the holder of the port and what to do about it.
pub fn sentence(port: Port, worker: &WorkerName) -> String {
    let known = KnownPort { port, worker: Some(worker.clone()) };
    let mut reports = ports::examine(&[known], &|_| None);
    // mcpd may have the port on another address: it binds 127.0.0.1 and ::1 in turn.
    reports.iter_mut().for_each(|report| report.holders.retain(|holder| !is_mcpd(holder)));
    if let Some(report) = reports.first().filter(|report| report.state == PortState::TimeWait) {
        let connections = count(report.time_wait as usize, "closed connection");
        let seconds = report.time_wait_seconds;
        return format!(
            "port {port} is free in {seconds} s: {connections} in TIME_WAIT, of a server that does not set \
             SO_REUSEADDR; {worker} starts then"
        );
    }
    let named = reports.first().filter(|report| !report.holders.is_empty() || !report.refused.is_empty());
    let held = named.map_or_else(
        || format!("port {port} is in use; its holder can't be read (another user's process)"),
        ports::PortReport::holders_sentence,
    );
    format!("{held}; end that process or give {worker} another port")
}

fn is_mcpd(holder: &PortHolder) -> bool {
    holder.pid.is_some_and(|pid| pid.get().cast_unsigned() == std::process::id())
}
