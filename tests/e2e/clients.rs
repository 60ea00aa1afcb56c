//! Clients of workers that hold their own ports: they are counted, and the shutdown waits for them up to a limit
//! (R-CLIENT-5 and 6).

use std::net::TcpStream;
use std::time::Duration;

use mcpd_common::outcome::{Departure, FindingKind, PhaseOutcome};
use mcpd_common::phase::Phase;
use mcpd_tests::{ConfigBuilder, Daemon, Signal, http};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(700);

fn wait_clients(daemon: &mut Daemon, worker: &str, count: u32) {
    daemon.wait_status(&format!("{count} clients of {worker}"), |status| {
        status.workers.iter().any(|it| it.name.as_str() == worker && it.clients == count)
    });
}

#[test]
fn clients_are_counted_while_they_are_connected() {
    let config = ConfigBuilder::new().fixture("alpha", "").fixture("beta", "");
    let mut daemon = Daemon::start(config);
    wait_clients(&mut daemon, "alpha", 0);
    let mut clients: Vec<_> = (0..3).map(|_| http::open_stream(daemon.port("alpha"))).collect();
    wait_clients(&mut daemon, "alpha", 3);
    wait_clients(&mut daemon, "beta", 0);
    clients.truncate(1);
    wait_clients(&mut daemon, "alpha", 1);
    drop(clients);
    wait_clients(&mut daemon, "alpha", 0);
    daemon.assert_shuts_down(0);
}

/// None is disconnected by force.
#[test]
fn clients_disconnect_when_their_worker_exits() {
    const MANY: u32 = 100;
    let config = ConfigBuilder::new().times(LONG, LONG).fixture("alpha", "");
    let mut daemon = Daemon::start(config);
    let clients: Vec<TcpStream> = (0..MANY).map(|_| http::open_stream(daemon.port("alpha"))).collect();
    wait_clients(&mut daemon, "alpha", MANY);
    let report = daemon.assert_shuts_down(0);
    drop(clients);
    assert_eq!((report.clients.seen, report.clients.left, report.clients.forced), (MANY, MANY, 0));
    let me = std::process::id();
    for client in &report.clients.connections {
        let process = client.process.as_ref().expect("a process on this machine");
        assert_eq!(process.pid.get().cast_unsigned(), me);
        assert!(client.left_after_ms.is_some());
    }
}

/// Each phase ends at its deadline; both findings are reported, and the worse one decides the exit code.
#[test]
fn a_client_that_hangs_and_its_worker_end_at_their_deadlines() {
    let config = ConfigBuilder::new()
        .times(SHORT, LONG)
        .fixture("waiting", "--wait-for-clients")
        .fixture("graceful", "");
    let mut daemon = Daemon::start(config);
    let hanging = http::open_stream(daemon.port("waiting"));
    daemon.signal(Signal::SIGTERM);
    let report = daemon.assert_no_trace(2);
    drop(hanging);
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::WorkerTerminated, FindingKind::ClientForced]);
    let outcome = |phase| report.phases.iter().find(|it| it.phase == phase).map(|it| it.outcome);
    assert_eq!(outcome(Phase::WorkersGraceful), Some(PhaseOutcome::Deadline));
    assert_eq!(outcome(Phase::Clients), Some(PhaseOutcome::Deadline));
    assert_eq!(outcome(Phase::Verification), Some(PhaseOutcome::Done));
    assert_eq!(report.clients.forced, 1);
    assert!(
        report.findings[1].detail.contains(&std::process::id().to_string()),
        "the detail names the client"
    );
    daemon.launch_again().wait_ready();
}

/// The client disconnects in the clients phase, and the worker exits without a signal, but late.
#[test]
fn a_client_that_disconnects_in_time_is_not_forced() {
    let config =
        ConfigBuilder::new().shutdown("worker_graceful = \"300ms\"").fixture("waiting", "--wait-for-clients");
    let mut daemon = Daemon::start(config);
    let client = http::open_stream(daemon.port("waiting"));
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("phase started phase=clients");
    drop(client);
    let report = daemon.assert_no_trace(2);
    assert_eq!((report.clients.seen, report.clients.left, report.clients.forced), (1, 1, 0));
    assert_eq!(report.workers[0].departure, Departure::Terminated, "it exited after the graceful phase");
}
