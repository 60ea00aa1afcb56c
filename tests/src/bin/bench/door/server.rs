//! A server that responds at once, so that the benchmark measures the proxies.
//!
//! Each response is a constant. Of a request it reads only the end, the path, and whether it is `initialize`. It has no
//! handler for `SIGTERM`.

use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The path whose response is JSON.
pub const JSON: &str = "/mcp";
/// The path whose response is an event stream with one event.
pub const EVENTS: &str = "/events";
/// The id of the session that `initialize` opens.
pub const SESSION: &str = "5a1c8f0e-3f6b-4c58-9d0b-2a7e4d9c1b77";

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hello"}]}}"#;
const INITIALIZED: &str = concat!(
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
            // A client may disconnect at any time.
            let _ = serve_connection(stream).await;
        });
    }
}

async fn serve_connection(mut stream: TcpStream) -> io::Result<()> {
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
        let pieces = response(&buffer[..end]);
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            stream.write_all(piece.as_bytes()).await?;
        }
        buffer.drain(..end);
    }
}

/// The end of the first request, if it is complete.
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

/// The response, in the pieces in which it is written: an event is sent before the end of its stream.
fn response(request: &[u8]) -> [String; 2] {
    let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let is_initialize = request.windows(12).any(|word| word == b"\"initialize\"");
    match path {
        _ if is_initialize => [json(&format!("mcp-session-id: {SESSION}\r\n"), INITIALIZED), String::new()],
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
