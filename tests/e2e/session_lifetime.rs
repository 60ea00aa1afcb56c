//! A session lives as long as its client, whatever its worker does (R-CLIENT-9).

use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Duration;

use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::{Client, Events, JSON};
use mcpd_tests::wire::{self, compose};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, until};
use serde_json::{Value, json};

use crate::front_door::behind_front_door;
use crate::front_door_restart::kill_worker;

fn start(flags: &str) -> Daemon {
    Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door(flags)))
}

fn get(daemon: &Daemon, path: &str) -> wire::Reply {
    wire::request(daemon.port("alpha"), &compose(&format!("GET {path}"), &[], ""))
}

fn counts(daemon: &Daemon) -> Value {
    get(daemon, "/counts").json()
}

fn wait_restarted(daemon: &mut Daemon) {
    let before = daemon.wait_state("alpha", WorkerState::Ready).restarts;
    kill_worker(daemon);
    daemon.wait_status("the next process", |status| {
        let worker = &status.workers[0];
        worker.restarts > before && worker.state == WorkerState::Ready
    });
}

/// The worker forgets its sessions by itself: one replay serves all requests that wait for it.
fn assert_survives_a_lost_session(flags: &str) {
    let mut daemon = start(flags);
    let client = Client::initialize(daemon.port("alpha"));
    client.call(&client.request("logging/setLevel", &json!({ "level": "debug" })));
    let before = client.state();
    for forgotten in 1..=2 {
        assert_eq!(get(&daemon, "/forget").status, 200);
        thread::scope(|scope| {
            let calls: Vec<_> = (0..20).map(|_| scope.spawn(|| client.state())).collect();
            calls.into_iter().for_each(|call| assert_eq!(call.join().expect("no panic"), before));
        });
        assert_eq!(counts(&daemon)["begun"], 1 + forgotten);
    }
    daemon.assert_shuts_down(0);
}

#[test]
fn a_session_that_its_worker_forgot_is_replayed_once() {
    assert_survives_a_lost_session("");
}

/// Servers made with the TypeScript SDK.
#[test]
fn a_400_for_an_unknown_session_counts_as_well() {
    assert_survives_a_lost_session("--unknown-session 400");
}

/// A stream of a session that was forgotten begins with it again.
#[test]
fn a_stream_of_a_forgotten_session_is_opened() {
    let mut daemon = start("");
    let client = Client::initialize(daemon.port("alpha"));
    get(&daemon, "/forget");
    let mut events = client.listen(&[]);
    assert_eq!(events.next().and_then(|event| event.retry).as_deref(), Some("5000"));
    until("an event of the worker", BOUND, || {
        (events.message()["method"] == "notifications/message").then_some(())
    });
    assert_eq!(counts(&daemon)["begun"], 2);
    daemon.assert_shuts_down(0);
}

/// Only the client ends it.
#[test]
fn a_deleted_session_is_not_replayed() {
    let mut daemon = start("");
    let client = Client::initialize(daemon.port("alpha"));
    assert_eq!(client.delete().status, 200);
    assert_eq!(client.post(&client.tool("state", &json!({}))).status, 404);
    assert_eq!(counts(&daemon)["begun"], 1);
    daemon.assert_shuts_down(0);
}

/// A worker that demands a token gets it in the replay; a client with a wrong one gets the worker's refusal, and the
/// session goes on.
#[test]
fn a_replay_has_the_credentials_of_its_request() {
    let mut daemon = start("--token right");
    let mut client = Client::initialize_with(daemon.port("alpha"), &["authorization: Bearer right"]);
    let before = client.state();
    wait_restarted(&mut daemon);
    client.headers = vec!["authorization: Bearer wrong".to_owned()];
    let refused = client.post(&client.tool("state", &json!({})));
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").is_some_and(|it| it.starts_with("Bearer")), "{refused:?}");
    client.headers = vec!["authorization: Bearer right".to_owned()];
    let after = client.state();
    assert_ne!(after["pid"], before["pid"]);
    assert_eq!(after["initialized"], true);
    daemon.assert_shuts_down(0);
}

