//! A worker inherits only what is intended, even if the daemon was started with unusual signals, descriptors and limits
//! (R-SUP-1).

use std::fs;
use std::path::Path;

use mcpd_tests::{BOUND, ConfigBuilder, Daemon, WorkerSpec, binaries, until};
use serde_json::Value;

/// Variables of the daemon that a worker must not inherit.
const DAEMON_VARIABLES: [(&str, &str); 8] = [
    ("NOTIFY_SOCKET", "/nowhere/notify"),
    ("WATCHDOG_USEC", "60000000"),
    ("WATCHDOG_PID", "1"),
    ("LISTEN_FDS", "1"),
    ("LISTEN_PID", "1"),
    ("LISTEN_FDNAMES", "control"),
    // Of another unit: the daemon ignores it, too.
    ("SYSTEMD_EXEC_PID", "1"),
    ("STATE_DIRECTORY", "/nowhere/state"),
];

/// Ignored signals, a blocked one, descriptors without close-on-exec, no standard input, a lower limit, and the
/// directories of another process.
const SETUP: &str = "trap '' USR1 USR2 PIPE WINCH; exec 0<&- 7</dev/null 9>>\"$HOME/nine\"; \
                    ulimit -S -n 300; exec env --block-signal=USR1,RTMIN PWD=/usr OLDPWD=/ \"$@\"";

/// A daemon that was started by [`SETUP`]; its worker `alpha` reports what it inherited.
fn launch() -> Daemon {
    let home = tempfile::tempdir().expect("a temporary directory");
    let report = home.path().join("report.json");
    // `cat` reads what was inherited; a Rust program changes some of it before `main`.
    let script = "cat /proc/self/status > \"$FIXTURE_REPORT.status\"; \
                  cat /proc/$$/environ > \"$FIXTURE_REPORT.environ\"; exec \"$@\"";
    let fixture = binaries::fixture_worker().display().to_string();
    let worker = ["sh", "-c", script, "sh", &fixture, "--port", "{port}", "--print-env"];
    let spec = WorkerSpec::command(worker)
        .with(&format!("env = {{ FIXTURE_REPORT = {:?}, ANSWER = \"42\" }}", report.display().to_string()))
        .with("ready = \"http:/health\"")
        .with("shutdown_path = \"/shutdown\"");
    let config =
        DAEMON_VARIABLES.iter().fold(ConfigBuilder::new(), |config, (name, value)| config.env(name, value));
    let config = config.worker("alpha", spec);
    let command = Daemon::command_below(&["sh", "-c", SETUP, "sh"], home.path(), &config);
    Daemon::launch_by(command, home, config)
}

fn report(home: &Path) -> Value {
    let text = fs::read_to_string(home.join("report.json")).expect("written before it listens");
    serde_json::from_str(&text).expect("JSON")
}

/// The inherited signal mask of this name.
fn mask(home: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(home.join("report.json.status")).expect("written");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    u64::from_str_radix(line.expect("the line is there").trim(), 16).expect("hexadecimal")
}

/// The variable of this name, as the kernel gave it to the worker: a shell sets `PWD` by itself.
fn variable(home: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(home.join("report.json.environ")).expect("written");
    text.split('\0').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}

/// A worker that trusts these variables must not take the daemon's directory for its own.
#[test]
fn the_working_directory_is_the_one_in_the_environment() {
    let mut daemon = launch();
    daemon.wait_ready();
    let home = daemon.home().to_owned();
    let directory = report(&home)["directory"].as_str().expect("text").to_owned();
    let named = variable(&home, "PWD").expect("PWD is set");
    assert_eq!(fs::canonicalize(named).expect("it exists").display().to_string(), directory);
    assert_eq!(variable(&home, "OLDPWD"), None);
    daemon.assert_shuts_down(0);
}

#[test]
fn a_worker_inherits_only_what_is_intended() {
    let mut daemon = launch();
    daemon.wait_ready();
    let home = daemon.home().to_owned();
    let status = daemon.try_status().expect("the daemon responds");
    let report = report(&home);

    let descriptors = report["descriptors"].as_object().expect("an object");
    let numbers: Vec<_> = descriptors.keys().map(String::as_str).collect();
    assert_eq!(numbers, ["0", "1", "2"], "{descriptors:?}");
    assert_eq!(descriptors["0"], "/dev/null");
    for output in ["1", "2"] {
        assert!(descriptors[output].as_str().is_some_and(|it| it.starts_with("pipe:")), "{descriptors:?}");
    }

    for name in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(mask(&home, name), 0, "{name}");
    }

    let limits = report["limits"].as_array().expect("lines");
    let open_files = limits.iter().filter_map(Value::as_str).find(|line| line.starts_with("Max open files"));
    let soft = open_files.and_then(|line| line.split_whitespace().nth(3));
    assert_eq!(soft, Some("300"), "the limit before the daemon raised it");

    let env = report["env"].as_object().expect("an object");
    for (name, _) in DAEMON_VARIABLES {
        assert!(!env.contains_key(name), "{name} in {env:?}");
    }
    let port = daemon.port("alpha").to_string();
    assert_eq!((&env["PORT"], &env["ANSWER"]), (&port.into(), &"42".into()));

    let pid = status.workers[0].pid.expect("it runs").get();
    assert_eq!(
        (&report["pid"], &report["pgid"], &report["session"]),
        (&pid.into(), &pid.into(), &pid.into())
    );
    assert_eq!(report["ppid"], daemon.pid().get());
    let repo = fs::canonicalize(home.join("repos/alpha")).expect("it is there");
    assert_eq!(report["directory"], repo.display().to_string());
    daemon.assert_shuts_down(0);
}

/// So that no other descriptor of the daemon gets the number 0.
#[test]
fn a_closed_standard_input_becomes_dev_null() {
    let mut daemon = launch();
    daemon.wait_ready();
    let first = fs::read_link(format!("/proc/{}/fd/0", daemon.pid())).expect("it is open");
    assert_eq!(first, Path::new("/dev/null"));
    daemon.assert_shuts_down(0);
}

#[test]
fn a_restarted_worker_inherits_the_same() {
    let mut daemon = launch();
    daemon.wait_ready();
    let inherited = |home: &Path| {
        let mut report = report(home);
        for changing in ["pid", "pgid", "session", "descriptors"] {
            report[changing] = Value::Null;
        }
        report
    };
    let first = inherited(daemon.home());
    fs::remove_file(daemon.home().join("report.json")).expect("removed");
    daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    let home = daemon.home().to_owned();
    until("the next report", BOUND, || home.join("report.json").exists().then_some(()));
    assert_eq!(inherited(&home), first);
    daemon.assert_shuts_down(0);
}
