//! The guardian: which signals it forwards, which processes it does not kill, and its own crash (R-CONT-5).

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::process;
use mcpd_common::outcome::{FindingKind, ShutdownReport};
use mcpd_tests::daemon::mcpctl;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, command, until};
use nix::sys::signal::kill;

const LONG: Duration = Duration::from_secs(20);

fn hostile() -> ConfigBuilder {
    ConfigBuilder::new().times(LONG, LONG).fixture("graceful", "").fixture("escaped", "--escape-polite 3")
}

fn is_alive(pid: Pid) -> bool {
    process::best_effort::read(pid).is_some_and(|found| found.state != 'Z')
}

/// Kills the guardian and waits until the daemon has shut down; its report, if it wrote one.
#[track_caller]
fn kill_guardian(daemon: &mut Daemon) -> Option<ShutdownReport> {
    let pid = daemon.pid();
    daemon.signal(Signal::SIGKILL);
    until("the guardian to be gone", BOUND, || daemon.poll_exit());
    // It is an orphan now, which init reaps; in a container that may take seconds.
    until("the daemon to be gone", BOUND, || process::best_effort::read(pid).is_none().then_some(()));
    daemon.assert_all_gone(&[]);
    daemon.state().last_shutdown().exists().then(|| daemon.report())
}

/// It is the process that was started.
#[test]
fn the_guardian_has_its_own_process_name_and_is_in_the_status() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let guardian = daemon.guardian();
    let status = daemon.try_status().and_then(|status| status.daemon).expect("it runs");
    assert_eq!((status.guardian, status.pid), (Some(guardian), daemon.pid()));
    let found = process::best_effort::read(guardian).expect("it runs");
    assert_eq!((found.name.as_str(), found.threads), ("mcp-guardian", 1));
    assert!(process::command(&found).starts_with("mcp-guardian --config "), "{}", process::command(&found));
    let file = daemon.home().join("config.toml").display().to_string();
    assert!(
        process::command(&found).ends_with(&file),
        "the arguments are complete: {}",
        process::command(&found)
    );
    assert_eq!(process::best_effort::read(daemon.pid()).map(|found| found.ppid), Some(guardian.get()));
    daemon.assert_shuts_down(0);
}

/// Its name is longer than `mcpd`, so it does not fit where the arguments were.
#[test]
fn the_name_of_the_guardian_is_complete_without_arguments() {
    let config = ConfigBuilder::new().fixture("alpha", "");
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = config.write(home.path());
    fs::create_dir(home.path().join("run")).expect("made");
    let mut mcpd = Daemon::command(home.path(), &config);
    mcpd.env("MCPD_CONFIG", file).arg0("mcpd").stdout(Stdio::null()).stderr(Stdio::null());
    let mut guardian = mcpd.spawn().expect("started");
    let shown = || fs::read(format!("/proc/{}/cmdline", guardian.id())).expect("it runs");
    let name = b"mcp-guardian";
    until("the name", BOUND, || (shown().split(|byte| *byte == 0).next() == Some(&name[..])).then_some(()));
    command::start(mcpctl(home.path()).args(["health", "--wait"])).finish(BOUND).expect_code(0);
    command::start(mcpctl(home.path()).args(["shutdown", "--wait"])).finish(BOUND).expect_code(0);
    assert_eq!(guardian.wait().expect("it ends").code(), Some(0));
}

/// R-CONT-5.
#[test]
fn the_daemon_shuts_down_if_its_guardian_was_killed() {
    let mut daemon = Daemon::start(hostile());
    let report = kill_guardian(&mut daemon).expect("a report");
    assert_eq!(report.reason, "guardian_died");
    assert!(report.findings.iter().any(|it| it.subject == "mcp-guardian"), "{:?}", report.findings);
    assert!(!report.phases.is_empty() && report.proof.is_some(), "a complete shutdown");
    daemon.assert_nothing_left(&[]);
    let mut next = daemon.launch_again();
    next.wait_ready();
    next.mcpctl(&["shutdown", "--now", "--wait"]).expect_code(3);
    assert_eq!(next.wait_exit(BOUND), 3);
}

/// During the start, and during a shutdown.
#[test]
fn the_guardian_may_be_killed_at_any_time() {
    for pause in [0, 5, 40] {
        let mut daemon = Daemon::launch(hostile());
        daemon.pid();
        std::thread::sleep(Duration::from_millis(pause));
        kill_guardian(&mut daemon);
    }
    let mut daemon = Daemon::start(hostile().fixture("slow", "--slow-exit 400"));
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("phase started phase=workers-graceful");
    let report = kill_guardian(&mut daemon).expect("a report");
    assert_eq!(report.reason, "signal_SIGTERM", "the first reason wins");
}

