//! A small MCP server of the session era (`--mcp`), with tools that take their time.
//!
//! It is strict where a proxy could go wrong: unknown sessions get 404, requests before
//! `notifications/initialized` an error, each elicitation of a session has the id 0. A file
//! `version` in the working directory names the protocol version that it insists upon.

mod sse_era;
mod state;
mod wire;

use std::io::{self, Read};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
pub use state::State;
use wire::Events;
pub use wire::Request;

const VERSION: &str = "2025-06-18";
const PATIENCE: Duration = Duration::from_secs(60);

/// What the connection does next.
pub enum Next {
    /// Another request may come.
    KeepAlive,
    /// It is closed.
    Close,
}

/// Whether this module answers it; probes and requests to exit are answered by the server.
pub fn is_mine(request: &Request) -> bool {
    const PATHS: [&str; 8] =
        ["/mcp", "/echo", "/bytes", "/never", "/abandoned", "/stuck", "/sse", "/messages"];
    PATHS.contains(&request.path())
}

/// Answers one request.
pub fn answer(state: &State, request: &Request, stream: &TcpStream) -> io::Result<Next> {
    match (request.method(), request.path()) {
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
            let known = state.lock().sessions.remove(id).is_some();
            wire::reply(stream, request, if known { 200 } else { 404 }, "", b"")?;
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
fn listen(state: &State, request: &Request, mut stream: &TcpStream) -> io::Result<Next> {
    let id = request.header("mcp-session-id").unwrap_or_default();
    if !state.lock().sessions.contains_key(id) {
        return refuse(request, stream, 404);
    }
    let mut events = Events::begin(stream)?;
    let data = json!({ "pid": std::process::id(), "last_event_id": request.header("last-event-id") });
    let params = json!({ "level": "info", "data": data });
    events.send(1, &json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params }))?;
    let _ = stream.read(&mut [0]);
    Ok(Next::Close)
}

fn post(state: &State, request: &Request, stream: &TcpStream) -> io::Result<Next> {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return refuse(request, stream, 400);
    };
    if body["method"] == "initialize" {
        let id = state.begin();
        let answer = json!({ "jsonrpc": "2.0", "id": body["id"], "result": initialized() });
        wire::json(stream, request, &format!("Mcp-Session-Id: {id}\r\n"), &answer)?;
        return Ok(Next::KeepAlive);
    }
    let id = request.header("mcp-session-id").unwrap_or_default();
    if !state.lock().sessions.contains_key(id) {
        return refuse(request, stream, if id.is_empty() { 400 } else { 404 });
    }
    let talk = Talk { state, id, stream, request };
    match body {
        Value::Array(all) => {
            let answers: Vec<_> = all.iter().filter_map(|message| talk.result(message)).collect();
            wire::json(stream, request, "", &Value::Array(answers))?;
            Ok(Next::KeepAlive)
        }
        one => talk.answer(&one),
    }
}

fn initialized() -> Value {
    let version = std::fs::read_to_string("version").unwrap_or_else(|_| VERSION.to_owned());
    json!({
        "protocolVersion": version.trim(),
        "serverInfo": { "name": "fixture", "version": "1" },
        "capabilities": {
            "logging": {}, "tools": { "listChanged": true }, "resources": { "subscribe": true }
        }
    })
}

fn tools() -> Value {
    let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
    let all = ["state", "slow", "stuck", "elicit", "text"].map(tool);
    json!({ "tools": all })
}

/// One request within a session.
struct Talk<'a> {
    state: &'a State,
    id: &'a str,
    stream: &'a TcpStream,
    request: &'a Request,
}

impl Talk<'_> {
    fn answer(&self, message: &Value) -> io::Result<Next> {
        match message["params"]["name"].as_str() {
            Some("slow") => self.slow(message)?,
            Some("elicit") => self.elicit(message)?,
            _ => match self.result(message) {
                Some(answer) => wire::json(self.stream, self.request, "", &answer)?,
                None => wire::reply(self.stream, self.request, 202, "", b"")?,
            },
        }
        Ok(Next::KeepAlive)
    }

    /// The answer that comes in one piece; `None` to notifications and answers.
    fn result(&self, message: &Value) -> Option<Value> {
        let params = &message["params"];
        let text = |key: &str| params[key].as_str().unwrap_or_default().to_owned();
        let mut inner = self.state.lock();
        let session = inner.sessions.get_mut(self.id)?;
        let result = match message["method"].as_str() {
            None => {
                session.answers.push(message.clone());
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
        // The client is to come back for the answer (2025-11-25).
        if params["arguments"]["early"] == true {
            return events.end();
        }
        events.send(99, &json!({ "jsonrpc": "2.0", "id": message["id"], "result": content("slow") }))?;
        events.end()
    }

    /// Asks the client, always with the id 0, and answers with its answer.
    fn elicit(&self, message: &Value) -> io::Result<()> {
        let mut events = Events::begin(self.stream)?;
        let schema = json!({ "type": "object", "properties": {} });
        let params = json!({ "message": "really?", "requestedSchema": schema });
        events.send(
            1,
            &json!({ "jsonrpc": "2.0", "id": 0, "method": "elicitation/create", "params": params }),
        )?;
        let answer = self.state.answer(self.id, &json!(0), PATIENCE);
        let text = answer.unwrap_or_default()["result"].to_string();
        events.send(2, &json!({ "jsonrpc": "2.0", "id": message["id"], "result": content(&text) }))?;
        events.end()
    }
}

fn content(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}
