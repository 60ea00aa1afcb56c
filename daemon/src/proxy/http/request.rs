//! The head of a request: what mcpd reads of it, and what it forwards. Pure.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{Header, Status};
use mcpd_common::ids::WorkerName;
use serde_json::Value;

use super::fields::{
    ConnectionOptions, Field, Kinds, MAX_FIELDS, copy_forwarded, is_kind, push_line, push_number,
};
use super::framing::{BadLength, BodyLength, LengthFields};
use super::head::BadHead;
use super::reply::Reply;
use crate::host_check::{Allowed, Refused};
use crate::proxy::budget::Share;
use crate::proxy::mcp::message::{Messages, error_for};
use crate::proxy::mcp::session::{Epoch, EventId, Session};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Delete,
    Other,
}

/// Which of an event stream and other responses the client of a `GET` accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Accepts {
    events: bool,
    anything: bool,
}

/// A request that can be forwarded. `Debug` shows no field: they carry secrets.
pub struct RequestHead {
    pub method: Method,
    pub body: BodyLength,
    /// Whether another request may follow on the connection.
    pub keeps_alive: bool,
    /// Its client understands no chunks.
    pub is_http_1_0: bool,
    pub expects_continue: bool,
    pub is_json: bool,
    /// The allowed origin of a page.
    pub origin: Option<String>,
    /// `Mcp-Session-Id`.
    pub session: Option<String>,
    accepts: Accepts,
    last_event: Option<String>,
    /// The request line and the fields that are forwarded.
    lines: Vec<u8>,
    target: Range<usize>,
}

impl std::fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("target", &self.target())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// Why a request is not forwarded.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    #[error(transparent)]
    Head(#[from] BadHead),
    #[error("a request has at most {MAX_FIELDS} header fields")]
    TooManyFields,
    #[error(transparent)]
    Length(#[from] BadLength),
    /// By its `Host` or `Origin`, and what it was.
    #[error("{0}")]
    Foreign(Refused, String),
    #[error("mcpd forwards HTTP/1.1 only")]
    Tunnel,
}

impl Refusal {
    /// The response to a client of this worker.
    pub fn reply(&self, worker: &WorkerName) -> Reply {
        if let Self::Foreign(refused, value) = self {
            return foreign(*refused, value, worker);
        }
        let status = match self {
            Self::Length(BadLength::LostCoding) | Self::Tunnel => 501,
            Self::Head(BadHead::TooLong) | Self::TooManyFields => 431,
            Self::BadRequest(_) | Self::Head(BadHead::NoText | BadHead::BareLineFeed) | Self::Length(_) => {
                400
            }
            Self::Foreign(..) => 403,
        };
        Reply::text(status, format!("{self}\n"))
    }
}

/// Names the line of the configuration that would allow the request.
fn foreign(refused: Refused, value: &str, worker: &WorkerName) -> Reply {
    const INVALID_REQUEST: i64 = -32600;
    let (field, key) = match refused {
        Refused::Host => ("Host", "allowed_hosts"),
        Refused::Origin => ("Origin", "allowed_origins"),
    };
    let message = if value.is_empty() {
        format!("mcpd refused the request: {refused}")
    } else {
        let line = format!("{key} = [{}]", Value::from(value));
        format!(
            "mcpd refused the request, because its {field} is \"{value}\" ({refused}). To allow it, write {line} under \
             [workers.{worker}] in the configuration of mcpd and restart it"
        )
    };
    let error = error_for(&Value::Null, (INVALID_REQUEST, &message));
    Reply::json_with(403, error.to_string())
}

/// What is read in one pass over the fields.
#[derive(Default)]
struct Read<'a> {
    options: ConnectionOptions<'a>,
    lengths: LengthFields,
    host: Option<&'a [u8]>,
    has_two_hosts: bool,
    accept: Option<Accepts>,
    session: Option<&'a [u8]>,
    last_event: Option<&'a [u8]>,
    expects_continue: bool,
    is_json: bool,
    origin: Option<String>,
}