/// R-CONT-6: it kills the remaining processes; history and report show the crash.
#[test]
fn the_next_start_cleans_up_if_daemon_and_guardian_were_killed() {
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
    let last = next.try_status().and_then(|status| status.last_shutdown).expect("a last shutdown");
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

/// R-CONT-5: children that the process had before it executed mcpd, and their orphans, are reported, after a shutdown
/// and after a crash.
#[test]
fn preexisting_children_are_not_killed() {
    for crash in [false, true] {
        let config = ConfigBuilder::new().fixture("escaped", "--escape-polite 2");
        let home = tempfile::tempdir().expect("a temporary directory");
        // A child, and an orphan that is reparented to the guardian while the daemon runs.
        let script = "sleep 100 & echo $! > \"$HOME/child\"; \
                      (sleep 0.5; setsid sleep 101 & echo $! > \"$HOME/orphan\") & exec \"$@\"";
        let command = Daemon::command_below(&["sh", "-c", script, "sh"], home.path(), &config);
        let mut daemon = Daemon::launch_by(command, home, config);
        daemon.wait_ready();
        let pid = |name: &str| {
            let text = fs::read_to_string(daemon.home().join(name)).ok()?;
            text.trim().parse().ok().and_then(Pid::new)
        };
        let preexisting = [
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
        for pid in preexisting {
            assert!(is_alive(pid), "{pid} was touched; crash: {crash}");
            kill(nix::unistd::Pid::from_raw(pid.get()), Signal::SIGKILL)
                .expect("started by this test, and running");
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

/// Section 6: a terminal sends it to guardian and daemon.
#[test]
fn the_daemon_receives_ctrl_c_once() {
    let config = ConfigBuilder::new().times(LONG, LONG).fixture("alpha", "--slow-exit 300");
    let home = tempfile::tempdir().expect("a temporary directory");
    let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY)
        .expect("a terminal");
    rustix::pty::grantpt(&terminal).expect("granted");
    rustix::pty::unlockpt(&terminal).expect("unlocked");
    let name = rustix::pty::ptsname(&terminal, Vec::new()).expect("a name");
    let name = name.to_str().expect("plain").to_owned();
    // The first terminal that the leader of a new session opens becomes its controlling terminal.
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

/// Job control signals go to guardian and daemon; the guardian does not forward them.
#[test]
fn a_stopped_job_can_be_continued() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let state = |pid: Pid| process::best_effort::read(pid).map(|found| found.state);
    let guardian = daemon.guardian();
    let pid = daemon.pid();
    for (signal, stopped) in [(Signal::SIGTSTP, true), (Signal::SIGCONT, false)] {
        daemon.signal(signal);
        daemon.signal_daemon(signal);
        let has_state = |pid: Pid| (state(pid) == Some('T')) == stopped;
        until("both", BOUND, || (has_state(guardian) && has_state(pid)).then_some(()));
    }
    daemon.wait_ready();
    daemon.assert_shuts_down(0);
}

/// R-EXIT-2: the daemon prints its error, the guardian prints nothing.
#[test]
fn a_failed_start_is_not_reported_as_a_crash() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let config = daemon.home().join("config.toml");
    let mut second = Daemon::command(daemon.home(), &ConfigBuilder::new());
    let second = second.arg("--config").arg(&config).stdin(Stdio::null()).output().expect("started");
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(75), "{stderr}");
    assert!(!stderr.contains("mcp-guardian"), "{stderr}");

    // With another state directory and the same socket, the daemon fails after the fork.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let text = fs::read_to_string(&config).expect("readable");
    let state = daemon.state().path().display().to_string();
    let other = directory.path().join("config.toml");
    fs::write(&other, text.replace(&state, &directory.path().join("state").display().to_string()))
        .expect("written");
    let mut third: Command = Daemon::command(daemon.home(), &ConfigBuilder::new());
    let third = third.arg("--config").arg(&other).stdin(Stdio::null()).output().expect("started");
    let stderr = String::from_utf8_lossy(&third.stderr);
    assert_eq!(third.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains("already serves") && !stderr.contains("mcp-guardian"), "{stderr}");
    assert!(daemon.places().socket.exists(), "the socket of the running daemon is not removed");
    daemon.assert_shuts_down(0);
}

/// It kills all the same.
#[test]
fn a_guardian_names_what_it_can_not_clean_up() {
    let mut daemon = Daemon::start(hostile());
    daemon.remember();
    let places = daemon.places().clone();
    fs::rename(&places.state_dir, daemon.home().join("moved")).expect("moved");
    fs::write(&places.state_dir, "").expect("a file in its place");
    fs::remove_file(&places.socket).expect("removed");
    fs::create_dir(&places.socket).expect("a directory in its place");
    daemon.signal_daemon(Signal::SIGKILL);
    assert_eq!(daemon.wait_exit(BOUND), 101);
    assert!(daemon.processes().is_empty(), "{:?}", daemon.processes());
    let log = daemon.log();
    assert!(log.contains("mcp-guardian: can't write the crash record: "), "{log}");
    assert!(log.contains("is there and is not a socket; it was left alone"), "{log}");
}
