//! The head of a worker's response. Pure.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::cors;
use super::fields::{
    ConnectionOptions, Field, Kinds, MAX_FIELDS, copy_forwarded, is_kind, push_line, push_number,
};
use super::framing::{BadLength, BodyLength, LengthFields};
use super::reply::reason;
use super::request::{Method, push_length};

/// Room in bytes for the fields that mcpd adds to a head.
const ADDED: usize = 160;

/// What a response is, by its content type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    Events,
    #[default]
    Other,
}

pub struct ResponseHead {
    pub status: u16,
    pub kind: Kind,
    pub body: BodyLength,
    /// Whether its connection can be used again.
    pub keeps_alive: bool,
    /// `Mcp-Session-Id`, the worker's own.
    pub session: Option<String>,
    /// Of a response whose body is not sent, as to `HEAD`.
    length_of_absent: Option<u64>,
    /// The status line and the fields that are forwarded.
    lines: Vec<u8>,
}

/// Why a response is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    #[error("it is not HTTP: {0}")]
    Syntax(httparse::Error),
    #[error(transparent)]
    Length(#[from] BadLength),
    #[error("it has more than one Mcp-Session-Id, or one that is not visible ASCII")]
    Session,
    #[error("it switches protocols, which was not requested")]
    Switches,
}

/// How the connection to the client goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    KeepAlive,
    Close,
}

impl ResponseHead {
    /// Reads a head that ends with its empty line: the response to a request with this method.
    ///
    /// # Errors
    /// See [`BadResponse`].
    pub fn parse(head: &[u8], method: Method) -> Result<Self, BadResponse> {
        let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut response, head, &mut fields) {
            Ok(Status::Complete(_)) => {}
            Ok(Status::Partial) => return Err(BadResponse::Syntax(httparse::Error::Status)),
            Err(error) => return Err(BadResponse::Syntax(error)),
        }
        let status = response.code.unwrap_or_default();
        if status < 100 {
            return Err(BadResponse::Syntax(httparse::Error::Status));
        }
        if status == 101 {
            return Err(BadResponse::Switches);
        }
        let is_http_1_0 = response.version == Some(0);
        let mut options = ConnectionOptions::default();
        let mut lengths = LengthFields::default();
        let mut kind = Kind::Other;
        let mut session = None;
        let kinds = Kinds::of(response.headers);
        for (field, kind_of_field) in response.headers.iter().zip(kinds.iter()) {
            match kind_of_field {
                Field::Connection => options.add(field.value),
                Field::ContentLength => lengths.add_content_length(field.value),
                Field::TransferEncoding => lengths.add_transfer_encoding(field.value),
                Field::ContentType if is_kind(field.value, "text/event-stream") => kind = Kind::Events,
                Field::SessionId if session.is_some() => return Err(BadResponse::Session),
                Field::SessionId => session = Some(visible(field.value)?),
                _ => {}
            }
        }
        let has_no_body = method == Method::Head || matches!(status, 100..200 | 204 | 304);
        let body = match lengths.declared()? {
            _ if has_no_body => BodyLength::None,
            // RFC 9112, section 6.1.
            Some(BodyLength::Chunked) if is_http_1_0 => return Err(BadLength::TransferEncoding.into()),
            Some(length) => length,
            None => BodyLength::UntilClose,
        };
        let lines = lines(head, &response, &kinds, &options.named);
        Ok(Self {
            status,
            kind,
            body,
            keeps_alive: !is_http_1_0 && !options.close && body != BodyLength::UntilClose,
            session,
            length_of_absent: lengths.content_length().filter(|_| has_no_body && status != 204),
            lines,
        })
    }

    /// Of a response that mcpd makes for a server that speaks no HTTP; without a length, of a stream.
    pub fn of_mcpd(status: u16, content_type: &str, length: Option<usize>) -> Self {
        let mut lines = format!("HTTP/1.1 {status} {}\r\n", reason(status)).into_bytes();
        push_line(&mut lines, "content-type", content_type);
        if length.is_none() {
            push_line(&mut lines, "cache-control", "no-cache");
        }
        Self {
            status,
            kind: if length.is_none() { Kind::Events } else { Kind::Other },
            body: length.map_or(BodyLength::Chunked, |length| BodyLength::Known(length as u64)),
            keeps_alive: true,
            session: None,
            length_of_absent: None,
            lines,
        }
    }

    /// Adds what a page of this origin needs to read it, unless the worker sent it.
    pub fn allow(&mut self, origin: &str) {
        cors::push_fields(&mut self.lines, origin);
    }

    /// A `1xx` response: another one follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The bytes for the client; the body follows.
    pub fn write(self, length: BodyLength, session: Option<&str>, next: Next) -> Vec<u8> {
        let mut out = self.lines;
        if let Some(session) = session.or(self.session.as_deref()) {
            push_line(&mut out, "mcp-session-id", session);
        }
        match self.length_of_absent {
            Some(length) => push_length(&mut out, BodyLength::Known(length)),
            None => push_length(&mut out, length),
        }
        next.push(&mut out);
        out.extend_from_slice(b"\r\n");
        out
    }
}

impl Next {
    /// The field that announces it.
    pub fn push(self, out: &mut Vec<u8>) {
        match self {
            Self::KeepAlive => out.extend_from_slice(b"keep-alive: timeout=75\r\n"),
            Self::Close => out.extend_from_slice(b"connection: close\r\n"),
        }
    }
}

fn lines(head: &[u8], response: &httparse::Response<'_, '_>, kinds: &Kinds, named: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + ADDED);
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(&mut out, response.code.unwrap_or_default().into());
    out.push(b' ');
    out.extend_from_slice(response.reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    copy_forwarded(head, response.headers, kinds, named, &mut out);
    out
}

fn visible(value: &[u8]) -> Result<String, BadResponse> {
    let text = str::from_utf8(value).ok().filter(|_| value.iter().all(u8::is_ascii_graphic));
    text.map(str::to_owned).ok_or(BadResponse::Session)
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
