//! A simple MCP client with sessions, for tests that depend on exact bytes and times.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicU64, Ordering};

use mcpd_common::ids::Port;
use serde_json::{Value, json};

use crate::wire::{self, Body, Reply};

/// The header lines of every `POST` of a client.
pub const JSON: [&str; 2] = ["content-type: application/json", "accept: application/json, text/event-stream"];

/// An MCP client with a session.
#[derive(Debug)]
pub struct Client {
    port: Port,
    /// The session id from the server.
    pub session: String,
    /// Further header lines of all its requests.
    pub headers: Vec<String>,
    last: AtomicU64,
}

/// A server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `id:`
    pub id: Option<String>,
    /// `retry:`
    pub retry: Option<String>,
    /// `data:`
    pub data: String,
}

impl Event {
    /// The data as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The events of a response, one by one.
#[derive(Debug)]
pub struct Events(BufReader<Body>);

impl Events {
    /// Panics if the response is not an event stream.
    #[track_caller]
    pub fn of(reply: Reply) -> Self {
        let kind = reply.header("content-type").unwrap_or_default();
        assert!(reply.status == 200 && kind.starts_with("text/event-stream"), "{reply:?}");
        Self(BufReader::new(reply.body))
    }

    /// The message in the next event.
    #[track_caller]
    pub fn message(&mut self) -> Value {
        self.next().expect("another event").json()
    }
}

/// Ends at the clean end of the stream, and panics at any other end.
impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        let mut known = false;
        loop {
            let mut line = String::new();
            let count = self.0.read_line(&mut line).expect("an event or a clean end");
            let Some((field, value)) = line.trim_end().split_once(": ") else {
                match (count, known) {
                    (0, false) => return None,
                    (_, true) => return Some(event),
                    (_, false) => continue,
                }
            };
            known = true;
            match field {
                "id" => event.id = Some(value.to_owned()),
                "retry" => event.retry = Some(value.to_owned()),
                "data" => event.data.push_str(value),
                _ => {}
            }
        }
    }
}

impl Client {
    /// Opens a session.
    #[track_caller]
    pub fn initialize(port: Port) -> Self {
        Self::initialize_with(port, &[])
    }

    /// The same, with further header lines in all requests.
    #[track_caller]
    pub fn initialize_with(port: Port, headers: &[&str]) -> Self {
        let headers = headers.iter().map(|line| (*line).to_owned()).collect();
        let client = Self { port, session: String::new(), headers, last: AtomicU64::new(0) };
        let params = json!({
            "protocolVersion": "2025-06-18", "capabilities": { "elicitation": {} },
            "clientInfo": { "name": "by-hand", "version": "1" }
        });
        let reply = client.post(&client.request("initialize", &params));
        assert_eq!(reply.status, 200, "{reply:?}");
        let session = reply.header("mcp-session-id").expect("a session").to_owned();
        let client = Self { session, ..client };
        let reply = client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        assert_eq!(reply.status, 202);
        client
    }

    /// Goes on with a session that another client began.
    pub fn resume(port: Port, session: String) -> Self {
        Self { port, session, headers: vec![], last: AtomicU64::new(0) }
    }

    /// A request with a new id.
    pub fn request(&self, method: &str, params: &Value) -> Value {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
    }

    /// A request that calls a tool.
    pub fn tool(&self, name: &str, arguments: &Value) -> Value {
        let meta = json!({ "progressToken": "token" });
        self.request("tools/call", &json!({ "name": name, "arguments": arguments, "_meta": meta }))
    }

    /// The HTTP request that sends this message.
    pub fn compose(&self, message: &Value) -> String {
        let mut headers = JSON.to_vec();
        let session = format!("mcp-session-id: {}", self.session);
        if !self.session.is_empty() {
            headers.push(&session);
        }
        headers.extend(self.headers.iter().map(String::as_str));
        wire::compose("POST /mcp", &headers, &message.to_string())
    }

    /// Sends a message on a connection of its own.
    #[track_caller]
    pub fn post(&self, message: &Value) -> Reply {
        wire::request(self.port, &self.compose(message))
    }

    /// Sends a request and returns its response, which may be JSON or an event.
    #[track_caller]
    pub fn call(&self, message: &Value) -> Value {
        let reply = self.post(message);
        assert_eq!(reply.status, 200, "{reply:?}");
        let is_stream =
            reply.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        if !is_stream {
            return reply.json();
        }
        let events = Events::of(reply).collect::<Vec<_>>();
        let mut messages = events.iter().filter(|event| !event.data.is_empty()).map(Event::json);
        let response = messages.find(|response| response["id"] == message["id"]);
        response.unwrap_or_else(|| panic!("no response in {events:?}"))
    }

    /// The session's state in the worker.
    #[track_caller]
    pub fn state(&self) -> Value {
        let response = self.call(&self.tool("state", &json!({})));
        text(&response).parse().unwrap_or_else(|error| panic!("{error}: {response}"))
    }

    /// Ends the session.
    #[track_caller]
    pub fn delete(&self) -> Reply {
        let session = format!("mcp-session-id: {}", self.session);
        wire::request(self.port, &wire::compose("DELETE /mcp", &[&session], ""))
    }

    /// Opens the session's event stream.
    #[track_caller]
    pub fn listen(&self, headers: &[&str]) -> Events {
        let session = format!("mcp-session-id: {}", self.session);
        let mut all = vec!["accept: text/event-stream", &session];
        all.extend(headers);
        all.extend(self.headers.iter().map(String::as_str));
        Events::of(wire::request(self.port, &wire::compose("GET /mcp", &all, "")))
    }
}

/// The text of a tool's result.
#[track_caller]
pub fn text(response: &Value) -> &str {
    response["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {response}"))
}
