//! HTTP for an MCP server: requests with headers and body, and chunked event streams.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// A request with headers and body.
pub struct Request {
    /// Method and target of the first line.
    pub line: String,
    /// In the order of the request; names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body, without chunk framing.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a request; `None` at the end of the connection.
    pub fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Self>> {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let line = first.trim_end().rsplit_once(' ').map_or("", |(line, _)| line).to_owned();
        let mut request = Self { line, headers: vec![], body: vec![] };
        loop {
            let line = read_line(reader)?;
            match line.split_once(':') {
                Some((name, value)) => {
                    request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                }
                None => break,
            }
        }
        match request.header("transfer-encoding") {
            Some(_) => read_chunks(reader, &mut request.body)?,
            None => {
                let length = request.header("content-length").and_then(|length| length.parse().ok());
                reader.by_ref().take(length.unwrap_or(0)).read_to_end(&mut request.body)?;
            }
        }
        Ok(Some(request))
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        let target = self.line.split(' ').nth(1).unwrap_or_default();
        target.split('?').next().unwrap_or_default()
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    match reader.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = u64::from_str_radix(&read_line(reader)?, 16).map_err(io::Error::other)?;
        reader.by_ref().take(size).read_to_end(body)?;
        read_line(reader)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Sends a response with a length. `headers` are complete lines. Without the body if the request is `HEAD`.
pub fn reply(
    mut stream: &TcpStream,
    request: &Request,
    status: u16,
    headers: &str,
    body: &[u8],
) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} fixture\r\n{headers}content-length: {length}\r\n\r\n")?;
    match request.method() {
        "HEAD" => Ok(()),
        _ => stream.write_all(body),
    }
}

/// Sends a JSON response with status 200.
pub fn json(stream: &TcpStream, request: &Request, headers: &str, value: &Value) -> io::Result<()> {
    let headers = format!("content-type: application/json\r\n{headers}");
    reply(stream, request, 200, &headers, value.to_string().as_bytes())
}

/// Sends a large JSON response in chunks, so that its length is not known before its end.
pub fn chunked_json(mut stream: &TcpStream, message: &Value) -> io::Result<()> {
    const MEBIBYTE: usize = 1 << 20;
    let count = message["params"]["arguments"]["mebibytes"].as_u64().unwrap_or(1);
    write!(
        stream,
        "HTTP/1.1 200 fixture\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )?;
    let mut send = |text: &str| write!(stream, "{:x}\r\n{text}\r\n", text.len());
    send(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"text\":\"", message["id"]))?;
    let piece = "x".repeat(MEBIBYTE);
    for _ in 0..count {
        send(&piece)?;
    }
    send("\"}}")?;
    stream.write_all(b"0\r\n\r\n")
}

/// An event stream that is being written.
pub struct Events<'a>(&'a TcpStream);

impl<'a> Events<'a> {
    /// Sends the head of the response.
    pub fn begin(mut stream: &'a TcpStream) -> io::Result<Self> {
        stream.write_all(
            b"HTTP/1.1 200 fixture\r\ncontent-type: text/event-stream\r\n\
              cache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n",
        )?;
        Ok(Self(stream))
    }

    /// Sends an event with this id.
    pub fn send(&mut self, id: u32, message: &Value) -> io::Result<()> {
        let event = format!("event: message\nid: {id}\ndata: {message}\n\n");
        write!(self.0, "{:x}\r\n{event}\r\n", event.len())
    }

    /// Ends the stream cleanly.
    pub fn end(mut self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")
    }
}
