//! The daemon crashes at any moment: the guardian leaves no process, reports it, and an immediate restart
//! succeeds (R-CONT-5, R-CONT-6).

use std::fs;
use std::path::Path;
use std::time::Duration;

use mcpd_common::crash::CrashRecord;
use mcpd_common::os::Backend;
use mcpd_common::os::process::Process;
use mcpd_common::outcome::{FindingKind, ShutdownReport};
use mcpd_common::paths::StateDir;
use mcpd_common::status::WorkerState;
use mcpd_tests::daemon::mcpctl;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, command, http, skip, until};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

/// One worker of each kind that is hard to stop, and one that exits on request.
fn zoo() -> ConfigBuilder {
    ConfigBuilder::new()
        .times(LONG, LONG)
        .fixture("graceful", "")
        .fixture("escaped", "--escape 3 --escape-polite 2 --ignore-term")
        .fixture("tree", "--tree 2 3 --ignore-shutdown")
        .fixture("heir", "--hand-over-socket --zombies 5")
}

/// Kills the daemon with `SIGKILL` and checks the cleanup.
#[track_caller]
fn killed(daemon: &mut Daemon) -> ShutdownReport {
    daemon.signal_daemon(Signal::SIGKILL);
    assert_killed(daemon)
}

/// Checks what R-CONT-5 promises after a kill. A following `mcpctl` must have exited, because it binds the ports, too.
#[track_caller]
fn assert_killed(daemon: &mut Daemon) -> ShutdownReport {
    let report = daemon.assert_cleaned_up(101);
    assert_eq!(report.reason, "daemon_died");
    assert_eq!(report.findings[0].kind, FindingKind::DaemonDied);
    assert!(report.findings[0].detail.contains("died (SIGKILL)"), "{:?}", report.findings[0]);
    assert_eq!(report.proof.is_some(), report.backend == Backend::Linux, "{:?}", report.proof);
    report
}

/// Starts the daemon again at once: all workers are ready, the crash is shown, and a shutdown leaves nothing.
#[track_caller]
fn assert_restarts(daemon: Daemon, report: &ShutdownReport) {
    let mut next = daemon.launch_again();
    next.wait_ready();
    let status = next.try_status().expect("the daemon responds");
    let last = status.last_shutdown.expect("a last shutdown");
    assert_eq!((last.run, last.exit_code), (report.run, report.exit_code));
    let warnings = status.daemon.expect("it runs").warnings;
    assert!(warnings.iter().any(|it| it.contains(&report.run.to_string())), "{warnings:?}");
    next.mcpctl(&["shutdown", "--now", "--wait"]).expect_code(3);
    next.assert_no_trace(3);
}

/// R-CONT-5: code 101; every command shows the crash, with and without a daemon.
#[test]
fn a_killed_daemon_leaves_no_process_and_a_report() {
    let mut daemon = Daemon::start(zoo());
    let run = daemon.try_status().and_then(|status| status.daemon).expect("it runs").run;
    let report = killed(&mut daemon);
    assert_eq!(report.run, run);
    let log = daemon.log();
    assert!(log.contains("mcp-guardian: exit code 101, see `mcpctl report`: the daemon"), "{log}");

    let record = CrashRecord::read(&daemon.state().crash()).expect("readable").expect("written");
    assert_eq!((record.run, record.left.len(), record.damaged_lines), (run, 0, 0));
    assert!(record.ended_count >= 5, "{record:?}");
    let of_escaped = |it: &mcpd_common::crash::LeftoverProcess| {
        it.worker.as_ref().is_some_and(|worker| worker.as_str() == "escaped")
            && it.command.contains("sleeper")
    };
    assert!(record.ended.iter().filter(|it| of_escaped(it)).count() >= 5, "{record:?}");

    // Without a daemon.
    let shown = daemon.mcpctl(&["report", "--json"]).expect_code(0).json();
    assert_eq!((&shown["exit_code"], &shown["run"]), (&101.into(), &run.to_string().into()));
    let status = daemon.mcpctl(&["status", "--json"]).expect_code(3).json();
    assert_eq!(status["last_shutdown"]["exit_code"], 101);
    let history = daemon.mcpctl(&["history", "--json"]).expect_code(0).json();
    assert_eq!(
        (&history["runs"][0]["exit_code"], &history["runs"][0]["reason"]),
        (&101.into(), &"daemon_died".into())
    );
    let output = daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    assert_eq!(output.stdout, "mcpd is not running, and nothing of it is left\n");

    // After the next run, without a daemon.
    let last = {
        let mut next = daemon.launch_again();
        next.wait_ready();
        assert!(!next.state().crash().exists(), "it is in the journal now");
        next.mcpctl(&["shutdown", "--now", "--wait"]).expect_code(3);
        assert_eq!(next.wait_exit(BOUND), 3);
        next
    };
    let shown = last.mcpctl(&["report", &run.to_string(), "--json"]).expect_code(0).json();
    assert_eq!((&shown["exit_code"], &shown["findings"][0]["kind"]), (&101.into(), &"daemon_died".into()));
    let history = last.mcpctl(&["history", "--json"]).expect_code(0).json();
    assert_eq!(history["runs"][1]["exit_code"], 101, "{history}");
}

