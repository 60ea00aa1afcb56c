//! Lookups in `/proc` and in the socket table can take long. They run on threads of their own, so that they delay only the
//! caller that needs the result. Here they hang (`MCPD_FAULT`), and there are more of them than the daemon's two threads for
//! everything else.

use mcpd_common::status::WorkerState;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, until};

const LOOKUPS: usize = 3;

fn hanging_in(place: &str) -> ConfigBuilder {
    ConfigBuilder::new().env("MCPD_FAULT", &format!("hang-in:{place}"))
}

#[track_caller]
fn wait_until_hanging(daemon: &Daemon) {
    until("the lookups to hang", BOUND, || {
        (daemon.log().matches("hangs, as MCPD_FAULT").count() >= LOOKUPS).then_some(())
    });
}

#[test]
fn a_request_whose_lookup_hangs_delays_no_other_request() {
    let mut daemon = Daemon::start(hanging_in("verify-ports").fixture("alpha", ""));
    let hanging: Vec<_> = (0..LOOKUPS).map(|_| daemon.mcpctl_start(&["verify-ports"])).collect();
    wait_until_hanging(&daemon);
    daemon.mcpctl(&["status"]).expect_code(0);
    daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    daemon.assert_shuts_down(0);
    drop(hanging);
}

/// A probe looks up which process listens on the worker's port.
#[test]
fn a_probe_whose_lookup_hangs_delays_no_order() {
    let names: Vec<_> = (0..LOOKUPS).map(|number| format!("w{number}")).collect();
    let config = names.iter().fold(hanging_in("listener"), |config, name| config.fixture(name, ""));
    let mut daemon = Daemon::launch(config);
    wait_until_hanging(&daemon);
    daemon.mcpctl(&["stop", "w0"]).expect_code(0);
    let status = daemon.wait_status("the reason of w1", |status| status.workers[1].reason.is_some());
    assert_eq!(status.workers[1].state, WorkerState::Starting);
    let reason = status.workers[1].reason.clone().unwrap_or_default();
    assert!(reason.contains("accepts no connection"), "{reason}");
    daemon.assert_shuts_down(0);
}