impl RequestHead {
    /// Reads a head that ends with its empty line.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn parse(head: &[u8], allowed: &Allowed) -> Result<Self, Refusal> {
        let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, &mut fields) {
            Ok(Status::Complete(_)) => {}
            Ok(Status::Partial) => return Err(bad("an incomplete head")),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
            Err(error) => return Err(Refusal::BadRequest(error.to_string().into())),
        }
        let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
        else {
            return Err(bad("no request line"));
        };
        if method == "CONNECT" {
            return Err(Refusal::Tunnel);
        }
        let kinds = Kinds::of(request.headers);
        let read = Read::fields(request.headers, &kinds, Method::of(method), allowed)?;
        let body = read.lengths.declared()?.unwrap_or(BodyLength::None);
        if minor == 0 && body == BodyLength::Chunked {
            return Err(bad("Transfer-Encoding in HTTP/1.0"));
        }
        let (authority, target) = origin_form(method, target)?;
        if read.has_two_hosts {
            return Err(Refusal::Foreign(Refused::Host, String::new()));
        }
        let hosts = read.host.as_slice();
        allowed
            .check_hosts(authority, hosts)
            .map_err(|refused| Refusal::Foreign(refused, refused_host(authority, read.host)))?;
        let mut lines = Vec::with_capacity(head.len() + 128);
        for part in [method, " ", &*target, " HTTP/1.1\r\n"] {
            lines.extend_from_slice(part.as_bytes());
        }
        copy_forwarded(head, request.headers, &kinds, &read.options.named, &mut lines);
        let start = method.len() + 1;
        Ok(Self {
            method: Method::of(method),
            body,
            keeps_alive: minor == 1 && !read.options.close,
            is_http_1_0: minor == 0,
            expects_continue: read.expects_continue && minor == 1,
            is_json: read.is_json,
            origin: read.origin,
            session: read.session.map(visible).transpose()?,
            // Without the field, anything is accepted (RFC 9110, section 12.5.1).
            accepts: read.accept.unwrap_or(Accepts { events: false, anything: true }),
            last_event: read.last_event.map(visible).transpose()?,
            lines,
            target: start..start + target.len(),
        })
    }

    /// Of a message that mcpd itself posts to an MCP endpoint on behalf of a client's request, in the session with this id
    /// and version.
    pub fn on_behalf_of(cause: &Self, path: &str, session: Option<(&str, Option<&str>)>) -> Self {
        let method = "POST ";
        let mut lines = format!("{method}{path} HTTP/1.1\r\n").into_bytes();
        cause.lines_of_the_client().for_each(|line| lines.extend_from_slice(line));
        push_line(&mut lines, "content-type", "application/json");
        push_line(&mut lines, "accept", "application/json, text/event-stream");
        if let Some((_, version)) = session {
            push_version(&mut lines, version);
        }
        Self {
            method: Method::Post,
            body: BodyLength::Chunked,
            keeps_alive: true,
            is_http_1_0: false,
            expects_continue: false,
            is_json: true,
            origin: None,
            session: session.map(|(id, _)| id.to_owned()),
            accepts: Accepts { events: true, anything: false },
            last_event: None,
            lines,
            target: method.len()..method.len() + path.len(),
        }
    }

    /// Of a request by which mcpd itself ends a session at the worker that is reached as this host.
    pub fn to_end_session(path: &str, host: &str, version: Option<&str>) -> Self {
        let method = "DELETE ";
        let mut lines = format!("{method}{path} HTTP/1.1\r\n").into_bytes();
        push_line(&mut lines, "host", host);
        push_version(&mut lines, version);
        Self {
            method: Method::Delete,
            body: BodyLength::None,
            keeps_alive: true,
            is_http_1_0: false,
            expects_continue: false,
            is_json: false,
            origin: None,
            session: None,
            accepts: Accepts { events: false, anything: true },
            last_event: None,
            lines,
            target: method.len()..method.len() + path.len(),
        }
    }

    /// The fields that say who the client is (`Authorization`, `Cookie`, `Host`, ...) and not what it sends or wants.
    fn lines_of_the_client(&self) -> impl Iterator<Item = &[u8]> {
        const OTHERS: [&str; 6] = ["accept", "content-", "expect", "if-", "mcp-", "range"];
        let is_other = |line: &[u8]| {
            let begins = |name: &&str| {
                line.get(..name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()))
            };
            OTHERS.iter().any(begins)
        };
        self.lines.split_inclusive(|byte| *byte == b'\n').skip(1).filter(move |line| !is_other(line))
    }

    /// An `OPTIONS` request of a page.
    pub fn is_options(&self) -> bool {
        self.origin.is_some() && self.lines.starts_with(b"OPTIONS ")
    }

    /// The first field with this name among those that are forwarded; searched for where it is rarely needed.
    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = str::from_utf8(&self.lines).ok()?.lines().skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        fields.find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        str::from_utf8(&self.lines[self.target.clone()]).unwrap_or("/")
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or("/")
    }

    /// Whether the response to a `POST` may be an event stream. Searched for when it is needed: an HTTP worker reads the field
    /// itself.
    pub fn accepts_events(&self) -> bool {
        memchr::memmem::find(&self.lines, b"text/event-stream").is_some()
    }

    /// A `GET` for an event stream.
    pub fn wants_events(&self) -> bool {
        self.method == Method::Get && self.accepts.events
    }

    /// A `GET` that may get one, because its client accepts anything.
    pub fn may_get_events(&self) -> bool {
        self.method == Method::Get && (self.accepts.events || self.accepts.anything)
    }

    /// The request whose response the client resumes, and the epoch of its worker.
    pub fn resumed(&self) -> Option<(Epoch, Value)> {
        let last = self.last_event.as_deref().and_then(EventId::read)?;
        let request = last.request.filter(|_| self.wants_events())?;
        Some((last.epoch, request))
    }
}

