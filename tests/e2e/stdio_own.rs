//! Servers that speak stdio with a process for each session (R-STDIO-2, `sessions = "own"`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::process;
use mcpd_common::outcome::{Asked, Departure, FindingKind};
use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::{Client, Events, text};
use mcpd_tests::wire::Reply;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, WorkerSpec, http, until};
use nix::sys::signal::kill;
use serde_json::{Value, json};

const SHORT: Duration = Duration::from_millis(700);

fn own(flags: &str) -> WorkerSpec {
    WorkerSpec::stdio(flags).with("sessions = \"own\"")
}

fn start(spec: WorkerSpec) -> Daemon {
    start_with(ConfigBuilder::new(), spec)
}

fn start_with(config: ConfigBuilder, spec: WorkerSpec) -> Daemon {
    let mut daemon = Daemon::start(config.worker("alpha", spec));
    daemon.wait_state("alpha", WorkerState::Ready);
    daemon
}

/// The tool without the progress token of [`Client::tool`].
fn plain_tool(client: &Client, name: &str, arguments: &Value) -> Value {
    client.request("tools/call", &json!({ "name": name, "arguments": arguments }))
}

/// The process that serves this client.
fn pid_of(client: &Client) -> Pid {
    let pid = client.state()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.and_then(Pid::new).expect("a pid")
}

#[track_caller]
fn wait_processes(daemon: &mut Daemon, count: u32) {
    let what = format!("{count} processes for sessions");
    daemon.wait_status(&what, |status| status.workers[0].session_processes == count);
}

#[track_caller]
fn wait_gone(pid: Pid) {
    until("the exit of a process", BOUND, || process::best_effort::read(pid).is_none().then_some(()));
}

fn signal(pid: Pid, signal: Signal) {
    kill(nix::unistd::Pid::from_raw(pid.get()), signal).expect("it runs");
}

/// Sends a call of `stuck`, which is never answered; the server has it when this returns.
fn begin_stuck(client: &Client, daemon: &Daemon) -> (Value, std::net::TcpStream) {
    let call = plain_tool(client, "stuck", &json!({}));
    let before = client.state()["stuck"].as_u64();
    let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    stream.write_all(client.compose(&call).as_bytes()).expect("sent");
    until("the server to receive it", BOUND, || (client.state()["stuck"].as_u64() > before).then_some(()));
    (call, stream)
}

