//! The daemon crashes at any moment: the guardian leaves no process, reports it, and an immediate restart
//! succeeds (R-CONT-5, R-CONT-6).

use std::path::Path;
use std::time::Duration;

use mcpd_common::crash::CrashRecord;
use mcpd_common::os::Backend;
use mcpd_common::os::process::Process;
use mcpd_common::outcome::{FindingKind, ShutdownReport};
use mcpd_common::status::WorkerState;
use mcpd_tests::daemon::mcpctl;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, command, http, skip, until};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

/// One worker of each kind that is hard to stop, and one that exits when asked.
fn zoo() -> ConfigBuilder {
    ConfigBuilder::new()
        .times(LONG, LONG)
        .fixture("polite", "")
        .fixture("escaped", "--escape 3 --escape-polite 2 --ignore-term")
        .fixture("tree", "--tree 2 3 --ignore-shutdown")
        .fixture("heir", "--hand-over-socket --zombies 5")
}

/// Kills the daemon, and checks what R-CONT-5 promises.
#[track_caller]
fn killed(daemon: &mut Daemon) -> ShutdownReport {
    daemon.signal_daemon(Signal::SIGKILL);
    assert_killed(daemon)
}

/// What R-CONT-5 promises after a kill. A following `mcpctl` must have ended: it binds the ports, too.
#[track_caller]
fn assert_killed(daemon: &mut Daemon) -> ShutdownReport {
    let report = daemon.assert_cleaned_up(101);
    assert_eq!(report.reason, "daemon_died");
    assert_eq!(report.findings[0].kind, FindingKind::DaemonDied);
    assert!(report.findings[0].detail.contains("died (SIGKILL)"), "{:?}", report.findings[0]);
    assert_eq!(report.proof.is_some(), report.backend == Backend::Linux, "{:?}", report.proof);
    report
}

/// An immediate restart has all workers, shows the crash, and its shutdown leaves nothing.
#[track_caller]
fn restarts_well(daemon: Daemon, report: &ShutdownReport) {
    let mut next = daemon.launch_again();
    next.wait_ready();
    let status = next.try_status().expect("it answers");
    let last = status.last_shutdown.expect("remembered");
    assert_eq!((last.run, last.exit_code), (report.run, report.exit_code));
    let warnings = status.daemon.expect("it runs").warnings;
    assert!(warnings.iter().any(|it| it.contains(&report.run.to_string())), "{warnings:?}");
    next.mcpctl(&["shutdown", "--now", "--wait"]).expect_code(3);
    next.assert_no_trace(3);
}

/// R-CONT-5: 101, nothing is left, and every command shows what happened, at once and later.
#[test]
fn a_killed_daemon_leaves_nothing_and_an_account() {
    let mut daemon = Daemon::start(zoo());
    let run = daemon.try_status().and_then(|status| status.daemon).expect("it runs").run;
    let report = killed(&mut daemon);
    assert_eq!(report.run, run);
    let said = daemon.log();
    assert!(said.contains("mcp-guardian: exit code 101, see `mcpctl report`: the daemon"), "{said}");

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
    let asked = daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    assert_eq!(asked.stdout, "mcpd is not running, and nothing of it is left\n");

    // The next run shows it too, and `mcpctl` alone after that run.
    let home = {
        let mut next = daemon.launch_again();
        next.wait_ready();
        assert!(!next.state().crash().exists(), "the journal has it");
        next.mcpctl(&["shutdown", "--now", "--wait"]).expect_code(3);
        assert_eq!(next.wait_exit(BOUND), 3);
        next
    };
    let shown = home.mcpctl(&["report", &run.to_string(), "--json"]).expect_code(0).json();
    assert_eq!((&shown["exit_code"], &shown["findings"][0]["kind"]), (&101.into(), &"daemon_died".into()));
    let history = home.mcpctl(&["history", "--json"]).expect_code(0).json();
    assert_eq!(history["runs"][1]["exit_code"], 101, "{history}");
}

