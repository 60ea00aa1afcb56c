//! Sessions outlive the daemon too: its clients go on with the next one (R-CLIENT-3, R-CLIENT-7).

use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::{Client, Events};
use mcpd_tests::{BOUND, Daemon, Signal, until};
use serde_json::{Value, json};

use crate::front_door::start;

/// A session with something to be said again.
fn client(daemon: &Daemon) -> Client {
    let client = Client::initialize(daemon.port("alpha"));
    client.ask(&client.request("logging/setLevel", &json!({ "level": "debug" })));
    client.ask(&client.request("resources/subscribe", &json!({ "uri": "file:///a" })));
    client
}

/// The session is what it was, with another worker.
#[track_caller]
fn assert_goes_on(client: &Client, before: &Value) {
    let after = client.state();
    assert_ne!(after["pid"], before["pid"]);
    for kept in ["initialized", "level", "subscriptions"] {
        assert_eq!(after[kept], before[kept], "{kept} is said again");
    }
}

/// What the first stream after a renewal begins with: how to come back, and what may have changed.
#[track_caller]
fn assert_tells_of_changes(mut events: Events) {
    assert_eq!(events.next().and_then(|event| event.retry).as_deref(), Some("5000"));
    assert_eq!(events.message()["method"], "notifications/tools/list_changed");
}

/// Issue 3: after a stop and a start every client that did not call in between still works.
#[test]
fn a_stop_and_a_start_are_not_noticed_by_who_did_not_call_meanwhile() {
    let mut daemon = start();
    let (client, ended) = (client(&daemon), Client::initialize(daemon.port("alpha")));
    let before = client.state();
    assert_eq!(ended.delete().status, 200);
    daemon.assert_shuts_down(0);
    let mut daemon = daemon.launch_again();
    daemon.wait_ready();
    assert_goes_on(&client, &before);
    assert_tells_of_changes(client.listen(&[]));
    let over = ended.post(&ended.tool("state", &json!({})));
    assert_eq!(over.status, 404, "it ended its session itself");
    daemon.assert_shuts_down(0);
}

/// What was said before a crash of the daemon is not lost with it.
#[test]
fn a_killed_daemon_costs_no_session() {
    let mut daemon = start();
    let client = client(&daemon);
    let before = client.state();
    daemon.wait_state("alpha", WorkerState::Ready);
    daemon.signal(Signal::SIGKILL);
    until("its death", BOUND, || daemon.poll_exit());
    let mut daemon = daemon.launch_again();
    daemon.wait_ready();
    assert_goes_on(&client, &before);
    daemon.assert_shuts_down(0);
}
