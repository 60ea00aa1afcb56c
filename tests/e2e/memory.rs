//! Journal, reports and logs, and what happens if they can't be written (R-LOG-1 to 5).

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use mcpd_common::exit_code::program;
use mcpd_common::outcome::ShutdownReport;
use mcpd_common::status::WorkerState;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, http, until};
use serde_json::Value;

fn one_worker() -> ConfigBuilder {
    ConfigBuilder::new().fixture("alpha", "")
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn warnings(daemon: &mut Daemon) -> Vec<String> {
    daemon.try_status().and_then(|status| status.daemon).expect("it runs").warnings
}

/// The files of a directory whose names have this prefix and suffix, sorted.
fn files(directory: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    let matches = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(prefix) && name.ends_with(suffix)
    };
    let mut files: Vec<_> = entries.filter(matches).collect();
    files.sort();
    files
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// R-LOG-1, R-LOG-2: with a daemon and without one.
#[test]
fn history_and_reports_have_all_runs() {
    let config = ConfigBuilder::new().fixture("alpha", "").fixture("beta", "--crash-after 300");
    let mut daemon = Daemon::start(config);
    daemon.wait_status("a restart", |status| status.workers[1].restarts > 0);
    daemon.mcpctl(&["shutdown", "--wait", "--reason", "first of three"]).expect_code(0);
    let mut reports: Vec<ShutdownReport> = vec![daemon.report()];
    for _ in 0..2 {
        assert_eq!(daemon.wait_exit(BOUND), 0);
        daemon = daemon.launch_again();
        daemon.wait_state("alpha", WorkerState::Ready);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait_exit(BOUND), 0);
        reports.push(daemon.report());
    }
    let history = daemon.mcpctl(&["history", "--json"]).expect_code(0).json();
    let rows = history["runs"].as_array().expect("rows");
    assert_eq!(rows.len(), 3, "{history}");
    for (row, report) in rows.iter().rev().zip(&reports) {
        let expected = serde_json::json!([report.run, report.reason, report.exit_code, 2]);
        assert_eq!(
            serde_json::json!([row["run"], row["reason"], row["exit_code"], row["workers"]]),
            expected
        );
    }
    assert!(rows[2]["restarts"].as_u64().is_some_and(|restarts| restarts > 0), "{history}");
    assert_eq!(rows[2]["reason"], "first of three");

    let report = |args: &[&str]| -> ShutdownReport {
        let output = daemon.mcpctl(&[&["report", "--json"], args].concat()).expect_code(0);
        serde_json::from_str(&output.stdout).expect("a report")
    };
    let assert_same = |one: &ShutdownReport, other: &ShutdownReport| {
        assert_eq!((one.run, &one.findings, &one.workers), (other.run, &other.findings, &other.workers));
    };
    assert_eq!(report(&[]), reports[2], "the same as last-shutdown.json");
    for kept in &reports {
        assert_same(&report(&[&kept.run.to_string()]), kept);
    }
    daemon = daemon.launch_again();
    daemon.wait_state("alpha", WorkerState::Ready);
    let last = daemon.try_status().and_then(|status| status.last_shutdown).expect("a last shutdown");
    assert_eq!((last.run, last.exit_code), (reports[2].run, reports[2].exit_code));
    daemon.mcpctl(&["report", &reports[0].run.to_string()]).expect_code(0);
    daemon.assert_shuts_down(0);
}

