//! Responses of mcpd itself that MCP clients understand (a 503 kills some clients, a JSON-RPC error none).

use super::message::UNAVAILABLE;
use crate::condition::Fate;
use crate::proxy::http::reply::Reply;
use crate::proxy::http::request::Request;
use crate::proxy::http::worker_connection::CallError;
use crate::proxy::listener::Listener;

/// For an event stream, in milliseconds.
pub const RETRY: &[u8] = b"retry: 5000\n\n";
/// For a stream whose server returns in a moment, and whose port is never refused.
pub const RETRY_SOON: &[u8] = b"retry: 500\n\n";

/// The response to a request that was not executed (R-CLIENT-5): JSON-RPC errors for requests, a stream that ends with a
/// retry time for stream requests, and a 503 only for what is not MCP.
pub fn refused(listener: &Listener, request: &Request, why: &str) -> Reply {
    match &request.messages {
        Some(messages) => {
            let errors = messages.errors((UNAVAILABLE, why), &listener.explain(Fate::NotSent));
            errors.map_or_else(Reply::accepted, Reply::json)
        }
        None if request.head.wants_events() => Reply::events(RETRY),
        None => Reply::later(format!("{why}\n")),
    }
}

/// The error for a request in flight, with its own id.
pub fn interrupted(listener: &Listener, request: &Request) -> Reply {
    match &request.messages {
        Some(messages) => {
            let errors = messages.errors(listener.interruption(), &listener.explain(Fate::Interrupted));
            errors.map_or_else(Reply::accepted, Reply::json)
        }
        None => Reply::text(502, "the server was restarted\n"),
    }
}

/// The response to a request whose call failed after it was sent.
pub fn failure(listener: &Listener, request: &Request, error: &CallError) -> Reply {
    tracing::info!(worker = %listener.name, %error, "a request was interrupted");
    match error {
        CallError::Broken(_) | CallError::Unread => interrupted(listener, request),
        CallError::Head(_) | CallError::Bad(_) => match &request.messages {
            Some(_) => refused(listener, request, &error.to_string()),
            None => Reply::text(502, format!("{error}\n")),
        },
    }
}
