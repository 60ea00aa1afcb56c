//! Asking a worker: one request a connection, or a connection that stays.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use mcpd_common::ids::Port;

use crate::wait::BOUND;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// Its body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends `METHOD PATH` on a connection of its own.
pub fn ask(port: Port, request: &str) -> io::Result<Answer> {
    let mut stream = connect(port)?;
    send(&mut stream, request, &["connection: close"])?;
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

/// Opens an event stream and reads its first event: a client that stays.
#[track_caller]
pub fn open_stream(port: Port) -> TcpStream {
    let mut stream = connect(port).expect("the worker listens");
    send(&mut stream, "GET /events", &["accept: text/event-stream"]).expect("sent");
    let mut lines = BufReader::new(&stream).lines();
    let hello = lines.find(|line| line.as_ref().is_ok_and(|line| line == "data: hello"));
    assert!(hello.is_some(), "the event stream begins");
    stream
}

/// Asks for 16 MiB and reads none of it: a client that hangs.
#[track_caller]
pub fn hang(port: Port) -> TcpStream {
    let mut stream = connect(port).expect("the worker listens");
    send(&mut stream, "GET /big", &[]).expect("sent");
    let mut first = [0; 1];
    stream.peek(&mut first).expect("the answer begins");
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

/// Reads one answer with a length, or until the end.
pub fn receive(reader: &mut impl BufRead) -> io::Result<Answer> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no answer but {line:?}")))?;
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
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}
