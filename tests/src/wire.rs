//! HTTP on the level of bytes: exact requests, and responses whose bodies must end cleanly.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use mcpd_common::ids::Port;

use crate::http;

/// A response whose body is not read yet.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, not read yet.
    pub body: Body,
}

/// A body. Reading it is an error if the connection ends before the body does.
#[derive(Debug)]
pub struct Body {
    reader: BufReader<TcpStream>,
    framing: Framing,
    left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
    Ended,
}

/// Sends these bytes as a request on a connection of its own.
#[track_caller]
pub fn request(port: Port, text: &str) -> Reply {
    let mut stream = http::connect(port).expect("a server listens");
    stream.write_all(text.as_bytes()).expect("sent");
    Reply::read(stream).expect("a response")
}

/// A request with a `Host`, these header lines and this body.
pub fn compose(line: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().flat_map(|line| [*line, "\r\n"]).collect();
    let length = body.len();
    format!("{line} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

impl Reply {
    /// Reads the head of a response; `100 Continue` is skipped.
    ///
    /// # Errors
    /// If the connection ends, or after the read timeout.
    pub fn read(stream: TcpStream) -> io::Result<Self> {
        Self::read_from(BufReader::new(stream))
    }

    fn read_from(mut reader: BufReader<TcpStream>) -> io::Result<Self> {
        loop {
            let first = line(&mut reader)?;
            let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status = status.ok_or_else(|| io::Error::other(format!("not a response: {first:?}")))?;
            let headers = headers(&mut reader)?;
            if status != 100 {
                return Ok(Self::new(status, headers, reader));
            }
        }
    }

    fn new(status: u16, headers: Vec<(String, String)>, reader: BufReader<TcpStream>) -> Self {
        let find = |name: &str| headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str());
        let length = find("content-length").and_then(|length| length.parse().ok());
        let (framing, left) = match (find("transfer-encoding"), length) {
            (Some(_), _) => (Framing::Chunked, 0),
            (None, Some(length)) => (Framing::Length, length),
            (None, None) => (Framing::UntilClose, u64::MAX),
        };
        Self { status, headers, body: Body { reader, framing, left } }
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// Reads the whole body.
    #[track_caller]
    pub fn text(mut self) -> String {
        let mut text = String::new();
        self.body.read_to_string(&mut text).expect("a body with a clean end");
        text
    }

    /// Reads the whole body as JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Reads the body, and returns it and the connection for the next request.
    ///
    /// # Errors
    /// If the body does not end cleanly.
    pub fn finish(mut self) -> io::Result<(String, TcpStream)> {
        let mut text = String::new();
        self.body.read_to_string(&mut text)?;
        Ok((text, self.body.reader.into_inner()))
    }
}

impl Body {
    /// The connection.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let size = line(&mut self.reader)?;
        self.left = u64::from_str_radix(&size, 16).map_err(io::Error::other)?;
        if self.left == 0 {
            line(&mut self.reader)?;
            self.framing = Framing::Ended;
        }
        Ok(())
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.framing == Framing::Chunked && self.left == 0 {
            self.next_chunk()?;
        }
        if self.framing == Framing::Ended || self.left == 0 {
            return Ok(0);
        }
        let count = self.reader.by_ref().take(self.left).read(buffer)?;
        if count == 0 && self.framing != Framing::UntilClose {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        if self.framing == Framing::Chunked && self.left == 0 {
            line(&mut self.reader)?;
        }
        Ok(count)
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    match reader.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

fn headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = vec![];
    loop {
        let line = line(reader)?;
        match line.split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Ok(headers),
        }
    }
}
