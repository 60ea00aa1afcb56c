//! Streams a body that is too large to keep from the client through the scanner to the worker.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};

use crate::deadline::Deadline;
use crate::proxy::mcp::message::Messages;
use crate::proxy::mcp::scan::Scanner;

/// The body and its scanner, which outlives the transfer.
#[derive(Clone, Debug)]
pub struct Passing(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What was read before its size was known.
    begin: Bytes,
    rest: Incoming,
    scanner: Scanner,
}

impl Passing {
    /// A body that begins with these bytes.
    pub fn new(begin: Bytes, rest: Incoming) -> Self {
        let mut scanner = Scanner::default();
        scanner.push(&begin);
        Self(Arc::new(Mutex::new(State { begin, rest, scanner })))
    }

    /// The messages found so far.
    pub fn messages(&self) -> Option<Messages> {
        self.state().scanner.messages()
    }

    /// Reads what the worker did not take: only then does the client read its response, and the id may
    /// be at the end.
    pub async fn finish(&self, deadline: Deadline) {
        let read = poll_fn(|context| {
            while let Some(frame) = std::task::ready!(self.poll_frame(context)) {
                if frame.is_err() {
                    break;
                }
            }
            Poll::Ready(())
        });
        // For a slower client, what is known by then has to do.
        let _ = deadline.wait(read).await;
    }

    pub fn poll_frame(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut state = self.state();
        if !state.begin.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut state.begin)))));
        }
        let polled = Pin::new(&mut state.rest).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
            && !state.scanner.is_done()
        {
            state.scanner.push(bytes);
        }
        polled
    }

    /// Whether all of it was transferred.
    pub fn is_end_stream(&self) -> bool {
        let state = self.state();
        state.begin.is_empty() && state.rest.is_end_stream()
    }

    /// The remaining length, if it was declared.
    pub fn size_hint(&self) -> SizeHint {
        let state = self.state();
        let whole = |rest| SizeHint::with_exact(state.begin.len() as u64 + rest);
        state.rest.size_hint().exact().map_or_else(SizeHint::default, whole)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
