//! The harness finds what it has to find. A harness that sees nothing finds every shutdown
//! clean.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mcpd_tests::trace::Trace;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, ports, until};

fn fails(look: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(look)).is_err()
}

#[test]
fn a_running_daemon_is_a_trace() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let port = daemon.port("alpha");
    assert!(!ports::is_free(port));
    assert!(fails(|| daemon.assert_nothing_left(&[])));
    assert!(fails(|| daemon.assert_nothing_left(&["alpha"])), "its socket and processes too");
    daemon.mcpctl(&["shutdown"]);
    assert!(fails(|| _ = daemon.assert_no_trace(1)), "another exit code than expected");
    daemon.assert_no_trace(0);
}

#[test]
fn what_a_failed_test_leaves_is_ended() {
    let config =
        ConfigBuilder::new().fixture("alpha", "--ignore-term --ignore-shutdown --escape 2 --tree 2 2");
    let trace = Trace::new(config.tag());
    let daemon = Daemon::start(config);
    let port = daemon.port("alpha");
    assert_eq!(trace.remaining().len(), 1 + 2 + 2 + 4, "{:?}", trace.remaining_described());
    drop(daemon);
    let alive = || trace.remaining().iter().any(|found| found.state != 'Z');
    until("everything to end", BOUND, || (!alive() && ports::is_free(port)).then_some(()));
}
