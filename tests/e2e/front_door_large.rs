//! JSON bodies that are too large to be buffered before they are forwarded (R-CLIENT-1, R-CLIENT-3).

use std::io::Write;
use std::net::TcpStream;

use mcpd_tests::mcp::Client;
use mcpd_tests::wire::Reply;
use mcpd_tests::{Daemon, http};
use serde_json::{Value, json};

use crate::front_door::start;
use crate::front_door_restart::{kill_worker, wait_stuck};

const LARGE: usize = 6 << 20;

/// The framing of a request body.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunked,
}

/// A call of 6 MiB with its id at the end.
fn large_call(tool: &str, id: &str) -> String {
    let padding = "0123456789abcde\\".repeat(LARGE / 16).replace('\\', "\\\\");
    let arguments = format!("{{\"id\":1,\"padding\":\"{padding}\"}}");
    format!(
        "{{\"params\":{{\"name\":\"{tool}\",\"arguments\":{arguments}}},\"method\":\"tools/call\",\"jsonrpc\":\"2.0\",\"id\":\"{id}\"}}"
    )
}

fn send_head(daemon: &Daemon, session: &str, framing: Framing, length: usize) -> TcpStream {
    let mut stream = http::connect(daemon.port("alpha")).expect("mcpd listens");
    let framed = match framing {
        Framing::Length => format!("content-length: {length}"),
        Framing::Chunked => "transfer-encoding: chunked".to_owned(),
    };
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nmcp-session-id: {session}\r\n{framed}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream
}

fn send_body(stream: &mut TcpStream, framing: Framing, body: &str) {
    for piece in body.as_bytes().chunks(100_000) {
        match framing {
            Framing::Length => stream.write_all(piece).expect("sent"),
            Framing::Chunked => {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).expect("sent");
                stream.write_all(piece).expect("sent");
                stream.write_all(b"\r\n").expect("sent");
            }
        }
    }
}

fn end_body(stream: &mut TcpStream, framing: Framing) {
    if let Framing::Chunked = framing {
        stream.write_all(b"0\r\n\r\n").expect("sent");
    }
}

fn response(stream: TcpStream) -> Value {
    let reply = Reply::read(stream).expect("a response");
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[test]
fn a_large_call_gets_its_response_with_any_framing() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    for framing in [Framing::Length, Framing::Chunked] {
        let call = large_call("state", "large");
        let mut stream = send_head(&daemon, &client.session, framing, call.len());
        send_body(&mut stream, framing, &call);
        end_body(&mut stream, framing);
        assert_eq!(response(stream)["id"], "large", "{framing:?}");
    }
    daemon.assert_shuts_down(0);
}

/// The worker is killed after it has received the call; the error has the id from the end of the body.
#[test]
fn a_large_call_in_flight_gets_an_error_if_its_worker_is_killed() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    for framing in [Framing::Length, Framing::Chunked] {
        let call = large_call("stuck", "large");
        let mut stream = send_head(&daemon, &client.session, framing, call.len());
        send_body(&mut stream, framing, &call);
        end_body(&mut stream, framing);
        wait_stuck(&daemon);
        kill_worker(&mut daemon);
        let response = response(stream);
        assert_eq!(
            (&response["id"], &response["error"]["code"]),
            (&json!("large"), &json!(-32000)),
            "{framing:?}"
        );
    }
    daemon.assert_shuts_down(0);
}

/// mcpd reads the rest of the body to find the id.
#[test]
fn a_large_call_gets_a_response_if_its_worker_is_killed_while_it_is_sent() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    for framing in [Framing::Length, Framing::Chunked] {
        let call = large_call("state", "large");
        let (first, second) = call.split_at(call.len() * 5 / 6);
        let mut stream = send_head(&daemon, &client.session, framing, call.len());
        send_body(&mut stream, framing, first);
        kill_worker(&mut daemon);
        send_body(&mut stream, framing, second);
        end_body(&mut stream, framing);
        // An error, or the response of the next worker, depending on how much the killed one had received.
        let response = response(stream);
        assert_eq!(response["id"], "large", "{framing:?}: {response}");
    }
    daemon.assert_shuts_down(0);
}