/// R-CONT-7: processes without a mark that the daemon had recorded are killed by the guardian or, if the guardian was
/// killed, too, by the next start; on every backend.
#[test]
fn known_processes_are_killed_by_guardian_or_next_start() {
    let config = || ConfigBuilder::new().fixture("escaped", "--escape 2 --escape-polite 1 --ignore-term");
    let known = |daemon: &mut Daemon| {
        // The middle process of a double fork leads a session, an escaped process does not. The status comes from a
        // full scan after that.
        until("three escaped processes", BOUND, || {
            let all = daemon.processes();
            let workers = all.iter().filter(|it| it.name == "fixture_worker");
            let (leaders, escaped): (Vec<_>, Vec<_>) = workers.partition(|it| it.session == it.pid.get());
            (leaders.len() == 1 && escaped.len() == 3).then_some(())
        });
        daemon.wait_status("the descendants", |status| status.workers[0].descendants == 3);
        daemon.remember();
    };
    let mut daemon = Daemon::start(config());
    known(&mut daemon);
    killed(&mut daemon);

    let mut next = daemon.launch_again();
    known(&mut next);
    next.kill_both();
    let left = next.processes();
    let mut again = next.launch_again();
    again.wait_ready();
    let is_left = |now: &Process| left.iter().any(|it| (it.pid, it.start) == (now.pid, now.start));
    let survivors: Vec<_> = again.processes().into_iter().filter(is_left).collect();
    assert!(survivors.is_empty(), "{survivors:?}\n{}", again.log());
    again.mcpctl(&["shutdown", "--now", "--wait"]).expect_code(3);
    again.assert_no_trace(3);
}

/// R-CONT-5: after several delays.
#[test]
fn killed_while_it_starts() {
    let why = "a process that escapes while the daemon dies was never seen";
    if skip::unless_linux_backend(why) {
        return;
    }
    for pause in [0, 3, 10, 25, 60] {
        let mut daemon = Daemon::launch(zoo());
        daemon.pid();
        std::thread::sleep(Duration::from_millis(pause));
        let report = killed(&mut daemon);
        assert_restarts(daemon, &report);
    }
}

