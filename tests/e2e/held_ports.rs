//! Ports that another process holds before the start or until the end, and ports in `TIME_WAIT` (R-SUP-6, R-VER-2). A
//! port that is taken during the shutdown is in `exit_codes.rs`.

use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::time::Duration;

use mcpd_common::check::ports::PortState;
use mcpd_common::ids::Port;
use mcpd_common::os::socket::{self, TcpState};
use mcpd_common::outcome::{CheckSubject, Departure, FindingKind};
use mcpd_common::status::WorkerState;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, WorkerSpec, http, ports, skip, until};

const LONG: Duration = Duration::from_secs(20);

/// A daemon with two workers; this test listens on the port of `taken`.
fn with_a_port_taken(address: Ipv4Addr) -> (Daemon, TcpListener) {
    let claim = ports::claim();
    let listener = TcpListener::bind((address, claim.port().get())).expect("free");
    let config = ConfigBuilder::new().fixture("alpha", "").worker_on("taken", WorkerSpec::fixture(""), claim);
    let mut daemon = Daemon::launch(config);
    daemon.wait_state("alpha", WorkerState::Ready);
    (daemon, listener)
}

/// R-SUP-6: the error names the holder, the other worker starts, and `taken` starts once the port is free.
#[test]
fn a_port_that_is_held_at_the_start() {
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        let (mut daemon, listener) = with_a_port_taken(address);
        let taken = daemon.wait_state("taken", WorkerState::BackingOff);
        let reason = taken.reason.expect("a reason");
        assert!(reason.contains(&format!("pid {}", std::process::id())), "{reason}");
        assert!(reason.contains("e2e"), "the command: {reason}");
        // Between two attempts the port is looked at again, and the table shows no holder.
        until("the holder in the table", BOUND, || {
            let shown = daemon.mcpctl(&["status"]).expect_code(0);
            shown.stdout.contains(&std::process::id().to_string()).then_some(())
        });
        drop(listener);
        daemon.wait_ready();
        daemon.assert_shuts_down(0);
    }
}

/// mcpd has bound 127.0.0.1 before it finds ::1 in use, and is not named as a holder itself.
#[test]
fn mcpd_is_not_named_as_the_holder_of_its_own_port() {
    let claim = ports::claim();
    let Ok(_listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, claim.port().get())) else {
        return skip::test("there is no ::1");
    };
    let spec = WorkerSpec::fixture("").with("transport = \"http\"");
    let mut daemon = Daemon::launch(ConfigBuilder::new().worker_on("taken", spec, claim));
    let reason = daemon.wait_state("taken", WorkerState::BackingOff).reason.expect("a reason");
    assert!(reason.contains(&format!("pid {}", std::process::id())), "{reason}");
    assert!(!reason.contains(&format!("pid {}", daemon.pid())), "{reason}");
    daemon.signal(Signal::SIGTERM);
    daemon.assert_no_trace_but(0, &["taken"]);
}

/// Information: mcpd never had the port.
#[test]
fn a_port_that_is_held_from_the_start_until_the_end() {
    let (mut daemon, listener) = with_a_port_taken(Ipv4Addr::LOCALHOST);
    daemon.wait_state("taken", WorkerState::BackingOff);
    let output = daemon.mcpctl(&["shutdown", "--wait"]);
    let report = daemon.assert_no_trace_but(0, &["taken"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert_eq!(report.findings[0].kind, FindingKind::Information);
    assert!(report.findings[0].detail.starts_with("mcpd never had this port: "), "{:?}", report.findings);
    assert_eq!(report.findings[0].subject, daemon.port("taken").to_string());
    let departure = |name| report.workers.iter().find(|it| it.name.as_str() == name).map(|it| it.departure);
    assert_eq!(departure("alpha"), Some(Departure::Left));
    assert_eq!(departure("taken"), Some(Departure::NotRunning));

    drop(listener);
    let mut again = daemon.launch_again();
    again.wait_ready();
    again.assert_shuts_down(0);
}

/// The server closed the connections first: reported, but not a leak, and no reason to wait.
#[test]
fn a_port_in_time_wait() {
    const COUNT: u32 = 5;
    let config =
        ConfigBuilder::new().times(LONG, LONG).fixture("alpha", "").fixture("gate", "--wait-for-clients");
    let mut daemon = Daemon::start(config);
    let alpha = daemon.port("alpha");
    let clients: Vec<_> = (0..COUNT).map(|_| http::open_stream(alpha)).collect();
    let gate = http::open_stream(daemon.port("gate"));
    daemon.mcpctl(&["shutdown"]).expect_code(0);
    clients.into_iter().for_each(read_to_the_end);
    until("TIME_WAIT", BOUND, || (count_time_wait(alpha) >= COUNT as usize).then_some(()));
    drop(gate);

    let report = daemon.assert_no_trace(0);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let port = report.ports.iter().find(|report| report.port == alpha).expect("its row");
    assert_eq!(port.state, PortState::TimeWait);
    assert!(port.time_wait >= COUNT && port.time_wait_seconds > 0, "{port:?}");
    let worker = report.workers.iter().find(|worker| worker.name.as_str() == "alpha").expect("its row");
    let check = worker.checks.iter().find(|check| check.subject == CheckSubject::Port).expect("its check");
    assert!(check.passed && check.evidence.contains("TIME_WAIT"), "{check:?}");

    let mut again = daemon.launch_again();
    again.wait_ready();
    assert!(count_time_wait(alpha) >= 1, "the new worker started in spite of TIME_WAIT");
    again.assert_shuts_down(0);
}

fn read_to_the_end(mut client: TcpStream) {
    client.read_to_end(&mut Vec::new()).expect("the server closes");
}

fn count_time_wait(port: Port) -> usize {
    let table = socket::sockets().expect("the kernel shows its table");
    table.iter().filter(|it| it.local.port() == port.get() && it.state == TcpState::TimeWait).count()
}
