//! The guardian: which signals it forwards, which processes it does not touch, and its own crash (R-CONT-5).

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::process;
use mcpd_common::outcome::{FindingKind, ShutdownReport};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, until};
use nix::sys::signal::kill;

const LONG: Duration = Duration::from_secs(20);

fn hostile() -> ConfigBuilder {
    ConfigBuilder::new().times(LONG, LONG).fixture("polite", "").fixture("escaped", "--escape-polite 3")
}

fn is_alive(pid: Pid) -> bool {
    process::best_effort::read(pid).is_some_and(|found| found.state != 'Z')
}

/// Kills the guardian and waits until the daemon has exited on its own; its report.
#[track_caller]
fn without_guardian(daemon: &mut Daemon) -> Option<ShutdownReport> {
    let pid = daemon.pid();
    daemon.signal(Signal::SIGKILL);
    until("the guardian to be gone", BOUND, || daemon.poll_exit());
    // An orphan now: init reaps it, in a container perhaps only after seconds.
    until("the daemon to be gone", BOUND, || process::best_effort::read(pid).is_none().then_some(()));
    daemon.assert_all_gone(&[]);
    daemon.state().last_shutdown().exists().then(|| daemon.report())
}

/// It has a name of its own, and is the process that was started.
#[test]
fn the_guardian_shows_itself() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let guardian = daemon.guardian();
    let status = daemon.try_status().and_then(|status| status.daemon).expect("it runs");
    assert_eq!((status.guardian, status.pid), (Some(guardian), daemon.pid()));
    let found = process::best_effort::read(guardian).expect("it runs");
    assert_eq!((found.name.as_str(), found.threads), ("mcp-guardian", 1));
    assert!(process::command(&found).starts_with("mcp-guardian"), "{}", process::command(&found));
    assert_eq!(process::best_effort::read(daemon.pid()).map(|found| found.ppid), Some(guardian.get()));
    daemon.assert_shuts_down(0);
}

/// R-CONT-5: the daemon notices it, shuts down in order, and nothing is left.
#[test]
fn without_its_guardian_the_daemon_shuts_down() {
    let mut daemon = Daemon::start(hostile());
    let report = without_guardian(&mut daemon).expect("an account");
    assert_eq!(report.reason, "guardian_died");
    assert!(report.findings.iter().any(|it| it.subject == "mcp-guardian"), "{:?}", report.findings);
    assert!(!report.phases.is_empty() && report.proof.is_some(), "a shutdown in order");
    daemon.assert_nothing_left(&[]);
    let mut next = daemon.launch_again();
    next.wait_ready();
    next.mcpctl(&["shutdown", "--now", "--wait"]).expect_code(3);
    assert_eq!(next.wait_exit(BOUND), 3);
}

/// The same while it starts, and while it shuts down already.
#[test]
fn the_guardian_may_die_at_any_time() {
    for pause in [0, 5, 40] {
        let mut daemon = Daemon::launch(hostile());
        daemon.pid();
        std::thread::sleep(Duration::from_millis(pause));
        without_guardian(&mut daemon);
    }
    let mut daemon = Daemon::start(hostile().fixture("slow", "--slow-exit 400"));
    daemon.signal(Signal::SIGTERM);
    let begun = "phase started phase=workers-graceful";
    until(begun, BOUND, || daemon.log().contains(begun).then_some(()));
    let report = without_guardian(&mut daemon).expect("an account");
    assert_eq!(report.reason, "signal_SIGTERM", "the first one wins");
}

/// R-CONT-6: both are killed; the next start kills the rest, and history and report show it.
#[test]
fn both_may_die_and_the_next_start_reports_it() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("escaped", "--escape 3"));
    let run = daemon.try_status().and_then(|status| status.daemon).expect("it runs").run;
    daemon.kill_both();
    let mut next = daemon.launch_again();
    next.wait_ready();
    let report = next.mcpctl(&["report", &run.to_string(), "--json"]).expect_code(0).json();
    assert_eq!((&report["exit_code"], &report["reason"]), (&101.into(), &"daemon_died".into()));
    let findings = report["findings"].as_array().expect("findings");
    let ended = findings.iter().filter(|it| it["subject"] == "escaped").count();
    assert_eq!(ended, 3, "{findings:?}");
    let last = next.try_status().and_then(|status| status.last_shutdown).expect("remembered");
    assert_eq!((last.run, last.exit_code), (run, 101));
    next.mcpctl(&["shutdown", "--now", "--wait"]).expect_code(3);
    assert_eq!(next.wait_exit(BOUND), 3);
    next.assert_nothing_left(&[]);
    let history = next.mcpctl(&["history", "--json"]).expect_code(0).json();
    assert_eq!(
        (&history["runs"][1]["run"], &history["runs"][1]["exit_code"]),
        (&run.to_string().into(), &101.into())
    );
}

