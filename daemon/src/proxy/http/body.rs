//! Bodies in both directions. The common ones are not boxed: most requests and responses are small and
//! complete, and their cost is paid for every request.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};

use super::link::WorkerBody;
use super::passing::Passing;
use super::pipe::Events;

pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// The body of a response.
pub enum Body {
    /// Complete.
    Whole(Bytes),
    /// Streamed from a worker.
    Worker(WorkerBody),
    /// The same, after what was read already.
    Continued(Bytes, WorkerBody),
    Events(Events),
}

/// The body of a request to a worker.
#[derive(Debug)]
pub enum Upload {
    /// Complete.
    Whole(Bytes),
    /// Streamed from a client.
    Client(Incoming),
    /// Streamed from a client through the scanner.
    Passing(Passing),
}

/// A complete body.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Body::Whole(bytes.into())
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Self::Whole(bytes) => take(bytes),
            Self::Worker(answer) => Pin::new(answer).poll_frame(context).map_err(Into::into),
            Self::Continued(begin, _) if !begin.is_empty() => take(begin),
            Self::Continued(_, rest) => Pin::new(rest).poll_frame(context).map_err(Into::into),
            Self::Events(events) => {
                events.poll_event(context).map(|event| event.map(|it| Ok(Frame::data(it))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Worker(answer) => answer.is_end_stream(),
            Self::Continued(begin, rest) => begin.is_empty() && rest.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Worker(answer) => answer.size_hint(),
            // Only of bodies whose length is not known.
            Self::Continued(..) => SizeHint::default(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Self::Whole(bytes) => take(bytes),
            Self::Client(incoming) => Pin::new(incoming).poll_frame(context).map_err(Into::into),
            Self::Passing(passing) => passing.poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Client(incoming) => incoming.is_end_stream(),
            Self::Passing(passing) => passing.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Client(incoming) => incoming.size_hint(),
            Self::Passing(passing) => passing.size_hint(),
        }
    }
}

fn take(bytes: &mut Bytes) -> Polled {
    let bytes = std::mem::take(bytes);
    Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
}
