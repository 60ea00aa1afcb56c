//! Clients do not notice a restart of their worker (R-CLIENT-3).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use mcpd_common::os::process;
use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::{Client, Events, text};
use mcpd_tests::wire::{self, Reply, compose};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, http, timed, until};
use nix::sys::signal::kill;
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};

use crate::front_door::{behind_front_door, start};

fn restarts(daemon: &mut Daemon) -> u32 {
    daemon.wait_state("alpha", WorkerState::Ready).restarts
}

/// Kills the worker with `SIGKILL` and waits until it is dead, because it accepts requests until then. Does not wait
/// for the next process.
pub fn kill_worker(daemon: &mut Daemon) {
    let worker = daemon.wait_state("alpha", WorkerState::Ready);
    let pid = worker.pid.expect("it runs");
    kill(nix::unistd::Pid::from_raw(pid.get()), Signal::SIGKILL).expect("it runs");
    until("its exit", BOUND, || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        let is_running = process::best_effort::read(pid).is_some_and(|found| found.state != 'Z');
        (!is_running && threads <= 1).then_some(())
    });
}

/// Number of calls of the tool `stuck` that the worker has received.
fn stuck(daemon: &Daemon) -> u64 {
    let count = wire::request(daemon.port("alpha"), &compose("GET /stuck", &[], "")).json();
    count.as_u64().expect("a number")
}

/// Waits until the worker has received a call of `stuck`, to which it never responds.
pub fn wait_stuck(daemon: &Daemon) {
    until("the worker to receive it", BOUND, || (stuck(daemon) == 1).then_some(()));
}

/// Sends a call of `stuck` and waits until the worker has received it.
fn begin_stuck(daemon: &Daemon, client: &Client, message: &Value) -> TcpStream {
    let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    stream.write_all(client.compose(message).as_bytes()).expect("sent");
    wait_stuck(daemon);
    stream
}

/// Only the request in flight gets an error, as JSON-RPC with its own id.
#[test]
fn a_session_continues_after_its_worker_was_killed() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    client.call(&client.request("logging/setLevel", &json!({ "level": "debug" })));
    for uri in ["file:///a", "file:///b"] {
        client.call(&client.request("resources/subscribe", &json!({ "uri": uri })));
    }
    client.call(&client.request("resources/unsubscribe", &json!({ "uri": "file:///b" })));
    let before = client.state();
    let call = client.tool("stuck", &json!({}));
    let stuck = begin_stuck(&daemon, &client, &call);
    for _ in 0..2 {
        kill_worker(&mut daemon);
        let after = client.state();
        assert_ne!(after["pid"], before["pid"]);
        for kept in ["initialized", "level", "subscriptions"] {
            assert_eq!(after[kept], before[kept], "{kept} is replayed");
        }
    }
    let error = Reply::read(stuck).expect("a response").json();
    assert_eq!((&error["id"], &error["error"]["code"]), (&call["id"], &json!(-32000)));
    assert_eq!(restarts(&mut daemon), 2);
    daemon.assert_shuts_down(0);
}

#[test]
fn a_batch_gets_errors_as_a_batch_and_an_event_stream_as_an_event() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    let one = client.tool("stuck", &json!({}));
    let two = client.tool("state", &json!({}));
    let batch = begin_stuck(&daemon, &client, &json!([one, two]));
    let slow = client.tool("slow", &json!({ "steps": 100, "pause": 300 }));
    let mut events = Events::of(client.post(&slow));
    assert_eq!(events.message()["method"], "notifications/progress");
    kill_worker(&mut daemon);
    let errors = Reply::read(batch).expect("a response").json();
    let ids: Vec<_> = errors.as_array().expect("a batch").iter().map(|error| error["id"].clone()).collect();
    assert_eq!(ids, [one["id"].clone(), two["id"].clone()]);
    assert!(errors[0]["error"]["message"].as_str().is_some_and(|why| why.contains("restarted")), "{errors}");
    let last = events.last().expect("the error").json();
    assert_eq!((&last["id"], &last["error"]["code"]), (&slow["id"], &json!(-32000)));
    assert_eq!(client.state()["initialized"], true);
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-3: those in flight get 502.
#[test]
fn requests_that_are_not_mcp_wait_for_the_next_worker() {
    let mut daemon = start();
    let mut never = http::connect(daemon.port("alpha")).expect("mcpd listens");
    never.write_all(compose("GET /never", &[], "").as_bytes()).expect("sent");
    never.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
    assert!(never.read(&mut [0]).is_err(), "no response yet");
    never.set_read_timeout(Some(BOUND)).expect("set");
    kill_worker(&mut daemon);
    let held = wire::request(daemon.port("alpha"), &compose("GET /echo", &[], ""));
    assert_eq!(held.status, 200);
    assert_eq!(Reply::read(never).expect("a response").status, 502);
    daemon.assert_shuts_down(0);
}