/// R-LOG-1: the history is lost, but the daemon runs.
#[test]
fn a_damaged_journal_is_set_aside() {
    let home = home();
    let state = home.path().join("state");
    fs::DirBuilder::new().mode(0o700).create(&state).expect("made");
    fs::write(state.join("journal.sqlite3"), "this is no database ".repeat(500)).expect("written");
    let mut daemon = Daemon::launch_in(home, one_worker());
    daemon.wait_ready();
    let warnings = warnings(&mut daemon);
    assert!(warnings.len() == 1 && warnings[0].contains("it was set aside as"), "{warnings:?}");
    daemon.wait_log("it was set aside as");
    let aside = files(daemon.state().path(), "journal.sqlite3.damaged-", "Z");
    assert_eq!(aside.len(), 1);
    assert!(text(&aside[0]).starts_with("this is no database"));
    daemon.assert_shuts_down(0);
    let history = daemon.mcpctl(&["history", "--json"]).expect_code(0).json();
    assert_eq!(history["runs"].as_array().map(Vec::len), Some(1));
}

/// R-LOG-1: another process holds the lock.
#[test]
fn a_locked_journal_does_not_prevent_the_start() {
    let mut daemon = Daemon::start(one_worker());
    daemon.assert_shuts_down(0);
    let connection = rusqlite::Connection::open(daemon.state().journal()).expect("opened");
    connection.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    let mut daemon = daemon.launch_again();
    daemon.wait_ready();
    let warnings = warnings(&mut daemon);
    assert!(warnings.len() == 1 && warnings[0].contains("locked"), "{warnings:?}");
    daemon.assert_shuts_down(0);
    drop(connection);
}

/// The rest of a line that starts with a time in RFC 3339, with microseconds and offset; `None` for other lines.
fn after_time(line: &str) -> Option<&str> {
    let (time, rest) = line.split_once(' ')?;
    let fraction = time.split_once('.')?.1;
    let digits = fraction.chars().take_while(char::is_ascii_digit).count();
    let offset = fraction.get(6..7)?;
    let is_time = digits == 6 && ["+", "-"].contains(&offset) && time.parse::<Timestamp>().is_ok();
    is_time.then_some(rest)
}

/// R-LOG-3, R-LOG-4: each line of the debug log has its source location; the shutdown log has the shutdown only;
/// signals are logged by name, and the state of the system at each start and end of a phase.
#[test]
fn debug_log_and_shutdown_log_have_their_contents() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--slow-exit 500"));
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("shutting down");
    daemon.signal(Signal::SIGTERM);
    daemon.assert_no_trace(0);
    let logs = daemon.places().log_dir.clone();
    let debug = files(&logs, "mcpd-", ".log");
    let shutdown = files(&logs, "shutdown-", ".log");
    assert_eq!((debug.len(), shutdown.len()), (1, 1));
    let debug = text(&debug[0]);
    let shutdown = text(&shutdown[0]);

    for line in debug.lines() {
        let rest = after_time(line).unwrap_or_else(|| panic!("no time: {line}"));
        let (location, _) = rest.split_once(".rs:").unwrap_or_else(|| panic!("no location: {line}"));
        assert!(location.contains("mcpd") || location.contains(": "), "no target: {line}");
    }
    assert!(debug.contains("started worker=alpha"), "{debug}");
    assert!(debug.matches("SIGTERM").count() >= 2, "a duplicate is missing:\n{debug}");

    let mut lines = shutdown.lines();
    let first = lines.next().and_then(after_time).expect("a first line");
    assert!(first.ends_with("shutting down reason=\"signal_SIGTERM\""), "{first}");
    let last = lines.next_back().and_then(after_time).expect("a last line");
    assert!(last.contains("shut down code=0"), "{last}");
    assert!(!shutdown.contains("started worker") && !shutdown.contains("DEBUG"), "{shutdown}");

    for phase in ["initiated", "workers-graceful", "clients", "workers-terminate", "verification"] {
        let border = format!("system state border=\"{phase}\"");
        let line =
            debug.lines().find(|line| line.contains(&border)).unwrap_or_else(|| panic!("{border}\n{debug}"));
        for field in [
            "pid=",
            "memory=",
            "cpu_ms=",
            "threads=",
            "descriptors=",
            "sockets=",
            "children=",
            "gathered_in_us=",
        ] {
            assert!(line.contains(field), "{field} in {line}");
        }
    }
}

