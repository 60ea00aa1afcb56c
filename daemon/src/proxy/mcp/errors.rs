//! Responses of mcpd itself that MCP clients understand (a 503 kills some clients, a JSON-RPC error none).

use serde_json::Value;

use super::message::{Messages, UNAVAILABLE};
use crate::proxy::http::reply::Reply;

/// For an event stream, in milliseconds.
pub const RETRY: &[u8] = b"retry: 5000\n\n";
/// For a stream whose server returns in a moment, and whose port is never refused.
pub const RETRY_SOON: &[u8] = b"retry: 500\n\n";

/// The response to a request that is not forwarded (R-CLIENT-5): JSON-RPC errors for requests, a
/// stream that ends with a retry time for stream requests, and a 503 only for what is not MCP.
pub fn refused(messages: Option<&Messages>, wants_events: bool, why: &str, data: &Value) -> Reply {
    match messages {
        Some(messages) => messages.errors((UNAVAILABLE, why), data).map_or_else(Reply::accepted, Reply::json),
        None if wants_events => Reply::events(RETRY),
        None => Reply::later(format!("{why}\n")),
    }
}
