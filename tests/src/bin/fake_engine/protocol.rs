//! One line of JSON in each direction. After the answer to `run`, the connection is standard input and output of the
//! container.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

/// Sends one line.
pub fn send(mut stream: &UnixStream, message: &Value) -> io::Result<()> {
    stream.write_all(format!("{message}\n").as_bytes())
}

/// Reads one line, and no byte after it.
pub fn receive(mut stream: &UnixStream) -> io::Result<Value> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(serde_json::from_slice(&line)?)
}

/// The answer to a command: its exit code, and what it prints.
pub fn answer(code: u8, text: impl Into<String>) -> Value {
    json!({ "code": code, "text": text.into() })
}
