//! HTTP+SSE of 2024-11-05: the first event of a `GET` stream names the endpoint for `POST`, and all responses are sent on
//! the stream.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::{Events, Request, reply};
use super::{Next, State};

/// Poll interval for responses to send.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Opens the stream: the endpoint, then the responses to messages that are posted there.
pub fn listen(state: &State, mut stream: &TcpStream) -> io::Result<Next> {
    let mut events = Events::begin(stream)?;
    let event = format!("event: endpoint\ndata: /messages?session={}\n\n", std::process::id());
    write!(stream, "{:x}\r\n{event}\r\n", event.len())?;
    stream.set_read_timeout(Some(POLL_INTERVAL))?;
    loop {
        for response in std::mem::take(&mut state.lock().sse_responses) {
            events.send(1, &response)?;
        }
        // A timeout means that the client is still connected.
        match stream.read(&mut [0]) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            _ => return Ok(Next::Close),
        }
    }
}

/// Receives a message.
pub fn post(state: &State, request: &Request, stream: &TcpStream) -> io::Result<Next> {
    let message: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    if let Some(id) = message.get("id") {
        let result = json!({ "method": message["method"] });
        state.lock().sse_responses.push(json!({ "jsonrpc": "2.0", "id": id, "result": result }));
    }
    reply(stream, request, 202, "", b"")?;
    Ok(Next::KeepAlive)
}
