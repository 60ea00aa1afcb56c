//! The body of a request: read first if it is JSON, else passed on as it comes (R-CLIENT-1).

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::answer;
use super::upstream::{Body, whole};
use crate::deadline::Deadline;

/// JSON up to this is read before it is forwarded; larger bodies stream past.
pub const WHOLE: usize = 4 * 1024 * 1024;
/// How long a client has to send a body that is read first.
const BODY: Duration = Duration::from_secs(30);
/// What is sent on.
pub enum Payload {
    /// It is here.
    Whole(Bytes),
    /// It is still coming.
    Streaming(Incoming),
}

impl Payload {
    /// As a body for the worker.
    pub fn into_body(self) -> Body {
        match self {
            Self::Whole(bytes) => whole(bytes),
            Self::Streaming(incoming) => incoming.map_err(Into::into).boxed_unsync(),
        }
    }
}

/// Reads what has to be read before it is forwarded.
///
/// # Errors
/// The answer to a client that does not send it.
pub async fn read(head: &Parts, body: Incoming) -> Result<Payload, Response<Body>> {
    let json = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/json"));
    let length =
        head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if head.method != Method::POST || !json || length.is_some_and(|length: usize| length > WHOLE) {
        return Ok(Payload::Streaming(body));
    }
    match Deadline::after(BODY).wait(Limited::new(body, WHOLE).collect()).await {
        Ok(Ok(collected)) => Ok(Payload::Whole(collected.to_bytes())),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let why = "a JSON body of more than 4 MiB needs a Content-Length\n";
            Err(answer::text(StatusCode::LENGTH_REQUIRED, why))
        }
        Ok(Err(_)) => Err(answer::text(StatusCode::BAD_REQUEST, "the body was broken off\n")),
        Err(_) => Err(answer::text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n")),
    }
}