/// Starts a shutdown, and follows it until this phase has begun.
#[track_caller]
fn start_shutdown(daemon: &Daemon, phase: &str) -> command::Following {
    daemon.mcpctl(&["shutdown"]).expect_code(0);
    let following = command::follow(mcpctl(daemon.home()).args(["shutdown", "--wait", "--json"]));
    let begun = format!(r#""event":"phase_started","phase":"{phase}""#);
    following.wait_line(&begun, |line| line.contains(&begun));
    following
}

/// Kills the daemon while `mcpctl` follows it; `mcpctl` exits with the guardian's code.
#[track_caller]
fn killed_and_followed(daemon: &mut Daemon, following: command::Following) -> ShutdownReport {
    daemon.signal_daemon(Signal::SIGKILL);
    let (status, lines) = following.finish(BOUND);
    assert_eq!(status.code(), Some(101), "{lines:?}");
    assert_killed(daemon)
}

/// Kills the daemon in this phase of a shutdown; the workers keep it from ending earlier.
#[track_caller]
fn killed_in_phase(phase: &str, config: ConfigBuilder) {
    let mut daemon = Daemon::start(config);
    let following = start_shutdown(&daemon, phase);
    let report = killed_and_followed(&mut daemon, following);
    assert_restarts(daemon, &report);
}

#[test]
fn killed_in_the_graceful_phase() {
    killed_in_phase("workers-graceful", zoo().fixture("stubborn", "--ignore-shutdown"));
}

#[test]
fn killed_in_the_clients_phase() {
    let config = ConfigBuilder::new()
        .shutdown("worker_graceful = \"300ms\"")
        .fixture("escaped", "--escape 3")
        .fixture("gate", "--wait-for-clients");
    let mut daemon = Daemon::start(config);
    let gate = http::open_stream(daemon.port("gate"));
    let following = start_shutdown(&daemon, "clients");
    let report = killed_and_followed(&mut daemon, following);
    drop(gate);
    assert_restarts(daemon, &report);
}

#[test]
fn killed_in_the_terminate_phase() {
    let config = ConfigBuilder::new()
        .times(SHORT, LONG)
        .fixture("stubborn", "--ignore-shutdown --ignore-term --escape 3")
        .fixture("tree", "--tree 2 3 --ignore-term");
    killed_in_phase("workers-terminate", config);
}

#[test]
fn killed_in_the_verification_phase() {
    // Slow in the first shutdown only, so that the shutdown of the next run is quick.
    let resource = r#"
        [resources.slow]
        close = ["sh", "-c", "mkdir was-closed 2>/dev/null && exec sleep 20; true"]
        timeout = "20s"
    "#;
    let config = ConfigBuilder::new().times(SHORT, SHORT).fixture("escaped", "--escape 3").toml(resource);
    let mut daemon = Daemon::start(config);
    let following = start_shutdown(&daemon, "verification");
    let closing = daemon.home().join("was-closed");
    until("the resource to be closed", BOUND, || closing.exists().then_some(()));
    let report = killed_and_followed(&mut daemon, following);
    assert_restarts(daemon, &report);
}

/// R-CLI-3: once the guardian has cleaned up, no process is left, so the request has succeeded.
#[test]
fn a_shutdown_request_that_a_killed_daemon_never_read_succeeds() {
    let mut daemon = Daemon::start(zoo());
    daemon.signal_daemon(Signal::SIGSTOP);
    let pid = daemon.pid().get();
    until("the daemon to be stopped", BOUND, || all_threads_are(pid, 'T').then_some(()));
    let running = daemon.mcpctl_start(&["shutdown", "--wait"]);
    let mcpctl = running.pid().as_raw();
    let socket = daemon.places().socket.clone();
    // Twice: a thread may wake another one while the threads are read.
    let waits = || is_unaccepted(&socket) && all_threads_are(mcpctl, 'S') && all_threads_are(mcpctl, 'S');
    until("mcpctl to wait for the response", BOUND, || waits().then_some(()));
    daemon.signal_daemon(Signal::SIGKILL);
    let output = running.finish(BOUND).expect_code(0);
    assert_eq!(output.stdout, "mcpd is not running, and nothing of it is left\n");
    let report = assert_killed(&mut daemon);
    assert_restarts(daemon, &report);
}

/// Whether all threads of the process are in this state (proc(5), `/proc/PID/stat`).
pub fn all_threads_are(pid: i32, state: char) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = threads.map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
    // The name before the state may contain any character; it ends at the last parenthesis.
    let mut states = stats.map(|stat| stat.rsplit(") ").next().and_then(|rest| rest.chars().next()));
    states.all(|found| found == Some(state))
}

/// Whether a connection to this socket waits to be accepted: the kernel lists it without an inode
/// (proc(5), `/proc/net/unix`).
fn is_unaccepted(socket: &Path) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("readable");
    let path = socket.to_str().expect("text");
    let mut rows = sockets.lines().map(|line| line.split_whitespace().skip(6).collect::<Vec<_>>());
    rows.any(|row| row == ["0", path])
}

/// R-SHUT-5, R-CONT-5: `mcpctl shutdown --wait` returns when daemon and guardian have exited.
#[test]
fn a_following_mcpctl_exits_with_the_guardians_code() {
    let mut daemon = Daemon::start(zoo().fixture("stubborn", "--ignore-shutdown --ignore-term"));
    let watching = daemon.mcpctl_start(&["shutdown", "--wait", "--json"]);
    daemon.wait_log("phase started phase=workers-graceful");
    daemon.signal_daemon(Signal::SIGKILL);
    let output = watching.finish(BOUND).expect_code(101);
    let result = output.json_lines().pop().expect("a last line");
    assert_eq!((&result["schema"], &result["exit_code"]), (&"mcpd.shutdown-result.v1".into(), &101.into()));
    assert_eq!(result["disagreements"].as_array().map(Vec::len), Some(0), "{result}");
    let exit = daemon.poll_exit();
    assert!(exit.is_some() || daemon.guardian_is_a_zombie(), "the guardian was gone when it returned");
    daemon.assert_cleaned_up(101);
}

