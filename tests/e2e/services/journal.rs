//! Standard error is the journal of systemd: it has the time already, and takes the level from a prefix.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use mcpd_common::phase::Phase;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, until};
use serde_json::Value;

/// The value of `JOURNAL_STREAM` for this file.
fn stream_of(file: &File) -> String {
    let found = file.metadata().expect("readable");
    format!("{}:{}", found.dev(), found.ino())
}

/// The log of a daemon with a worker that fails once. With `journal`, standard error is the journal.
fn log(is_journal: bool, args: &[&str]) -> String {
    let home = tempfile::tempdir().expect("a temporary directory");
    let stderr = File::create(home.path().join("stderr")).expect("made");
    let stream = if is_journal { stream_of(&stderr) } else { "1:1".to_owned() };
    let config = ConfigBuilder::new().env("JOURNAL_STREAM", &stream).fixture("alpha", "");
    let mut mcpd = Daemon::command(home.path(), &config);
    mcpd.args(args);
    let mut daemon = Daemon::launch_writing_to(Stdio::null(), stderr.into(), mcpd, home, config);
    daemon.wait_ready();
    daemon.signal(Signal::SIGTERM);
    daemon.assert_no_trace(0);
    daemon.log()
}

#[test]
fn the_journal_gets_levels_as_prefixes_and_no_time() {
    let log = log(true, &[]);
    assert!(log.contains("<6>phase started phase=clients limit_ms=30000\n"), "{log}");
    assert!(log.lines().all(|line| line.starts_with("<6>") || line.starts_with("<4>")), "{log}");
    assert!(!log.contains("INFO") && !log.contains("20:") && !log.contains('\x1b'), "{log}");
}

/// A child of a service inherits the variable.
#[test]
fn another_standard_error_is_not_the_journal() {
    let log = log(false, &[]);
    assert!(log.contains(" INFO phase started"), "{log}");
    assert!(!log.contains("<6>"), "{log}");
}

#[test]
fn a_format_on_the_command_line_is_used_in_the_journal_too() {
    let log = log(true, &["--log-format", "json"]);
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
}

/// The log of a terminal or a file is for people: how a worker ended is a number or a name, times have milliseconds.
#[test]
fn the_log_for_people_shows_exit_codes_as_numbers() {
    let log = log(false, &[]);
    let line = log.lines().find(|line| line.contains("worker stopped")).expect("a line");
    assert!(line.contains(" exit=0 "), "{line}");
    let (time, _) = line.split_once(' ').expect("a time");
    let (_, fraction) = time.split_once('.').expect("a fraction");
    assert_eq!(fraction.find(['+', '-']), Some(3), "{line}");
}

/// A line is missing if a filter of the log keeps an answer that it gave before.
#[test]
fn the_log_for_people_has_the_end_of_each_phase_and_each_check() {
    let log = log(false, &[]);
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Exit) {
        assert!(log.contains(&format!("phase finished phase={phase} ")), "{phase}: {log}");
    }
    for check in ["resources", "ports", "processes", "descriptors"] {
        assert!(log.contains(&format!("verified check=\"{check}\"")), "{check}: {log}");
    }
}

/// Standard output and standard error, also of errors that end a start.
#[test]
fn with_json_everything_that_mcpd_prints_is_json() {
    let is_json = |text: &str| text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
    let home = tempfile::tempdir().expect("a temporary directory");
    let config = ConfigBuilder::new().fixture("alpha", "");
    let mut mcpd = Daemon::command(home.path(), &config);
    mcpd.args(["--log-format", "json"]);
    let mut daemon = Daemon::launch_by(mcpd, home, config);
    daemon.wait_ready();
    let pid = daemon.pid();
    daemon.remember();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.get()), Signal::SIGKILL).expect("it runs");
    until("the guardian to be gone", BOUND, || daemon.poll_exit());
    daemon.assert_all_gone(&[]);
    let stdout = fs::read_to_string(daemon.home().join("stdout")).expect("readable");
    let log = daemon.log();
    assert!(is_json(&stdout) && is_json(&log), "{stdout}\n{log}");
    assert!(log.contains("/mcp\"") && log.contains("mcp-guardian: exit code 101"), "{log}");

    let home = tempfile::tempdir().expect("a temporary directory");
    let wrong = ConfigBuilder::new().toml("nonsense = 1").fixture("alpha", "");
    let refused = Daemon::refused(home.path(), &wrong, &["--strict", "--log-format", "json"]).expect_code(78);
    assert!(is_json(&refused.stderr) && refused.stderr.contains("nonsense"), "{refused:?}");
}

#[test]
fn errors_of_a_start_have_the_priority_of_errors() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let config = ConfigBuilder::new().toml("nonsense = 1").fixture("alpha", "");
    let file = config.write(home.path());
    let stderr = File::create(home.path().join("stderr")).expect("made");
    let mut mcpd = Daemon::command(home.path(), &config);
    mcpd.env("JOURNAL_STREAM", stream_of(&stderr)).arg("--strict").arg("--config").arg(file);
    mcpd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    assert_eq!(mcpd.status().expect("it starts").code(), Some(78));
    let text = fs::read_to_string(home.path().join("stderr")).expect("readable");
    assert!(!text.is_empty() && text.lines().all(|line| line.starts_with("<3>")), "{text}");
    // Without the journal there is no prefix.
    let refused = Daemon::refused(home.path(), &config, &["--strict"]);
    assert!(!refused.stderr.contains("<3>"), "{refused:?}");
}
