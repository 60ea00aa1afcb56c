//! Bad input at the front door: web pages, invalid HTTP, too many connections (R-CLIENT-1, R-CLIENT-4). mcpd
//! keeps running each time, and its shutdown leaves nothing.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use mcpd_common::ids::Port;
use mcpd_tests::mcp::Client;
use mcpd_tests::wire::{self, Reply, compose};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, http, skip, timed, until};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::front_door::{behind_front_door, start};

/// Reads all bytes until the connection is closed or reset.
fn read_all(mut stream: TcpStream) -> String {
    let mut all = vec![];
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        all.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn send(port: Port, text: &[u8]) -> TcpStream {
    let mut stream = http::connect(port).expect("mcpd listens");
    // The connection may be refused before all of it is written.
    let _ = stream.write_all(text);
    stream
}

fn assert_alive(daemon: &Daemon) {
    let reply = wire::request(daemon.port("alpha"), &compose("GET /echo", &[], ""));
    assert_eq!(reply.status, 200);
}

fn status_of(port: Port, headers: &[&str]) -> u16 {
    let lines: String = headers.iter().flat_map(|line| [*line, "\r\n"]).collect();
    wire::request(port, &format!("GET /echo HTTP/1.1\r\n{lines}\r\n")).status
}

/// R-CLIENT-4: a web page must not reach a local server by DNS rebinding.
#[test]
fn foreign_hosts_and_origins_are_refused() {
    let more = behind_front_door("").with("allowed_hosts = [\"dev.box\"]");
    let config = ConfigBuilder::new().worker("alpha", behind_front_door("")).worker("beta", more);
    let mut daemon = Daemon::start(config);
    let port = daemon.port("alpha");
    let here = format!("Host: 127.0.0.1:{port}");
    for headers in [vec![&*here, "User-Agent: curl/8"], vec!["Host: [::1]", "Origin: http://localhost:5173"]]
    {
        assert_eq!(status_of(port, &headers), 200, "{headers:?}");
    }
    let page =
        ["Origin: https://evil.example", "Referer: https://evil.example/", "Sec-Fetch-Site: cross-site"];
    let cases = [
        vec!["Host: evil.example"],
        vec!["Host: evil.example:8080", "Origin: http://evil.example:8080"],
        vec![&*here, page[0], page[1], page[2]],
        vec![&*here, "Origin: null"],
        vec![&*here, "Host: evil.example"],
        vec!["Host: localhost.evil.example"],
        vec!["Host:"],
    ];
    for headers in cases {
        assert_eq!(status_of(port, &headers), 403, "{headers:?}");
    }
    let preflight = ["origin: https://evil.example", "access-control-request-method: POST"];
    let refused = wire::request(port, &compose("OPTIONS /mcp", &preflight, ""));
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, None));
    let stop = compose("POST /shutdown", &["origin: https://evil.example"], "");
    assert_eq!(wire::request(port, &stop).status, 403, "not forwarded to the worker");
    assert_eq!(status_of(daemon.port("beta"), &["Host: dev.box"]), 200);
    assert_eq!(status_of(port, &["Host: dev.box"]), 403, "it is allowed for the other worker only");
    daemon.assert_shuts_down(0);
}

