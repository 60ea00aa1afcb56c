//! The body of a request: read before forwarding if it is JSON, else streamed (R-CLIENT-1).

use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::body::{Body, Upload};
use super::passing::Passing;
use super::turn::{another, quietly};
use crate::deadline::Deadline;
use crate::proxy::mcp::errors;

/// Limit in bytes for JSON that is read before forwarding; larger bodies stream through a scanner.
pub const WHOLE: usize = 4 * 1024 * 1024;
/// Limit for a client to send such a body.
pub const BODY: Duration = Duration::from_secs(30);

/// The body to forward.
pub enum Payload {
    /// Complete.
    Whole(Bytes),
    /// JSON that is streamed.
    Passing(Passing),
    /// Streamed.
    Streaming(Incoming),
}

impl Payload {
    pub fn into_body(self) -> Upload {
        match self {
            Self::Whole(bytes) => Upload::Whole(bytes),
            Self::Passing(passing) => Upload::Passing(passing),
            Self::Streaming(incoming) => Upload::Client(incoming),
        }
    }
}

/// Reads the body as far as necessary before forwarding.
///
/// # Errors
/// The response to a client that does not send it.
pub async fn read(head: &Parts, mut body: Incoming) -> Result<Payload, Response<Body>> {
    if head.method != Method::POST || !is_json(head) {
        return Ok(Payload::Streaming(body));
    }
    if hyper::body::Body::size_hint(&body).lower() > WHOLE as u64 {
        return Ok(Payload::Passing(Passing::new(Bytes::new(), body)));
    }
    // Fast path: mostly the body arrived with the head in one piece, so no timer is needed.
    let mut pieces = Pieces::default();
    let mut deadline = None;
    loop {
        let frame = match quietly(|| body.frame().now_or_never()) {
            Some(frame) => frame,
            None => {
                another().await;
                let deadline = deadline.get_or_insert_with(|| Deadline::after(BODY));
                deadline.wait(body.frame()).await.map_err(|_| too_slow())?
            }
        };
        match frame {
            None => return Ok(Payload::Whole(pieces.join())),
            Some(Ok(frame)) => pieces.add(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return Err(errors::text(StatusCode::BAD_REQUEST, "the body was broken off\n")),
        }
        if pieces.length > WHOLE {
            another().await;
            return Ok(Payload::Passing(Passing::new(pieces.join(), body)));
        }
    }
}

/// The received pieces of a body. They are copied only if there are several.
#[derive(Default)]
pub struct Pieces {
    all: Vec<Bytes>,
    length: usize,
}

impl Pieces {
    pub fn add(&mut self, piece: Bytes) {
        self.length += piece.len();
        self.all.push(piece);
    }

    pub fn length(&self) -> usize {
        self.length
    }

    pub fn join(mut self) -> Bytes {
        match self.all.len() {
            0 => Bytes::new(),
            1 => self.all.remove(0),
            _ => self.all.concat().into(),
        }
    }
}

fn is_json(head: &Parts) -> bool {
    super::headers::is_kind(&head.headers, "application/json")
}

fn too_slow() -> Response<Body> {
    errors::text(StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n")
}
