//! A server that answers at once, so that what is measured is the way to it.
//!
//! Every answer is a constant; nothing of a request is understood but where it ends, its path, and
//! whether it is `initialize`. It ends by `SIGTERM`, like any program that says nothing about it.

use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where a `POST` is answered by JSON.
pub const JSON: &str = "/mcp";
/// Where it is answered by an event stream with one event.
pub const EVENTS: &str = "/events";
/// The id of the session that `initialize` begins.
pub const SESSION: &str = "5a1c8f0e-3f6b-4c58-9d0b-2a7e4d9c1b77";

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hello"}]}}"#;
const AGREED: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{},"#,
    r#""serverInfo":{"name":"fast","version":"1"}}}"#
);

/// Serves this port of 127.0.0.1 until it is killed.
pub fn run(port: u16) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(port))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that goes away is no event here.
            let _ = talk(stream).await;
        });
    }
}

async fn talk(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(8 * 1024);
    loop {
        let end = loop {
            if let Some(end) = end_of_request(&buffer) {
                break end;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let pieces = answer(&buffer[..end]);
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            stream.write_all(piece.as_bytes()).await?;
        }
        buffer.drain(..end);
    }
}

/// Where the first request ends, if all of it is there.
fn end_of_request(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let end = head + length.unwrap_or(0);
    (bytes.len() >= end).then_some(end)
}

/// In the pieces in which it is written: an event goes out before it is known that it was the last.
fn answer(request: &[u8]) -> [String; 2] {
    let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let begins = request.windows(12).any(|word| word == b"\"initialize\"");
    match path {
        _ if begins => [json(&format!("mcp-session-id: {SESSION}\r\n"), AGREED), String::new()],
        path if path == EVENTS.as_bytes() => {
            let event = format!("event: message\ndata: {RESULT}\n\n");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n";
            let first = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n", event.len());
            [first, "0\r\n\r\n".to_owned()]
        }
        _ => [json("", RESULT), String::new()],
    }
}

fn json(header: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{header}content-length: {length}\r\n\r\n{body}"
    )
}
