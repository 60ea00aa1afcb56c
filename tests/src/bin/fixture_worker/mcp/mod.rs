//! A small MCP server with sessions (`--mcp`), and with slow tools.
//!
//! It is strict where a proxy could have bugs: unknown sessions get 404, requests before `notifications/initialized` an
//! error, and each elicitation has the id 0. A file `version` in the working directory names the only protocol version that
//! it offers.

mod rude;
mod sse_era;
mod state;
mod wire;

use std::io::{self, Read};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

pub use rude::Rudeness;
use serde_json::{Value, json};
pub use state::State;
use wire::Events;
pub use wire::Request;

const VERSION: &str = "2025-06-18";
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// What to do with the connection after a response.
pub enum Next {
    /// Read the next request.
    KeepAlive,
    /// Close the connection.
    Close,
}

/// Whether this module responds to the request; probes and stop requests are not for it.
pub fn handles(request: &Request) -> bool {
    const PATHS: [&str; 10] = [
        "/mcp",
        "/echo",
        "/bytes",
        "/never",
        "/abandoned",
        "/stuck",
        "/counts",
        "/forget",
        "/sse",
        "/messages",
    ];
    PATHS.contains(&request.path())
}

/// Responds to one request.
pub fn respond(state: &State, request: &Request, stream: &TcpStream) -> io::Result<Next> {
    if request.path() == "/mcp"
        && let Some(next) = rude::refuse(state, request, stream)?
    {
        return Ok(next);
    }
    match (request.method(), request.path()) {
        (_, "/forget") => {
            state.lock().sessions.clear();
            wire::reply(stream, request, 200, "", b"")?;
        }
        (_, "/counts") => {
            let inner = state.lock();
            let counts = json!({
                "begun": inner.begun, "deleted": inner.deleted, "calls": inner.calls, "misdirected": inner.misdirected
            });
            drop(inner);
            wire::json(stream, request, "", &counts)?;
        }
        (_, "/echo") => wire::json(stream, request, "", &echo(request, stream)?)?,
        (_, "/bytes") => wire::reply(stream, request, 200, "content-type: text/plain\r\n", &request.body)?,
        (_, "/never") => return never(state, stream),
        (_, "/abandoned") => wire::json(stream, request, "", &json!(state.lock().abandoned))?,
        (_, "/stuck") => wire::json(stream, request, "", &json!(state.lock().stuck))?,
        ("GET", "/sse") => return sse_era::listen(state, stream),
        ("POST", "/messages") => return sse_era::post(state, request, stream),
        ("GET", _) => return listen(state, request, stream),
        ("DELETE", _) => {
            let id = request.header("mcp-session-id").unwrap_or_default();
            let mut inner = state.lock();
            let existed = inner.sessions.remove(id).is_some();
            inner.deleted += 1;
            drop(inner);
            wire::reply(stream, request, if existed { 200 } else { 404 }, "", b"")?;
        }
        _ => return post(state, request, stream),
    }
    Ok(Next::KeepAlive)
}

fn echo(request: &Request, stream: &TcpStream) -> io::Result<Value> {
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| json!([name, value])).collect();
    Ok(json!({
        "line": request.line, "headers": headers, "length": request.body.len(),
        "body": String::from_utf8_lossy(&request.body[..request.body.len().min(100)]),
        "peer": stream.peer_addr()?.to_string(), "pid": std::process::id(),
    }))
}

/// Waits until the client disconnects.
fn never(state: &State, mut stream: &TcpStream) -> io::Result<Next> {
    let _ = stream.read(&mut [0]);
    state.lock().abandoned += 1;
    Ok(Next::Close)
}

fn refuse(request: &Request, stream: &TcpStream, status: u16) -> io::Result<Next> {
    wire::reply(stream, request, status, "content-type: text/plain\r\n", b"no such session\n")?;
    Ok(Next::KeepAlive)
}

/// The event stream of a session: which process serves it, and where it resumes.
fn listen(state: &State, request: &Request, stream: &TcpStream) -> io::Result<Next> {
    let id = request.header("mcp-session-id").unwrap_or_default();
    if !state.lock().sessions.contains_key(id) {
        return rude::unknown_session(state, request, stream);
    }
    if !rude::enter_stream(state, id, request, stream)? {
        return Ok(Next::KeepAlive);
    }
    let ended = send_stream(request, stream);
    rude::leave_stream(state, id);
    ended
}

