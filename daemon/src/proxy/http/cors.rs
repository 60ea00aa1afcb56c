//! What lets pages of allowed origins use a worker: the answer to a preflight, and the fields of responses (R-CLIENT-13;
//! Fetch Standard, section "CORS protocol"). Pure.

use super::fields::{elements, push_line};
use super::framing::BodyLength;
use super::reply::Reply;
use super::request::RequestHead;

const METHODS: &str = "GET, POST, DELETE";
/// The fields of MCP, of both eras.
const FIELDS: [&str; 9] = [
    "accept",
    "authorization",
    "content-type",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "traceparent",
];
/// Fields of a response that a page may read.
const EXPOSED: &str = "Mcp-Session-Id, WWW-Authenticate";
/// Seconds for which a browser need not repeat the preflight; Chromium takes no more than two hours.
const MAX_AGE: &str = "7200";

/// The answer to a preflight of an allowed origin, if the request is one.
pub fn preflight(head: &RequestHead) -> Option<Reply> {
    if !head.is_options() || !matches!(head.body, BodyLength::None | BodyLength::Known(0)) {
        return None;
    }
    head.field("access-control-request-method")?;
    let mut fields = vec![
        ("access-control-allow-methods", METHODS.to_owned()),
        ("access-control-allow-headers", allowed_fields(head.field("access-control-request-headers"))),
        ("access-control-max-age", MAX_AGE.to_owned()),
    ];
    if head.field("access-control-request-private-network").is_some_and(|value| value == "true") {
        fields.push(("access-control-allow-private-network", "true".to_owned()));
    }
    Some(Reply::no_content(fields))
}

/// The fields of MCP, and those that the page asks for: servers take keys and parameters in fields of their own.
fn allowed_fields(requested: Option<&str>) -> String {
    let is_token =
        |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let requested = elements(requested.unwrap_or_default().as_bytes());
    let others = requested
        .filter_map(|name| str::from_utf8(name).ok())
        .filter(is_token)
        .filter(|name| !FIELDS.iter().any(|known| known.eq_ignore_ascii_case(name)));
    FIELDS.into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

/// Appends what a page of this origin needs to read a response, unless the `lines` of its head have it.
pub fn push_fields(lines: &mut Vec<u8>, origin: &str) {
    let has = |name: &str| {
        lines.split(|byte| *byte == b'\n').any(|line| {
            line.get(..name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()))
                && line.get(name.len()) == Some(&b':')
        })
    };
    let (has_origin, has_exposed) =
        (has("access-control-allow-origin"), has("access-control-expose-headers"));
    if !has_origin {
        push_line(lines, "access-control-allow-origin", origin);
        push_line(lines, "vary", "Origin");
    }
    if !has_exposed {
        push_line(lines, "access-control-expose-headers", EXPOSED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_check::Allowed;
    use crate::proxy::http::response::Next;

    fn answer(fields: &str) -> Option<String> {
        let head = format!(
            "OPTIONS /mcp HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost:3000\r\n{fields}\r\n"
        );
        let head = RequestHead::parse(head.as_bytes(), &Allowed::default()).expect("allowed");
        let reply = preflight(&head)?;
        Some(String::from_utf8(reply.write(Next::KeepAlive, true, head.origin.as_deref())).expect("text"))
    }

    #[test]
    fn a_preflight_is_answered() {
        let fields =
            "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type, X-Key\r\n";
        let text = answer(fields).expect("a preflight");
        assert!(text.starts_with("HTTP/1.1 204 No Content\r\n"), "{text}");
        for line in [
            "access-control-allow-origin: http://localhost:3000",
            "vary: Origin",
            "access-control-allow-methods: GET, POST, DELETE",
            "access-control-max-age: 7200",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
        for name in ["mcp-session-id", "mcp-protocol-version", "authorization", "last-event-id", "X-Key"] {
            assert!(text.contains(name), "{name}: {text}");
        }
        assert!(!text.contains("content-length") && !text.contains("private-network"), "{text}");
    }

    #[test]
    fn a_page_of_another_network_may_be_asked_for() {
        let fields =
            "access-control-request-method: POST\r\naccess-control-request-private-network: true\r\n";
        assert!(
            answer(fields).expect("a preflight").contains("access-control-allow-private-network: true\r\n")
        );
    }

    #[test]
    fn another_options_request_is_forwarded() {
        assert_eq!(answer(""), None);
    }

    #[test]
    fn no_field_is_smuggled_in() {
        assert_eq!(allowed_fields(Some("x y, a:b")), allowed_fields(None));
    }

    #[test]
    fn fields_of_the_worker_stay() {
        let mut lines = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n".to_vec();
        push_fields(&mut lines, "http://localhost:1");
        let text = String::from_utf8(lines).expect("text");
        assert_eq!(text.to_lowercase().matches("access-control-allow-origin").count(), 1, "{text}");
        assert!(text.ends_with("access-control-expose-headers: Mcp-Session-Id, WWW-Authenticate\r\n"));
    }
}
