//! Signals and requests: the first one wins, later ones are logged, some cut the waits short
//! (section 6, R-SHUT-4 and 7, R-SUP-4).

use std::net::TcpStream;
use std::time::Duration;

use mcpd_common::outcome::{Departure, FindingKind, PhaseOutcome, ShutdownReport};
use mcpd_common::phase::Phase;
use mcpd_tests::daemon::mcpctl;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Output, Signal, WorkerSpec, command, http, timed, until};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(20);

/// A daemon whose shutdown lasts until the returned connection is closed: a worker waits for it.
fn gated() -> (Daemon, TcpStream) {
    let config =
        ConfigBuilder::new().times(LONG, LONG).fixture("alpha", "").fixture("gate", "--wait-for-clients");
    let daemon = Daemon::start(config);
    let gate = http::open_stream(daemon.port("gate"));
    (daemon, gate)
}

/// A daemon with a worker that only `SIGKILL` ends, and half a minute before that.
fn patient_with_the_deaf() -> Daemon {
    let config = ConfigBuilder::new().times(LONG, LONG).fixture("deaf", "--ignore-shutdown --ignore-term");
    Daemon::start(config)
}

fn wait_log(daemon: &Daemon, text: &str) {
    until(&format!("the log to say {text:?}"), BOUND, || daemon.log().contains(text).then_some(()));
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
fn sigterm_and_sigint_are_reasons() {
    for (signal, reason) in [(Signal::SIGTERM, "signal_SIGTERM"), (Signal::SIGINT, "signal_SIGINT")] {
        let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
        daemon.signal(signal);
        assert_eq!(daemon.assert_no_trace(0).reason, reason);
    }
}

/// R-LOG-4: by name, duplicates too.
#[test]
fn later_signals_are_logged_by_name_and_ignored() {
    let (mut daemon, gate) = gated();
    daemon.signal(Signal::SIGTERM);
    wait_log(&daemon, "shutting down reason=\"signal_SIGTERM\"");
    daemon.signal(Signal::SIGINT);
    wait_log(&daemon, "ignored: a shutdown is already running reason=\"signal_SIGINT\"");
    daemon.signal(Signal::SIGTERM);
    wait_log(&daemon, "ignored: a shutdown is already running reason=\"signal_SIGTERM\"");
    drop(gate);
    let report = daemon.assert_no_trace(0);
    assert_eq!(report.reason, "signal_SIGTERM");
    assert!(report.phases.iter().all(|phase| phase.outcome == PhaseOutcome::Done), "{:?}", report.phases);
    assert_eq!(daemon.log().matches("received signal=\"SIGTERM\"").count(), 2);
    assert_eq!(daemon.log().matches("received signal=\"SIGINT\"").count(), 1);
}

#[test]
fn two_sigints_within_a_second_are_one() {
    let (mut daemon, gate) = gated();
    daemon.signal(Signal::SIGINT);
    wait_log(&daemon, "received signal=\"SIGINT\"");
    daemon.signal(Signal::SIGINT);
    wait_log(&daemon, "ignored: a shutdown is already running reason=\"signal_SIGINT\"");
    drop(gate);
    let report = daemon.assert_no_trace(0);
    assert_eq!(outcome(&report, Phase::WorkersGraceful), PhaseOutcome::Done);
}

#[test]
fn a_second_sigint_after_more_than_a_second_cuts_short() {
    let mut daemon = patient_with_the_deaf();
    daemon.signal(Signal::SIGINT);
    wait_log(&daemon, "shutting down reason=\"signal_SIGINT\"");
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
fn shutdown_now_does_not_wait_at_all() {
    let mut daemon = patient_with_the_deaf();
    let output = daemon.mcpctl(&["shutdown", "--now", "--wait"]);
    assert_cut_short(&daemon.assert_no_trace(3));
    assert_eq!(output.code, Some(3), "{output:?}");
}

#[test]
fn shutdown_now_cuts_a_running_one_short() {
    let mut daemon = patient_with_the_deaf();
    let first = daemon.mcpctl_start(&["shutdown", "--wait", "--json", "--reason", "an upgrade"]);
    wait_log(&daemon, "shutting down reason=\"an upgrade\"");
    daemon.mcpctl(&["shutdown", "--now", "--wait"]).expect_code(3);
    let first = first.finish(BOUND).expect_code(3);
    let report = daemon.assert_no_trace(3);
    assert_cut_short(&report);
    assert_eq!(report.reason, "an upgrade", "the first one's");
    assert!(events(&first).iter().any(|event| event["event"] == "hurried"));
}

/// The events of `shutdown --wait --json`, without the line that sums up.
fn events(output: &Output) -> Vec<Value> {
    let mut lines = output.json_lines();
    lines.retain(|line| line["event"].is_string());
    lines
}

/// R-SHUT-4: a second one sees all events from the beginning.
#[test]
fn a_second_mcpctl_shutdown_attaches_and_sees_everything() {
    let (mut daemon, gate) = gated();
    let first = daemon.mcpctl_start(&["shutdown", "--wait", "--json"]);
    wait_log(&daemon, "worker=alpha departure=Left");
    let second = daemon.mcpctl_start(&["shutdown", "--wait", "--json", "--reason", "too late"]);
    daemon.mcpctl(&["shutdown"]).expect_code(0);
    wait_log(&daemon, "ignored: a shutdown is already running reason=\"too late\"");
    drop(gate);
    let first = first.finish(BOUND).expect_code(0);
    let second = second.finish(BOUND).expect_code(0);
    let report = daemon.assert_no_trace(0);
    assert_eq!(report.reason, "manual");
    assert_eq!(events(&first), events(&second));
    let numbers: Vec<_> = events(&first).iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
    assert_eq!(events(&first)[0]["event"], "started");
    assert_eq!(events(&first).last().expect("a last one")["event"], "finished");
}

#[test]
fn the_given_reason_is_shown_everywhere() {
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
    let (mut daemon, gate) = gated();
    daemon.mcpctl(&["shutdown", "--reason", "lunch"]).expect_code(0);
    let status = daemon.wait_status("the graceful phase", |status| {
        let shutdown = status.daemon.as_ref().and_then(|daemon| daemon.shutdown.as_ref());
        shutdown.is_some_and(|shutdown| shutdown.phase == Phase::WorkersGraceful)
    });
    let shutdown = status.daemon.and_then(|daemon| daemon.shutdown).expect("just seen");
    assert_eq!(shutdown.reason, "lunch");
    assert!(!shutdown.workers_gone && !shutdown.clients_gone);
    let health = daemon.mcpctl(&["health"]);
    assert_eq!(health.code, Some(1), "{health:?}");
    drop(gate);
    daemon.assert_no_trace(0);
}

/// Six workers; what they have in common is given.
fn six(spec: &dyn Fn() -> WorkerSpec) -> Daemon {
    let config = ConfigBuilder::new().times(LONG, LONG);
    let names = ["a", "b", "c", "d", "e", "f"];
    let daemon = Daemon::start(names.iter().fold(config, |config, name| config.worker(name, spec())));
    assert_eq!(daemon.processes().len(), names.len());
    daemon
}

fn kill_workers(daemon: &Daemon) {
    for found in daemon.processes() {
        // One may have exited already; pids are not used again so soon.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(found.pid.get()), Signal::SIGKILL);
    }
}

#[track_caller]
fn assert_nothing_started_in_the_shutdown(daemon: &Daemon) {
    let log = daemon.log();
    let (_, afterwards) = log.split_once("shutting down").expect("the shutdown is logged");
    let starts = afterwards.contains("INFO started") || afterwards.contains("state=\"starting\"");
    assert!(!starts, "{afterwards}");
}

/// R-SUP-4: workers die while the daemon receives the request. Their request to exit is `SIGTERM`, to
/// which no answer is missing: dead before it or after it, they have exited.
#[test]
fn workers_that_die_together_with_the_request_stay_dead() {
    let mut daemon = six(&|| WorkerSpec::fixture("").with("shutdown_path = \"\""));
    daemon.signal(Signal::SIGTERM);
    kill_workers(&daemon);
    daemon.assert_no_trace(0);
    assert_nothing_started_in_the_shutdown(&daemon);
}

/// R-SUP-4: the same after each has accepted the request to exit by HTTP.
#[test]
fn workers_that_die_after_their_answer_stay_dead() {
    let mut daemon = six(&|| WorkerSpec::fixture("--ignore-shutdown"));
    let following = command::follow(mcpctl(daemon.home()).args(["shutdown", "--wait", "--json"]));
    for _ in 0..6 {
        following.wait_line("an answer", |line| line.contains("\"answer\":\"202\""));
    }
    kill_workers(&daemon);
    // It ends first: it binds the ports, too.
    assert_eq!(following.finish(BOUND).0.code(), Some(0));
    daemon.assert_no_trace(0);
    assert_nothing_started_in_the_shutdown(&daemon);
}

/// `nohup`, or a shell's background job: what was ignored stays ignored.
#[test]
fn sigint_that_was_ignored_at_the_start_stays_so() {
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

/// Without a controlling terminal it asks for a reload, and ends nothing.
#[test]
fn sighup_without_a_terminal_ends_nothing() {
    let config = ConfigBuilder::new().fixture("alpha", "");
    let home = tempfile::tempdir().expect("a temporary directory");
    let command = Daemon::command_below(&["setsid"], home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    daemon.signal(Signal::SIGHUP);
    wait_log(&daemon, "received signal=\"SIGHUP\"");
    daemon.wait_ready();
    assert_eq!(daemon.assert_shuts_down(0).reason, "manual");
}
