//! Checks the socket file and the ports after the daemon has exited (R-SHUT-5).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::check::ports::{self, KnownPort, PortReport, PortState};
use mcpd_common::ids::{Pid, Port, RunTag};
use mcpd_common::os::process;
use mcpd_common::outcome::ShutdownReport;
use tokio::net::UnixStream;

use crate::daemon_client::DaemonClient;
use crate::wait::{now, sleep};

/// The lowest exit code of `mcpctl` if the check contradicts the daemon.
pub const DISAGREES: u8 = 4;

/// How long a disagreement must last to count. A port can be in use for a moment because another program probes
/// it.
const RETRY_TIMEOUT: Duration = Duration::from_secs(1);

const RETRY_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub struct ExternalCheck {
    pub at: Timestamp,
    /// What contradicts the daemon's report.
    pub disagreements: Vec<String>,
    pub ports: Vec<PortReport>,
}

/// Repeats the check until it agrees with the daemon's report, at most [`RETRY_TIMEOUT`].
pub async fn check(daemon: &DaemonClient, known: &[KnownPort], report: &ShutdownReport) -> ExternalCheck {
    let known = all_ports(known, report);
    let deadline = now() + RETRY_TIMEOUT;
    loop {
        let ports = ports::examine(&known, &|_| None);
        let mut disagreements: Vec<_> = socket_disagrees(daemon).await.into_iter().collect();
        disagreements.extend(ports.iter().filter_map(|port| port_disagrees(port, report)));
        if disagreements.is_empty() || now() >= deadline {
            return ExternalCheck { at: Timestamp::now(), disagreements, ports };
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// The ports that were known before and those in the report, each once.
fn all_ports(known: &[KnownPort], report: &ShutdownReport) -> Vec<KnownPort> {
    let reported = report.ports.iter().map(|port| KnownPort { port: port.port, worker: port.worker.clone() });
    let all: BTreeMap<Port, KnownPort> =
        known.iter().cloned().chain(reported).map(|known| (known.port, known)).collect();
    all.into_values().collect()
}

/// Why the socket file contradicts the exit of the daemon. It must be gone or belong to a later daemon.
async fn socket_disagrees(daemon: &DaemonClient) -> Option<String> {
    let path = daemon.socket.display();
    match daemon.socket.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(format!("the socket file {path} can't be examined: {error}")),
        Ok(_) => {}
    }
    match listener_of(&daemon.socket).await {
        Some(pid) if Some(pid) != daemon.pid => None,
        _ => Some(format!("the socket file {path} is still there")),
    }
}

async fn listener_of(socket: &Path) -> Option<Pid> {
    let stream = UnixStream::connect(socket).await.ok()?;
    stream.peer_cred().ok()?.pid().and_then(Pid::new)
}

/// Why the port contradicts the daemon's report. A port is no disagreement if the daemon reported it as in use,
/// or if a worker of a later run already holds it.
fn port_disagrees(found: &PortReport, report: &ShutdownReport) -> Option<String> {
    let is_held = matches!(found.state, PortState::InUse | PortState::Serving);
    let is_reported =
        report.ports.iter().any(|port| port.port == found.port && port.state == PortState::InUse);
    let disagrees = is_held && !is_reported && !is_held_by_later_run(found, report.run.tag());
    disagrees.then(|| found.holders_sentence())
}

fn is_held_by_later_run(found: &PortReport, run: RunTag) -> bool {
    let is_of_other_run = |pid: Pid| process::best_effort::mark(pid).is_some_and(|mark| mark.run != run);
    !found.holders.is_empty() && found.holders.iter().all(|holder| holder.pid.is_some_and(is_of_other_run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    /// R-SHUT-5.
    #[test]
    fn a_held_port_is_a_disagreement_unless_the_daemon_reported_it() {
        let mut report = test_data::report();
        let held = test_data::ports().remove(1);
        assert_eq!(port_disagrees(&held, &report), None);
        report.ports[0].state = PortState::Free;
        assert_eq!(port_disagrees(&held, &report), Some(held.holders_sentence()));
        report.ports.clear();
        assert!(port_disagrees(&held, &report).is_some());
        let free = PortReport { state: PortState::TimeWait, ..held };
        assert_eq!(port_disagrees(&free, &report), None);
    }

    #[test]
    fn ports_of_the_status_and_of_the_report_are_checked_once() {
        let known = KnownPort { port: test_data::port(8082), worker: Some(test_data::name("docs")) };
        let other = KnownPort { port: test_data::port(9000), worker: None };
        let all = all_ports(&[known, other], &test_data::report());
        let numbers: Vec<_> = all.iter().map(|known| known.port.get()).collect();
        assert_eq!(numbers, [8082, 8083, 8084, 9000]);
    }
}
