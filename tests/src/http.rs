//! HTTP requests to a worker: one request for each connection, or a connection that stays open.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use mcpd_common::ids::Port;

use crate::wait::BOUND;

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Response {
    /// Its body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends `METHOD PATH` on a connection of its own, and returns the response.
pub fn request(port: Port, line: &str) -> io::Result<Response> {
    let mut stream = connect(port)?;
    send(&mut stream, line, &["connection: close"])?;
    receive(&mut BufReader::new(&stream))
}

/// A connection to the port, on 127.0.0.1.
pub fn connect(port: Port) -> io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.get()));
    let stream = TcpStream::connect_timeout(&address, BOUND)?;
    stream.set_read_timeout(Some(BOUND))?;
    stream.set_write_timeout(Some(BOUND))?;
    Ok(stream)
}

/// Opens an event stream and reads its first event. The client stays connected.
#[track_caller]
pub fn open_stream(port: Port) -> TcpStream {
    let mut stream = connect(port).expect("the worker listens");
    send(&mut stream, "GET /events", &["accept: text/event-stream"]).expect("sent");
    let mut lines = BufReader::new(&stream).lines();
    let hello = lines.find(|line| line.as_ref().is_ok_and(|line| line == "data: hello"));
    assert!(hello.is_some(), "the event stream begins");
    stream
}

/// A client that hangs: it requests 16 MiB and reads none of it.
#[track_caller]
pub fn hang(port: Port) -> TcpStream {
    let mut stream = connect(port).expect("the worker listens");
    send(&mut stream, "GET /big", &[]).expect("sent");
    let mut first = [0; 1];
    stream.peek(&mut first).expect("the response begins");
    stream
}

/// Sends `METHOD PATH` with these header lines and no body.
pub fn send(stream: &mut TcpStream, request: &str, headers: &[&str]) -> io::Result<()> {
    let mut head = format!("{request} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())
}

/// Reads a response, with a length or until the connection is closed.
pub fn receive(reader: &mut impl BufRead) -> io::Result<Response> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not a response: {line:?}")))?;
    let mut length = None;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(("content-length", value)) = line.to_ascii_lowercase().split_once(':') {
            length = value.trim().parse().ok();
        }
    }
    let mut body = Vec::new();
    reader.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body)?;
    Ok(Response { status, body: String::from_utf8_lossy(&body).into_owned() })
}
