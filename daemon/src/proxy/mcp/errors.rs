//! What mcpd answers itself, in the words that MCP clients understand (field notes: a 503 kills
//! some of them, a JSON-RPC error none).

use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::message::{Messages, UNAVAILABLE};
use crate::proxy::http::body::{Body, whole};

/// Seconds after which a client may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// The same for an event stream, milliseconds.
pub const RETRY: Bytes = Bytes::from_static(b"retry: 5000\n\n");
/// The same for a stream whose server is back in a moment, and whose port is never refused.
pub const RETRY_SOON: Bytes = Bytes::from_static(b"retry: 500\n\n");

/// A plain text with a status.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    build(status, "text/plain; charset=utf-8", whole(text))
}

/// JSON.
pub fn json(body: impl Into<Bytes>) -> Response<Body> {
    build(StatusCode::OK, "application/json", whole(body))
}

/// An event stream.
pub fn events(body: Body) -> Response<Body> {
    let mut response = build(StatusCode::OK, "text/event-stream", body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Taken note of, with nothing to say.
pub fn accepted() -> Response<Body> {
    build(StatusCode::ACCEPTED, "application/json", whole(""))
}

/// Not forwarded, and why, in the words that fit what was asked (R-CLIENT-5): errors to requests, a
/// stream that is asked for later to those who want one, and a 503 only to what is not MCP.
pub fn refused(messages: Option<&Messages>, wants_events: bool, why: &str) -> Response<Body> {
    match messages {
        Some(messages) => messages.errors((UNAVAILABLE, why)).map_or_else(accepted, json),
        None if wants_events => events(whole(RETRY)),
        None => later(format!("{why}\n")),
    }
}

/// 503, and when to try again.
pub fn later(why: String) -> Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    response
}

fn build(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
