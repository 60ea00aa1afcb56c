//! MCP clients that are connected when the shutdown begins: they are notified, their streams end, and no
//! client has to be disconnected by force.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;

use mcpd_common::outcome::{Asked, Departure};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, WorkerSpec, http, until};
use rmcp::ServiceExt;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::json;

/// Opens a session of version 2025-11-25 by hand, and returns its id.
fn initialize(daemon: &Daemon) -> String {
    let message = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "by-hand", "version": "1" }
        }
    });
    let mut stream = post(daemon, &message.to_string(), "");
    let mut response = String::new();
    BufReader::new(&mut stream).read_to_string(&mut response).expect("a response");
    let session = response.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("mcp-session-id").then(|| value.trim().to_owned())
    });
    let session = session.unwrap_or_else(|| panic!("no session in {response}"));
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let mut stream = post(daemon, &note.to_string(), &format!("mcp-session-id: {session}\r\n"));
    let mut first = String::new();
    BufReader::new(&mut stream).read_line(&mut first).expect("a response");
    assert!(first.contains(" 202 "), "{first}");
    session
}

fn post(daemon: &Daemon, body: &str, headers: &str) -> TcpStream {
    let mut stream = http::connect(daemon.port("alpha")).expect("the worker listens");
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\
         accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    stream
}

/// Opens an event stream of this session.
fn listen(daemon: &Daemon, session: &str) -> BufReader<TcpStream> {
    let mut stream = http::connect(daemon.port("alpha")).expect("the worker listens");
    let session = format!("mcp-session-id: {session}");
    http::send(&mut stream, "GET /mcp", &["accept: text/event-stream", &session]).expect("sent");
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).expect("a response");
    assert!(first.contains(" 200 "), "{first}");
    stream
}

/// R-WORK, R-EXIT-1: the worker exits on request, and the code is 0.
#[test]
fn an_open_stream_gets_a_shutdown_notice_and_a_clean_end() {
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", WorkerSpec::built_in()));
    let streams: Vec<_> = (0..3).map(|_| listen(&daemon, &initialize(&daemon))).collect();
    daemon.wait_status("three clients", |status| status.workers[0].clients == 3);
    let reading: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || {
                let mut text = String::new();
                stream.read_to_string(&mut text).map(|_| text)
            })
        })
        .collect();
    let output = daemon.mcpctl(&["shutdown", "--wait", "--reason", "maintenance"]).expect_code(0);
    let report = daemon.assert_no_trace(0);
    for reader in reading {
        let text = reader.join().expect("no panic").expect("no reset, no timeout");
        assert!(text.contains("\"method\":\"notifications/shutdown\""), "{text}");
        assert!(text.contains("retry: 5000"), "{text}");
        assert!(text.ends_with("\r\n0\r\n\r\n"), "the last chunk is missing:\n{text}");
    }
    assert!(!output.stdout.is_empty());
    let alpha = &report.workers[0];
    assert_eq!((alpha.asked, alpha.departure), (Asked::Http, Departure::Left));
    assert_eq!((report.clients.seen, report.clients.forced), (3, 0), "{:?}", report.clients);
}

/// The client of the Rust SDK, and a shutdown by a signal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sdk_client_does_not_delay_the_shutdown() {
    let mut daemon = Daemon::start(ConfigBuilder::new().worker("alpha", WorkerSpec::built_in()));
    let url = format!("http://127.0.0.1:{}/mcp", daemon.port("alpha"));
    let client = ().serve(StreamableHttpClientTransport::from_uri(url)).await.expect("it initializes");
    client.list_all_tools().await.expect("tools");
    until("the event stream", BOUND, || {
        let status = daemon.try_status()?;
        (status.workers[0].clients > 0).then_some(())
    });
    daemon.signal(Signal::SIGTERM);
    let report = daemon.assert_no_trace(0);
    assert_eq!((report.workers[0].departure, report.clients.forced), (Departure::Left, 0));
    assert!(client.list_all_tools().await.is_err(), "the server is gone");
    drop(client);
}
