//! Rewrites the heads of requests and responses.

use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;

use crate::proxy::mcp::session::{EventId, Session};

pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// Hop-by-hop headers (RFC 9110, section 7.6.1), and two that mcpd handles itself:
/// `Expect` itself, `Accept-Encoding` because it reads what it forwards.
fn is_of_a_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "accept-encoding"
            | "trailer"
    )
}

/// Removes hop-by-hop headers, and those that `Connection` names.
pub fn forget_connection(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    let found = |headers: &HeaderMap| headers.keys().find(|name| is_of_a_connection(name)).cloned();
    // They are rare, so one pass over all headers is faster than a lookup for each of them.
    while let Some(name) = found(headers) {
        headers.remove(name);
    }
}

/// All of them but `Host`, which belongs to the request even if `Connection` names it.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    names.filter(|name| *name != header::HOST).collect()
}

/// Whether the body has a transfer coding besides `chunked`, which would be lost: mcpd decodes only that one.
pub fn has_lost_coding(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"chunked"))
}

/// Whether the client accepts event streams.
pub fn accepts_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// Whether the client accepts an event stream without naming it.
pub fn accepts_anything(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).map(|accept| accept.to_str().unwrap_or_default());
    accept.is_none_or(|accept| accept.contains("*/*") || accept.contains("text/*"))
}

/// Origin form: path and query only.
pub fn of_origin(uri: Uri) -> Uri {
    match uri.authority() {
        None => uri,
        Some(_) => uri.path_and_query().cloned().map(Uri::from).unwrap_or_default(),
    }
}

/// The worker knows only its own event ids; without a known one the stream begins again.
pub fn restore_last_event(headers: &mut HeaderMap, session: &Session) {
    let Some(id) = headers.remove(&LAST_EVENT) else {
        return;
    };
    let known = id.to_str().ok().and_then(EventId::read).filter(|id| id.epoch == session.epoch);
    if let Some(inner) = known.and_then(|id| HeaderValue::from_str(&id.inner).ok()) {
        headers.insert(LAST_EVENT, inner);
    }
}

/// Whether the content type is this one.
pub fn is_kind(headers: &HeaderMap, kind: &str) -> bool {
    let given = headers.get(header::CONTENT_TYPE).map(|given| given.as_bytes().trim_ascii_start());
    given.and_then(|given| given.get(..kind.len())).is_some_and(|it| it.eq_ignore_ascii_case(kind.as_bytes()))
}

/// Removes the length of a stream whose content mcpd may change.
pub fn without_length(mut head: Parts) -> Parts {
    head.headers.remove(header::CONTENT_LENGTH);
    head
}