fn send_stream(request: &Request, mut stream: &TcpStream) -> io::Result<Next> {
    let mut events = Events::begin(stream)?;
    let data = json!({ "pid": std::process::id(), "last_event_id": request.header("last-event-id") });
    let params = json!({ "level": "info", "data": data });
    let message = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params });
    events.send(1, &message)?;
    if request.line.contains("flood") {
        // If they are large, the kernel's buffers are full soon.
        let length = if request.line.contains("flood=small") { 16 } else { 32 * 1024 };
        let params = json!({ "level": "info", "data": "x".repeat(length) });
        let flood = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params });
        loop {
            events.send(1, &flood)?;
        }
    }
    let _ = stream.read(&mut [0]);
    Ok(Next::Close)
}

fn post(state: &State, request: &Request, stream: &TcpStream) -> io::Result<Next> {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return refuse(request, stream, 400);
    };
    if body["method"] == "initialize" && rude::is_early(state) {
        wire::reply(stream, request, 503, "", b"not yet\n")?;
        return Ok(Next::KeepAlive);
    }
    if body["method"] == "initialize" && rude::is_taken(state) {
        wire::reply(stream, request, 400, "", b"Server already initialized\n")?;
        return Ok(Next::KeepAlive);
    }
    if body["method"] == "initialize" {
        let id = state.begin();
        let response = json!({ "jsonrpc": "2.0", "id": body["id"], "result": initialized(state) });
        wire::json(stream, request, &format!("Mcp-Session-Id: {id}\r\n"), &response)?;
        return Ok(Next::KeepAlive);
    }
    if body["method"] == "subscriptions/listen" {
        return subscribe(&body, stream);
    }
    let id = request.header("mcp-session-id").unwrap_or_default();
    if !state.lock().sessions.contains_key(id) {
        return if id.is_empty() {
            refuse(request, stream, 400)
        } else {
            rude::unknown_session(state, request, stream)
        };
    }
    let exchange = Exchange { state, id, stream, request };
    match body {
        Value::Array(all) => {
            let responses: Vec<_> = all.iter().filter_map(|message| exchange.result(message)).collect();
            wire::json(stream, request, "", &Value::Array(responses))?;
            Ok(Next::KeepAlive)
        }
        one => exchange.respond(&one),
    }
}

/// The stream of a client of 2026-07-28, which has no session.
fn subscribe(request: &Value, mut stream: &TcpStream) -> io::Result<Next> {
    let mut events = Events::begin(stream)?;
    let meta = json!({ "io.modelcontextprotocol/subscriptionId": request["id"] });
    let method = "notifications/subscriptions/acknowledged";
    events.send(1, &json!({ "jsonrpc": "2.0", "method": method, "params": { "_meta": meta } }))?;
    let _ = stream.read(&mut [0]);
    Ok(Next::Close)
}

fn initialized(state: &State) -> Value {
    let version = std::fs::read_to_string("version").unwrap_or_else(|_| VERSION.to_owned());
    json!({
        "protocolVersion": version.trim(),
        "serverInfo": { "name": "fixture", "version": "1" },
        "capabilities": {
            "logging": {}, "tools": if state.rude.undeclared { json!({}) } else { json!({ "listChanged": true }) },
            "resources": { "subscribe": true }
        }
    })
}

fn tools() -> Value {
    let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
    let named =
        std::fs::read_to_string("tools").unwrap_or_else(|_| "state slow stuck elicit text".to_owned());
    let all: Vec<_> = named.split_whitespace().map(tool).collect();
    json!({ "tools": all })
}

/// One request within a session.
struct Exchange<'a> {
    state: &'a State,
    id: &'a str,
    stream: &'a TcpStream,
    request: &'a Request,
}

