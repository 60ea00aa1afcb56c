//! A small MCP server on standard input and output (`--stdio`), with tools that misbehave.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::exiting::{self, small_thread};
use crate::options::{OnShutdown, Options, WORKER_LIFETIME};
use crate::zoo;

const VERSION: &str = "2025-06-18";

/// What the tool `state` shows.
#[derive(Default)]
struct Seen {
    initialized: u32,
    level: Option<Value>,
    subscribed: Vec<Value>,
    unsubscribed: Vec<Value>,
    /// Ids of requests that were cancelled.
    cancelled: Vec<Value>,
    stuck: u32,
    /// Responses to its own request.
    responses: Vec<Value>,
    /// Parameters of `initialize`.
    client: Value,
    roots_changed: u32,
    /// The call that waits for the client's answer.
    eliciting: Option<Value>,
}

/// Serves until the end of its input.
pub fn run(options: Options) -> ExitCode {
    thread::sleep(options.start_delay);
    if let Some(delay) = options.crash_after {
        exiting::crash_after(delay);
    }
    let hostiles = options.zoo.clone();
    zoo::serve(&hostiles, move || serve(&options))
}

fn serve(options: &Options) -> ExitCode {
    let seen = Arc::new(Mutex::new(Seen::default()));
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { return crate::fail("no JSON") };
        take(&seen, &message);
    }
    if options.on_shutdown != OnShutdown::Exit {
        thread::sleep(WORKER_LIFETIME);
    }
    thread::sleep(options.slow_exit);
    ExitCode::SUCCESS
}

fn take(seen: &Arc<Mutex<Seen>>, message: &Value) {
    let params = &message["params"];
    let mut state = seen.lock().expect("no thread panicked");
    let result = match message["method"].as_str() {
        None => {
            if let Some(call) = state.eliciting.take() {
                respond(&call, &text(&message["result"].to_string()));
            }
            return state.responses.push(message.clone());
        }
        Some("notifications/roots/list_changed") => return state.roots_changed += 1,
        Some("notifications/initialized") => return state.initialized += 1,
        Some("notifications/cancelled") => return state.cancelled.push(params["requestId"].clone()),
        // It asks without having been called.
        Some("notifications/ask") => return ask(),
        Some(_) if message.get("id").is_none() => return,
        Some("initialize") if params["refuse"] == true => {
            let error = json!({ "code": -32602, "message": "refused" });
            return send(&json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }));
        }
        Some("initialize") => {
            state.client = params.clone();
            initialized()
        }
        Some("logging/setLevel") => {
            state.level = Some(params["level"].clone());
            json!({})
        }
        Some("resources/subscribe") => {
            state.subscribed.push(params["uri"].clone());
            json!({})
        }
        Some("resources/unsubscribe") => {
            state.unsubscribed.push(params["uri"].clone());
            json!({})
        }
        Some("tools/call") => {
            drop(state);
            return call(seen, message);
        }
        Some(_) => json!({}),
    };
    drop(state);
    respond(message, &result);
}

fn initialized() -> Value {
    json!({
        "protocolVersion": VERSION,
        "serverInfo": { "name": "fixture", "version": "1" },
        "capabilities": { "logging": {}, "tools": { "listChanged": true }, "resources": { "subscribe": true } },
    })
}

fn call(seen: &Arc<Mutex<Seen>>, message: &Value) {
    let arguments = message["params"]["arguments"].clone();
    match message["params"]["name"].as_str().unwrap_or_default() {
        "state" => respond(message, &text(&describe(&seen.lock().expect("no thread panicked")).to_string())),
        "text" => {
            let length = arguments["length"].as_u64().and_then(|it| usize::try_from(it).ok());
            respond(message, &text(&"x".repeat(length.unwrap_or(0))));
        }
        // Answers late, so that later requests are answered first.
        "slow" => {
            let message = message.clone();
            small_thread(move || slow(&message, &arguments));
        }
        "notify" => {
            send(&json!({ "jsonrpc": "2.0", "method": arguments["method"], "params": arguments["params"] }));
            respond(message, &text("told"));
        }
        "ask" => {
            ask();
            respond(message, &text("asked"));
        }
        // The answer of the client is the result.
        "elicit" => {
            seen.lock().expect("no thread panicked").eliciting = Some(message.clone());
            send(&json!({ "jsonrpc": "2.0", "id": 0, "method": "elicitation/create", "params": arguments }));
        }
        "exit" => exiting::crash_after(Duration::ZERO),
        "stray" => {
            write_line(arguments["line"].as_str().unwrap_or("this is not JSON-RPC").as_bytes());
            respond(message, &text("written"));
        }
        // It reads nothing more, for a while.
        "deaf" => thread::sleep(Duration::from_millis(arguments["ms"].as_u64().unwrap_or(1000))),
        "stuck" => seen.lock().expect("no thread panicked").stuck += 1,
        _ => respond(message, &text(&arguments.to_string())),
    }
}

fn ask() {
    send(&json!({ "jsonrpc": "2.0", "id": 0, "method": "sampling/createMessage", "params": {} }));
}

fn slow(message: &Value, arguments: &Value) {
    let token = &message["params"]["_meta"]["progressToken"];
    for step in 1..=arguments["steps"].as_u64().unwrap_or(3) {
        let params = json!({ "progressToken": token, "progress": step, "message": arguments });
        send(&json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }));
        thread::sleep(Duration::from_millis(arguments["pause"].as_u64().unwrap_or(20)));
    }
    respond(message, &text(&arguments.to_string()));
}

fn describe(seen: &Seen) -> Value {
    json!({
        "pid": std::process::id(), "initialized": seen.initialized, "level": seen.level, "subscribed": seen.subscribed,
        "unsubscribed": seen.unsubscribed, "cancelled": seen.cancelled, "stuck": seen.stuck,
        "responses": seen.responses, "client": seen.client, "roots_changed": seen.roots_changed, "port": std::env::var("PORT").ok(),
    })
}

fn text(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

fn respond(request: &Value, result: &Value) {
    send(&json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }));
}

fn send(message: &Value) {
    write_line(message.to_string().as_bytes());
}

fn write_line(line: &[u8]) {
    let mut out = io::stdout().lock();
    // A daemon that does not read any more has gone.
    let _ = out.write_all(line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
}
