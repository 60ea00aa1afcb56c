//! The last messages on a stream (R-CLIENT-5). Pure.

use serde_json::{Value, json};

/// The end of `subscriptions/listen`: only the response to its request (2026-07-28
/// forbids notifications that were not requested).
pub fn complete(id: &Value) -> Value {
    let meta = json!({ "io.modelcontextprotocol/subscriptionId": id });
    json!({ "jsonrpc": "2.0", "id": id, "result": { "resultType": "complete", "_meta": meta } })
}

/// This project's own notification.
pub fn notice(reason: &str) -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/shutdown", "params": { "reason": reason } })
}

/// A log message, which every client shows.
pub fn log(reason: &str) -> Value {
    let data = json!({ "event": "shutdown", "reason": reason });
    let params = json!({ "level": "warning", "logger": "mcpd", "data": data });
    json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_what_its_reader_needs() {
        assert_eq!(complete(&json!("a"))["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "a");
        assert_eq!(complete(&json!(7))["id"], 7);
        assert_eq!(notice("manual")["params"]["reason"], "manual");
        assert_eq!(log("manual")["params"]["level"], "warning");
        assert_eq!(log("manual")["params"]["data"]["event"], "shutdown");
    }
}
