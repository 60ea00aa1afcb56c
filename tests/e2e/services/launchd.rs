//! launchd restarts a job after every exit code but 0: `--launchd` leaves the others to a crash (R-SVC-3).

use std::time::Duration;

use mcpd_tests::daemon::LONGEST_SHUTDOWN;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, binaries, command};

const SHORT: Duration = Duration::from_millis(300);

fn launched(config: ConfigBuilder) -> Daemon {
    launched_with("--launchd", config)
}

fn launched_with(option: &str, config: ConfigBuilder) -> Daemon {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut mcpd = Daemon::command(home.path(), &config);
    mcpd.arg(option);
    let mut daemon = Daemon::launch_by(mcpd, home, config);
    daemon.wait_ready();
    daemon
}

#[test]
fn a_requested_shutdown_ends_with_0_and_the_report_has_the_code() {
    let mut daemon = launched(ConfigBuilder::new().times(SHORT, SHORT).fixture("alpha", "--ignore-shutdown"));
    daemon.mcpctl(&["shutdown", "--wait"]).expect_code(2);
    assert_eq!(daemon.wait_exit(LONGEST_SHUTDOWN), 0);
    assert_eq!(daemon.report().exit_code, 2);
}

/// `service install --restart always`.
#[test]
fn always_leaves_only_a_start_that_can_not_succeed_stopped() {
    let mut daemon = launched_with("--launchd=always", ConfigBuilder::new().fixture("alpha", ""));
    daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    assert_eq!(daemon.wait_exit(LONGEST_SHUTDOWN), 1, "launchd starts it again");
    assert_eq!(daemon.report().exit_code, 0);
    let home = tempfile::tempdir().expect("a temporary directory");
    let broken = ConfigBuilder::new().toml("nonsense = 1").fixture("alpha", "");
    let refused = Daemon::refused(home.path(), &broken, &["--strict", "--launchd=always"]);
    assert_eq!(refused.code, Some(0), "{refused:?}");
}

#[test]
fn a_crash_is_not_hidden() {
    let mut daemon = launched(ConfigBuilder::new().fixture("alpha", ""));
    daemon.signal_daemon(Signal::SIGKILL);
    assert_eq!(daemon.wait_exit(BOUND), 101);
}

#[test]
fn a_start_that_can_not_succeed_ends_with_0() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let broken = ConfigBuilder::new().toml("nonsense = 1").fixture("alpha", "");
    let refused = Daemon::refused(home.path(), &broken, &["--strict", "--launchd"]);
    assert_eq!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("nonsense"), "{refused:?}");
    let usage = command::start(std::process::Command::new(binaries::mcpd()).args(["--launchd", "--no-such"]));
    assert_eq!(usage.finish(BOUND).code, Some(0));

    let mut daemon = launched(ConfigBuilder::new().fixture("alpha", ""));
    let second = Daemon::refused(daemon.home(), &ConfigBuilder::new(), &["--launchd"]);
    assert_eq!(second.code, Some(0), "{second:?}");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit(LONGEST_SHUTDOWN);
}
