//! An event stream on a client's connection, produced in the task that serves the connection.
//!
//! ```text
//!   the connection's task --polls--> hyper --asks for events--> Events --polls--> the relay's future
//!                        `--polls--> Pipe, when hyper does not ask: its client reads too slowly
//! ```
//!
//! So no event is handed from task to task. But hyper asks for nothing while a client does not take what it
//! has, and the relay has to see even then that its worker dies or that mcpd leaves: the task polls it then.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::Bytes;

/// Events that a slow client may lag behind before its worker has to wait.
const AHEAD: usize = 16;

/// What produces the events.
type Relay = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The event stream that a connection is at, if it is at one: of one connection, used by its task only.
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
    /// Since the task began its turn.
    was_polled: bool,
}

type Queue = Mutex<VecDeque<Bytes>>;

/// Where a relay puts its events.
#[derive(Clone)]
pub struct EventSink(Arc<Inner>);

/// The body of the answer. Dropped, it ends the relay at once.
pub struct Events(Arc<Inner>);

impl Pipe {
    /// Where the next relay puts its events.
    pub fn sink(&self) -> EventSink {
        EventSink(self.0.clone())
    }

    /// The stream of events that this future puts into the [`EventSink`].
    pub fn open(&self, relay: impl Future<Output = ()> + Send + 'static) -> Events {
        lock(&self.0.queue).clear();
        lock(&self.0.running).relay = Some(Box::pin(relay));
        Events(self.0.clone())
    }

    /// The connection's task begins a turn.
    pub fn begin_turn(&self) {
        lock(&self.0.running).was_polled = false;
    }

    /// The turn endpoints: a relay that hyper did not ask goes on all the same.
    pub fn end_turn(&self, context: &mut Context<'_>) {
        let mut running = lock(&self.0.running);
        if !running.was_polled {
            running.poll(context);
        }
    }
}

impl Running {
    /// Lets the relay go on; true when it is over.
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
    /// Passes an event on; waits while the client lags behind.
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
        // Whatever it holds is let go outside of the lock.
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

    /// A turn in which hyper asks for nothing, since its client reads too slowly.
    fn turn(pipe: &Pipe) {
        pipe.begin_turn();
        pipe.end_turn(&mut Context::from_waker(Waker::noop()));
    }

    /// Sends that many events, and counts those that were taken.
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

    /// R-CLIENT-5: a client that does not read keeps no relay from seeing that it has to end.
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
