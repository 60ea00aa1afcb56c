//! Every exit code of a real daemon. It is the same for the process, `mcpctl shutdown --wait`, `last-shutdown.json` and
//! `mcpctl report` (R-EXIT-1).
//!
//! More cases of the codes 2 and 3 are in `misbehaviour.rs`.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mcpd_common::ids::Port;
use mcpd_common::outcome::{Departure, FindingKind, ShutdownReport};
use mcpd_common::status::{StatusReport, WorkerState};
use mcpd_tests::command::Running;
use mcpd_tests::daemon::LONGEST_SHUTDOWN;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, WorkerSpec, binaries, http, ports, until};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(500);

/// Shuts down and checks that all sources have this code.
fn shut_down(mut daemon: Daemon, code: u8) -> ShutdownReport {
    let report = daemon.assert_shuts_down(code);
    let shown = daemon.mcpctl(&["report", "--json"]).expect_code(0).json();
    assert_eq!(shown["exit_code"], code, "mcpctl report");
    report
}

fn kinds(report: &ShutdownReport) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

fn detail(report: &ShutdownReport, kind: FindingKind) -> &str {
    let found = report.findings.iter().find(|finding| finding.kind == kind);
    &found.unwrap_or_else(|| panic!("no {kind:?}: {:#?}", report.findings)).detail
}

#[test]
fn code_0_without_signals_or_findings() {
    let config = ConfigBuilder::new().fixture("alpha", "").fixture("beta", "--no-shutdown-route");
    let report = shut_down(Daemon::start(config), 0);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(report.workers.iter().all(|worker| worker.departure == Departure::Left));
    assert!(report.workers.iter().flat_map(|worker| &worker.checks).all(|check| check.passed));
}

/// R-CLIENT-5: the worker exited on request, but its client never reads the response.
#[test]
fn code_1_a_client_that_does_not_read() {
    let config = ConfigBuilder::new().times(LONG, LONG).fixture("alpha", "--big-answer");
    let daemon = Daemon::start(config);
    let stuck = http::hang(daemon.port("alpha"));
    let report = shut_down(daemon, 1);
    drop(stuck);
    assert_eq!(kinds(&report), [FindingKind::ClientForced]);
    assert_eq!(report.workers[0].departure, Departure::Left);
    assert_eq!((report.clients.seen, report.clients.left, report.clients.forced), (1, 0, 1));
}

#[test]
fn code_2_sigterm_was_needed() {
    let config = ConfigBuilder::new().times(SHORT, LONG).fixture("alpha", "--ignore-shutdown");
    let report = shut_down(Daemon::start(config), 2);
    assert_eq!(kinds(&report), [FindingKind::WorkerTerminated]);
}

#[test]
fn code_3_sigkill_was_needed() {
    let config = ConfigBuilder::new().times(SHORT, SHORT).fixture("alpha", "--ignore-shutdown --ignore-term");
    let report = shut_down(Daemon::start(config), 3);
    assert_eq!(kinds(&report), [FindingKind::WorkerKilled]);
}

/// A daemon with two workers: `alpha` exits at once, `gate` waits for its clients.
fn with_gate(force_ports: &str) -> Daemon {
    let config = ConfigBuilder::new()
        .times(LONG, LONG)
        .shutdown(&format!("force_ports = \"{force_ports}\""))
        .fixture("alpha", "")
        .fixture("gate", "--wait-for-clients");
    Daemon::start(config)
}

/// Stops the workers with this command. `take` binds the port of `alpha`; until then a client of `gate` delays the stop.
fn take_alphas_port<T>(daemon: &Daemon, args: &[&str], take: impl FnOnce(Port) -> T) -> (Running, T) {
    let gate = http::open_stream(daemon.port("gate"));
    let alpha = daemon.port("alpha");
    let mcpctl = daemon.mcpctl_start(args);
    until("alpha to exit", BOUND, || ports::is_free(alpha).then_some(()));
    let taken = take(alpha);
    drop(gate);
    (mcpctl, taken)
}

/// Shuts down while `take` binds the port of `alpha`.
fn while_alphas_port_is_taken<T>(
    force_ports: &str,
    take: impl FnOnce(Port) -> T,
    code: u8,
) -> (ShutdownReport, T) {
    let mut daemon = with_gate(force_ports);
    daemon.remember();
    let (mcpctl, taken) = take_alphas_port(&daemon, &["shutdown", "--wait"], take);
    let output = mcpctl.finish(LONGEST_SHUTDOWN);
    let report = daemon.assert_no_trace_but(code, if code == 4 { &["alpha"] } else { &[] });
    assert_eq!(output.code, Some(code.into()), "{output:?}");
    (report, taken)
}

/// R-VER-2: a process that does not belong to mcpd is named and not killed.
#[test]
fn code_4_a_port_is_still_in_use() {
    let bind = |port: Port| TcpListener::bind((Ipv4Addr::LOCALHOST, port.get())).expect("free");
    let (report, listener) = while_alphas_port_is_taken("own", bind, 4);
    assert_eq!(kinds(&report), [FindingKind::PortInUse]);
    let detail = detail(&report, FindingKind::PortInUse);
    assert!(detail.contains(&format!("pid {}", std::process::id())), "{detail}");
    assert!(detail.contains("left alone"), "{detail}");
    drop(listener);
}

#[test]
fn code_4_with_force_ports_never() {
    let (report, mut other) = while_alphas_port_is_taken("never", OtherProgram::start, 4);
    assert_eq!(kinds(&report), [FindingKind::PortInUse]);
    assert!(other.is_running(), "another program is never killed by default");
}

