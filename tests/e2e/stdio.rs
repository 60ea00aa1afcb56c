//! Servers that speak MCP on their standard input and output, shared by all clients of their port (R-STDIO).

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use mcpd_common::outcome::{Asked, Departure};
use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::{Client, Event, Events, text};
use mcpd_tests::wire::{self, Reply, compose};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, WorkerSpec, http, until};
use serde_json::{Value, json};

use crate::front_door_restart::kill_worker;

const SHORT: Duration = Duration::from_millis(700);

fn start(flags: &str) -> Daemon {
    start_with(ConfigBuilder::new(), flags)
}

fn start_with(config: ConfigBuilder, flags: &str) -> Daemon {
    let mut daemon = Daemon::start(config.worker("alpha", WorkerSpec::stdio(flags)));
    daemon.wait_state("alpha", WorkerState::Ready);
    daemon
}

/// A shutdown in which nothing has to be forced.
fn end(daemon: &mut Daemon) {
    daemon.signal(Signal::SIGTERM);
    daemon.assert_no_trace(0);
}

/// Sends a call of `stuck`, which is never answered, and waits until the server has it.
fn begin_stuck(client: &Client, daemon: &Daemon, message: &Value) -> std::net::TcpStream {
    let before = client.state()["stuck"].as_u64();
    let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    stream.write_all(client.compose(message).as_bytes()).expect("sent");
    until("the server to receive it", BOUND, || (client.state()["stuck"].as_u64() > before).then_some(()));
    stream
}

/// The tool without the progress token of [`Client::tool`].
fn plain_tool(client: &Client, name: &str, arguments: &Value) -> Value {
    client.request("tools/call", &json!({ "name": name, "arguments": arguments }))
}

/// R-STDIO-1, R-STDIO-2: all clients use the same ids and the same progress token; each gets only what is its own.
#[test]
fn twenty_clients_share_a_server_and_see_only_their_own_answers() {
    let mut daemon = start("");
    let port = daemon.port("alpha");
    let clients: Vec<_> = (0..20)
        .map(|number: u64| {
            thread::spawn(move || {
                let client = Client::initialize(port);
                for turn in 0..10 {
                    let secret = json!({ "client": number, "turn": turn, "steps": 1 + (number + turn) % 3, "pause": number % 5 });
                    let call = client.tool("slow", &secret);
                    let events: Vec<Value> = Events::of(client.post(&call)).map(|event| event.json()).collect();
                    let (last, progress) = events.split_last().expect("an answer");
                    assert_eq!(last["id"], call["id"]);
                    assert_eq!(text(last).parse::<Value>().expect("JSON"), secret);
                    assert_eq!(progress.len() as u64, 1 + (number + turn) % 3);
                    for event in progress {
                        assert_eq!((&event["params"]["progressToken"], &event["params"]["message"]), (&json!("token"), &secret));
                    }
                }
                client.state()["pid"].clone()
            })
        })
        .collect();
    let pids: BTreeSet<_> =
        clients.into_iter().map(|it| it.join().expect("each got its own").to_string()).collect();
    assert_eq!(pids.len(), 1, "one process serves all: {pids:?}");
    end(&mut daemon);
}

/// R-STDIO-5, R-EXIT-1: the end of its input is the request, and no signal is needed.
#[test]
fn the_end_of_input_ends_a_server() {
    let mut daemon = start("--ignore-term");
    let state = Client::initialize(daemon.port("alpha")).state();
    assert_eq!((&state["initialized"], &state["port"]), (&json!(1), &Value::Null), "{state}");
    let output = daemon.mcpctl(&["shutdown", "--wait"]).expect_code(0);
    let report = daemon.assert_no_trace(0);
    assert_eq!((report.workers[0].asked, report.workers[0].departure), (Asked::EndOfInput, Departure::Left));
    assert!(output.stdout.contains("end of input"), "{}", output.stdout);
}

