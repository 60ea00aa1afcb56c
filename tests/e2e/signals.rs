//! Signals and shutdown requests: the first one starts the shutdown, later ones are logged, and some cut the waits short
//! (section 6, R-SHUT-4 and 7, R-SUP-4).

use std::net::TcpStream;
use std::time::Duration;

use mcpd_common::outcome::{Departure, FindingKind, PhaseOutcome, ShutdownReport};
use mcpd_common::phase::Phase;
use mcpd_tests::daemon::mcpctl;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Output, Signal, WorkerSpec, command, http, timed, until};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(20);

/// A daemon whose shutdown waits until the returned connection is closed.
fn daemon_and_gate() -> (Daemon, TcpStream) {
    let config =
        ConfigBuilder::new().times(LONG, LONG).fixture("alpha", "").fixture("gate", "--wait-for-clients");
    let daemon = Daemon::start(config);
    let gate = http::open_stream(daemon.port("gate"));
    (daemon, gate)
}

/// A daemon with a worker that ignores everything but `SIGKILL`, and time limits of 40 s before that.
fn daemon_with_a_stubborn_worker() -> Daemon {
    let config =
        ConfigBuilder::new().times(LONG, LONG).fixture("stubborn", "--ignore-shutdown --ignore-term");
    Daemon::start(config)
}

fn outcome(report: &ShutdownReport, phase: Phase) -> PhaseOutcome {
    report.phases.iter().find(|it| it.phase == phase).expect("every phase runs").outcome
}

fn assert_cut_short(report: &ShutdownReport) {
    assert_eq!(outcome(report, Phase::WorkersGraceful), PhaseOutcome::CutShort);
    assert_eq!(report.workers[0].departure, Departure::Killed);
    assert_eq!(report.findings[0].kind, FindingKind::WorkerKilled);
}

#[test]
fn sigterm_and_sigint_start_a_shutdown() {
    for (signal, reason) in [(Signal::SIGTERM, "signal_SIGTERM"), (Signal::SIGINT, "signal_SIGINT")] {
        let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
        daemon.signal(signal);
        assert_eq!(daemon.assert_no_trace(0).reason, reason);
    }
}

/// R-LOG-4: duplicates, too.
#[test]
fn later_signals_are_logged_by_name_and_ignored() {
    let (mut daemon, gate) = daemon_and_gate();
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("shutting down reason=\"signal_SIGTERM\"");
    daemon.signal(Signal::SIGINT);
    daemon.wait_log("ignored: a shutdown is already running reason=\"signal_SIGINT\"");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("ignored: a shutdown is already running reason=\"signal_SIGTERM\"");
    drop(gate);
    let report = daemon.assert_no_trace(0);
    assert_eq!(report.reason, "signal_SIGTERM");
    assert!(report.phases.iter().all(|phase| phase.outcome == PhaseOutcome::Done), "{:?}", report.phases);
    assert_eq!(daemon.log().matches("received signal=\"SIGTERM\"").count(), 2);
    assert_eq!(daemon.log().matches("received signal=\"SIGINT\"").count(), 1);
}

#[test]
fn a_second_sigint_within_a_second_is_ignored() {
    let (mut daemon, gate) = daemon_and_gate();
    daemon.signal(Signal::SIGINT);
    daemon.wait_log("received signal=\"SIGINT\"");
    daemon.signal(Signal::SIGINT);
    daemon.wait_log("ignored: a shutdown is already running reason=\"signal_SIGINT\"");
    drop(gate);
    let report = daemon.assert_no_trace(0);
    assert_eq!(outcome(&report, Phase::WorkersGraceful), PhaseOutcome::Done);
}

#[test]
fn a_second_sigint_after_more_than_a_second_cuts_short() {
    let mut daemon = daemon_with_a_stubborn_worker();
    daemon.signal(Signal::SIGINT);
    daemon.wait_log("shutting down reason=\"signal_SIGINT\"");
    let mut waited = Duration::ZERO;
    until("more than a second", BOUND, || {
        let ((), step) = timed(|| std::thread::park_timeout(Duration::from_millis(50)));
        waited += step;
        (waited > Duration::from_millis(1200)).then_some(())
    });
    daemon.signal(Signal::SIGINT);
    let report = daemon.assert_no_trace(3);
    assert_cut_short(&report);
    assert!(daemon.log().contains("the remaining waits are cut short by=\"second SIGINT\""));
}

#[test]
fn shutdown_now_does_not_wait() {
    let mut daemon = daemon_with_a_stubborn_worker();
    let output = daemon.mcpctl(&["shutdown", "--now", "--wait"]);
    assert_cut_short(&daemon.assert_no_trace(3));
    assert_eq!(output.code, Some(3), "{output:?}");
}

#[test]
fn shutdown_now_cuts_a_running_shutdown_short() {
    let mut daemon = daemon_with_a_stubborn_worker();
    let first = daemon.mcpctl_start(&["shutdown", "--wait", "--json", "--reason", "an upgrade"]);
    daemon.wait_log("shutting down reason=\"an upgrade\"");
    daemon.mcpctl(&["shutdown", "--now", "--wait"]).expect_code(3);
    let first = first.finish(BOUND).expect_code(3);
    let report = daemon.assert_no_trace(3);
    assert_cut_short(&report);
    assert_eq!(report.reason, "an upgrade", "the reason of the first request");
    assert!(events(&first).iter().any(|event| event["event"] == "hurried"));
}

/// The events of `shutdown --wait --json`, without the result in the last line.
fn events(output: &Output) -> Vec<Value> {
    let mut lines = output.json_lines();
    lines.retain(|line| line["event"].is_string());
    lines
}

