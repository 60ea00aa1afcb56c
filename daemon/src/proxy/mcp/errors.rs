//! Responses of mcpd itself that MCP clients understand (a 503 kills
//! some clients, a JSON-RPC error none).

use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::message::{Messages, UNAVAILABLE};
use crate::proxy::http::body::{Body, whole};

/// Seconds after which a client may retry.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// For an event stream, in milliseconds.
pub const RETRY: Bytes = Bytes::from_static(b"retry: 5000\n\n");
/// For a stream whose server returns in a moment, and whose port is never refused.
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

/// 202 without a body.
pub fn accepted() -> Response<Body> {
    build(StatusCode::ACCEPTED, "application/json", whole(""))
}

/// The response to a request that is not forwarded (R-CLIENT-5): JSON-RPC errors for requests, a
/// stream that ends with a retry time for stream requests, and a 503 only for what is not MCP.
pub fn refused(messages: Option<&Messages>, wants_events: bool, why: &str) -> Response<Body> {
    match messages {
        Some(messages) => messages.errors((UNAVAILABLE, why)).map_or_else(accepted, json),
        None if wants_events => events(whole(RETRY)),
        None => later(format!("{why}\n")),
    }
}

/// 503 with a retry time.
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