/// R-CONT-5: by the guardian, after the hard deadline.
#[test]
fn a_daemon_that_hangs_in_its_shutdown_is_killed() {
    let config = ConfigBuilder::new()
        .times(SHORT, SHORT)
        .shutdown("verification = \"100ms\"")
        .fixture("stubborn", "--ignore-shutdown --ignore-term --escape 2");
    let mut daemon = Daemon::start(config);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("phase started phase=workers-graceful");
    daemon.signal_daemon(Signal::SIGSTOP);
    let report = daemon.assert_cleaned_up(102);
    assert_eq!((report.findings[0].kind, report.reason.as_str()), (FindingKind::Overrun, "overrun"));
    assert_restarts(daemon, &report);
}

/// R-CONT-5: the daemon hangs before it receives the signal.
#[test]
fn a_stopped_daemon_is_killed_after_a_shutdown_signal() {
    let config = ConfigBuilder::new()
        .times(SHORT, SHORT)
        .shutdown("verification = \"100ms\"")
        .fixture("escaped", "--escape 2");
    let mut daemon = Daemon::start(config);
    daemon.signal_daemon(Signal::SIGSTOP);
    daemon.signal(Signal::SIGTERM);
    let report = daemon.assert_cleaned_up(102);
    assert_restarts(daemon, &report);
}

/// The guardian also kills a process that keeps forking.
#[test]
fn a_fork_bomb_is_killed_after_the_daemon_died() {
    let why = "processes fork faster than it can list all of them";
    if skip::unless_linux_backend(why) {
        return;
    }
    let config = ConfigBuilder::new().fixture("bomb", "--fork-bomb 300");
    let mut daemon = Daemon::launch(config);
    daemon.wait_state("bomb", WorkerState::Ready);
    until("50 processes", BOUND, || (daemon.processes().len() > 50).then_some(()));
    killed(&mut daemon);
}

/// There is no completion mark then.
#[test]
fn an_exit_by_an_unhandled_signal_is_a_crash() {
    for signal in [Signal::SIGALRM, Signal::SIGUSR1] {
        let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--escape 1"));
        daemon.signal_daemon(signal);
        let report = daemon.assert_cleaned_up(101);
        assert!(report.findings[0].detail.contains(signal.as_str()), "{:?}", report.findings[0]);
    }
}

/// R-CLIENT-7, R-CONT-5: a re-executed daemon keeps its guardian, which reports the new run.
#[test]
fn killed_after_a_re_execution() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("escaped", "--escape-polite 3"));
    let pid = daemon.pid();
    let guardian = daemon.guardian();
    let first = daemon.try_status().and_then(|status| status.daemon).expect("it runs").run;
    daemon.mcpctl(&["restart", "--daemon"]).expect_code(0);
    daemon.wait_ready();
    let now = daemon.try_status().and_then(|status| status.daemon).expect("it runs");
    assert_eq!((now.pid, now.guardian), (pid, Some(guardian)));
    assert_ne!(now.run, first);
    let report = killed(&mut daemon);
    assert_eq!(report.run, now.run);
    assert_restarts(daemon, &report);
}

/// R-CLIENT-7: also if it has another state directory, whose lock the guardian did not have.
#[test]
fn killed_after_the_state_directory_was_changed() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("escaped", "--escape-polite 3"));
    let file = daemon.home().join("config.toml");
    let changed = StateDir::new(daemon.home().join("another"));
    let text = fs::read_to_string(&file).expect("readable");
    let old = daemon.places().state_dir.display().to_string();
    fs::write(&file, text.replace(&old, &changed.path().display().to_string())).expect("written");
    daemon.mcpctl(&["restart", "--daemon"]).expect_code(0);
    daemon.wait_ready();
    daemon.signal_daemon(Signal::SIGKILL);
    assert_eq!(daemon.wait_exit(BOUND), 101);
    assert!(daemon.processes().is_empty(), "{:?}", daemon.processes());
    let report = fs::read(changed.last_shutdown()).expect("the guardian wrote a report");
    let report: ShutdownReport = serde_json::from_slice(&report).expect("a report");
    assert_eq!((report.exit_code, report.reason.as_str()), (101, "daemon_died"));
    assert!(!daemon.places().socket.exists() && !changed.run_file().exists());
}