/// Requests in flight are finished first.
#[test]
fn no_client_gets_an_error_in_a_requested_restart() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    let before = client.state();
    let slow = client.tool("slow", &json!({ "steps": 5, "pause": 300 }));
    let mut events = Events::of(client.post(&slow));
    assert_eq!(events.message()["method"], "notifications/progress");
    let restart = daemon.mcpctl_start(&["restart", "alpha"]);
    let finishing = thread::spawn(move || events.last().expect("a response").json());
    for _ in 0..20 {
        assert_eq!(client.state()["initialized"], true);
    }
    let answer = finishing.join().expect("no panic");
    assert_eq!((&answer["id"], text(&answer)), (&slow["id"], "slow"));
    restart.finish(BOUND).expect_code(0);
    assert_ne!(client.state()["pid"], before["pid"]);
    daemon.assert_shuts_down(0);
}

#[test]
fn requests_wait_for_a_worker_that_starts_slowly() {
    let config = ConfigBuilder::new().worker("alpha", behind_front_door("--start-delay 3000"));
    let mut daemon = Daemon::start(config);
    let client = Client::initialize(daemon.port("alpha"));
    let before = client.state();
    kill_worker(&mut daemon);
    let (after, took) = timed(|| client.state());
    assert_ne!(after["pid"], before["pid"]);
    assert!(took >= Duration::from_secs(2), "{took:?}");
    daemon.assert_shuts_down(0);
}

/// Without waiting, because the worker is not restarted.
#[test]
fn requests_to_a_failed_worker_get_an_error_at_once() {
    let config = ConfigBuilder::new().worker("alpha", behind_front_door("").with("restart = \"never\""));
    let mut daemon = Daemon::start(config);
    let client = Client::initialize(daemon.port("alpha"));
    kill_worker(&mut daemon);
    daemon.wait_status("it to be down", |status| status.workers[0].pid.is_none());
    let ping = client.request("ping", &json!({}));
    let (answer, took) = timed(|| client.call(&ping));
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&ping["id"], &json!(-32000)));
    assert!(took < Duration::from_secs(5), "{took:?}");
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" });
    assert_eq!(client.post(&note).status, 202);
    assert_eq!(wire::request(daemon.port("alpha"), &compose("GET /echo", &[], "")).status, 503);
    assert_eq!(client.listen(&[]).next().and_then(|event| event.retry).as_deref(), Some("5000"));
    daemon.mcpctl(&["start", "alpha"]).expect_code(0);
    assert_eq!(client.state()["initialized"], true, "the session continues");
    daemon.assert_shuts_down(0);
}

/// Both workers send a request with id 0. The response to the killed one is dropped.
#[test]
fn a_late_response_never_reaches_the_next_worker() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    let mut stream = client.listen(&[]);
    assert!(stream.next().is_some_and(|event| event.retry.is_some()));
    let served_by = stream.message();
    let first = client.tool("elicit", &json!({}));
    let mut events = Events::of(client.post(&first));
    let old = events.message()["id"].clone();
    kill_worker(&mut daemon);
    assert_eq!(events.message()["error"]["code"], -32000);

    let cancelled = stream.message();
    assert_eq!(
        (&cancelled["method"], &cancelled["params"]["requestId"]),
        (&json!("notifications/cancelled"), &old)
    );
    assert_eq!(stream.message()["method"], "notifications/tools/list_changed");
    assert_ne!(
        stream.message()["params"]["data"]["pid"],
        served_by["params"]["data"]["pid"],
        "attached to the new worker"
    );

    let second = client.tool("elicit", &json!({}));
    let mut events = Events::of(client.post(&second));
    let new = events.message()["id"].clone();
    assert_ne!(new, old);
    let answer = |id: &Value, name: &str| json!({ "jsonrpc": "2.0", "id": id, "result": { "action": "accept", "content": { "for": name } } });
    assert_eq!(client.post(&answer(&old, "the old worker")).status, 202);
    assert_eq!(client.post(&answer(&json!(0), "no worker")).status, 202);
    assert_eq!(client.state()["responses"], json!([]), "the new worker has received none");
    assert_eq!(client.post(&answer(&new, "the new worker")).status, 202);
    assert!(text(&events.message()).contains("the new worker"));
    assert_eq!(events.next(), None);
    daemon.assert_shuts_down(0);
}

