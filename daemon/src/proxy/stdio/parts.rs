//! Where the members of a JSON-RPC message are, so that ids can be replaced without writing the rest again. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// One message, in the bytes that it was read from.
pub struct Parts<'a> {
    whole: &'a [u8],
    members: Members<'a>,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The members of `params` and `result` that say which client a message concerns.
#[derive(Default, Deserialize)]
pub struct Details<'a> {
    #[serde(borrow, rename = "_meta")]
    pub meta: Option<Meta<'a>>,
    #[serde(borrow, rename = "requestId")]
    pub request_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "progressToken")]
    pub progress_token: Option<&'a RawValue>,
    #[serde(borrow)]
    pub level: Option<&'a RawValue>,
    #[serde(borrow)]
    pub uri: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "protocolVersion")]
    pub protocol_version: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
pub struct Meta<'a> {
    #[serde(borrow, rename = "progressToken")]
    pub progress_token: Option<&'a RawValue>,
    /// Of 2026-07-28: the id of the `subscriptions/listen` that a message belongs to.
    #[serde(borrow, rename = "io.modelcontextprotocol/subscriptionId")]
    pub subscription_id: Option<&'a RawValue>,
    /// Of 2026-07-28: each request names its version.
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    pub protocol_version: Option<Cow<'a, str>>,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Request,
    Notification,
    Answer,
}

impl<'a> Parts<'a> {
    /// `None` if it is no message. Of a member that comes twice, the reader could use the other one: refused as well.
    pub fn read(whole: &'a [u8]) -> Option<Self> {
        let members: Members<'a> = serde_json::from_slice(whole).ok()?;
        let parts = Self { whole, members };
        parts.find_role().map(|_| parts)
    }

    fn find_role(&self) -> Option<Role> {
        let Members { id, method, result, error, .. } = &self.members;
        match (id, method, result.is_some() || error.is_some()) {
            (Some(_), Some(_), false) => Some(Role::Request),
            (None, Some(_), false) => Some(Role::Notification),
            (Some(_), None, true) => Some(Role::Answer),
            _ => None,
        }
    }

    pub fn role(&self) -> Role {
        self.find_role().unwrap_or(Role::Notification)
    }

    /// Empty for an answer.
    pub fn method(&self) -> &str {
        self.members.method.as_deref().unwrap_or_default()
    }

    pub fn id(&self) -> Option<&'a RawValue> {
        self.members.id
    }

    /// Whether it is an answer without an error.
    pub fn is_success(&self) -> bool {
        self.members.error.is_none()
    }

    /// The interesting members of `params`, or of `result`.
    pub fn details(&self) -> Details<'a> {
        let members = self.members.params.or(self.members.result);
        members.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// Whether the text occurs in it; what does not occur needs no search.
    pub fn mentions(&self, text: &str) -> bool {
        memchr::memmem::find(self.whole, text.as_bytes()).is_some()
    }

    /// The version that the request itself names, as all do since 2026-07-28.
    pub fn own_version(&self) -> Option<Cow<'a, str>> {
        if !self.mentions("io.modelcontextprotocol/protocolVersion") {
            return None;
        }
        self.details().meta?.protocol_version
    }

    /// The message in one line, with other texts in these places.
    pub fn rewrite(&self, changes: &[(&RawValue, &str)]) -> Vec<u8> {
        let mut changes: Vec<_> =
            changes.iter().map(|(old, new)| (self.place_of(old), old.get().len(), *new)).collect();
        changes.sort_unstable_by_key(|(place, ..)| *place);
        let added: usize = changes.iter().map(|(.., new)| new.len()).sum();
        let mut out = Vec::with_capacity(self.whole.len() + added + 1);
        let mut copied = 0;
        for (place, length, new) in changes {
            out.extend_from_slice(&self.whole[copied..place]);
            out.extend_from_slice(new.as_bytes());
            copied = place + length;
        }
        out.extend_from_slice(&self.whole[copied..]);
        in_one_line(&mut out);
        out
    }

    fn place_of(&self, part: &RawValue) -> usize {
        (part.get().as_ptr() as usize).saturating_sub(self.whole.as_ptr() as usize)
    }
}

/// A part that was read, as a value.
pub fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// Within strings JSON allows no line ends; between the parts of a message they mean nothing.
fn in_one_line(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'\n', b'\r', &bytes[at..]) {
        at += found;
        bytes[at] = b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn roles_are_told_apart() {
        let role = |text: &str| Parts::read(text.as_bytes()).map(|parts| parts.role());
        assert_eq!(role(r#"{"id":1,"method":"ping"}"#), Some(Role::Request));
        assert_eq!(role(r#"{"method":"notifications/x","params":{"id":1}}"#), Some(Role::Notification));
        assert_eq!(role(r#"{"id":"a","result":{}}"#), Some(Role::Answer));
        assert_eq!(role(r#"{"id":1,"error":{"code":1,"message":""}}"#), Some(Role::Answer));
        for no_message in [
            "",
            "3",
            "[]",
            "{}",
            r#"{"id":1}"#,
            r#"{"id":null,"result":{}}"#,
            r#"{"id":1,"id":2,"method":"a"}"#,
            "starting on port 80",
        ] {
            assert_eq!(role(no_message), None, "{no_message}");
        }
    }

    #[test]
    fn only_requests_since_2026_07_28_name_their_version() {
        let version = |params: Value| {
            let message = json!({ "id": 1, "method": "tools/list", "params": params }).to_string();
            Parts::read(message.as_bytes()).and_then(|parts| parts.own_version().map(Cow::into_owned))
        };
        let key = "io.modelcontextprotocol/protocolVersion";
        assert_eq!(version(json!({ "_meta": { key: "2026-07-28" } })), Some("2026-07-28".to_owned()));
        for legacy in [json!({}), json!({ "_meta": { "progressToken": 1 } }), json!({ "name": key })] {
            assert_eq!(version(legacy.clone()), None, "{legacy}");
        }
    }

    proptest! {
        /// Only what is replaced changes, wherever it is and however the message is written.
        #[test]
        fn the_rest_stays_the_same(id in 0u32..100, token in "[a-z\"\\\\\n]{0,9}", text in "[ -~\n]{0,20}", is_pretty: bool) {
            let message = json!({
                "params": { "x": text, "_meta": { "progressToken": token, "y": [1, null] } }, "id": id, "method": "tools/call",
            });
            let bytes = if is_pretty { serde_json::to_vec_pretty(&message) } else { serde_json::to_vec(&message) };
            let bytes = bytes.expect("plain data");
            let parts = Parts::read(&bytes).expect("a message");
            let token = parts.details().meta.and_then(|meta| meta.progress_token).expect("a token");
            let line = parts.rewrite(&[(parts.id().expect("an id"), "\"new\""), (token, "77")]);
            prop_assert!(!line.contains(&b'\n'));
            let mut expected = message;
            expected["id"] = "new".into();
            expected["params"]["_meta"]["progressToken"] = 77.into();
            prop_assert_eq!(serde_json::from_slice::<Value>(&line).expect("JSON"), expected);
        }

        #[test]
        fn any_bytes_pass(bytes: Vec<u8>, text in "[\\[\\]{}\"\\\\:, idmetho1nresult]{0,60}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                if let Some(parts) = Parts::read(bytes) {
                    let _ = (parts.role(), parts.details(), parts.rewrite(&[]));
                }
            }
        }
    }
}
