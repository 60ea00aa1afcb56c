//! The front door forwards requests and responses unchanged (R-CLIENT-1, R-CLIENT-2).

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use mcpd_common::os::socket;
use mcpd_tests::mcp::{Client, Events};
use mcpd_tests::wire::{self, Reply, compose};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, WorkerSpec, http, until};
use serde_json::{Value, json};

/// A fixture worker that is an MCP server, behind the front door.
pub fn behind_front_door(flags: &str) -> WorkerSpec {
    WorkerSpec::fixture(&format!("--mcp {flags}")).with("transport = \"http\"")
}

/// A daemon with one such worker, `alpha`.
pub fn start() -> Daemon {
    Daemon::start(ConfigBuilder::new().worker("alpha", behind_front_door("")))
}

fn echo(daemon: &Daemon, line: &str, headers: &[&str], body: &str) -> Value {
    wire::request(daemon.port("alpha"), &compose(line, headers, body)).json()
}

fn header<'a>(echo: &'a Value, name: &str) -> Vec<&'a str> {
    let all = echo["headers"].as_array().expect("an array").iter();
    all.filter(|pair| pair[0] == name).filter_map(|pair| pair[1].as_str()).collect()
}

/// R-CLIENT-5: so that a client that disappeared without closing is noticed.
#[test]
fn an_idle_connection_has_tcp_keepalive() {
    let mut daemon = start();
    let client = http::connect(daemon.port("alpha")).expect("mcpd listens");
    let server_address = client.peer_addr().expect("connected");
    let client_address = client.local_addr().expect("connected");
    let keepalive = || {
        let table = socket::connections().expect("the kernel shows its table");
        table.into_iter().find(|it| (it.local, it.peer) == (server_address, client_address))?.timer
    };
    let first = until("the keepalive timer", BOUND, keepalive);
    assert!(first <= Duration::from_secs(60), "{first:?}");
    drop(client);
    daemon.assert_shuts_down(0);
}

#[test]
fn a_request_is_forwarded_unchanged() {
    let mut daemon = start();
    let sent = ["authorization: Bearer s3cret", "x-many: a", "x-many: b", "te: trailers", "cookie: c=1"];
    let got = echo(&daemon, "POST /echo?a=1&b=%20", &sent, "a body");
    assert_eq!(got["line"], "POST /echo?a=1&b=%20");
    assert_eq!(got["body"], "a body");
    assert_eq!(header(&got, "host"), ["localhost"], "servers build redirects from it");
    assert_eq!(header(&got, "authorization"), ["Bearer s3cret"]);
    assert_eq!(header(&got, "x-many"), ["a", "b"]);
    assert_eq!(header(&got, "cookie"), ["c=1"]);
    assert_eq!(header(&got, "te"), [""; 0], "a hop-by-hop header");
    for method in ["PUT", "PATCH", "OPTIONS", "DELETE"] {
        assert_eq!(echo(&daemon, &format!("{method} /echo"), &[], "x")["line"], format!("{method} /echo"));
    }
    let mut head = wire::request(daemon.port("alpha"), &compose("HEAD /echo", &["connection: close"], ""));
    let length = head.header("content-length").and_then(|length| length.parse::<usize>().ok());
    assert!(head.status == 200 && length.is_some_and(|length| length > 0), "{head:?}");
    assert!(head.body.read(&mut [0]).is_err(), "no body follows");
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-1: 8 MiB, as JSON and as text, with a length and chunked.
#[test]
fn large_bodies_are_forwarded_both_ways() {
    const LARGE: usize = 8 << 20;
    let mut daemon = start();
    let body = "0123456789abcdef".repeat(LARGE / 16);
    for kind in ["text/plain", "application/json"] {
        let headers = [format!("content-type: {kind}")];
        let text = compose("POST /bytes", &[&headers[0]], &body);
        assert!(wire::request(daemon.port("alpha"), &text).text() == body, "{kind}");
    }
    let chunk = 65536;
    let mut text = "POST /bytes HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for piece in body.as_bytes().chunks(chunk) {
        let piece = std::str::from_utf8(piece).expect("text");
        text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    text.push_str("0\r\n\r\n");
    assert!(wire::request(daemon.port("alpha"), &text).text() == body, "in chunks");
    let client = Client::initialize(daemon.port("alpha"));
    let answer = client.call(&client.tool("text", &json!({ "length": LARGE })));
    assert_eq!(mcpd_tests::mcp::text(&answer).len(), LARGE);
    let large = client.tool("state", &json!({ "padding": body }));
    assert_eq!(client.call(&large)["id"], large["id"], "a call of 8 MiB");
    daemon.assert_shuts_down(0);
}

#[test]
fn expect_100_continue_is_supported() {
    let mut daemon = start();
    let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    let head = "POST /bytes HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).expect("an interim response");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").expect("sent");
    assert_eq!(Reply::read(stream).expect("a response").text(), "hello");
    daemon.assert_shuts_down(0);
}

