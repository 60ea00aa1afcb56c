//! Our own look, after the daemon is gone: its socket file and its ports (R-SHUT-5).

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::check::ports::{self, KnownPort, PortReport, PortState};
use mcpd_common::ids::{Pid, Port, RunTag};
use mcpd_common::os::process;
use mcpd_common::outcome::ShutdownReport;
use tokio::net::UnixStream;

use crate::client::Daemon;
use crate::wait::{now, pause};

/// What `mcpctl` exits with if what it sees is not what the daemon said.
pub const DISAGREES: u8 = 4;

/// A second look may see what the first one met by chance: somebody else's probe of the same port.
const PATIENCE: Duration = Duration::from_secs(1);

const AGAIN: Duration = Duration::from_millis(20);

/// What was seen.
#[derive(Clone, Debug)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// What is not as the daemon said.
    pub disagreements: Vec<String>,
    /// The ports.
    pub ports: Vec<PortReport>,
}

/// Looks until all is as the daemon said, or patience ends.
pub async fn look(daemon: &Daemon, known: &[KnownPort], report: &ShutdownReport) -> Look {
    let known = all_ports(known, report);
    let limit = now() + PATIENCE;
    loop {
        let ports = ports::examine(&known, &|_| None);
        let mut disagreements: Vec<_> = socket(daemon).await.into_iter().collect();
        disagreements.extend(ports.iter().filter_map(|port| port_disagrees(port, report)));
        if disagreements.is_empty() || now() >= limit {
            return Look { at: Timestamp::now(), disagreements, ports };
        }
        pause(AGAIN).await;
    }
}

/// The ports that were known before and those in the report, each once.
fn all_ports(known: &[KnownPort], report: &ShutdownReport) -> Vec<KnownPort> {
    let reported = report.ports.iter().map(|seen| KnownPort { port: seen.port, worker: seen.worker.clone() });
    let all: BTreeMap<Port, KnownPort> =
        known.iter().cloned().chain(reported).map(|known| (known.port, known)).collect();
    all.into_values().collect()
}

/// Why the socket is not as it should be: gone, or a later daemon's.
async fn socket(daemon: &Daemon) -> Option<String> {
    let path = daemon.socket.display();
    match daemon.socket.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(format!("the socket file {path} can't be looked at: {error}")),
        Ok(_) => {}
    }
    let stream = UnixStream::connect(&daemon.socket).await;
    let listener = stream.ok().and_then(|stream| stream.peer_cred().ok()?.pid()).and_then(Pid::new);
    match listener {
        Some(pid) if Some(pid) != daemon.pid => None,
        _ => Some(format!("the socket file {path} is still there")),
    }
}

/// Why the port is not as the daemon said. A port that the daemon itself reported as held, or
/// that a worker of a later run holds already, is no disagreement.
fn port_disagrees(seen: &PortReport, report: &ShutdownReport) -> Option<String> {
    let said = report.ports.iter().find(|said| said.port == seen.port);
    let reported = said.is_some_and(|said| said.state == PortState::InUse);
    let held = matches!(seen.state, PortState::InUse | PortState::Serving);
    (held && !reported && !is_of_a_later_run(seen, report.run.tag())).then(|| seen.holders_sentence())
}

fn is_of_a_later_run(seen: &PortReport, run: RunTag) -> bool {
    let of_another = |pid: Pid| process::best_effort::mark(pid).is_some_and(|mark| mark.run != run);
    !seen.holders.is_empty() && seen.holders.iter().all(|holder| holder.pid.is_some_and(of_another))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    /// R-SHUT-5: only what the daemon did not say itself is a disagreement.
    #[test]
    fn a_held_port_disagrees_unless_it_was_reported() {
        let mut report = samples::report();
        let held = samples::ports().remove(1);
        assert_eq!(port_disagrees(&held, &report), None);
        report.ports[0].state = PortState::Free;
        assert_eq!(port_disagrees(&held, &report), Some(held.holders_sentence()));
        report.ports.clear();
        assert!(port_disagrees(&held, &report).is_some());
        let free = PortReport { state: PortState::TimeWait, ..held };
        assert_eq!(port_disagrees(&free, &report), None);
    }

    #[test]
    fn ports_of_the_status_and_of_the_report_are_looked_at_once() {
        let known = KnownPort { port: samples::port(8082), worker: Some(samples::name("docs")) };
        let other = KnownPort { port: samples::port(9000), worker: None };
        let all = all_ports(&[known, other], &samples::report());
        let numbers: Vec<_> = all.iter().map(|known| known.port.get()).collect();
        assert_eq!(numbers, [8082, 8083, 8084, 9000]);
    }
}