/// A request with its body as far as it is kept, and its messages.
#[derive(Debug)]
pub struct Request {
    pub head: RequestHead,
    /// Empty if it is streamed.
    pub body: Vec<u8>,
    pub messages: Option<Messages>,
    /// Memory of the body, until it is dropped.
    #[expect(dead_code, reason = "held, not read")]
    pub share: Share,
}

impl Request {
    /// A message that mcpd itself sends.
    pub fn of_mcpd(head: RequestHead, body: Vec<u8>) -> Self {
        let messages = Messages::read(&body);
        Self { head, body, messages, share: Share::default() }
    }

    /// Whether it is one request with this method.
    pub fn is_call(&self, method: &str) -> bool {
        self.messages.as_ref().is_some_and(|messages| messages.is_request(method))
    }

    /// Whether it is the first request of a session.
    pub fn begins_session(&self) -> bool {
        self.head.session.is_none() && self.is_call("initialize")
    }

    /// Whether it has requests that wait for a response.
    pub fn has_calls(&self) -> bool {
        self.messages.as_ref().is_some_and(Messages::has_requests)
    }

    /// The bytes for the worker, of a session that mcpd keeps or of none; the body follows.
    pub fn head_for(&self, session: Option<&Session>, length: BodyLength) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.head.lines.len() + 128 + self.body.len());
        out.extend_from_slice(&self.head.lines);
        match session {
            Some(session) => push_line(&mut out, "mcp-session-id", &session.worker_id),
            None => self.head.session.iter().for_each(|id| push_line(&mut out, "mcp-session-id", id)),
        }
        if let Some(last) = self.last_event_for(session) {
            push_line(&mut out, "last-event-id", &last);
        }
        push_length(&mut out, length);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The worker knows only its own event ids; without a known one the stream begins again.
    fn last_event_for(&self, session: Option<&Session>) -> Option<Cow<'_, str>> {
        let last = self.head.last_event.as_deref()?;
        let Some(session) = session else { return Some(last.into()) };
        let id = EventId::read(last).filter(|id| id.epoch == session.epoch)?;
        Some(id.inner.into())
    }

    /// The stream begins anew, with another worker.
    pub fn forget_last_event(&mut self) {
        self.head.last_event = None;
    }
}