/// 503 from a worker that has only just bound its port.
#[test]
fn a_replay_waits_for_a_worker_that_is_not_ready_by_its_own_account() {
    let mut daemon = start("--not-yet 3000");
    let client = until("a session", BOUND, || {
        let reply = wire::request(daemon.port("alpha"), &compose("POST /mcp", &JSON, INITIALIZE));
        (reply.status == 200).then(|| Client::initialize(daemon.port("alpha")))
    });
    let before = client.state();
    wait_restarted(&mut daemon);
    let after = client.state();
    assert_ne!(after["pid"], before["pid"]);
    assert_eq!(after["initialized"], true);
    daemon.assert_shuts_down(0);
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;

/// The worker has not noticed yet that the last stream was closed.
#[test]
fn a_stream_waits_for_the_end_of_the_last_one() {
    let mut daemon = start("--one-stream 500");
    let client = Client::initialize(daemon.port("alpha"));
    for _ in 0..3 {
        let mut events = client.listen(&[]);
        assert!(events.next().is_some_and(|event| event.retry.is_some()));
        assert_eq!(events.message()["method"], "notifications/message");
    }
    daemon.assert_shuts_down(0);
}

/// The leader stays, another process serves.
fn assert_survives_a_reload_in_place(how: &str) {
    let config = ConfigBuilder::new().worker("alpha", behind_front_door(&format!("--reloads {how}")));
    let mut daemon = Daemon::start(config);
    let client = Client::initialize(daemon.port("alpha"));
    client.call(&client.request("logging/setLevel", &json!({ "level": "debug" })));
    let mut events = client.listen(&[]);
    assert!(events.next().is_some_and(|event| event.retry.is_some()));
    let mut served_by = events.message()["params"]["data"]["pid"].clone();
    for _ in 0..2 {
        let before = client.state();
        assert_eq!(get(&daemon, "/reload").status, 200);
        let after = until("another process", BOUND, || {
            let after = client.state();
            (after["pid"] != before["pid"]).then_some(after)
        });
        assert_eq!((&after["initialized"], &after["level"]), (&json!(true), &json!("debug")));
        let next = until("the stream of the next process", BOUND, || {
            let message = events.message();
            (message["method"] == "notifications/message").then(|| message["params"]["data"]["pid"].clone())
        });
        assert_eq!(next, after["pid"], "not {served_by}");
        served_by = next;
    }
    assert_eq!(daemon.wait_state("alpha", WorkerState::Ready).restarts, 0);
    daemon.assert_shuts_down(0);
}

#[test]
fn a_reload_in_place_that_ends_the_old_process() {
    assert_survives_a_reload_in_place("exit");
}

/// The old process waits for its connections.
#[test]
fn a_reload_in_place_that_waits_for_the_streams() {
    assert_survives_a_reload_in_place("drain");
}

/// As with `uvicorn --reload`: nothing is refused, because the leader holds the socket.
#[test]
fn a_reload_in_place_behind_the_socket_of_the_leader() {
    assert_survives_a_reload_in_place("inherit");
}

/// The process that had begun to respond is gone; the request gets its error, and the session goes on.
#[test]
fn a_call_during_a_reload_in_place_gets_the_error() {
    let config = ConfigBuilder::new().worker("alpha", behind_front_door("--reloads exit"));
    let mut daemon = Daemon::start(config);
    let client = Client::initialize(daemon.port("alpha"));
    let slow = client.tool("slow", &json!({ "steps": 100, "pause": 300 }));
    let mut events = Events::of(client.post(&slow));
    assert_eq!(events.message()["method"], "notifications/progress");
    get(&daemon, "/reload");
    let last = events.last().expect("the error").json();
    assert_eq!((&last["id"], &last["error"]["code"]), (&slow["id"], &json!(-32000)));
    assert_eq!(client.state()["initialized"], true);
    daemon.assert_shuts_down(0);
}

/// No call is executed twice. A call that is refused twice is not executed at all: its client gets the refusal.
#[test]
fn calls_are_executed_once_while_the_session_is_lost_again_and_again() {
    const CALLS: u32 = 100;
    let mut daemon = start("");
    let client = Client::initialize(daemon.port("alpha"));
    thread::scope(|scope| {
        let port = daemon.port("alpha");
        let forgetting = scope.spawn(move || {
            for _ in 0..20 {
                wire::request(port, &compose("GET /forget", &[], ""));
                thread::sleep(Duration::from_millis(10));
            }
        });
        for number in 0..CALLS {
            let reply = client.post(&client.tool("state", &json!({ "number": number })));
            assert!(matches!(reply.status, 200 | 404), "{reply:?}");
        }
        forgetting.join().expect("no panic");
    });
    let counts = counts(&daemon);
    let calls = counts["calls"].as_object().expect("counts");
    assert!(calls.len() > CALLS as usize / 2, "{calls:?}");
    assert!(calls.values().all(|times| *times == 1), "{calls:?}");
    daemon.assert_shuts_down(0);
}

/// A daemon whose clients accept 2 s of silence.
fn start_impatient(flags: &str) -> Daemon {
    let config =
        ConfigBuilder::new().env("MCPD_FAULT", "silence:2").worker("alpha", behind_front_door(flags));
    Daemon::start(config)
}

/// The raw lines of an event stream.
fn lines(reply: wire::Reply) -> impl Iterator<Item = String> {
    assert!(reply.header("content-type").is_some_and(|kind| kind == "text/event-stream"), "{reply:?}");
    BufReader::new(reply.body).lines().map(|line| line.expect("a line"))
}

/// R-CLIENT-10: comments, and then the response as an event.
#[test]
fn a_late_response_becomes_an_event_stream() {
    let mut daemon = start_impatient("");
    let client = Client::initialize(daemon.port("alpha"));
    let call = client.tool("silent", &json!({ "pause": 7000 }));
    let lines: Vec<_> = lines(client.post(&call)).collect();
    assert!(lines.iter().filter(|line| line.starts_with(':')).count() >= 2, "{lines:?}");
    let data = lines.iter().find_map(|line| line.strip_prefix("data: ")).expect("the response");
    let answer: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!((&answer["id"], mcpd_tests::mcp::text(&answer)), (&call["id"], "at last"));
    let soon = client.tool("silent", &json!({ "pause": 10 }));
    let reply = client.post(&soon);
    assert_eq!(reply.header("content-type"), Some("application/json"), "the session goes on");
    daemon.assert_shuts_down(0);
}

/// The worker dies: the error is an event, with its own id.
#[test]
fn a_late_response_that_never_comes_becomes_the_error() {
    let mut daemon = start_impatient("");
    let client = Client::initialize(daemon.port("alpha"));
    let call = client.tool("silent", &json!({ "pause": 60_000 }));
    let mut lines = lines(client.post(&call));
    assert!(lines.next().is_some_and(|line| line.starts_with(':')));
    kill_worker(&mut daemon);
    let data = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).expect("the error");
    let answer: Value = serde_json::from_str(&data).expect("JSON");
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&call["id"], &json!(-32000)));
    assert_eq!(client.state()["initialized"], true);
    daemon.assert_shuts_down(0);
}

