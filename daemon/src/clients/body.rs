//! A body that passes through as it comes, and gives its connection back at its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};

use super::upstream::{Body, Lease};

/// Passes a body on as it comes.
pub fn plain(body: Incoming, lease: Lease) -> Body {
    let mut plain = Plain { body, lease: Some(lease) };
    plain.give_back_at_the_end();
    plain.map_err(Into::into).boxed_unsync()
}

/// A body that gives its connection back when it has been read to its end.
struct Plain {
    body: Incoming,
    lease: Option<Lease>,
}

impl Plain {
    fn give_back_at_the_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl HttpBody for Plain {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
        self.give_back_at_the_end();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
