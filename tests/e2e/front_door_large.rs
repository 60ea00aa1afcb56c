//! JSON bodies that are too large to be read before they are forwarded (R-CLIENT-1, R-CLIENT-3).

use std::io::Write;
use std::net::TcpStream;

use mcpd_tests::mcp::Client;
use mcpd_tests::wire::Reply;
use mcpd_tests::{Daemon, http};
use serde_json::{Value, json};

use crate::front_door::start;
use crate::front_door_restart::{kill_worker, wait_stuck};

const LARGE: usize = 6 << 20;

/// How a client frames its body.
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

fn answer(stream: TcpStream) -> Value {
    let reply = Reply::read(stream).expect("an answer");
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[test]
fn a_large_call_is_answered_however_it_is_framed() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    for framing in [Framing::Length, Framing::Chunked] {
        let call = large_call("state", "large");
        let mut stream = send_head(&daemon, &client.session, framing, call.len());
        send_body(&mut stream, framing, &call);
        end_body(&mut stream, framing);
        assert_eq!(answer(stream)["id"], "large", "{framing:?}");
    }
    daemon.assert_shuts_down(0);
}

/// Its worker dies while it works on it: the error has the id that came last.
#[test]
fn a_large_call_in_flight_gets_its_error() {
    let mut daemon = start();
    let client = Client::initialize(daemon.port("alpha"));
    for framing in [Framing::Length, Framing::Chunked] {
        let call = large_call("stuck", "large");
        let mut stream = send_head(&daemon, &client.session, framing, call.len());
        send_body(&mut stream, framing, &call);
        end_body(&mut stream, framing);
        wait_stuck(&daemon);
        kill_worker(&mut daemon);
        let answer = answer(stream);
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!("large"), &json!(-32000)),
            "{framing:?}"
        );
    }
    daemon.assert_shuts_down(0);
}

/// The worker dies while the call is still being sent: the rest is read for its id.
#[test]
fn a_large_call_is_read_to_its_id_after_the_worker_died() {
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
        // An error, or the answer of the next worker, depending on how much the dead one had received.
        let answer = answer(stream);
        assert_eq!(answer["id"], "large", "{framing:?}: {answer}");
    }
    daemon.assert_shuts_down(0);
}
