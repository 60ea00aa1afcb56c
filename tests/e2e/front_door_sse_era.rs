//! HTTP+SSE of 2024-11-05 through the front door. It has no session that could be kept, so the stream ends cleanly with
//! its worker, and the client opens a new one as without mcpd (R-CLIENT-3).

use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::Events;
use mcpd_tests::wire::{self, compose};
use mcpd_tests::{BOUND, Daemon, Signal, until};
use nix::sys::signal::kill;
use serde_json::json;

use crate::front_door::start;

/// Opens the stream; returns it and the endpoint for messages.
fn open(daemon: &Daemon) -> (Events, String) {
    let request = compose("GET /sse", &["accept: text/event-stream"], "");
    let mut events = Events::of(wire::request(daemon.port("alpha"), &request));
    let first = events.next().expect("the endpoint");
    (events, first.data)
}

fn ping(daemon: &Daemon, events: &mut Events, endpoint: &str, id: u32) {
    let message = json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }).to_string();
    let request = compose(&format!("POST {endpoint}"), &["content-type: application/json"], &message);
    assert_eq!(wire::request(daemon.port("alpha"), &request).status, 202);
    let response = events.message();
    assert_eq!((&response["id"], &response["result"]["method"]), (&json!(id), &json!("ping")));
}

#[test]
fn an_sse_stream_ends_with_its_worker() {
    let mut daemon = start();
    let (mut events, endpoint) = open(&daemon);
    ping(&daemon, &mut events, &endpoint, 1);
    let pid = daemon.wait_state("alpha", WorkerState::Ready).pid.expect("it runs");
    kill(nix::unistd::Pid::from_raw(pid.get()), Signal::SIGKILL).expect("it runs");
    assert!(events.next().is_none(), "a clean end, without events that this version does not have");
    until("another worker process", BOUND, || {
        let worker = daemon.wait_state("alpha", WorkerState::Ready);
        (worker.pid != Some(pid)).then_some(())
    });
    let (mut events, next) = open(&daemon);
    assert_ne!(next, endpoint, "of another process");
    ping(&daemon, &mut events, &next, 2);
    let shutdown = daemon.mcpctl_start(&["shutdown", "--wait"]);
    for event in events {
        assert!(event.data.is_empty(), "{event:?}");
    }
    assert_eq!(shutdown.finish(BOUND).code, Some(0));
    daemon.assert_no_trace(0);
}