#[test]
fn each_client_has_a_process_and_its_state_alone() {
    let mut daemon = start(own(""));
    let port = daemon.port("alpha");
    let (one, other) = (Client::initialize(port), Client::initialize(port));
    one.call(&one.request("logging/setLevel", &json!({ "level": "error" })));
    one.call(&one.request("resources/subscribe", &json!({ "uri": "file:///a" })));
    one.post(&json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" }));
    let (first, second) = (one.state(), other.state());
    assert_ne!(first["pid"], second["pid"]);
    assert_eq!((&first["level"], &first["subscribed"]), (&json!("error"), &json!(["file:///a"])));
    assert_eq!((&second["level"], &second["subscribed"]), (&Value::Null, &json!([])));
    assert_eq!((&first["roots_changed"], &second["roots_changed"]), (&json!(1), &json!(0)));
    for state in [&first, &second] {
        assert_eq!(state["client"]["clientInfo"]["name"], "by-hand", "the client's own initialize");
        assert_eq!(state["client"]["capabilities"], json!({ "elicitation": {} }));
        assert_eq!(state["initialized"], 1);
    }
    let status = daemon.mcpctl(&["status"]).expect_code(0);
    assert!(status.stdout.contains("2 processes for sessions"), "{}", status.stdout);
    let output = daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    assert_eq!(output.stdout.matches("asked to exit by end of input").count(), 3, "{}", output.stdout);
    let report = daemon.assert_no_trace(0);
    let shown = daemon.mcpctl(&["report"]).expect_code(0);
    assert!(shown.stdout.contains("3 processes"), "{}", shown.stdout);
    let row = &report.workers[0];
    assert_eq!((report.workers.len(), row.session_processes), (1, 2));
    assert_eq!((row.asked, row.departure), (Asked::EndOfInput, Departure::Left));
    assert!(row.checks.iter().all(|check| check.passed), "{:?}", row.checks);
}

/// A server asks, with the same id in each process, and only its own client is asked.
#[test]
fn requests_of_a_server_reach_only_its_own_client() {
    let mut daemon = start(own(""));
    let port = daemon.port("alpha");
    let (one, other) = (Client::initialize(port), Client::initialize(port));
    let answer = |id: &Value, who: &str| json!({ "jsonrpc": "2.0", "id": id, "result": { "action": "accept", "content": { "who": who } } });
    for call in [plain_tool(&one, "elicit", &json!({})), one.tool("elicit", &json!({}))] {
        let mut events = Events::of(one.post(&call));
        let asked = events.message();
        assert_eq!(asked["method"], "elicitation/create");
        assert_eq!(other.post(&answer(&asked["id"], "the other one")).status, 202);
        assert_eq!(one.post(&answer(&asked["id"], "the asked one")).status, 202);
        let result = events.message();
        assert_eq!(result["id"], call["id"]);
        assert!(text(&result).contains("the asked one"), "{result}");
    }
    assert_eq!(other.state()["responses"], json!([]));

    let mut streams = [one.listen(&[]), other.listen(&[])];
    one.call(&plain_tool(
        &one,
        "notify",
        &json!({ "method": "notifications/message", "params": { "level": "debug", "data": 1 } }),
    ));
    other.call(&plain_tool(
        &other,
        "notify",
        &json!({ "method": "notifications/message", "params": { "level": "debug", "data": 2 } }),
    ));
    for (stream, data) in streams.iter_mut().zip([1, 2]) {
        let event = stream.find(|event| !event.data.is_empty()).expect("an event").json();
        assert_eq!(event["params"]["data"], data, "each gets only what its own server says");
    }
    drop(streams);
    daemon.assert_shuts_down(0);
}

/// What a server asks while no stream is open waits for one.
#[test]
fn a_request_of_a_server_waits_for_a_stream() {
    let mut daemon = start(own(""));
    let client = Client::initialize(daemon.port("alpha"));
    let ask = json!({ "jsonrpc": "2.0", "method": "notifications/ask" });
    assert_eq!(client.post(&ask).status, 202);
    let mut stream = client.listen(&[]);
    let asked = stream.find(|event| !event.data.is_empty()).expect("an event").json();
    assert_eq!(asked["method"], "sampling/createMessage");
    let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "model": "x" } });
    assert_eq!(client.post(&answer).status, 202);
    let answered = || (client.state()["responses"][0]["result"]["model"] == "x").then_some(());
    until("the answer", BOUND, answered);
    assert_eq!(client.state()["responses"][0]["id"], 0, "with the server's own id");
    drop(stream);
    daemon.assert_shuts_down(0);
}

#[test]
fn the_end_of_a_session_ends_its_process() {
    let mut daemon = start(own(""));
    let port = daemon.port("alpha");
    let (one, other) = (Client::initialize(port), Client::initialize(port));
    let (pid, others) = (pid_of(&one), pid_of(&other));
    let mut stream = one.listen(&[]);
    assert_eq!(one.delete().status, 200);
    wait_gone(pid);
    assert_eq!(stream.by_ref().filter(|event| !event.data.is_empty()).count(), 0, "its stream ends");
    assert_eq!(one.post(&one.tool("state", &json!({}))).status, 404);
    assert_eq!(one.delete().status, 404);
    wait_processes(&mut daemon, 1);
    assert_eq!(pid_of(&other), others);
    daemon.assert_shuts_down(0);
}

/// An `initialize` whose client does not wait, or that the server refuses, leaves no process.
#[test]
fn a_process_without_a_session_ends() {
    let mut daemon = start(own(""));
    let client = Client::initialize(daemon.port("alpha"));
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "refuse": true } });
    let stranger = mcpd_tests::wire::request(
        daemon.port("alpha"),
        &mcpd_tests::wire::compose("POST /mcp", &mcpd_tests::mcp::JSON, &hello.to_string()),
    );
    assert!(stranger.header("mcp-session-id").is_none());
    assert_eq!(stranger.json()["error"]["message"], "refused");
    wait_processes(&mut daemon, 1);
    assert_eq!(client.state()["initialized"], 1);
    daemon.assert_shuts_down(0);
}