/// R-CONT-5: children from before it was mcpd, and their orphans, are reported and not touched,
/// neither by a shutdown nor after a crash.
#[test]
fn inherited_children_are_not_touched() {
    for crash in [false, true] {
        let config = ConfigBuilder::new().fixture("escaped", "--escape-polite 2");
        let home = tempfile::tempdir().expect("a temporary directory");
        // One child of its own, and an orphan, which becomes the guardian's while the daemon lives.
        let script = "sleep 100 & echo $! > \"$HOME/child\"; \
                      (sleep 0.5; setsid sleep 101 & echo $! > \"$HOME/orphan\") & exec \"$@\"";
        let command = Daemon::command_below(&["sh", "-c", script, "sh"], home.path(), &config);
        let mut daemon = Daemon::launch_by(command, home, config);
        daemon.wait_ready();
        let pid = |name: &str| {
            let text = fs::read_to_string(daemon.home().join(name)).ok()?;
            text.trim().parse().ok().and_then(Pid::new)
        };
        let theirs = [
            until("the child", BOUND, || pid("child")),
            until("the orphan", BOUND, || {
                pid("orphan").filter(|pid| {
                    let parent = process::best_effort::read(*pid).map(|found| found.ppid);
                    parent == Some(daemon.guardian().get())
                })
            }),
        ];
        let report = if crash {
            daemon.signal_daemon(Signal::SIGKILL);
            daemon.assert_cleaned_up(101)
        } else {
            daemon.assert_shuts_down(2)
        };
        for pid in theirs {
            assert!(is_alive(pid), "{pid} was touched; crash: {crash}");
            kill(nix::unistd::Pid::from_raw(pid.get()), Signal::SIGKILL).expect("ours, and alive");
        }
        let reported = report.findings.iter().filter(|it| it.detail.contains("existed before mcpd")).count();
        assert_eq!(reported >= 2, crash, "{:?}", report.findings);
        assert!(
            report.findings.iter().all(|it| it.kind != FindingKind::ProcessLeft),
            "{:?}",
            report.findings
        );
    }
}

/// Section 6: Ctrl-C in a terminal reaches both; the daemon receives it once.
#[test]
fn ctrl_c_is_heard_once() {
    let config = ConfigBuilder::new().times(LONG, LONG).fixture("alpha", "--slow-exit 300");
    let home = tempfile::tempdir().expect("a temporary directory");
    let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY)
        .expect("a terminal");
    rustix::pty::grantpt(&terminal).expect("granted");
    rustix::pty::unlockpt(&terminal).expect("unlocked");
    let name = rustix::pty::ptsname(&terminal, Vec::new()).expect("a name");
    let name = name.to_str().expect("plain").to_owned();
    // A new session without a terminal gets the first one that its leader opens.
    let script = "exec setsid sh -c 'exec 3<>\"$0\"; exec \"$@\" 3>&-' \"$TERMINAL\" \"$@\"";
    let config = config.env("TERMINAL", &name);
    let command = Daemon::command_below(&["sh", "-c", script, "sh"], home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    rustix::io::write(&terminal, &[3]).expect("typed");
    let report = daemon.assert_no_trace(0);
    assert_eq!(report.reason, "signal_SIGINT");
    assert_eq!(daemon.log().matches("received signal=\"SIGINT\"").count(), 1, "{}", daemon.log());
}

/// Job control: stopped and continued as a whole, it goes on; the guardian forwards nothing of it.
#[test]
fn a_stopped_job_goes_on() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let state = |pid: Pid| process::best_effort::read(pid).map(|found| found.state);
    let guardian = daemon.guardian();
    let pid = daemon.pid();
    for (signal, stopped) in [(Signal::SIGTSTP, true), (Signal::SIGCONT, false)] {
        daemon.signal(signal);
        daemon.signal_daemon(signal);
        let as_wanted = |pid: Pid| (state(pid) == Some('T')) == stopped;
        until("both", BOUND, || (as_wanted(guardian) && as_wanted(pid)).then_some(()));
    }
    daemon.wait_ready();
    daemon.assert_shuts_down(0);
}

/// R-EXIT-2: a start that fails prints its error, and the guardian prints nothing.
#[test]
fn a_failed_start_is_no_crash() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let config = daemon.home().join("config.toml");
    let mut second = Daemon::command(daemon.home(), &ConfigBuilder::new());
    let second = second.arg("--config").arg(&config).stdin(Stdio::null()).output().expect("started");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(75), "{said}");
    assert!(!said.contains("mcp-guardian"), "{said}");

    // Another state directory, the same socket: refused after the fork.
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let text = fs::read_to_string(&config).expect("readable");
    let state = daemon.state().path().display().to_string();
    let other = elsewhere.path().join("config.toml");
    fs::write(&other, text.replace(&state, &elsewhere.path().join("state").display().to_string()))
        .expect("written");
    let mut third: Command = Daemon::command(daemon.home(), &ConfigBuilder::new());
    let third = third.arg("--config").arg(&other).stdin(Stdio::null()).output().expect("started");
    let said = String::from_utf8_lossy(&third.stderr);
    assert_eq!(third.status.code(), Some(75), "{said}");
    assert!(said.contains("already serves") && !said.contains("mcp-guardian"), "{said}");
    assert!(daemon.places().socket.exists(), "the other one's socket stays");
    daemon.assert_shuts_down(0);
}
