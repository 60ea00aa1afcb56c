//! Responses of mcpd itself.

use super::cors;
use super::fields::push_line;
use super::framing::BodyLength;
use super::request::push_length;
use super::response::Next;

/// Seconds after which a client may retry.
const RETRY_AFTER: &str = "5";

const NO_CONTENT: u16 = 204;

/// A complete response that mcpd makes itself.
#[derive(Debug)]
pub struct Reply {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
    field: Option<(&'static str, &'static str)>,
    /// Of a response without content.
    others: Vec<(&'static str, String)>,
}

impl Reply {
    /// A plain text with a status.
    pub fn text(status: u16, text: impl Into<Vec<u8>>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: text.into(), field: None, others: vec![] }
    }

    /// JSON.
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::json_with(200, body)
    }

    /// JSON with a status.
    pub fn json_with(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, kind: "application/json", body: body.into(), field: None, others: vec![] }
    }

    /// 204 with these fields.
    pub fn no_content(others: Vec<(&'static str, String)>) -> Self {
        Self { others, ..Self::json_with(NO_CONTENT, "") }
    }

    /// An event stream that ends at once.
    pub fn events(body: impl Into<Vec<u8>>) -> Self {
        let field = Some(("cache-control", "no-cache"));
        Self { status: 200, kind: "text/event-stream", body: body.into(), field, others: vec![] }
    }

    /// 202 without a body.
    pub fn accepted() -> Self {
        Self { status: 202, ..Self::json("") }
    }

    /// 503 with a retry time.
    pub fn later(why: String) -> Self {
        Self { field: Some(("retry-after", RETRY_AFTER)), ..Self::text(503, why) }
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }

    #[cfg(test)]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The whole response to a page of this origin, or another client; without its body for `HEAD`.
    pub fn write(&self, next: Next, has_body: bool, origin: Option<&str>) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)).into_bytes();
        if self.status != NO_CONTENT {
            push_line(&mut out, "content-type", self.kind);
            push_length(&mut out, BodyLength::Known(self.body.len() as u64));
        }
        if let Some((name, value)) = self.field {
            push_line(&mut out, name, value);
        }
        self.others.iter().for_each(|(name, value)| push_line(&mut out, name, value));
        if let Some(origin) = origin {
            cors::push_fields(&mut out, origin);
        }
        next.push(&mut out);
        out.extend_from_slice(b"\r\n");
        if has_body {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// The phrases of RFC 9110, section 15, for what mcpd itself responds.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "",
    }
}