#[test]
fn a_server_that_ignores_the_end_of_input_gets_signals() {
    for (flags, code, departure) in [
        ("--ignore-shutdown", 2, Departure::Terminated),
        ("--ignore-shutdown --ignore-term", 3, Departure::Killed),
    ] {
        let mut daemon = start_with(ConfigBuilder::new().times(SHORT, SHORT), flags);
        daemon.mcpctl(&["shutdown", "--wait"]).expect_code(code);
        let report = daemon.assert_no_trace(code);
        assert_eq!((report.workers[0].asked, report.workers[0].departure), (Asked::EndOfInput, departure));
    }
}

/// R-STDIO-5: only the request in flight gets an error, with its own id.
#[test]
fn a_session_continues_after_its_server_was_killed() {
    let mut daemon = start("");
    let client = Client::initialize(daemon.port("alpha"));
    client.call(&client.request("logging/setLevel", &json!({ "level": "error" })));
    client.call(&client.request("resources/subscribe", &json!({ "uri": "file:///a" })));
    let before = client.state();
    for name in ["stuck", "slow"] {
        let call = if name == "stuck" {
            plain_tool(&client, name, &json!({}))
        } else {
            client.tool("stuck", &json!({}))
        };
        let stuck = begin_stuck(&client, &daemon, &call);
        kill_worker(&mut daemon);
        let reply = Reply::read(stuck).expect("a response");
        let error = match name {
            "stuck" => reply.json(),
            _ => Events::of(reply).last().expect("an error").json(),
        };
        assert_eq!((&error["id"], &error["error"]["code"]), (&call["id"], &json!(-32000)));
        let after = client.state();
        assert_ne!(after["pid"], before["pid"]);
        assert_eq!(
            (&after["level"], &after["subscribed"]),
            (&json!("error"), &json!(["file:///a"])),
            "it is replayed"
        );
    }
    end(&mut daemon);
}

/// R-CLIENT-7: sessions outlive the daemon as well.
#[test]
fn a_session_continues_with_the_next_daemon() {
    let mut daemon = start("");
    let client = Client::initialize(daemon.port("alpha"));
    let before = client.state();
    daemon.mcpctl(&["restart", "--daemon"]).expect_code(0);
    assert_ne!(client.state()["pid"], before["pid"]);
    end(&mut daemon);
}

/// R-STDIO-2: a stream gets what its session asked for, across a restart.
#[test]
fn notifications_go_to_those_who_want_them() {
    let mut daemon = start("");
    let port = daemon.port("alpha");
    let (one, other) = (Client::initialize(port), Client::initialize(port));
    let mut streams = [one.listen(&[]), other.listen(&[])];
    one.call(&one.request("resources/subscribe", &json!({ "uri": "x:1" })));
    one.call(&one.request("logging/setLevel", &json!({ "level": "error" })));
    other.call(&other.request("logging/setLevel", &json!({ "level": "debug" })));
    let tell = |method: &str, params: Value| {
        one.call(&plain_tool(
            &one,
            "notify",
            &json!({ "method": format!("notifications/{method}"), "params": params }),
        ));
    };
    tell("message", json!({ "level": "info", "data": "for the other one" }));
    tell("resources/updated", json!({ "uri": "x:1" }));
    tell("tools/list_changed", json!({}));
    let mut next = |index: usize| {
        let event = streams[index].by_ref().find(|event: &Event| !event.data.is_empty()).expect("an event");
        event.json()["method"].as_str().expect("a method").trim_start_matches("notifications/").to_owned()
    };
    assert_eq!([next(0), next(0)], ["resources/updated", "tools/list_changed"]);
    assert_eq!([next(1), next(1)], ["message", "tools/list_changed"]);
    kill_worker(&mut daemon);
    assert_eq!(one.state()["subscribed"], json!(["x:1"]));
    assert_eq!(next(0), "tools/list_changed", "the new process may have other tools");
    tell("resources/updated", json!({ "uri": "x:1" }));
    assert_eq!(next(0), "resources/updated");
    drop(streams);
    one.delete();
    let state = until("the end of the subscription", BOUND, || {
        let state = other.state();
        (state["unsubscribed"] == json!(["x:1"])).then_some(state)
    });
    assert_eq!(state["level"], "debug");
    end(&mut daemon);
}

