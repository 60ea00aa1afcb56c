//! Clients and servers that are rude rather than hostile: they do not read, stay idle, or use rare parts of HTTP.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use mcpd_common::os::socket::Socket;
use mcpd_common::outcome::FindingKind;
use mcpd_common::status::WorkerState;
use mcpd_tests::mcp::Client;
use mcpd_tests::wire::{self, Reply, compose};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, http, until};
use serde_json::json;

use crate::crash::all_threads_are;
use crate::front_door::{behind_front_door, start};
use crate::front_door_crowd::kibibytes;

const LONG: Duration = Duration::from_secs(20);

/// A `GET` stream without end whose client does not read, of events that are as long as `query` says.
fn unread_stream(daemon: &Daemon, query: &str) -> std::net::TcpStream {
    let client = Client::initialize(daemon.port("alpha"));
    let session = format!("mcp-session-id: {}", client.session);
    let get = compose(&format!("GET /mcp?{query}"), &["accept: text/event-stream", &session], "");
    let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    stream.write_all(get.as_bytes()).expect("sent");
    // The kernel's buffers are full when nothing arrives any more.
    let mut before = usize::MAX;
    until("the stream to be stuck", BOUND, || {
        let mut buffer = vec![0; 1 << 20];
        std::thread::sleep(Duration::from_millis(100));
        let arrived = nix::sys::socket::recv(
            std::os::fd::AsRawFd::as_raw_fd(&stream),
            &mut buffer,
            nix::sys::socket::MsgFlags::MSG_PEEK,
        );
        let arrived = arrived.unwrap_or(0);
        let is_stuck = arrived > 0 && arrived == before;
        before = arrived;
        is_stuck.then_some(())
    });
    stream
}

/// R-CLIENT-14: neither a restart nor a shutdown waits for a client that does not read its stream.
#[test]
fn a_client_that_does_not_read_delays_no_worker() {
    delays_no_worker("flood");
}

/// Many events fit into the buffers then, and the last one is cut in its middle.
#[test]
fn a_client_that_does_not_read_small_events_delays_no_worker() {
    delays_no_worker("flood=small");
}

fn delays_no_worker(query: &str) {
    let config =
        ConfigBuilder::new().times(LONG, LONG).worker("alpha", behind_front_door("--wait-for-clients"));
    let mut daemon = Daemon::start(config);
    let unread = unread_stream(&daemon, query);
    let began = Instant::now();
    daemon.mcpctl(&["restart", "alpha"]).expect_code(0);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let report = daemon.assert_shuts_down(1);
    assert!(report.duration_ms < 15_000, "{} ms", report.duration_ms);
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::ClientForced]);
    drop(unread);
}

/// R-CLIENT-14: a JSON response without a length is kept in memory up to a bound.
#[test]
fn a_large_json_response_in_chunks_is_streamed() {
    const MEBIBYTES: usize = 200;
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    let call = client.tool("chunks", &json!({ "mebibytes": MEBIBYTES }));
    let mut reply = client.post(&call);
    let mut length = 0;
    let mut piece = vec![0; 1 << 16];
    while let Ok(count @ 1..) = reply.body.read(&mut piece) {
        length += count;
    }
    assert!(length > MEBIBYTES << 20, "{length}");
    let peak = kibibytes(daemon.pid(), "VmHWM");
    assert!(peak < 150 << 10, "{peak} kB");
    daemon.assert_shuts_down(0);
}

/// What mcpd can't forward as it is meant is refused, and what is only offered is ignored.
#[test]
fn rare_parts_of_http_are_refused_or_ignored() {
    let mut daemon = start();
    let port = daemon.port("alpha");
    let status = |line: &str, headers: &[&str]| wire::request(port, &compose(line, headers, "")).status;
    assert_eq!(status("GET http://evil.example/echo", &[]), 403, "the target names another host");
    assert_eq!(status("GET http://localhost/echo", &[]), 200);
    assert_eq!(status("GET /echo", &["mcp-session-id: a", "mcp-session-id: b"]), 400);
    let text = "POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(wire::request(port, text).status, 501, "a coding that would be lost");

    let headers = [
        "connection: upgrade, http2-settings, x-hop, host",
        "upgrade: h2c",
        "http2-settings: AAMAAABk",
        "x-hop: 1",
    ];
    let echo = wire::request(port, &compose("GET /echo", &headers, "")).json();
    let names: Vec<_> =
        echo["headers"].as_array().expect("an array").iter().map(|pair| pair[0].as_str()).collect();
    for hop in ["upgrade", "http2-settings", "x-hop", "connection"] {
        assert!(!names.contains(&Some(hop)), "{names:?}");
    }
    assert!(names.contains(&Some("host")), "{names:?}");
    daemon.assert_shuts_down(0);
}

/// A client may keep a connection idle for longer than the time for a head, and is told for how long.
#[test]
fn an_idle_connection_is_kept() {
    let mut daemon = start();
    let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    for wait in [Duration::ZERO, Duration::from_secs(12)] {
        std::thread::sleep(wait);
        stream.write_all(compose("GET /echo", &[], "").as_bytes()).expect("still open");
        let reply = Reply::read(stream.try_clone().expect("a descriptor")).expect("a response");
        assert_eq!((reply.status, reply.header("keep-alive")), (200, Some("timeout=75")));
        reply.json();
    }
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-9: the kernel's reset proves that the worker never read the request.
#[test]
fn a_request_that_a_killed_worker_never_read_is_sent_again() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    client.state();
    let worker = daemon.wait_state("alpha", WorkerState::Ready).pid.expect("it runs");
    let pid = nix::unistd::Pid::from_raw(worker.get());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("it runs");
    // Before that, a thread of it may still read.
    until("the worker to be stopped", BOUND, || all_threads_are(worker.get(), 'T').then_some(()));
    let own = mcpd_common::os::socket::held_by(worker);
    let listeners = mcpd_common::os::socket::listeners().expect("a table");
    let listener = listeners.iter().find(|it| own.contains(&it.inode));
    let address = listener.expect("the worker listens").local;
    // Its kernel accepts the request, and it never reads it.
    let call = client.tool("state", &json!({}));
    let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    stream.write_all(client.compose(&call).as_bytes()).expect("sent");
    until("the request to arrive", BOUND, || {
        let table = mcpd_common::os::socket::connections().expect("a table");
        // It may wait in a connection that the worker has not accepted.
        let is_unread = |socket: &Socket| socket.local == address && socket.receive_queue > 0;
        table.iter().any(is_unread).then_some(())
    });
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    let response = Reply::read(stream).expect("a response").json();
    assert!(response["result"].is_object(), "{response}");
    daemon.assert_shuts_down(0);
}