/// A client that accepts JSON only has to wait.
#[test]
fn a_late_response_to_a_client_without_event_streams_is_json() {
    let mut daemon = start_impatient("");
    let client = Client::initialize(daemon.port("alpha"));
    let call = client.tool("silent", &json!({ "pause": 5000 }));
    let headers = [
        "content-type: application/json",
        "accept: application/json",
        &format!("mcp-session-id: {}", client.session),
    ];
    let reply = wire::request(daemon.port("alpha"), &compose("POST /mcp", &headers, &call.to_string()));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.json()["id"], call["id"]);
    daemon.assert_shuts_down(0);
}

/// A stream on which nothing happens gets comments, while its worker is down as well.
#[test]
fn a_silent_stream_gets_comments() {
    let mut daemon = start_impatient("");
    let client = Client::initialize(daemon.port("alpha"));
    let session = format!("mcp-session-id: {}", client.session);
    let headers = ["accept: text/event-stream", &session];
    let mut lines = lines(wire::request(daemon.port("alpha"), &compose("GET /mcp", &headers, "")));
    for _ in 0..2 {
        assert!(lines.any(|line| line.starts_with(':')));
    }
    daemon.mcpctl(&["stop", "alpha"]).expect_code(0);
    for _ in 0..2 {
        assert!(lines.any(|line| line.starts_with(':')));
    }
    daemon.mcpctl(&["start", "alpha"]).expect_code(0);
    assert!(lines.any(|line| line.contains("list_changed")));
    daemon.assert_shuts_down(0);
}

/// A client of 2026-07-28 gets the notifications that it asked for, and no second acknowledgement.
#[test]
fn a_listen_stream_says_that_lists_may_have_changed() {
    let mut daemon = start("");
    let params = json!({ "notifications": { "toolsListChanged": true, "promptsListChanged": false } });
    let listen = json!({ "jsonrpc": "2.0", "id": "L1", "method": "subscriptions/listen", "params": params });
    let reply = wire::request(daemon.port("alpha"), &compose("POST /mcp", &JSON, &listen.to_string()));
    let mut events = Events::of(reply);
    assert_eq!(events.message()["method"], "notifications/subscriptions/acknowledged");
    for _ in 0..2 {
        wait_restarted(&mut daemon);
        let changed = events.message();
        assert_eq!(changed["method"], "notifications/tools/list_changed", "{changed}");
        assert_eq!(changed["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "L1");
    }
    daemon.assert_shuts_down(0);
}
