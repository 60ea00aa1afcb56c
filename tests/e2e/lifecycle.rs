//! Starts and shutdowns without any problem.

use mcpd_tests::daemon::LONGEST_SHUTDOWN;
use mcpd_tests::{ConfigBuilder, Daemon, Signal, WorkerSpec};

/// R-SHUT-5, R-EXIT-1.
#[test]
fn workers_that_exit_on_request_end_with_code_0() {
    let config = ConfigBuilder::new().worker("alpha", WorkerSpec::built_in()).fixture("beta", "");
    let mut daemon = Daemon::start(config);
    daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    let report = daemon.assert_no_trace(0);
    assert_eq!(report.workers.len(), 2);
    assert_eq!(report.reason, "manual");
}

/// R-EXIT-1: `SIGTERM` is the stop request for a worker without a shutdown route.
#[test]
fn sigterm_to_the_daemon_is_a_clean_shutdown() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", "--no-shutdown-route"));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit(LONGEST_SHUTDOWN), 0);
    assert_eq!(daemon.assert_no_trace(0).reason, "signal_SIGTERM");
}
