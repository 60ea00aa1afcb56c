//! The first requests of a client: what it asks before it has a session.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Value, json};

use super::errors::refused;
use super::message::Message;
use crate::proxy::http::reply::Reply;
use crate::proxy::http::request::Request;
use crate::proxy::listener::Listener;

pub const DISCOVER: &str = "server/discover";

/// How long the request waits for a worker. Clients give up on their first request soon (R-CLIENT-10).
pub fn hold(listener: &Listener, request: &Request) -> Duration {
    const FIRST: Duration = Duration::from_secs(8);
    let is_first = request.is_call("initialize")
        || request.is_call(DISCOVER)
        || request.head.path().starts_with("/.well-known/");
    if is_first { listener.hold.min(FIRST) } else { listener.hold }
}

/// A worker that is not up has no documents about OAuth; a client that waited for them would never connect.
pub fn early_reply(listener: &Listener, request: &Request) -> Option<Reply> {
    let is_discovery = request.head.path().starts_with("/.well-known/oauth-");
    (is_discovery && !listener.is_live()).then(|| Reply::text(404, "the server is not up\n"))
}

/// The response to a request for which no worker is live.
pub fn unavailable(listener: &Listener, request: &Request, why: &str) -> Reply {
    let known = listener.discovered.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match (known, request.messages.as_ref().map(|messages| &*messages.all)) {
        (Some(result), Some([Message::Request { id, method }])) if method == DISCOVER => {
            Reply::json(json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string())
        }
        _ => refused(listener, request, why),
    }
}

/// Keeps the result of `server/discover`.
pub fn note_discovery(listener: &Listener, body: &[u8]) {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if answer["result"].is_object() {
        *listener.discovered.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer["result"].clone());
    }
}
