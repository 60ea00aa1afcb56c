//! Tests of the harness: its assertions fail if something is left.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mcpd_tests::trace::Trace;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, ports, until};

fn fails(assertion: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(assertion)).is_err()
}

#[test]
fn a_running_daemon_is_found() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let port = daemon.port("alpha");
    assert!(!ports::is_free(port));
    assert!(fails(|| daemon.assert_nothing_left(&[])));
    assert!(fails(|| daemon.assert_nothing_left(&["alpha"])), "socket and processes are left, too");
    daemon.mcpctl(&["shutdown"]);
    assert!(fails(|| _ = daemon.assert_no_trace(1)), "the exit code is not 1");
    daemon.assert_no_trace(0);
}

#[test]
fn processes_of_a_failed_test_are_killed() {
    let config =
        ConfigBuilder::new().fixture("alpha", "--ignore-term --ignore-shutdown --escape 2 --tree 2 2");
    let trace = Trace::new(config.tag());
    let daemon = Daemon::start(config);
    let port = daemon.port("alpha");
    assert_eq!(trace.remaining().len(), 1 + 2 + 2 + 4, "{:?}", trace.remaining_described());
    drop(daemon);
    let is_running = || trace.remaining().iter().any(|found| found.state != 'Z');
    until("all processes to exit", BOUND, || (!is_running() && ports::is_free(port)).then_some(()));
}
