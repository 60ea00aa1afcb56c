//! The body of a request: read first if it is JSON, else passed on as it comes (R-CLIENT-1).

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

/// JSON up to this is read before it is forwarded; larger bodies stream past a scanner.
pub const WHOLE: usize = 4 * 1024 * 1024;
/// How long a client has to send a body that is read.
pub const BODY: Duration = Duration::from_secs(30);

/// What is sent on.
pub enum Payload {
    /// It is here.
    Whole(Bytes),
    /// It is JSON, and still coming.
    Passing(Passing),
    /// It is still coming.
    Streaming(Incoming),
}

impl Payload {
    /// As a body for the worker.
    pub fn into_body(self) -> Upload {
        match self {
            Self::Whole(bytes) => Upload::Whole(bytes),
            Self::Passing(passing) => Upload::Passing(passing),
            Self::Streaming(incoming) => Upload::Client(incoming),
        }
    }
}

/// Reads what has to be read before it is forwarded.
///
/// # Errors
/// The answer to a client that does not send it.
pub async fn read(head: &Parts, mut body: Incoming) -> Result<Payload, Response<Body>> {
    if head.method != Method::POST || !is_json(head) {
        return Ok(Payload::Streaming(body));
    }
    if hyper::body::Body::size_hint(&body).lower() > WHOLE as u64 {
        return Ok(Payload::Passing(Passing::new(Bytes::new(), body)));
    }
    // Mostly it came with the head, in one piece: no clock is looked at then, and no other turn is needed.
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

/// What has come of a body. Only when there are several pieces are they copied.
#[derive(Default)]
struct Pieces {
    all: Vec<Bytes>,
    length: usize,
}

impl Pieces {
    fn add(&mut self, piece: Bytes) {
        self.length += piece.len();
        self.all.push(piece);
    }

    fn join(mut self) -> Bytes {
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