/// R-LOG-3.
#[test]
fn the_logs_of_ten_runs_are_kept() {
    let home = home();
    let logs = home.path().join("logs");
    fs::create_dir(&logs).expect("made");
    for kind in ["mcpd", "shutdown"] {
        for day in 10..22 {
            fs::write(logs.join(format!("{kind}-202001{day}T000000Z-00000001.log")), "old").expect("written");
        }
    }
    fs::write(logs.join("mcpd-mine.log"), "another file").expect("written");
    let mut daemon = Daemon::launch_in(home, one_worker());
    daemon.wait_ready();
    let run = daemon.try_status().and_then(|status| status.daemon).expect("it runs").run;
    daemon.assert_shuts_down(0);
    for kind in ["mcpd", "shutdown"] {
        let kept = files(&logs, &format!("{kind}-20"), ".log");
        assert_eq!(kept.len(), 10, "{kept:?}");
        assert_eq!(kept[0], logs.join(format!("{kind}-20200113T000000Z-00000001.log")));
        assert_eq!(kept[9], logs.join(format!("{kind}-{run}.log")));
    }
    assert!(logs.join("mcpd-mine.log").exists());
}

/// R-LOG-3, R-SUP-1: the disk does not fill up, and neither worker nor daemon is blocked.
#[test]
fn the_log_of_a_worker_that_writes_without_end_is_rotated() {
    const LIMIT: u64 = 10 << 20;
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--flood").fixture("beta", ""));
    let workers = daemon.places().log_dir.join("workers");
    until("the last log file", 2 * BOUND, || {
        let oldest = workers.join("alpha.log.3");
        oldest.exists().then_some(())
    });
    assert_eq!(http::request(daemon.port("alpha"), "GET /health").expect("the worker responds").status, 200);
    daemon.mcpctl(&["health"]).expect_code(0);
    daemon.assert_shuts_down(0);
    let kept = files(&workers, "alpha.log", "");
    assert_eq!(kept.len(), 4, "{kept:?}");
    for file in kept {
        let size = fs::metadata(&file).expect("there").len();
        assert!(size <= LIMIT + (1 << 20), "{} has {size} bytes", file.display());
    }
}

/// R-LOG-5.
#[test]
fn an_unwritable_log_directory_is_a_warning() {
    let home = home();
    fs::write(home.path().join("logs"), "a file").expect("written");
    let mut daemon = Daemon::launch_in(home, one_worker());
    daemon.wait_ready();
    let warnings = warnings(&mut daemon);
    for kind in ["mcpd", "shutdown"] {
        let is_expected = |warning: &String| warning.starts_with(&format!("can't write the {kind} log in "));
        assert!(warnings.iter().any(is_expected), "{warnings:?}");
    }
    daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    daemon.assert_shuts_down(0);
    assert_eq!(text(&daemon.places().log_dir), "a file");
}

/// R-LOG-5, R-EXIT-2: nothing is started.
#[test]
fn an_unwritable_state_directory_is_an_error() {
    let home = home();
    fs::write(home.path().join("state"), "a file").expect("written");
    let output = Daemon::refused(home.path(), &one_worker(), &[]).expect_code(program::CONFIG);
    let state = home.path().join("state").display().to_string();
    for words in ["can't use the state directory", &state, "make it writable or choose another"] {
        assert!(output.stderr.contains(words), "{words}: {output:?}");
    }
    assert!(!home.path().join("logs").exists() && !home.path().join("run/control.sock").exists());
}

#[test]
fn the_report_file_and_mcpctl_report_have_the_same_json() {
    let mut daemon = Daemon::start(one_worker());
    daemon.assert_shuts_down(0);
    let file: Value = serde_json::from_str(&text(&daemon.state().last_shutdown())).expect("JSON");
    assert_eq!(file, daemon.mcpctl(&["report", "--json"]).expect_code(0).json());
    assert_eq!(file["schema"], "mcpd.shutdown-report.v1");
}
