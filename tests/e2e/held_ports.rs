//! Ports that others have: before the start, after the stop, and those that only past connections
//! have (R-SUP-6, R-VER-2). What is taken in between is in `exit_codes.rs`.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use mcpd_common::check::ports::PortState;
use mcpd_common::ids::Port;
use mcpd_common::os::socket::{self, TcpState};
use mcpd_common::outcome::{CheckSubject, Departure, FindingKind};
use mcpd_common::status::WorkerState;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, WorkerSpec, http, ports, until};

const LONG: Duration = Duration::from_secs(20);

/// A daemon, and this test on the port of one of its workers.
fn with_a_port_taken(address: Ipv4Addr) -> (Daemon, TcpListener) {
    let claim = ports::claim();
    let listener = TcpListener::bind((address, claim.port().get())).expect("free");
    let config = ConfigBuilder::new().fixture("alpha", "").worker_on("taken", WorkerSpec::fixture(""), claim);
    let mut daemon = Daemon::launch(config);
    daemon.wait_state("alpha", WorkerState::Ready);
    (daemon, listener)
}

/// R-SUP-6: the error names the holder, the others start, and it comes up once the port is free.
#[test]
fn taken_before_the_start() {
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        let (mut daemon, listener) = with_a_port_taken(address);
        let taken = daemon.wait_state("taken", WorkerState::BackingOff);
        let reason = taken.reason.expect("a reason");
        assert!(reason.contains(&format!("pid {}", std::process::id())), "{reason}");
        assert!(reason.contains("e2e"), "the command: {reason}");
        let shown = daemon.mcpctl(&["status"]).expect_code(0);
        assert!(shown.stdout.contains(&std::process::id().to_string()), "{}", shown.stdout);
        drop(listener);
        daemon.wait_ready();
        daemon.assert_shuts_down(0);
    }
}

/// A port that a stranger holds to the end: code 4, and the holder is named.
#[test]
fn taken_all_the_time() {
    let (mut daemon, listener) = with_a_port_taken(Ipv4Addr::LOCALHOST);
    daemon.wait_state("taken", WorkerState::BackingOff);
    let output = daemon.mcpctl(&["shutdown", "--wait"]);
    let report = daemon.assert_no_trace_but(4, &["taken"]);
    assert_eq!(output.code, Some(4), "{output:?}");
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert_eq!(report.findings[0].kind, FindingKind::PortInUse);
    assert_eq!(report.findings[0].subject, daemon.port("taken").to_string());
    let departure = |name| report.workers.iter().find(|it| it.name.as_str() == name).map(|it| it.departure);
    assert_eq!(departure("alpha"), Some(Departure::Left));
    assert_eq!(departure("taken"), Some(Departure::NotRunning));

    drop(listener);
    let mut again = daemon.launch_again();
    again.wait_ready();
    again.assert_shuts_down(0);
}

/// Past connections of a server that closed first: reported, not a leak, and no reason to wait.
#[test]
fn only_in_time_wait() {
    const COUNT: u32 = 5;
    let config =
        ConfigBuilder::new().times(LONG, LONG).fixture("alpha", "").fixture("gate", "--wait-for-clients");
    let mut daemon = Daemon::start(config);
    let alpha = daemon.port("alpha");
    let clients: Vec<_> = (0..COUNT).map(|_| http::open_stream(alpha)).collect();
    let gate = http::open_stream(daemon.port("gate"));
    daemon.mcpctl(&["shutdown"]).expect_code(0);
    clients.into_iter().for_each(wait_for_the_end);
    until("TIME_WAIT", BOUND, || (lingering(alpha) >= COUNT as usize).then_some(()));
    drop(gate);

    let report = daemon.assert_no_trace(0);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let port = report.ports.iter().find(|seen| seen.port == alpha).expect("its row");
    assert_eq!(port.state, PortState::TimeWait);
    assert!(port.time_wait >= COUNT && port.time_wait_seconds > 0, "{port:?}");
    let worker = report.workers.iter().find(|worker| worker.name.as_str() == "alpha").expect("its row");
    let check = worker.checks.iter().find(|check| check.subject == CheckSubject::Port).expect("its check");
    assert!(check.passed && check.evidence.contains("TIME_WAIT"), "{check:?}");

    let mut again = daemon.launch_again();
    again.wait_ready();
    assert!(lingering(alpha) >= 1, "the new worker came up beside them");
    again.assert_shuts_down(0);
}

fn wait_for_the_end(mut client: TcpStream) {
    client.read_to_end(&mut Vec::new()).expect("the server closes");
}

fn lingering(port: Port) -> usize {
    let table = socket::sockets().expect("the kernel shows its table");
    table.iter().filter(|it| it.local.port() == port.get() && it.state == TcpState::TimeWait).count()
}