/// R-SHUT-4.
#[test]
fn a_second_mcpctl_shutdown_receives_all_events_from_the_start() {
    let (mut daemon, gate) = daemon_and_gate();
    let first = daemon.mcpctl_start(&["shutdown", "--wait", "--json"]);
    daemon.wait_log("worker=alpha departure=Left");
    let second = daemon.mcpctl_start(&["shutdown", "--wait", "--json", "--reason", "too late"]);
    daemon.mcpctl(&["shutdown"]).expect_code(0);
    daemon.wait_log("ignored: a shutdown is already running reason=\"too late\"");
    drop(gate);
    let first = first.finish(BOUND).expect_code(0);
    let second = second.finish(BOUND).expect_code(0);
    let report = daemon.assert_no_trace(0);
    assert_eq!(report.reason, "manual");
    assert_eq!(events(&first), events(&second));
    let numbers: Vec<_> = events(&first).iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
    assert_eq!(events(&first)[0]["event"], "started");
    assert_eq!(events(&first).last().expect("an event")["event"], "finished");
}

#[test]
fn the_reason_is_in_report_status_and_history() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    daemon.mcpctl(&["shutdown", "--wait", "--reason", "moving house"]).expect_code(0);
    assert_eq!(daemon.assert_no_trace(0).reason, "moving house");
    let status = daemon.mcpctl(&["status", "--json"]).expect_code(3).json();
    assert_eq!(status["last_shutdown"]["reason"], "moving house");
    assert!(daemon.mcpctl(&["history"]).expect_code(0).stdout.contains("moving house"));
}

/// R-SHUT-7.
#[test]
fn status_and_health_show_the_phase_of_the_shutdown() {
    let (mut daemon, gate) = daemon_and_gate();
    daemon.mcpctl(&["shutdown", "--reason", "lunch"]).expect_code(0);
    let status = daemon.wait_status("the graceful phase", |status| {
        let shutdown = status.daemon.as_ref().and_then(|daemon| daemon.shutdown.as_ref());
        shutdown.is_some_and(|shutdown| shutdown.phase == Phase::WorkersGraceful)
    });
    let shutdown = status.daemon.and_then(|daemon| daemon.shutdown).expect("it was there");
    assert_eq!(shutdown.reason, "lunch");
    assert!(!shutdown.workers_gone && !shutdown.clients_gone);
    let health = daemon.mcpctl(&["health"]);
    assert_eq!(health.code, Some(1), "{health:?}");
    drop(gate);
    daemon.assert_no_trace(0);
}

/// A daemon with six workers of this kind.
fn daemon_with_six(spec: &dyn Fn() -> WorkerSpec) -> Daemon {
    let config = ConfigBuilder::new().times(LONG, LONG);
    let names = ["a", "b", "c", "d", "e", "f"];
    let daemon = Daemon::start(names.iter().fold(config, |config, name| config.worker(name, spec())));
    assert_eq!(daemon.processes().len(), names.len());
    daemon
}

fn kill_workers(daemon: &Daemon) {
    for found in daemon.processes() {
        // One may have exited already; its pid is not reused that soon.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(found.pid.get()), Signal::SIGKILL);
    }
}

#[track_caller]
fn assert_no_start_during_the_shutdown(daemon: &Daemon) {
    let log = daemon.log();
    let (_, afterwards) = log.split_once("shutting down").expect("the shutdown is logged");
    let starts = afterwards.contains("INFO started") || afterwards.contains("state=\"starting\"");
    assert!(!starts, "{afterwards}");
}

/// R-SUP-4: the stop request of these workers is `SIGTERM`, so an exit before or after it counts as graceful.
#[test]
fn workers_that_are_killed_while_the_request_arrives_are_not_restarted() {
    let mut daemon = daemon_with_six(&|| WorkerSpec::fixture("").with("shutdown_path = \"\""));
    daemon.signal(Signal::SIGTERM);
    kill_workers(&daemon);
    daemon.assert_no_trace(0);
    assert_no_start_during_the_shutdown(&daemon);
}

/// R-SUP-4.
#[test]
fn workers_that_are_killed_after_they_accepted_the_stop_request_are_not_restarted() {
    let mut daemon = daemon_with_six(&|| WorkerSpec::fixture("--ignore-shutdown"));
    let following = command::follow(mcpctl(daemon.home()).args(["shutdown", "--wait", "--json"]));
    for _ in 0..6 {
        following.wait_line("a response", |line| line.contains("\"answer\":\"202\""));
    }
    kill_workers(&daemon);
    // Before `assert_no_trace`, because `mcpctl` binds the ports, too.
    assert_eq!(following.finish(BOUND).0.code(), Some(0));
    daemon.assert_no_trace(0);
    assert_no_start_during_the_shutdown(&daemon);
}

/// As under `nohup`, or in a background job of a shell.
#[test]
fn sigint_stays_ignored_if_it_was_ignored_at_the_start() {
    let config = ConfigBuilder::new().fixture("alpha", "");
    let home = tempfile::tempdir().expect("a temporary directory");
    let wrapper = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"];
    let command = Daemon::command_below(&wrapper, home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    daemon.signal(Signal::SIGINT);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.assert_no_trace(0).reason, "signal_SIGTERM");
    assert!(!daemon.log().contains("signal=\"SIGINT\""));
}

/// Daemons reload on it, by convention.
#[test]
fn sighup_without_a_controlling_terminal_is_only_logged() {
    let config = ConfigBuilder::new().fixture("alpha", "");
    let home = tempfile::tempdir().expect("a temporary directory");
    let command = Daemon::command_below(&["setsid"], home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_log("received signal=\"SIGHUP\"");
    daemon.wait_ready();
    assert_eq!(daemon.assert_shuts_down(0).reason, "manual");
}
