//! A body too large to be kept, on its way from client to worker past the scanner.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};

use crate::deadline::Deadline;
use crate::proxy::mcp::message::Messages;
use crate::proxy::mcp::scan::Scanner;

/// The body. What was understood of it outlives its way to the worker.
#[derive(Clone, Debug)]
pub struct Passing(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What was read before it was known how large it is.
    begin: Bytes,
    rest: Incoming,
    scanner: Scanner,
}

impl Passing {
    /// A body that begins like this and goes on with the rest.
    pub fn new(begin: Bytes, rest: Incoming) -> Self {
        let mut scanner = Scanner::default();
        scanner.push(&begin);
        Self(Arc::new(Mutex::new(State { begin, rest, scanner })))
    }

    /// What it says, as far as it has passed.
    pub fn messages(&self) -> Option<Messages> {
        self.state().scanner.messages()
    }

    /// Reads what the worker did not take: only then does the client read what it is answered, and the id may
    /// stand at the end.
    pub async fn finish(&self, deadline: Deadline) {
        let read = poll_fn(|context| {
            while let Some(frame) = std::task::ready!(self.poll_frame(context)) {
                if frame.is_err() {
                    break;
                }
            }
            Poll::Ready(())
        });
        // A client that is slower gets what is known by then.
        let _ = deadline.wait(read).await;
    }

    /// The next piece.
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

    /// Whether all of it has passed.
    pub fn is_end_stream(&self) -> bool {
        let state = self.state();
        state.begin.is_empty() && state.rest.is_end_stream()
    }

    /// What is left, if its length was told.
    pub fn size_hint(&self) -> SizeHint {
        let state = self.state();
        let whole = |rest| SizeHint::with_exact(state.begin.len() as u64 + rest);
        state.rest.size_hint().exact().map_or_else(SizeHint::default, whole)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