impl Exchange<'_> {
    fn respond(&self, message: &Value) -> io::Result<Next> {
        match message["params"]["name"].as_str() {
            Some("slow") => self.slow(message)?,
            Some("elicit") => self.elicit(message)?,
            Some("silent") => self.silent(message)?,
            Some("chunks") => wire::chunked_json(self.stream, message)?,
            _ => match self.result(message) {
                Some(response) => wire::json(self.stream, self.request, "", &response)?,
                None => wire::reply(self.stream, self.request, 202, "", b"")?,
            },
        }
        Ok(Next::KeepAlive)
    }

    /// The response to a request; `None` for notifications and responses.
    fn result(&self, message: &Value) -> Option<Value> {
        let params = &message["params"];
        let text = |key: &str| params[key].as_str().unwrap_or_default().to_owned();
        let mut inner = self.state.lock();
        if let Some(number) = params["arguments"].get("number") {
            *inner.calls.entry(number.to_string()).or_default() += 1;
        }
        let session = inner.sessions.get_mut(self.id)?;
        let result = match message["method"].as_str() {
            None => {
                session.responses.push(message.clone());
                return None;
            }
            Some("notifications/initialized") => {
                session.initialized = true;
                return None;
            }
            _ if message.get("id").is_none() => return None,
            _ if !session.initialized => {
                let error = json!({ "code": -32002, "message": "not initialized" });
                return Some(json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }));
            }
            Some("logging/setLevel") => {
                session.level = Some(text("level"));
                json!({})
            }
            Some("resources/subscribe") => {
                session.subscriptions.insert(text("uri"));
                json!({})
            }
            Some("resources/unsubscribe") => {
                session.subscriptions.remove(&text("uri"));
                json!({})
            }
            Some("tools/list") => tools(),
            Some("tools/call") if params["name"] == "state" => content(&session.describe().to_string()),
            Some("tools/call") if params["name"] == "text" => {
                let length = params["arguments"]["length"].as_u64().and_then(|it| usize::try_from(it).ok());
                content(&"x".repeat(length.unwrap_or(0)))
            }
            Some("tools/call") => {
                inner.stuck += 1;
                drop(inner);
                let _ = never(self.state, self.stream);
                return None;
            }
            Some(_) => json!({}),
        };
        Some(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }))
    }

    /// Responds with JSON after a while.
    fn silent(&self, message: &Value) -> io::Result<()> {
        let pause = message["params"]["arguments"]["pause"].as_u64().unwrap_or(100);
        thread::sleep(Duration::from_millis(pause));
        let response = json!({ "jsonrpc": "2.0", "id": message["id"], "result": content("at last") });
        wire::json(self.stream, self.request, "", &response)
    }

    /// Reports progress while it works.
    fn slow(&self, message: &Value) -> io::Result<()> {
        let params = &message["params"];
        let steps = params["arguments"]["steps"].as_u64().unwrap_or(3);
        let pause = Duration::from_millis(params["arguments"]["pause"].as_u64().unwrap_or(100));
        let mut events = Events::begin(self.stream)?;
        for step in 1..=steps {
            let params = json!({
                "progressToken": params["_meta"]["progressToken"], "progress": step, "total": steps
            });
            let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
            events.send(u32::try_from(step).unwrap_or(u32::MAX), &progress)?;
            thread::sleep(pause);
        }
        // The client has to resume the stream for the response (2025-11-25).
        if params["arguments"]["early"] == true {
            return events.end();
        }
        events.send(99, &json!({ "jsonrpc": "2.0", "id": message["id"], "result": content("slow") }))?;
        events.end()
    }

    /// Sends the client a request, always with the id 0, and returns its response as the result.
    fn elicit(&self, message: &Value) -> io::Result<()> {
        let mut events = Events::begin(self.stream)?;
        let schema = json!({ "type": "object", "properties": {} });
        let params = json!({ "message": "really?", "requestedSchema": schema });
        events.send(
            1,
            &json!({ "jsonrpc": "2.0", "id": 0, "method": "elicitation/create", "params": params }),
        )?;
        let response = self.state.wait_response(self.id, &json!(0), RESPONSE_TIMEOUT);
        let text = response.unwrap_or_default()["result"].to_string();
        events.send(2, &json!({ "jsonrpc": "2.0", "id": message["id"], "result": content(&text) }))?;
        events.end()
    }
}

fn content(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}