/// A client of its own, which can be killed: it initializes and keeps its connection.
fn client_process(daemon: &Daemon) -> (Child, String) {
    let port = daemon.port("alpha");
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "bash", "version": "1" } } });
    let request = mcpd_tests::wire::compose("POST /mcp", &mcpd_tests::mcp::JSON, &hello.to_string());
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; printf '%s' \"$REQUEST\" >&3; exec cat <&3");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("REQUEST", request).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("bash starts");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let session = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.to_lowercase().strip_prefix("mcp-session-id: ").map(|id| id.trim().to_owned()));
    (child, session.expect("a session"))
}

/// R-STDIO-2: a process ends with its client. Its session goes on if it is used again.
#[test]
fn a_process_ends_when_its_client_was_killed() {
    let mut daemon = start(own(""));
    let (mut child, session) = client_process(&daemon);
    let (mut alive, _) = client_process(&daemon);
    wait_processes(&mut daemon, 2);
    child.kill().expect("it can be killed");
    child.wait().expect("it can be waited for");
    wait_processes(&mut daemon, 1);
    let heir = Client::resume(daemon.port("alpha"), session);
    assert_eq!(heir.state()["client"]["clientInfo"]["name"], "bash");
    wait_processes(&mut daemon, 2);
    alive.kill().expect("it can be killed");
    alive.wait().expect("it can be waited for");
    wait_processes(&mut daemon, 1);
    daemon.assert_shuts_down(0);
}

#[test]
fn the_oldest_idle_process_makes_room() {
    let mut daemon = start(own("").with("max_processes = 2"));
    let port = daemon.port("alpha");
    let (one, two) = (Client::initialize(port), Client::initialize(port));
    one.call(&one.request("logging/setLevel", &json!({ "level": "error" })));
    let (second, first) = (pid_of(&two), pid_of(&one));
    let three = Client::initialize(port);
    wait_gone(second);
    assert_eq!(pid_of(&one), first, "used later");
    assert_ne!(pid_of(&two), second, "it goes on with another process");
    assert_eq!(one.state()["level"], "error", "with what its client has set");
    let streams = [one.listen(&[]), two.listen(&[])];
    let refused = three.call(&three.tool("state", &json!({})));
    let message = refused["error"]["message"].as_str().expect("an error");
    assert!(message.contains("max_processes") && message.contains("(2)"), "{message}");
    drop(streams);
    until("a place", BOUND, || {
        three.call(&three.tool("state", &json!({})))["result"].is_object().then_some(())
    });
    wait_processes(&mut daemon, 2);
    daemon.assert_shuts_down(0);
}

/// R-STDIO-5: only the request in flight gets an error, with its own id.
#[test]
fn a_session_goes_on_after_its_process_was_killed() {
    let mut daemon = start(own(""));
    let port = daemon.port("alpha");
    let (one, other) = (Client::initialize(port), Client::initialize(port));
    one.call(&one.request("logging/setLevel", &json!({ "level": "error" })));
    let (first, others) = (pid_of(&one), pid_of(&other));
    let mut stream = one.listen(&[]);
    let (call, stuck) = begin_stuck(&one, &daemon);
    signal(first, Signal::SIGKILL);
    let error = Reply::read(stuck).expect("a response").json();
    assert_eq!((&error["id"], &error["error"]["code"]), (&call["id"], &json!(-32000)));
    assert_ne!(pid_of(&one), first);
    assert_eq!(one.state()["level"], "error", "it is replayed");
    let event = stream.find(|event| !event.data.is_empty()).expect("an event").json();
    assert_eq!(event["method"], "notifications/tools/list_changed", "the stream goes on, too");
    assert_eq!(pid_of(&other), others);
    let worker = daemon.wait_state("alpha", WorkerState::Ready);
    assert_eq!(worker.restarts, 0, "the worker itself goes on");
    drop(stream);
    daemon.assert_shuts_down(0);
}

