//! How a worker says that it does not know a session, and so has not executed the request (R-CLIENT-9).
//!
//! MCP asks for 404. Servers made with the TypeScript SDK respond with 400 and an error that says it in words; the SDK's own
//! transports use the code -32001.

use serde_json::Value;

use crate::proxy::http::worker_connection::Response;

const NOT_FOUND: u16 = 404;
const BAD_REQUEST: u16 = 400;
const SESSION_NOT_FOUND: i64 = -32001;

/// Whether the response says it. What was read of its body stays in the response.
pub async fn is_lost(response: &mut Response) -> bool {
    match response.head.status {
        NOT_FOUND => true,
        BAD_REQUEST => response.read_refusal().await.is_some_and(says_unknown),
        _ => false,
    }
}

/// Whether a refusal says in words or by its code that the session is unknown.
fn says_unknown(body: &[u8]) -> bool {
    const WORDS: [&str; 6] =
        ["not found", "no valid session", "unknown", "invalid session", "expired", "not initialized"];
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = match value["error"]["message"].as_str() {
        Some(message) => message.to_lowercase(),
        None => String::from_utf8_lossy(body).to_lowercase(),
    };
    value["error"]["code"] == SESSION_NOT_FOUND
        || text.contains("server not initialized")
        || (text.contains("session") && WORDS.iter().any(|words| text.contains(words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_real_servers() {
        let says = |text: &str| says_unknown(text.as_bytes());
        for unknown in [
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"gone"},"id":null}"#,
            r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}"#,
            "Invalid session",
            "Unknown session abc",
        ] {
            assert!(says(unknown), "{unknown}");
        }
        for other in [
            r#"{"jsonrpc":"2.0","error":{"code":-32602,"message":"unknown tool"},"id":1}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"this session may not do that"},"id":1}"#,
            "bad request",
            "",
        ] {
            assert!(!says(other), "{other}");
        }
    }
}
