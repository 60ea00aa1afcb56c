//! HTTP+SSE of 2024-11-05 through the front door: no session that could be kept, so its stream ends with
//! its worker, cleanly, and the client begins anew as it would without mcpd (R-CLIENT-3).

use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::Events;
use mcpd_tests::wire::{self, compose};
use mcpd_tests::{BOUND, Daemon, Signal, until};
use nix::sys::signal::kill;
use serde_json::json;

use crate::front_door::start;

/// The stream, and where to post.
fn open(daemon: &Daemon) -> (Events, String) {
    let request = compose("GET /sse", &["accept: text/event-stream"], "");
    let mut events = Events::of(wire::request(daemon.port("alpha"), &request));
    let first = events.next().expect("the endpoint");
    (events, first.data)
}

fn ask(daemon: &Daemon, events: &mut Events, endpoint: &str, id: u32) {
    let message = json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }).to_string();
    let request = compose(&format!("POST {endpoint}"), &["content-type: application/json"], &message);
    assert_eq!(wire::request(daemon.port("alpha"), &request).status, 202);
    let answer = events.message();
    assert_eq!((&answer["id"], &answer["result"]["asked"]), (&json!(id), &json!("ping")));
}

#[test]
fn a_stream_of_2024_lives_and_ends_with_its_worker() {
    let mut daemon = start();
    let (mut events, endpoint) = open(&daemon);
    ask(&daemon, &mut events, &endpoint, 1);
    let pid = daemon.wait_state("alpha", WorkerState::Ready).pid.expect("it runs");
    kill(nix::unistd::Pid::from_raw(pid.get()), Signal::SIGKILL).expect("it runs");
    assert!(events.next().is_none(), "a clean end, and nothing that this era does not know");
    until("another worker", BOUND, || {
        let worker = daemon.wait_state("alpha", WorkerState::Ready);
        (worker.pid != Some(pid)).then_some(())
    });
    let (mut events, next) = open(&daemon);
    assert_ne!(next, endpoint, "of another process");
    ask(&daemon, &mut events, &next, 2);
    let shutdown = daemon.mcpctl_start(&["shutdown", "--wait"]);
    for event in events {
        assert!(event.data.is_empty(), "{event:?}");
    }
    assert_eq!(shutdown.finish(BOUND).code, Some(0));
    daemon.assert_no_trace(0);
}