#[test]
fn restarts_give_all_sessions_new_processes() {
    let mut daemon = start(own(""));
    let port = daemon.port("alpha");
    let clients = [Client::initialize(port), Client::initialize(port)];
    let mut before = clients.each_ref().map(pid_of);
    for restart in [&["restart", "alpha"][..], &["restart", "--daemon"]] {
        daemon.mcpctl(restart).expect_code(0);
        let after = clients.each_ref().map(pid_of);
        assert!(before.iter().all(|pid| !after.contains(pid)), "{restart:?}: {before:?} {after:?}");
        before.into_iter().for_each(wait_gone);
        before = after;
    }
    daemon.mcpctl(&["stop", "alpha"]).expect_code(0);
    before.into_iter().for_each(wait_gone);
    let refused = clients[0].call(&clients[0].tool("state", &json!({})));
    assert!(refused["error"]["message"].as_str().is_some_and(|it| it.contains("not running")), "{refused}");
    daemon.mcpctl(&["start", "alpha"]).expect_code(0);
    assert_eq!(clients[0].state()["initialized"], 1);
    daemon.assert_shuts_down(0);
}

/// A worker has stopped when the processes of its sessions have.
#[test]
fn a_stop_waits_for_the_processes_of_sessions() {
    let spec = own("--ignore-shutdown --ignore-term");
    let mut daemon = start_with(ConfigBuilder::new().times(SHORT, SHORT), spec);
    let pid = pid_of(&Client::initialize(daemon.port("alpha")));
    daemon.mcpctl(&["stop", "alpha"]).expect_code(0);
    assert!(process::best_effort::read(pid).is_none(), "it is gone");
    daemon.wait_state("alpha", WorkerState::Stopped);
    daemon.assert_shuts_down(0);
}

#[test]
fn hostile_processes_of_sessions_get_signals() {
    for (flags, code, departure, kind) in [
        ("--ignore-shutdown", 2, Departure::Terminated, FindingKind::WorkerTerminated),
        ("--ignore-shutdown --ignore-term", 3, Departure::Killed, FindingKind::WorkerKilled),
        ("--escape 1", 3, Departure::Killed, FindingKind::DescendantsKilled),
    ] {
        let mut daemon = start_with(ConfigBuilder::new().times(SHORT, SHORT), own(flags));
        let port = daemon.port("alpha");
        let clients = [Client::initialize(port), Client::initialize(port)];
        clients.iter().for_each(|client| assert_eq!(client.state()["initialized"], 1));
        daemon.remember();
        let report = daemon.assert_shuts_down(code);
        assert_eq!((report.workers[0].departure, report.workers[0].session_processes), (departure, 2));
        let of_sessions =
            report.findings.iter().filter(|it| it.kind == kind && it.detail.contains("of a session"));
        assert_eq!(of_sessions.count(), 2, "{flags}: {:#?}", report.findings);
    }
}

#[test]
fn nothing_is_left_of_sessions_after_the_daemon_was_killed() {
    let mut daemon = start(own("--ignore-shutdown --ignore-term --escape 1"));
    let port = daemon.port("alpha");
    let clients = [Client::initialize(port), Client::initialize(port)];
    clients.iter().for_each(|client| assert_eq!(client.state()["initialized"], 1));
    // The portable backend has to have seen a process that escapes.
    daemon.wait_status("all descendants", |status| status.workers[0].descendants == 3);
    daemon.signal_daemon(Signal::SIGKILL);
    daemon.assert_cleaned_up(101);
}

/// The recovery of the next start names the worker of such processes.
#[test]
fn the_next_start_ends_what_daemon_and_guardian_left() {
    let mut daemon = start(own("--ignore-shutdown --ignore-term"));
    let client = Client::initialize(daemon.port("alpha"));
    let pid = pid_of(&client);
    daemon.remember();
    daemon.kill_both();
    let mut daemon = daemon.launch_again();
    daemon.wait_ready();
    wait_gone(pid);
    assert_ne!(pid_of(&client), pid, "the session goes on");
    daemon.assert_shuts_down(3);
}

/// A server that exits at once is not started without end for a client that waits on its stream.
#[test]
fn a_server_that_exits_at_once_is_started_ever_more_rarely() {
    let mut daemon = start(own(""));
    let client = Client::initialize(daemon.port("alpha"));
    let stream = client.listen(&[]);
    for _ in 0..3 {
        let pid = pid_of(&client);
        client.post(&plain_tool(&client, "exit", &json!({})));
        wait_gone(pid);
    }
    assert_eq!(client.state()["initialized"], 1);
    drop(stream);
    daemon.assert_shuts_down(0);
}