/// On both sides: many requests of one client connection use few connections to the worker.
#[test]
fn connections_are_kept_alive() {
    let mut daemon = start();
    let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    let mut peers = std::collections::BTreeSet::new();
    for _ in 0..20 {
        stream.write_all(compose("POST /echo", &[], "x").as_bytes()).expect("sent");
        let (text, same) = Reply::read(stream).expect("a response").finish().expect("a complete body");
        let echo: Value = serde_json::from_str(&text).expect("JSON");
        peers.insert(echo["peer"].as_str().expect("a text").to_owned());
        stream = same;
    }
    assert!(peers.len() <= 2, "{peers:?}");
    drop(stream);
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-1: each event is forwarded at once.
#[test]
fn progress_arrives_while_the_tool_runs() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    let began = Instant::now();
    let call = client.tool("slow", &json!({ "steps": 4, "pause": 400 }));
    let mut events = Events::of(client.post(&call));
    let mut times = vec![];
    for step in 1..=4 {
        let progress = events.message();
        assert_eq!(
            (&progress["params"]["progress"], &progress["params"]["progressToken"]),
            (&json!(step), &json!("token"))
        );
        times.push(began.elapsed());
    }
    assert!(times[0] < Duration::from_millis(1200), "before the tool is done: {times:?}");
    assert!(times[3] - times[0] >= Duration::from_millis(900), "one by one: {times:?}");
    assert_eq!(events.message()["id"], call["id"]);
    assert_eq!(events.next(), None);
    daemon.assert_shuts_down(0);
}

#[test]
fn when_a_client_disconnects_its_worker_connection_is_closed() {
    let mut daemon = start();
    let port = daemon.port("alpha");
    let abandoned = || wire::request(port, &compose("GET /abandoned", &[], "")).json();
    let client = Client::initialize(port);
    let stuck = client.compose(&client.tool("stuck", &json!({})));
    for (number, text) in [compose("GET /never", &[], ""), stuck].iter().enumerate() {
        let mut stream = http::connect(port).expect("mcpd listens");
        stream.write_all(text.as_bytes()).expect("sent");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        assert!(stream.read(&mut [0]).is_err(), "no response yet");
        let disconnected = Instant::now();
        drop(stream);
        until("the worker to notice", BOUND, || (abandoned() == json!(number + 1)).then_some(()));
        assert!(disconnected.elapsed() < Duration::from_secs(2), "{:?}", disconnected.elapsed());
    }
    let stream = client.listen(&[]);
    drop(stream);
    daemon.wait_status("no client", |status| status.workers[0].clients == 0);
    daemon.assert_shuts_down(0);
}

/// Afterwards the session is unknown, as without mcpd.
#[test]
fn a_session_can_be_deleted() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    assert_eq!(client.state()["initialized"], true);
    let session = format!("mcp-session-id: {}", client.session);
    let delete = compose("DELETE /mcp", &[&session], "");
    assert_eq!(wire::request(daemon.port("alpha"), &delete).status, 200);
    assert_eq!(client.post(&client.tool("state", &json!({}))).status, 404);
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-3: mcpd rewrites event ids for the client, and `Last-Event-ID` has the worker's own id again.
#[test]
fn a_stream_is_resumed_with_last_event_id() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    let mut events = client.listen(&[]);
    assert_eq!(
        events.next().and_then(|event| event.retry).as_deref(),
        Some("5000"),
        "for a reconnect after a crash"
    );
    let first = events.next().expect("an event");
    assert_eq!(first.json()["params"]["data"]["last_event_id"], Value::Null);
    let last = format!("last-event-id: {}", first.id.expect("an id"));
    let mut again = client.listen(&[&last]);
    again.next();
    assert_eq!(again.message()["params"]["data"]["last_event_id"], "1");
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-2, R-CTL.
#[test]
fn mcpctl_clients_lists_connected_clients() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    let stream = client.listen(&[]);
    let list =
        |daemon: &Daemon| daemon.mcpctl(&["clients", "--json"]).expect_code(0).json()["clients"].clone();
    let listed = until("the client", BOUND, || {
        let list = list(&daemon);
        (list[0]["streams"] == 1 && list.as_array()?.len() == 1).then(|| list[0].clone())
    });
    assert_eq!((&listed["worker"], &listed["session"]), (&json!("alpha"), &json!(client.session)));
    assert_eq!((&listed["requests"], &listed["process"]["pid"]), (&json!(1), &json!(std::process::id())));
    let table = daemon.mcpctl(&["clients"]).expect_code(0).stdout;
    assert!(table.contains("alpha") && table.contains(&std::process::id().to_string()), "{table}");
    daemon.wait_status("one client", |status| status.workers[0].clients == 1);
    drop(stream);
    until("no client to be listed", BOUND, || (list(&daemon) == json!([])).then_some(()));
    daemon.assert_shuts_down(0);
}