/// R-STDIO-4: a client that goes away cancels its requests, and one that cancels gets an end.
#[test]
fn a_request_without_a_client_is_cancelled() {
    let mut daemon = start("");
    let port = daemon.port("alpha");
    let (client, other) = (Client::initialize(port), Client::initialize(port));
    let cancelled = |wanted: usize| {
        until("the cancellation", BOUND, || {
            (other.state()["cancelled"].as_array()?.len() == wanted).then_some(())
        });
    };
    for (number, call) in
        [plain_tool(&client, "stuck", &json!({})), client.tool("stuck", &json!({}))].iter().enumerate()
    {
        drop(begin_stuck(&client, &daemon, call));
        cancelled(number + 1);
    }
    let call = plain_tool(&client, "stuck", &json!({}));
    let stream = begin_stuck(&client, &daemon, &call);
    let mine = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": call["id"] } });
    assert_eq!(other.post(&mine).status, 202);
    assert_eq!(client.post(&mine).status, 202);
    assert_eq!(Reply::read(stream).expect("an end").json()["id"], call["id"]);
    cancelled(3);
    end(&mut daemon);
}

/// R-STDIO-3: what is no message goes into the log and is counted; a line that is too long fails only its request.
#[test]
fn garbage_is_logged_and_long_lines_fail_their_request() {
    let mut daemon = start("");
    let client = Client::initialize(daemon.port("alpha"));
    for line in ["Server started on stdin", "{\"level\":\"info\"}", "[1, 2]"] {
        client.call(&plain_tool(&client, "stray", &json!({ "line": line })));
    }
    daemon.wait_status("three lines", |status| status.workers[0].stray_lines == 3);
    let output = daemon.mcpctl(&["status"]).expect_code(0);
    assert!(output.stdout.contains("wrote 3 lines to its output that are not JSON-RPC"), "{}", output.stdout);
    until("the log", BOUND, || {
        let log = daemon.mcpctl(&["logs", "alpha"]).expect_code(0);
        log.stdout.contains("Server started on stdin").then_some(())
    });
    let answer = client.call(&plain_tool(&client, "text", &json!({ "length": 10_000_000 })));
    assert_eq!(text(&answer).len(), 10_000_000);
    let call = plain_tool(&client, "text", &json!({ "length": 17_000_000 }));
    let error = client.call(&call);
    assert_eq!((&error["id"], &error["error"]["code"]), (&call["id"], &json!(-32000)), "{error}");
    assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("16 MiB")), "{error}");
    assert_eq!(client.state()["initialized"], 1, "it goes on");
    end(&mut daemon);
}

/// R-STDIO-4: the requests wait, and nothing else does.
#[test]
fn a_server_that_does_not_read_stops_no_other_one() {
    let config = ConfigBuilder::new().worker("beta", WorkerSpec::stdio(""));
    let mut daemon = start_with(config, "");
    daemon.wait_state("beta", WorkerState::Ready);
    let (alpha, beta) = (Client::initialize(daemon.port("alpha")), Client::initialize(daemon.port("beta")));
    let mut deaf = http::connect(daemon.port("alpha")).expect("mcpd listens");
    deaf.write_all(alpha.compose(&plain_tool(&alpha, "deaf", &json!({ "ms": 3000 }))).as_bytes())
        .expect("sent");
    let big = "x".repeat(1_000_000);
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
            let message = alpha.compose(&plain_tool(&alpha, "echo", &json!({ "big": big })));
            thread::spawn(move || {
                stream.write_all(message.as_bytes()).expect("sent");
                Reply::read(stream).expect("an answer, late").json()
            })
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(beta.state()["initialized"], 1);
    }
    for late in waiting {
        let answer = late.join().expect("no panic");
        assert!(text(&answer).len() > big.len());
    }
    drop(deaf);
    end(&mut daemon);
}