/// R-CONT-7: processes that the daemon knew are killed although they carry no mark: by the guardian, or,
/// if that was killed too, by the next start; on every backend.
#[test]
fn known_processes_are_killed_by_guardian_or_next_start() {
    let config = || ConfigBuilder::new().fixture("escaped", "--escape 2 --escape-polite 1 --ignore-term");
    let known = |daemon: &mut Daemon| {
        // A process between its two forks leads a session; only the escaped ones do not. Then a full scan.
        until("three escaped processes", BOUND, || {
            let all = daemon.processes();
            let workers = all.iter().filter(|it| it.name == "fixture_worker");
            let (leaders, escaped): (Vec<_>, Vec<_>) = workers.partition(|it| it.session == it.pid.get());
            (leaders.len() == 1 && escaped.len() == 3).then_some(())
        });
        daemon.wait_status("its children", |status| status.workers[0].descendants == 3);
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

/// R-CONT-5: at several moments of its start.
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
        restarts_well(daemon, &report);
    }
}

/// Asks for a shutdown, and follows it until this phase has begun.
#[track_caller]
fn shutting_down(daemon: &Daemon, phase: &str) -> command::Following {
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

/// A shutdown that stays in this phase, killed there.
#[track_caller]
fn killed_in_phase(phase: &str, config: ConfigBuilder) {
    let mut daemon = Daemon::start(config);
    let following = shutting_down(&daemon, phase);
    let report = killed_and_followed(&mut daemon, following);
    restarts_well(daemon, &report);
}

#[test]
fn killed_while_workers_are_asked() {
    killed_in_phase("workers-graceful", zoo().fixture("deaf", "--ignore-shutdown"));
}

#[test]
fn killed_while_clients_disconnect() {
    let config = ConfigBuilder::new()
        .shutdown("worker_graceful = \"300ms\"")
        .fixture("escaped", "--escape 3")
        .fixture("gate", "--wait-for-clients");
    let mut daemon = Daemon::start(config);
    let gate = http::open_stream(daemon.port("gate"));
    let following = shutting_down(&daemon, "clients");
    let report = killed_and_followed(&mut daemon, following);
    drop(gate);
    restarts_well(daemon, &report);
}

#[test]
fn killed_while_workers_are_terminated() {
    let config = ConfigBuilder::new()
        .times(SHORT, LONG)
        .fixture("deaf", "--ignore-shutdown --ignore-term --escape 3")
        .fixture("tree", "--tree 2 3 --ignore-term");
    killed_in_phase("workers-terminate", config);
}

#[test]
fn killed_while_it_verifies() {
    // Slow in the first shutdown only, so that the next run can end in order.
    let resource = r#"
        [resources.slow]
        close = ["sh", "-c", "mkdir was-closed 2>/dev/null && exec sleep 20; true"]
        timeout = "20s"
    "#;
    let config = ConfigBuilder::new().times(SHORT, SHORT).fixture("escaped", "--escape 3").toml(resource);
    let mut daemon = Daemon::start(config);
    let following = shutting_down(&daemon, "verification");
    let closing = daemon.home().join("was-closed");
    until("the resource to be closed", BOUND, || closing.exists().then_some(()));
    let report = killed_and_followed(&mut daemon, following);
    restarts_well(daemon, &report);
}

/// R-CLI-3: the daemon dies with a request that it never read. Once the guardian has cleaned up, nothing
/// runs and nothing is left, which is what was asked for.
#[test]
fn a_shutdown_that_the_daemon_never_read_ends_well() {
    let mut daemon = Daemon::start(zoo());
    daemon.signal_daemon(Signal::SIGSTOP);
    let pid = daemon.pid().get();
    until("the daemon to be stopped", BOUND, || all_threads_are(pid, 'T').then_some(()));
    let asking = daemon.mcpctl_start(&["shutdown", "--wait"]);
    let mcpctl = asking.pid().as_raw();
    let socket = daemon.places().socket.clone();
    // Twice: a thread may wake another one between two looks at them.
    let waits = || is_unaccepted(&socket) && all_threads_are(mcpctl, 'S') && all_threads_are(mcpctl, 'S');
    until("mcpctl to wait for the answer", BOUND, || waits().then_some(()));
    daemon.signal_daemon(Signal::SIGKILL);
    let output = asking.finish(BOUND).expect_code(0);
    assert_eq!(output.stdout, "mcpd is not running, and nothing of it is left\n");
    let report = assert_killed(&mut daemon);
    restarts_well(daemon, &report);
}

/// Whether all threads of the process are in this state (proc(5), `/proc/PID/stat`).
fn all_threads_are(pid: i32, state: char) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = threads.map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
    // The name before the state may hold anything but ends with the last parenthesis.
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

/// R-SHUT-5, R-CONT-5: `mcpctl shutdown --wait` returns when daemon and guardian are gone, with the
/// guardian's code.
#[test]
fn a_following_mcpctl_exits_with_the_guardians_code() {
    let mut daemon = Daemon::start(zoo().fixture("deaf", "--ignore-shutdown --ignore-term"));
    let watching = daemon.mcpctl_start(&["shutdown", "--wait", "--json"]);
    let begun = "phase started phase=workers-graceful";
    until(begun, BOUND, || daemon.log().contains(begun).then_some(()));
    daemon.signal_daemon(Signal::SIGKILL);
    let output = watching.finish(BOUND).expect_code(101);
    let result = output.json_lines().pop().expect("a last line");
    assert_eq!((&result["schema"], &result["exit_code"]), (&"mcpd.shutdown-result.v1".into(), &101.into()));
    assert_eq!(result["disagreements"].as_array().map(Vec::len), Some(0), "{result}");
    let exit = daemon.poll_exit();
    assert!(exit.is_some() || daemon.guardian_is_a_zombie(), "the guardian was gone when it returned");
    daemon.assert_cleaned_up(101);
}

/// R-CONT-5: past the hard deadline the guardian ends it, stopped or not.
#[test]
fn a_daemon_that_hangs_in_its_shutdown_is_ended() {
    let config = ConfigBuilder::new()
        .times(SHORT, SHORT)
        .shutdown("verification = \"100ms\"")
        .fixture("deaf", "--ignore-shutdown --ignore-term --escape 2");
    let mut daemon = Daemon::start(config);
    daemon.signal(Signal::SIGTERM);
    let begun = "phase started phase=workers-graceful";
    until(begun, BOUND, || daemon.log().contains(begun).then_some(()));
    daemon.signal_daemon(Signal::SIGSTOP);
    let report = daemon.assert_cleaned_up(102);
    assert_eq!((report.findings[0].kind, report.reason.as_str()), (FindingKind::Overrun, "overrun"));
    restarts_well(daemon, &report);
}

/// R-CONT-5: the daemon hangs before it reads the request.
#[test]
fn a_stopped_daemon_that_is_asked_to_exit_is_killed() {
    let config = ConfigBuilder::new()
        .times(SHORT, SHORT)
        .shutdown("verification = \"100ms\"")
        .fixture("escaped", "--escape 2");
    let mut daemon = Daemon::start(config);
    daemon.signal_daemon(Signal::SIGSTOP);
    daemon.signal(Signal::SIGTERM);
    let report = daemon.assert_cleaned_up(102);
    restarts_well(daemon, &report);
}

/// The guardian also kills a process that keeps forking.
#[test]
fn a_fork_bomb_dies_with_the_daemon() {
    let why = "processes fork faster than it can list all of them";
    if skip::unless_linux_backend(why) {
        return;
    }
    let config = ConfigBuilder::new().fixture("bomb", "--fork-bomb 300");
    let mut daemon = Daemon::launch(config);
    daemon.wait_state("bomb", WorkerState::Ready);
    until("some of them", BOUND, || (daemon.processes().len() > 50).then_some(()));
    killed(&mut daemon);
}

/// An exit without the completion mark is a crash, also by a signal that the daemon does not handle.
#[test]
fn any_sudden_end_is_a_crash() {
    for signal in [Signal::SIGALRM, Signal::SIGUSR1] {
        let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--escape 1"));
        daemon.signal_daemon(signal);
        let report = daemon.assert_cleaned_up(101);
        assert!(report.findings[0].detail.contains(signal.as_str()), "{:?}", report.findings[0]);
    }
}

/// R-CLIENT-7, R-CONT-5: a re-executed daemon keeps its guardian, which reports the new run.
#[test]
fn killed_after_it_was_re_executed() {
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
    restarts_well(daemon, &report);
}
