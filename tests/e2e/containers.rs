//! Workers whose command is `docker run` or `podman run` (R-STDIO-6), with a stand-in for the engine.

use std::fs;
use std::time::Duration;

use mcpd_common::outcome::{CheckSubject, FindingKind, ShutdownReport};
use mcpd_common::status::WorkerState;
use mcpd_tests::fake_engine::FakeEngine;
use mcpd_tests::mcp::Client;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, until};
use nix::sys::signal::kill;
use nix::unistd::Pid;

const SHORT: Duration = Duration::from_secs(2);

/// A daemon with one worker in a container.
fn start(engine: &FakeEngine, client: &str, options: &str, flags: &str) -> Daemon {
    let config = engine.configure(ConfigBuilder::new().times(SHORT, SHORT));
    let tag = config.tag().to_owned();
    let worker = engine.worker(client, options, &tag, flags);
    let mut daemon = Daemon::start(config.worker("alpha", worker));
    daemon.wait_state("alpha", WorkerState::Ready);
    daemon
}

fn kill_client(daemon: &mut Daemon) {
    let client = daemon.wait_state("alpha", WorkerState::Ready).pid.expect("it runs");
    kill(Pid::from_raw(client.get()), Signal::SIGKILL).expect("it can be killed");
}

fn is_alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

fn records(daemon: &Daemon) -> usize {
    fs::read_dir(daemon.state().containers()).map_or(0, Iterator::count)
}

/// The evidence of the container's check, which must have passed or not.
fn evidence(report: &ShutdownReport, passed: bool) -> String {
    let check = report.workers[0].checks.iter().find(|check| check.subject == CheckSubject::Container);
    let check = check.expect("its check");
    assert_eq!(check.passed, passed, "{check:?}");
    check.evidence.clone()
}

fn findings(report: &ShutdownReport, kind: FindingKind) -> Vec<String> {
    let of_kind = report.findings.iter().filter(|finding| finding.kind == kind);
    of_kind.map(|finding| finding.detail.clone()).collect()
}

#[test]
fn a_stop_leaves_no_container() {
    for (client, flags) in [("docker", ""), ("podman", ""), ("docker --context x", "--ignore-shutdown")] {
        let engine = FakeEngine::start();
        let mut daemon = start(&engine, client, "-i --rm", flags);
        assert_eq!(Client::initialize(daemon.port("alpha")).state()["initialized"], 1);
        let (_, pid) = engine.only_container();
        let report = daemon.assert_shuts_down(0);
        assert!(!is_alive(pid));
        assert_eq!(engine.containers(), [], "{client}");
        assert_eq!(records(&daemon), 0);
        assert_eq!(evidence(&report, true), format!("{client} lists none with its labels"));
    }
}

/// The engine has to kill it, and the exit code says so.
#[test]
fn a_container_that_ignores_every_request_is_killed() {
    let engine = FakeEngine::start();
    let mut daemon = start(&engine, "docker", "-i --rm", "--ignore-shutdown --ignore-term");
    let report = daemon.assert_shuts_down(3);
    assert_eq!(engine.containers(), []);
    let killed = findings(&report, FindingKind::DescendantsKilled);
    assert!(killed.iter().any(|text| text.contains("the engine's stop, which killed it")), "{killed:?}");
}

/// R-SUP-3: what the last process left is gone before the next one starts.
#[test]
fn a_container_without_its_client_is_stopped_before_the_next_start() {
    let engine = FakeEngine::start();
    let mut daemon = start(&engine, "docker", "-i --rm --name only-one", "--ignore-shutdown");
    let (_, pid) = engine.only_container();
    kill_client(&mut daemon);
    daemon.wait_status("the next process", |status| {
        status.workers[0].restarts == 1 && status.workers[0].state == WorkerState::Ready
    });
    assert!(!is_alive(pid));
    let (name, next) = engine.only_container();
    assert_eq!(name, "only-one");
    assert_ne!(pid, next);
    daemon.assert_shuts_down(0);
    assert_eq!(engine.containers(), []);
}

#[test]
fn a_container_whose_client_is_killed_for_good_is_stopped() {
    let engine = FakeEngine::start();
    let config = engine.configure(ConfigBuilder::new().times(SHORT, SHORT));
    let tag = config.tag().to_owned();
    let worker = engine.worker("docker", "-i --rm", &tag, "--ignore-shutdown").with("restart = \"never\"");
    let mut daemon = Daemon::start(config.worker("alpha", worker));
    let (_, pid) = engine.only_container();
    kill_client(&mut daemon);
    until("the container to be gone", BOUND, || {
        (!is_alive(pid) && engine.containers().is_empty()).then_some(())
    });
    daemon.assert_shuts_down(0);
}