/// mcpd is the HTTP server of such a worker.
#[test]
fn what_is_no_mcp_is_refused() {
    let mut daemon = start("");
    let port = daemon.port("alpha");
    let post = |path: &str, headers: &[&str], body: &str| {
        wire::request(port, &compose(&format!("POST {path}"), headers, body))
    };
    let json = "content-type: application/json";
    assert_eq!(post("/", &[json], "{}").status, 404);
    assert_eq!(post("/mcp", &["content-type: text/plain"], "{}").status, 415);
    assert_eq!(post("/mcp", &[json], "{").json()["error"]["code"], -32700);
    assert_eq!(post("/mcp", &[json], "[{\"id\":1,\"method\":\"ping\"}]").json()["error"]["code"], -32600);
    let unknown = post("/mcp", &[json, "mcp-session-id: unknown"], "{\"id\":1,\"method\":\"ping\"}");
    assert_eq!(unknown.status, 404);
    assert_eq!(wire::request(port, &compose("PUT /mcp", &[], "")).status, 405);
    assert_eq!(
        wire::request(port, &compose("GET /.well-known/oauth-protected-resource", &[], "")).status,
        404
    );
    let stateless = post("/mcp", &[json], "{\"jsonrpc\":\"2.0\",\n\"id\":\"s\",\"method\":\"ping\"}").json();
    assert_eq!(stateless["id"], "s", "without a session, on one line for the server");
    let client = Client::initialize(port);
    client.call(&plain_tool(&client, "ask", &json!({})));
    until("the refusal", BOUND, || client.state()["responses"][0]["error"]["code"].is_i64().then_some(()));
    assert_eq!(client.delete().status, 200);
    assert_eq!(client.post(&client.request("ping", &json!({}))).status, 404);
    end(&mut daemon);
}

/// A server that exits at once, or that never answers, shows why.
#[test]
fn a_start_that_fails_is_explained() {
    let silent =
        WorkerSpec::command(["sleep", "60"]).with("transport = \"stdio\"").with("ready_within = \"1s\"");
    let config = ConfigBuilder::new().worker("silent", silent.with("restart = \"never\""));
    let mut daemon = Daemon::launch(config);
    let failed = daemon.wait_state("silent", WorkerState::Failed);
    let reason = failed.reason.unwrap_or_default();
    assert!(reason.contains("it has not answered initialize yet"), "{reason}");
    daemon.signal(Signal::SIGTERM);
    daemon.assert_no_trace(0);
}

/// R-STDIO-7: an installer that is started twice at the same time breaks its cache.
#[test]
fn first_starts_of_an_installer_do_not_overlap() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let npx = directory.path().join("npx");
    let server = mcpd_tests::binaries::fixture_worker();
    let script = format!(
        "#!/bin/sh\nif [ ! -e \"$0.$1\" ]; then mkdir \"$0.lock\" || exit 9; sleep 0.3; rmdir \"$0.lock\"; touch \"$0.$1\"; fi\n\
         shift; exec {} \"$@\"\n",
        server.display()
    );
    std::fs::write(&npx, script).expect("written");
    std::fs::set_permissions(&npx, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").expect("PATH"));
    let names = ["one", "two", "three", "four"];
    let mut config = ConfigBuilder::new().env("PATH", &path);
    let tag = config.tag().to_owned();
    for name in names {
        let command = ["npx", name, "--stdio", "--tag", &tag];
        config = config.worker(name, WorkerSpec::command(command).with("transport = \"stdio\""));
    }
    let mut daemon = Daemon::start(config);
    for name in names {
        assert_eq!(daemon.wait_state(name, WorkerState::Ready).restarts, 0, "{name}");
    }
    daemon.mcpctl(&["restart", "--all"]).expect_code(0);
    end(&mut daemon);
}
