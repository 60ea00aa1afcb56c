//! Reads the JSON-RPC messages in a body. Pure; bodies are never changed here.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::quick;

/// The error for a request that its worker could not finish.
pub const INTERRUPTED: (i64, &str) = (-32000, "the server was restarted while it worked on this request");
/// The error for a request during the shutdown.
pub const SHUTTING_DOWN: (i64, &str) = (-32000, "the server is shutting down");
/// The code of the error for a request whose worker is not live.
pub const UNAVAILABLE: i64 = -32000;

/// One message, as far as it matters for forwarding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request { id: Value, method: String },
    /// A notification.
    Notification { method: String },
    /// A response to a request of the other side.
    Answer { id: Value },
}

/// The messages of one body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    pub all: Vec<Message>,
    /// Whether the body was an array (a batch).
    pub batch: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
}

impl Message {
    /// The message with these members; `None` if it has neither.
    pub fn new(id: Option<Value>, method: Option<String>) -> Option<Self> {
        match (id.filter(|id| !id.is_null()), method) {
            (Some(id), Some(method)) => Some(Self::Request { id, method }),
            (None, Some(method)) => Some(Self::Notification { method }),
            (Some(id), None) => Some(Self::Answer { id }),
            (None, None) => None,
        }
    }
}

impl Messages {
    /// Reads a body; `None` if it is not JSON-RPC.
    pub fn read(body: &[u8]) -> Option<Self> {
        quick::read(body).or_else(|| Self::parse(body))
    }

    /// Reads with the full parser, which also understands batches.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let batch = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let envelopes: Vec<Envelope<'_>> =
            if batch { serde_json::from_slice(body).ok()? } else { vec![serde_json::from_slice(body).ok()?] };
        let all = envelopes.into_iter().map(message).collect::<Option<Vec<_>>>()?;
        Some(Self { all, batch })
    }

    /// The ids of requests that wait for a response.
    pub fn open_ids(&self) -> Vec<Value> {
        let id = |message: &Message| match message {
            Message::Request { id, .. } => Some(id.clone()),
            Message::Notification { .. } | Message::Answer { .. } => None,
        };
        self.all.iter().filter_map(id).collect()
    }

    /// Whether a request waits for a response.
    pub fn has_requests(&self) -> bool {
        self.all.iter().any(|message| matches!(message, Message::Request { .. }))
    }

    /// Whether it is the one request with this method.
    pub fn is_request(&self, wanted: &str) -> bool {
        matches!(self.all.as_slice(), [Message::Request { method, .. }] if method == wanted)
    }

    /// Errors for all requests with the same data, as a batch if they were one.
    pub fn errors(&self, error: (i64, &str), data: &Value) -> Option<Vec<u8>> {
        let errors: Vec<_> = self.open_ids().iter().map(|id| error_with(id, error, data)).collect();
        let value = match (errors.len(), self.batch) {
            (0, _) => return None,
            (_, true) => Value::Array(errors),
            (_, false) => errors.into_iter().next()?,
        };
        Some(value.to_string().into_bytes())
    }
}

/// The error for one request.
pub fn error_for(id: &Value, (code, message): (i64, &str)) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

/// The same with data; `null` for none.
pub fn error_with(id: &Value, error: (i64, &str), data: &Value) -> Value {
    let mut answer = error_for(id, error);
    if !data.is_null() {
        answer["error"]["data"] = data.clone();
    }
    answer
}

fn message(envelope: Envelope<'_>) -> Option<Message> {
    let id = envelope.id.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    Message::new(id, envelope.method.map(Cow::into_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_notifications_and_responses_are_distinguished() {
        let body = br#" [{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"id":7}},
            {"method":"notifications/initialized"}, {"id":3,"result":{"method":"x"}}]"#;
        let messages = Messages::read(body).expect("JSON-RPC");
        assert_eq!(messages.all[0], Message::Request { id: json!("a"), method: "tools/call".into() });
        assert_eq!(messages.all[1], Message::Notification { method: "notifications/initialized".into() });
        assert_eq!(messages.all[2], Message::Answer { id: json!(3) });
        assert_eq!(messages.open_ids(), [json!("a")]);
    }

    /// R-CLIENT-3: in batches one each.
    #[test]
    fn errors_have_the_ids_and_the_shape_of_the_requests() {
        let one = Messages::read(br#"{"id":1,"method":"ping"}"#).expect("JSON-RPC");
        let error = one.errors(INTERRUPTED, &Value::Null).expect("an error");
        assert!(error.starts_with(b"{") && String::from_utf8_lossy(&error).contains(r#""id":1"#));
        let two = Messages::read(br#"[{"id":1,"method":"a"},{"id":2,"method":"b"}]"#).expect("JSON-RPC");
        let errors: Vec<Value> =
            serde_json::from_slice(&two.errors(SHUTTING_DOWN, &Value::Null).expect("errors")).expect("JSON");
        assert_eq!(errors.len(), 2);
        assert_eq!(
            Messages::read(br#"{"method":"a"}"#).expect("JSON-RPC").errors(SHUTTING_DOWN, &Value::Null),
            None
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_messages_or_none(bytes: Vec<u8>) {
            let _ = Messages::read(&bytes);
        }
    }
}