/// A second request cuts the waits short; the container is ended all the same.
#[test]
fn a_shutdown_that_is_cut_short_leaves_no_container() {
    let engine = FakeEngine::start();
    let mut daemon = start(&engine, "docker", "-i --rm", "--ignore-shutdown --ignore-term");
    let output = daemon.mcpctl(&["shutdown", "--wait", "--now"]);
    let report = daemon.assert_no_trace(3);
    assert_eq!(output.code, Some(3));
    assert_eq!(engine.containers(), []);
    let killed = findings(&report, FindingKind::DescendantsKilled);
    assert!(killed.iter().any(|text| text.contains("had to be killed")), "{killed:?}");
}

#[test]
fn a_container_that_its_engine_does_not_end_is_code_5() {
    let engine = FakeEngine::start();
    let mut daemon = start(&engine, "docker", "-i --rm --name stays", "--ignore-shutdown");
    let (_, pid) = engine.only_container();
    engine.set_mode("deaf");
    let output = daemon.mcpctl(&["shutdown", "--wait"]);
    let report = daemon.assert_ended(5);
    assert_eq!(output.code, Some(5));
    assert!(is_alive(pid));
    assert!(evidence(&report, false).starts_with("stays ("));
    let left = findings(&report, FindingKind::ProcessLeft);
    assert!(left.iter().any(|text| text.contains("its container stays (")), "{left:?}");
    // It is remembered, and the next start ends it.
    engine.set_mode("");
    let mut daemon = daemon.launch_again();
    daemon.wait_state("alpha", WorkerState::Ready);
    assert!(!is_alive(pid));
    daemon.assert_shuts_down(0);
    assert_eq!((engine.containers(), records(&daemon)), (vec![], 0));
}

#[test]
fn an_engine_that_does_not_answer_is_information() {
    let engine = FakeEngine::start();
    let mut daemon = start(&engine, "docker", "-i --rm", "");
    engine.set_mode("silent");
    let report = daemon.assert_shuts_down(3);
    let told = findings(&report, FindingKind::Information);
    assert!(told.iter().any(|text| text.contains("was not asked whether a container is left")), "{told:?}");
    assert!(evidence(&report, true).contains("not asked"));
}

/// R-CONT-6: the guardian ends processes; the container is ended by the next start.
#[test]
fn the_next_start_ends_the_container_of_a_daemon_that_died() {
    let engine = FakeEngine::start();
    let mut daemon = start(&engine, "docker", "-i --rm --name lost", "--ignore-shutdown");
    let (_, pid) = engine.only_container();
    daemon.signal_daemon(Signal::SIGKILL);
    daemon.assert_ended(101);
    assert!(is_alive(pid), "no process of mcpd ends it");
    let mut daemon = daemon.launch_again();
    daemon.wait_state("alpha", WorkerState::Ready);
    assert!(!is_alive(pid));
    let status = daemon.mcpctl(&["status"]).expect_code(0);
    assert!(status.stdout.contains("the container of alpha outlived run"), "{}", status.stdout);
    assert!(status.stdout.contains("lost ("), "{}", status.stdout);
    daemon.assert_shuts_down(0);
    assert_eq!((engine.containers(), records(&daemon)), (vec![], 0));
}

/// Without --rm the user wants to keep it.
#[test]
fn a_stopped_container_without_rm_stays_and_is_named() {
    let engine = FakeEngine::start();
    let mut daemon = start(&engine, "docker", "-i --name kept", "");
    let report = daemon.assert_shuts_down(0);
    assert_eq!(engine.containers(), [("kept".to_owned(), None)]);
    let told = findings(&report, FindingKind::Information);
    assert!(told.iter().any(|text| text.ends_with("remove it with: docker rm kept")), "{told:?}");
}

#[test]
fn check_config_warns_where_a_container_could_escape() {
    let engine = FakeEngine::start();
    let config = engine.configure(ConfigBuilder::new());
    let worker = engine.worker("docker", "-d", config.tag(), "");
    let config = config.worker("alpha", worker);
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = config.write(home.path());
    let output =
        Daemon::command(home.path(), &config).arg("check-config").arg(&file).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in ["warning: ", "config.toml:", "alpha: with --detach", "add --rm"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