/// The version is the worker's own text.
fn push_version(out: &mut Vec<u8>, version: Option<&str>) {
    let is_valid = |version: &&str| version.bytes().all(|byte| byte.is_ascii_graphic());
    push_line(out, "mcp-protocol-version", version.filter(is_valid).unwrap_or_default());
}

/// The field that says how long a body is.
pub fn push_length(out: &mut Vec<u8>, length: BodyLength) {
    match length {
        BodyLength::Known(length) => {
            out.extend_from_slice(b"content-length: ");
            push_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked => push_line(out, "transfer-encoding", "chunked"),
        BodyLength::None | BodyLength::UntilClose => {}
    }
}

impl<'a> Read<'a> {
    fn fields(
        fields: &[Header<'a>],
        kinds: &Kinds,
        method: Method,
        allowed: &Allowed,
    ) -> Result<Self, Refusal> {
        let mut read = Self::default();
        for (field, kind) in fields.iter().zip(kinds.iter()) {
            let value = field.value;
            match kind {
                // Only for `GET` it matters whether the client accepts an event stream.
                Field::Accept if method != Method::Get => {}
                Field::Accept => {
                    let accept = read.accept.get_or_insert_default();
                    let contains = |kind: &[u8]| memchr::memmem::find(value, kind).is_some();
                    accept.events |= contains(b"text/event-stream");
                    accept.anything |= contains(b"*/*") || contains(b"text/*");
                }
                Field::Connection => read.options.add(value),
                Field::ContentLength => read.lengths.add_content_length(value),
                Field::ContentType => read.is_json |= is_kind(value, "application/json"),
                Field::Expect => read.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
                Field::Host => read.has_two_hosts |= read.host.replace(value).is_some(),
                Field::LastEventId => read.last_event = Some(value),
                Field::Origin => {
                    let text = || String::from_utf8_lossy(value).into_owned();
                    allowed.check_origin(value).map_err(|refused| Refusal::Foreign(refused, text()))?;
                    read.origin = Some(text());
                }
                Field::SessionId if read.session.is_some() => {
                    return Err(bad("a request has one Mcp-Session-Id"));
                }
                Field::SessionId => read.session = Some(value),
                Field::TransferEncoding => read.lengths.add_transfer_encoding(value),
                Field::Hop | Field::Other => {}
            }
        }
        Ok(read)
    }
}

impl Method {
    fn of(method: &str) -> Self {
        match method {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// The host of an absolute-form target, and the target in origin form (RFC 9112, section 3.2).
fn origin_form<'a>(method: &str, target: &'a str) -> Result<(Option<&'a str>, Cow<'a, str>), Refusal> {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'`');
    if !target.bytes().all(is_allowed) {
        return Err(bad("the target has a character that must be percent-encoded, or a fragment"));
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((None, target.into()));
    }
    let scheme = target.find("://").map(|at| &target[..at]);
    if !scheme.is_some_and(|it| it.eq_ignore_ascii_case("http") || it.eq_ignore_ascii_case("https")) {
        return Err(bad("the target is neither a path nor a URL"));
    }
    let rest = &target[scheme.map_or(0, str::len) + "://".len()..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(bad("the target names a user"));
    }
    let path = if path.starts_with('/') { path.into() } else { format!("/{path}").into() };
    Ok((Some(authority), path))
}

/// The name to allow: without its port, and empty if it is none.
fn refused_host(target: Option<&str>, host: Option<&[u8]>) -> String {
    let text = target.or_else(|| str::from_utf8(host?).ok());
    let authority = text.and_then(|text| text.parse::<hyper::http::uri::Authority>().ok());
    authority.map(|authority| authority.host().to_owned()).unwrap_or_default()
}

/// A value that can be compared and sent again.
fn visible(value: &[u8]) -> Result<String, Refusal> {
    let text = str::from_utf8(value).ok().filter(|_| value.iter().all(|byte| matches!(byte, b' '..=b'~')));
    text.map(str::to_owned).ok_or_else(|| bad("Mcp-Session-Id and Last-Event-ID are visible ASCII"))
}

fn bad(why: &'static str) -> Refusal {
    Refusal::BadRequest(why.into())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
