//! What a server said when mcpd initialized it, and how clients are answered from it (R-STDIO-1). Pure.

use serde_json::{Value, json};

/// The versions of the era with sessions, the oldest first. A server that speaks one of them serves clients of those before it:
/// mcpd passes on what it says as it is.
const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// "Unsupported protocol version", MCP 2026-07-28.
const UNSUPPORTED_VERSION: i64 = -32022;

/// The server's result for `initialize`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello(Value);

impl Hello {
    /// The parameters of the `initialize` that mcpd sends. A shared server can't ask one of its clients, so mcpd declares
    /// nothing that a server could ask for.
    pub fn params() -> Value {
        json!({
            "protocolVersion": VERSIONS[VERSIONS.len() - 1],
            "capabilities": {},
            "clientInfo": { "name": "mcpd", "version": env!("CARGO_PKG_VERSION") },
        })
    }

    /// The error for a request of 2026-07-28. Its client then sends `initialize`, if it supports an earlier version.
    ///
    /// The server does not get such a request: it might never answer it (clients do not fall back after a timeout over HTTP),
    /// and a server that supports both eras refuses it, because the first request selects the era of the connection.
    pub fn refusal(id: &Value, requested: &str) -> Value {
        json!({ "jsonrpc": "2.0", "id": id, "error": {
            "code": UNSUPPORTED_VERSION,
            "message": "mcpd initialized this server for all its clients; send initialize first",
            "data": { "supported": VERSIONS, "requested": requested },
        }})
    }

    /// Reads the server's answer.
    ///
    /// # Errors
    /// The server's error, for a person.
    pub fn read(answer: &[u8]) -> Result<Self, String> {
        let mut answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
        match answer.get_mut("result").map(Value::take) {
            Some(result) if result.is_object() => Ok(Self(result)),
            _ => Err(answer["error"]["message"].as_str().unwrap_or("no result").to_owned()),
        }
    }

    /// The result for a client that wants this version: its own if both know it, else the server's.
    pub fn result_for(&self, wanted: Option<&str>) -> Value {
        let mut result = self.0.clone();
        let age = |version: &str| VERSIONS.iter().position(|known| *known == version);
        let spoken = self.0["protocolVersion"].as_str().unwrap_or_default();
        if let Some(wanted) =
            wanted.filter(|it| age(it).is_some_and(|age_of_it| Some(age_of_it) <= age(spoken)))
        {
            result["protocolVersion"] = wanted.into();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_a_version_that_both_know() {
        let answer = br#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","serverInfo":{"name":"x"}}}"#;
        let hello = Hello::read(answer).expect("a result");
        let version = |wanted| hello.result_for(wanted)["protocolVersion"].clone();
        assert_eq!(version(Some("2025-03-26")), "2025-03-26", "older: as the client wants it");
        assert_eq!(version(Some("2025-06-18")), "2025-06-18");
        for unknown in [Some("2025-11-25"), Some("2026-07-28"), Some("x"), None] {
            assert_eq!(version(unknown), "2025-06-18", "the client decides whether it goes on: {unknown:?}");
        }
        assert_eq!(hello.result_for(None)["serverInfo"]["name"], "x");
    }

    /// Both SDKs send `initialize` after this error only if the versions are those of the era with sessions.
    #[test]
    fn a_client_without_sessions_learns_the_versions() {
        let refusal = Hello::refusal(&json!("a"), "2026-07-28");
        assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&json!("a"), &json!(-32022)));
        assert_eq!(refusal["error"]["data"], json!({ "supported": VERSIONS, "requested": "2026-07-28" }));
    }

    #[test]
    fn a_refusal_is_told() {
        let refused = Hello::read(br#"{"id":0,"error":{"code":-32601,"message":"Method not found"}}"#);
        assert_eq!(refused, Err("Method not found".to_owned()));
        assert!(Hello::read(b"{").is_err() && Hello::read(br#"{"id":0,"result":3}"#).is_err());
    }
}