/// The new daemon comes up, and its workers are ready as soon as the port is free.
#[test]
fn code_4_of_a_restart_of_the_daemon_whose_stop_found_a_port_in_use() {
    let mut daemon = with_gate("own");
    let run = |status: &StatusReport| status.daemon.as_ref().map(|daemon| daemon.run);
    let old = run(&daemon.wait_status("a run", |_| true));
    let bind = |port: Port| TcpListener::bind((Ipv4Addr::LOCALHOST, port.get())).expect("free");
    let (mcpctl, listener) = take_alphas_port(&daemon, &["restart", "--daemon"], bind);
    daemon.wait_status("the next run", |status| run(status) != old);
    drop(listener);
    let output = mcpctl.finish(LONGEST_SHUTDOWN).expect_code(4);
    let holder = format!("pid {}", std::process::id());
    for text in ["exit code 4, a port is still in use", &holder, "2 of 2 workers ready"] {
        assert!(output.stdout.contains(text), "{text}: {}", output.stdout);
    }
    daemon.assert_shuts_down(0);
}

/// R-VER-2.
#[test]
fn with_force_ports_any_another_program_on_the_port_is_killed() {
    let (report, mut other) = while_alphas_port_is_taken("any", OtherProgram::start, 0);
    let exit = until("the program to exit", BOUND, || other.0.try_wait().expect("a child"));
    assert_eq!(exit.signal(), Some(9));
    assert!(!kinds(&report).contains(&FindingKind::PortInUse));
}

/// A process that does not belong to mcpd and listens on a port.
struct OtherProgram(Child);

impl OtherProgram {
    fn start(port: Port) -> Self {
        let number = port.to_string();
        let mut command = Command::new(binaries::fixture_worker());
        command.args(["--port", &number, "--tag", "other-program"]).stdin(Stdio::null());
        let other = Self(command.spawn().expect("started"));
        until("the program to listen", BOUND, || http::request(port, "GET /health").ok());
        other
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_none()
    }
}

impl Drop for OtherProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// R-VER-3: all are closed even if one fails, each within its own timeout.
#[test]
fn code_6_a_resource_fails_to_close() {
    let config = ConfigBuilder::new().fixture("alpha", "").toml(
        r#"
        [resources.first]
        close = ["touch", "first-is-closed"]
        [resources.broken]
        close = ["false"]
        [resources.hanging]
        close = ["sleep", "60"]
        timeout = "300ms"
        [resources.unchecked]
        close = ["true"]
        check = ["test", "-e", "nowhere"]
        [resources.still-there]
        path = "config.toml"
        [resources.last]
        close = ["touch", "last-is-closed"]
        "#,
    );
    let mut daemon = Daemon::start(config);
    let first = daemon.home().join("first-is-closed");
    let last = daemon.home().join("last-is-closed");
    assert!(!first.exists() && !last.exists());
    let report = daemon.assert_shuts_down(6);
    assert!(first.exists() && last.exists());
    let failures = report.findings.iter().filter(|finding| finding.kind == FindingKind::ResourceFailed);
    let failed: Vec<_> = failures.map(|finding| finding.subject.as_str()).collect();
    assert_eq!(failed, ["still-there", "unchecked", "hanging", "broken"], "in reverse order of opening");
}

/// R-SUP-5: all workers are stopped after a panic of the supervisor. `MCPD_FAULT` makes it panic at a command for the
/// worker `broken`.
#[test]
fn code_100_an_internal_error() {
    let config = ConfigBuilder::new()
        .times(LONG, LONG)
        .env("MCPD_FAULT", "panic:broken")
        .worker("broken", WorkerSpec::command(["./missing"]))
        .fixture("alpha", "--tree 1 2")
        .fixture("beta", "--escape 1");
    let mut daemon = Daemon::launch(config);
    daemon.wait_state("alpha", WorkerState::Ready);
    daemon.wait_state("beta", WorkerState::Ready);
    assert_eq!(daemon.processes().len(), 1 + 2 + 1 + 1);
    daemon.mcpctl(&["stop", "broken"]);
    let report = daemon.assert_no_trace(100);
    assert_eq!(report.reason, "internal_error");
    assert!(detail(&report, FindingKind::InternalError).contains("supervises the workers"));
    let status = daemon.mcpctl(&["status", "--json"]).expect_code(3).json();
    assert_eq!(status["last_shutdown"]["exit_code"], 100);
}

/// R-VER-2: a check that fails to run has not passed.
#[test]
fn code_100_when_the_ports_can_not_be_checked() {
    let config = ConfigBuilder::new().env("MCPD_FAULT", "panic-in:port-check").fixture("alpha", "");
    let mut daemon = Daemon::start(config);
    let report = daemon.assert_shuts_down(100);
    assert!(detail(&report, FindingKind::InternalError).contains("could not be checked"));
    assert!(report.ports.is_empty());
}

/// R-SHUT-1: nor may it last longer than the verification.
#[test]
fn code_100_when_the_port_check_hangs() {
    let config = ConfigBuilder::new()
        .env("MCPD_FAULT", "hang-in:port-check")
        .shutdown("verification = \"2s\"")
        .fixture("alpha", "");
    let mut daemon = Daemon::start(config);
    let report = daemon.assert_shuts_down(100);
    let detail = detail(&report, FindingKind::InternalError);
    assert!(detail.contains("1 port could not be checked: not done in time"), "{detail}");
}