#[test]
fn invalid_http_gets_400() {
    let mut daemon = start();
    let port = daemon.port("alpha");
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    let cases: [&[u8]; 7] = [
        b"hello\r\n\r\n",
        &hello,
        b"GET /echo HTTP/9.9\r\nhost: localhost\r\n\r\n",
        b"GET  /echo HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost: localhost\r\nno colon here\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nhost: localhost\r\nbad name: x\r\n\r\n",
        b"GET /ech\0o HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ];
    for text in cases {
        let (all, took) = timed(|| read_all(send(port, text)));
        assert!(all.starts_with("HTTP/1.1 400 "), "{:?}: {all:?}", String::from_utf8_lossy(text));
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    let http2 = read_all(send(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    assert!(!http2.starts_with("HTTP/1.1 2"), "{http2}");
    assert_alive(&daemon);
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-1.
#[test]
fn tunnels_are_refused() {
    let mut daemon = start();
    let port = daemon.port("alpha");
    let connect = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    assert_eq!(wire::request(port, &connect).status, 501);
    for protocol in ["websocket", "h2c"] {
        let headers = ["connection: Upgrade, HTTP2-Settings", &format!("upgrade: {protocol}")];
        let reply = wire::request(port, &compose("GET /echo", &headers, ""));
        assert_eq!(reply.status, 200, "{protocol}: the offer is ignored (RFC 9110, section 7.8)");
    }
    assert_alive(&daemon);
    daemon.assert_shuts_down(0);
}

/// A request is refused unless mcpd and the worker agree on where it ends.
#[test]
fn requests_cannot_be_smuggled() {
    let mut daemon = start();
    let port = daemon.port("alpha");
    let framings = [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "content-length: 0x5\r\n",
        "content-length: 99999999999999999999\r\n",
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: x\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding: xchunked\r\n",
        "x: y\r\n transfer-encoding: chunked\r\n",
    ];
    for kind in ["application/json", "text/plain"] {
        for framing in framings {
            let head =
                format!("POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n{framing}\r\n");
            let body = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
            let (all, took) = timed(|| read_all(send(port, format!("{head}{body}").as_bytes())));
            assert!(took < Duration::from_secs(5), "{framing}: {took:?} for {all}");
            let responses: Vec<_> = all.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
            // With this framing the first request has an empty body; the rest is a second request, which mcpd refuses.
            let first = responses.first().copied().unwrap_or_default();
            assert!(responses.iter().skip(1).all(|line| !line.starts_with("HTTP/1.1 2")), "{framing}{all}");
            if first.starts_with("HTTP/1.1 2") {
                assert!(all.contains("\"length\":0"), "{framing}{all}");
                let echoed =
                    all.matches("[\"content-length\"").count() + all.matches("[\"transfer-enc").count();
                assert!(echoed <= 1, "{framing}{all}");
            } else {
                assert!(first.starts_with("HTTP/1.1 400"), "{framing}{all}");
            }
        }
    }
    assert_alive(&daemon);
    daemon.assert_shuts_down(0);
}

#[test]
fn headers_without_end_are_refused() {
    let mut daemon = start();
    for line in ["x: ".to_owned() + &"y".repeat(4000) + "\r\n", "y".repeat(4000), "a: b\r\n".repeat(500)] {
        let mut stream = send(daemon.port("alpha"), b"GET /echo HTTP/1.1\r\nhost: localhost\r\n");
        let mut sent = 0;
        let refused = loop {
            match stream.write_all(line.as_bytes()) {
                Ok(()) => sent += line.len(),
                Err(_) => break true,
            }
            // Far more than the buffers of both sockets.
            if sent > 64 << 20 {
                break false;
            }
        };
        assert!(refused, "after {sent} bytes");
    }
    assert_alive(&daemon);
    daemon.assert_shuts_down(0);
}

/// They do not delay other clients.
#[test]
fn clients_with_slow_headers_are_disconnected_after_ten_seconds() {
    let mut daemon = start();
    let port = daemon.port("alpha");
    let began = Instant::now();
    let slow: Vec<_> = (0..20)
        .map(|_| {
            thread::spawn(move || {
                let mut stream = send(port, b"GET /echo HTTP/1.1\r\n");
                stream.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
                let mut response = [0; 64];
                loop {
                    let _ = stream.write_all(b"x");
                    match stream.read(&mut response) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        _ => return began.elapsed(),
                    }
                }
            })
        })
        .collect();
    let unused: Vec<_> = (0..20).map(|_| http::connect(port).expect("mcpd listens")).collect();
    assert_alive(&daemon);
    for slow in slow {
        let took = slow.join().expect("no panic");
        assert!(took > Duration::from_secs(8) && took < Duration::from_secs(25), "{took:?}");
    }
    daemon.wait_status("no client to be left", |status| status.workers[0].clients == 0);
    drop(unused);
    daemon.assert_shuts_down(0);
}

/// With a response or without one.
#[test]
fn half_closed_connections_are_closed() {
    let mut daemon = start();
    let port = daemon.port("alpha");
    let client = Client::initialize(port);
    let call = client.compose(&client.tool("stuck", &json!({})));
    let whole = compose("GET /echo", &[], "");
    let texts = ["", "GET /echo HT", &whole, &call, &call[..call.len() - 5]];
    let streams: Vec<_> = texts
        .iter()
        .map(|text| {
            let stream = send(port, text.as_bytes());
            stream.shutdown(Shutdown::Write).expect("open until now");
            stream
        })
        .collect();
    for (stream, text) in streams.into_iter().zip(texts) {
        let (all, took) = timed(|| read_all(stream));
        assert!(took < Duration::from_secs(10), "{text}: {took:?} for {all}");
    }
    daemon.wait_status("no client to be left", |status| status.workers[0].clients == 0);
    assert_alive(&daemon);
    daemon.assert_shuts_down(0);
}

/// R-CLIENT-1: 503 beyond 1024 connections, until one is closed.
#[test]
fn too_many_connections_are_turned_away() {
    const LIMIT: usize = 1024;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < 4096) {
        return skip::test("this machine allows fewer than 4096 descriptors");
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("within the maximum");
    let mut daemon = start();
    let port = daemon.port("alpha");
    let request = compose("GET /echo", &[], "");
    let mut clients: Vec<_> = (0..LIMIT).map(|_| http::connect(port).expect("mcpd listens")).collect();
    let last = clients.last_mut().expect("many");
    last.write_all(request.as_bytes()).expect("sent");
    assert_eq!(Reply::read(clients.pop().expect("many")).expect("a response").status, 200);
    clients.push(http::connect(port).expect("mcpd listens"));
    let response = || Reply::read(send(port, request.as_bytes()));
    let refused =
        until("the limit to be reached", BOUND, || response().ok().filter(|reply| reply.status == 503));
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert!(refused.text().contains("too many connections"));
    clients.truncate(LIMIT / 2);
    until("a connection to be accepted", BOUND, || response().ok().filter(|reply| reply.status == 200));
    daemon.assert_shuts_down(0);
}
