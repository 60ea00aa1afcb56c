//! Workers that exit without a request: when they are restarted, and when not (R-SUP-3).

use std::time::Duration;

use mcpd_common::outcome::ExitStatus;
use mcpd_common::status::{StatusReport, WorkerState, WorkerStatus};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, WorkerSpec, binaries, until};
use nix::sys::signal::kill;

fn worker<'a>(status: &'a StatusReport, name: &str) -> &'a WorkerStatus {
    status.workers.iter().find(|worker| worker.name.as_str() == name).expect("a known worker")
}

/// Its descendants are killed before the next start.
#[test]
fn a_killed_worker_is_restarted_without_affecting_the_other() {
    let config = ConfigBuilder::new().fixture("alpha", "--escape 2 --tree 1 2").fixture("beta", "");
    let mut daemon = Daemon::start(config);
    let before = daemon.wait_status("the descendants", |status| worker(status, "alpha").descendants == 4);
    let old = daemon.processes();
    assert_eq!(old.len(), 1 + 4 + 1);
    let leader = worker(&before, "alpha").pid.expect("it runs");
    kill(nix::unistd::Pid::from_raw(leader.get()), Signal::SIGKILL).expect("it runs");

    let after = daemon.wait_status("the next process", |status| {
        let alpha = worker(status, "alpha");
        alpha.restarts == 1 && alpha.state == WorkerState::Ready && alpha.descendants == 4
    });
    assert_eq!(worker(&after, "alpha").last_exit, Some(ExitStatus::Signal(9)));
    assert_ne!(worker(&after, "alpha").pid, Some(leader));
    assert_eq!(worker(&after, "beta").pid, worker(&before, "beta").pid);
    let now = daemon.processes();
    assert_eq!(now.len(), 1 + 4 + 1, "no process of the old family is left");
    let of_both = |pid| old.iter().any(|it| it.pid == pid) && Some(pid) == worker(&after, "beta").pid;
    assert_eq!(now.iter().filter(|it| of_both(it.pid)).count(), 1);
    daemon.assert_shuts_down(3);
}

#[test]
fn backing_off_is_shown_with_its_reason_and_count() {
    let config = ConfigBuilder::new().fixture("alpha", "--exit-at-once 7").fixture("beta", "");
    let mut daemon = Daemon::launch(config);
    let status = daemon.wait_status("two restarts", |status| {
        let alpha = worker(status, "alpha");
        alpha.restarts >= 2 && alpha.state == WorkerState::BackingOff
    });
    let alpha = worker(&status, "alpha");
    assert_eq!(alpha.last_exit, Some(ExitStatus::Code(7)));
    assert_eq!(alpha.pid, None);
    assert!(alpha.reason.as_deref().is_some_and(|reason| reason.contains("exit 7")), "{:?}", alpha.reason);
    let shown = daemon.mcpctl(&["status"]).expect_code(0).stdout;
    assert!(shown.contains("backing-off") && shown.contains("exit 7"), "{shown}");
    daemon.wait_state("beta", WorkerState::Ready);
    daemon.assert_shuts_down(0);
}

#[test]
fn policies_decide_which_workers_restart() {
    use WorkerState::{BackingOff, Failed, Stopped};
    let cases = [
        ("always-0", 0, "always", BackingOff),
        ("always-3", 3, "always", BackingOff),
        ("on-failure-0", 0, "on-failure", Stopped),
        ("on-failure-3", 3, "on-failure", BackingOff),
        ("never-0", 0, "never", Stopped),
        ("never-3", 3, "never", Failed),
    ];
    let mut config = ConfigBuilder::new();
    for (name, code, policy, _) in cases {
        let spec = WorkerSpec::fixture(&format!("--exit-at-once {code}"));
        config = config.worker(name, spec.with(&format!("restart = \"{policy}\"")));
    }
    let mut daemon = Daemon::launch(config);
    let mut last = None;
    for (name, code, _, state) in cases {
        let status = daemon.wait_state(name, state);
        assert_eq!(status.last_exit, Some(ExitStatus::Code(code)), "{name}");
        last = daemon.try_status();
    }
    let last = last.expect("the daemon responds");
    for name in ["on-failure-0", "never-0", "never-3"] {
        assert_eq!(worker(&last, name).restarts, 0, "{name}");
    }
    let failed = worker(&last, "never-3").reason.clone().unwrap_or_default();
    assert!(failed.contains("exit 3") && failed.contains("never"), "{failed}");
    daemon.assert_shuts_down(0);
}

/// After ten crashes soon after the start.
#[test]
fn a_crash_loop_ends_in_failed_until_mcpctl_restart() {
    let config = ConfigBuilder::new().env("MCPD_FAULT", "first-wait-ms:1");
    let fixture = binaries::fixture_worker();
    let script = format!(
        "test -e fixed || exit 3; exec '{}' --port \"$PORT\" --tag {}",
        fixture.display(),
        config.tag()
    );
    let looping = WorkerSpec::command(["sh", "-c", &script]);
    let mut daemon = Daemon::launch(config.worker("looping", looping).fixture("steady", ""));
    // Two minutes, because it takes 81 s in a build without `MCPD_FAULT`.
    until("the worker to be failed", Duration::from_secs(120), || {
        let status = daemon.try_status()?;
        (worker(&status, "looping").state == WorkerState::Failed).then_some(())
    });
    let status = daemon.try_status().expect("the daemon responds");
    let looping = worker(&status, "looping");
    assert_eq!(looping.restarts, 9, "ten starts");
    let reason = looping.reason.as_deref().unwrap_or_default();
    assert!(reason.contains("10 quick deaths") && reason.contains("mcpctl restart"), "{reason}");
    assert_eq!(worker(&status, "steady").restarts, 0);

    let output = daemon.mcpctl(&["restart", "looping"]);
    assert_eq!(output.code, Some(65), "it still crashes: {output:?}");
    std::fs::write(daemon.home().join("repos/looping/fixed"), "").expect("written");
    daemon.mcpctl(&["restart", "looping"]).expect_code(0);
    daemon.wait_ready();
    daemon.assert_shuts_down(0);
}

#[test]
fn a_stopped_worker_stays_stopped_until_it_is_started() {
    let config = ConfigBuilder::new().fixture("alpha", "").fixture("beta", "");
    let mut daemon = Daemon::start(config);
    let port = daemon.port("alpha");
    daemon.mcpctl(&["stop", "alpha"]).expect_code(0);
    assert!(mcpd_tests::ports::is_free(port));
    daemon.mcpctl(&["stop", "alpha"]).expect_code(0);
    daemon.wait_state("alpha", WorkerState::Stopped);
    daemon.mcpctl(&["start", "alpha"]).expect_code(0);
    let first = daemon.wait_state("alpha", WorkerState::Ready).pid;
    daemon.mcpctl(&["start", "--all"]).expect_code(0);
    assert_eq!(daemon.wait_state("alpha", WorkerState::Ready).pid, first, "it was running already");
    daemon.mcpctl(&["restart", "--all"]).expect_code(0);
    assert_ne!(daemon.wait_state("alpha", WorkerState::Ready).pid, first);
    daemon.mcpctl(&["stop", "--all"]).expect_code(0);
    until("all processes to exit", BOUND, || daemon.processes().is_empty().then_some(()));
    daemon.assert_shuts_down(0);
}