/// As without mcpd, except that the port stays open.
#[test]
fn with_sessions_forget_a_restart_ends_the_sessions() {
    let spec = behind_front_door("").with("sessions = \"forget\"");
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", spec));
    let client = Client::initialize(daemon.port("alpha"));
    assert!(client.state()["pid"].is_number());
    daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    assert_eq!(client.post(&client.tool("state", &json!({}))).status, 404);
    daemon.assert_shuts_down(0);
}

/// As without mcpd: the client has to initialize again.
#[test]
fn another_protocol_version_ends_the_session() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    std::fs::write(daemon.home().join("repos/alpha/version"), "2024-11-05").expect("written");
    daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    for _ in 0..2 {
        assert_eq!(client.post(&client.tool("state", &json!({}))).status, 404);
    }
    assert_eq!(Client::initialize(daemon.port("alpha")).state()["initialized"], true);
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-3: the stream is attached without it.
#[test]
fn a_last_event_id_of_a_killed_worker_is_not_forwarded() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    let mut events = client.listen(&[]);
    events.next();
    let last = format!("last-event-id: {}", events.next().and_then(|event| event.id).expect("an id"));
    drop(events);
    kill_worker(&mut daemon);
    let mut again = client.listen(&[&last]);
    again.next();
    assert_eq!(again.message()["params"]["data"]["last_event_id"], Value::Null);
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-3: and not a second stream of the session. (The TypeScript SDK 1.x resumes even after it has received the
/// error.)
#[test]
fn a_client_that_resumes_the_response_of_a_killed_worker_gets_the_error() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    let slow = client.tool("slow", &json!({ "steps": 100, "pause": 300 }));
    let mut events = Events::of(client.post(&slow));
    let last = format!("last-event-id: {}", events.next().and_then(|event| event.id).expect("an id"));
    kill_worker(&mut daemon);
    drop(events);
    let mut again = client.listen(&[&last]);
    let error = again.message();
    assert_eq!((&error["id"], &error["error"]["code"]), (&slow["id"], &json!(-32000)));
    assert!(again.next().is_none(), "no other event");
    daemon.assert_shuts_down(0);
}

/// A `GET` that resumes a response is not a stream of the session, so it is not attached to the next worker.
#[test]
fn a_resumed_response_ends_with_its_worker() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    let slow = client.tool("slow", &json!({ "steps": 1, "pause": 0, "early": true }));
    let mut events = Events::of(client.post(&slow));
    let last = format!("last-event-id: {}", events.next().and_then(|event| event.id).expect("an id"));
    assert!(
        events.next().is_none(),
        "a server may close the response early: no error, the client resumes it"
    );
    let mut again = client.listen(&[&last]);
    assert_eq!(again.message()["params"]["data"]["last_event_id"], "1");
    kill_worker(&mut daemon);
    let error = again.message();
    assert_eq!((&error["id"], &error["error"]["code"]), (&slow["id"], &json!(-32000)));
    assert!(again.next().is_none(), "no other event");
    daemon.assert_shuts_down(0);
}

/// The client of the Rust SDK; only calls in flight fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sdk_client_keeps_its_session() {
    let short = Duration::from_secs(1);
    let config = ConfigBuilder::new().times(short, short).worker("alpha", behind_front_door(""));
    let mut daemon = Daemon::start(config);
    let url = format!("http://127.0.0.1:{}/mcp", daemon.port("alpha"));
    let client = ().serve(StreamableHttpClientTransport::from_uri(url)).await.expect("it initializes");
    let sessions = |daemon: &Daemon| {
        let list = daemon.mcpctl(&["clients", "--json"]).expect_code(0).json()["clients"].clone();
        let all = list.as_array().cloned().unwrap_or_default();
        all.iter()
            .filter_map(|it| it["session"].as_str().map(str::to_owned))
            .collect::<std::collections::BTreeSet<_>>()
    };
    client.list_all_tools().await.expect("tools");
    let before = sessions(&daemon);
    assert_eq!(before.len(), 1);
    for round in 0..3 {
        let state = client.call_tool(CallToolRequestParams::new("state")).await;
        assert!(state.is_ok(), "{state:?}");
        let peer = client.peer().clone();
        let call = tokio::spawn(async move { peer.call_tool(CallToolRequestParams::new("stuck")).await });
        until("the worker to receive the call", BOUND, || (stuck(&daemon) == 1).then_some(()));
        if round < 2 {
            kill_worker(&mut daemon);
        } else {
            daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
        }
        client.list_all_tools().await.expect("tools of the next worker");
        assert!(call.await.expect("no panic").is_err(), "it was in flight");
    }
    assert_eq!(sessions(&daemon), before, "the same session");
    client.cancel().await.expect("it ends");
    daemon.assert_shuts_down(0);
}
