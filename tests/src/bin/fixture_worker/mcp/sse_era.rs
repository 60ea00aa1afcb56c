//! HTTP+SSE of 2024-11-05: a `GET` stream whose first event names where to `POST`; all answers come on
//! the stream.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::{Events, Request, reply};
use super::{Next, State};

/// Poll interval for answers to send.
const LOOK: Duration = Duration::from_millis(10);

/// The stream: the endpoint, then the answers to what is posted there.
pub fn listen(state: &State, mut stream: &TcpStream) -> io::Result<Next> {
    let mut events = Events::begin(stream)?;
    let event = format!("event: endpoint\ndata: /messages?session={}\n\n", std::process::id());
    write!(stream, "{:x}\r\n{event}\r\n", event.len())?;
    stream.set_read_timeout(Some(LOOK))?;
    loop {
        for answer in std::mem::take(&mut state.lock().on_the_stream) {
            events.send(1, &answer)?;
        }
        // The client disconnected, or sent nothing.
        match stream.read(&mut [0]) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            _ => return Ok(Next::Close),
        }
    }
}

/// A message for it.
pub fn post(state: &State, request: &Request, stream: &TcpStream) -> io::Result<Next> {
    let message: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    if let Some(id) = message.get("id") {
        let result = json!({ "asked": message["method"] });
        state.lock().on_the_stream.push(json!({ "jsonrpc": "2.0", "id": id, "result": result }));
    }
    reply(stream, request, 202, "", b"")?;
    Ok(Next::KeepAlive)
}
