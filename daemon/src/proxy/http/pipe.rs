//! An event stream on a client's connection, produced in the task that serves the connection.
//!
//! ```text
//!   the connection's task --polls--> hyper --asks for events--> Events --polls--> the relay's future
//!                        `--polls--> Pipe, when hyper does not ask: its client reads too slowly
//! ```
//!
//! So no event is passed from task to task. But hyper polls nothing while a client does not read,
//! and the relay must notice even then that its worker exits or mcpd shuts down: then the task polls it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::Bytes;

/// Events that a slow client may lag behind before its worker has to wait.
const AHEAD: usize = 16;

type Relay = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The current event stream of a connection; used by its task only.
#[derive(Clone, Default)]
pub struct Pipe(Arc<Inner>);

#[derive(Default)]
struct Inner {
    running: Mutex<Running>,
    queue: Queue,
}

#[derive(Default)]
struct Running {
    relay: Option<Relay>,
    /// In this turn of the task.
    was_polled: bool,
}

type Queue = Mutex<VecDeque<Bytes>>;

/// The relay's end.
#[derive(Clone)]
pub struct EventSink(Arc<Inner>);

/// The body of the response. Dropping it ends the relay.
pub struct Events(Arc<Inner>);

impl Pipe {
    /// For the next relay.
    pub fn sink(&self) -> EventSink {
        EventSink(self.0.clone())
    }

    /// The stream of events that this future sends to the [`EventSink`].
    pub fn open(&self, relay: impl Future<Output = ()> + Send + 'static) -> Events {
        lock(&self.0.queue).clear();
        lock(&self.0.running).relay = Some(Box::pin(relay));
        Events(self.0.clone())
    }

    /// The connection's task begins a turn.
    pub fn begin_turn(&self) {
        lock(&self.0.running).was_polled = false;
    }

    /// The turn ends: a relay that hyper did not poll is polled now.
    pub fn end_turn(&self, context: &mut Context<'_>) {
        let mut running = lock(&self.0.running);
        if !running.was_polled {
            running.poll(context);
        }
    }
}

impl Running {
    /// Polls the relay; true when it has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        self.was_polled = true;
        let Some(relay) = &mut self.relay else { return true };
        let is_over = relay.as_mut().poll(context).is_ready();
        if is_over {
            self.relay = None;
        }
        is_over
    }
}

impl EventSink {
    /// Sends an event; waits while the client lags behind.
    pub async fn send(&self, event: Bytes) {
        let mut event = Some(event);
        // No waker is stored: the code that makes room polls the relay again.
        poll_fn(|_| {
            let mut queue = lock(&self.0.queue);
            if queue.len() >= AHEAD {
                return Poll::Pending;
            }
            queue.extend(event.take());
            Poll::Ready(())
        })
        .await;
    }
}

impl EventSink {
    /// Sends an event without waiting: one of the few with which a stream ends, for a client that may not read.
    pub fn send_now(&self, event: Bytes) {
        lock(&self.0.queue).push_back(event);
    }
}

impl Events {
    /// The next event; `None` at the end.
    pub fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(event) = lock(&self.0.queue).pop_front() {
            return Poll::Ready(Some(event));
        }
        let is_over = lock(&self.0.running).poll(context);
        match lock(&self.0.queue).pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if is_over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let relay = lock(&self.0.running).relay.take();
        // Dropped outside of the lock.
        drop(relay);
        lock(&self.0.queue).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    fn next(events: &mut Events) -> Poll<Option<Bytes>> {
        events.poll_event(&mut Context::from_waker(Waker::noop()))
    }

    /// A turn in which hyper polls nothing, because its client reads too slowly.
    fn turn(pipe: &Pipe) {
        pipe.begin_turn();
        pipe.end_turn(&mut Context::from_waker(Waker::noop()));
    }

    /// Sends this many events, and counts those that were taken.
    fn stream(pipe: &Pipe, many: usize) -> (Events, Arc<AtomicUsize>) {
        let sink = pipe.sink();
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let relay = async move {
            for number in 0..many {
                sink.send(number.to_string().into()).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };
        (pipe.open(relay), sent)
    }

    #[test]
    fn every_event_comes_in_order_and_then_the_end() {
        let pipe = Pipe::default();
        for many in [0, 1, AHEAD, AHEAD * 3] {
            let (mut events, _) = stream(&pipe, many);
            for number in 0..many {
                assert_eq!(next(&mut events), Poll::Ready(Some(number.to_string().into())));
            }
            assert_eq!(next(&mut events), Poll::Ready(None));
        }
    }

    /// R-CLIENT-5: a relay notices its end even if the client does not read.
    #[test]
    fn a_relay_goes_on_while_its_client_does_not_read() {
        let pipe = Pipe::default();
        let (mut events, sent) = stream(&pipe, AHEAD * 2);
        turn(&pipe);
        assert_eq!(sent.load(Ordering::Relaxed), AHEAD, "no further: its worker has to wait");
        assert_eq!(next(&mut events), Poll::Ready(Some("0".into())));
        turn(&pipe);
        assert_eq!(sent.load(Ordering::Relaxed), AHEAD + 1);
    }

    #[test]
    fn a_client_that_goes_away_ends_the_relay_where_it_stands() {
        let pipe = Pipe::default();
        let held = Arc::new(());
        let holds = held.clone();
        let events = pipe.open(async move {
            let _holds = holds;
            std::future::pending::<()>().await;
        });
        turn(&pipe);
        assert_eq!(Arc::strong_count(&held), 2);
        drop(events);
        assert_eq!(Arc::strong_count(&held), 1);
        turn(&pipe);
    }
}
