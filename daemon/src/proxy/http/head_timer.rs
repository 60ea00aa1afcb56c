//! Limits the time for the head of a request, and the longer time between two requests, without a timer for each
//! request.
//!
//! hyper starts a timer when it waits for a head and drops it when the head has arrived: with most
//! clients thousands of times before one expires. Here both only store a moment, and one alarm for the
//! connection reads it when it may have passed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::deadline;

/// How long a connection may be idle between two requests; the `Keep-Alive` header says it.
pub const IDLE: Duration = Duration::from_secs(75);

/// The timer of one connection, ticked by the connection's task.
pub struct HeadTimer {
    shared: Arc<Shared>,
    alarm: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Created by the first tick.
    bell: Option<Arc<Bell>>,
    limit: Duration,
}

/// The timer that hyper gets.
pub struct Handle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    awaited: Mutex<Awaited>,
    is_expired: AtomicBool,
    /// The deadline is earlier than the alarm.
    is_shortened: AtomicBool,
}

#[derive(Default)]
struct Awaited {
    /// The deadline; `None` while no head is awaited.
    due: Option<Instant>,
    /// No byte of the head has arrived.
    is_idle: bool,
    /// A request was received before.
    is_used: bool,
}

/// Set when the alarm may have expired; until then a tick costs nothing.
struct Bell {
    task: Waker,
    rang: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rang.store(true, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

/// One wait for a head.
struct Wait(Arc<Shared>);

impl HeadTimer {
    /// For heads with this limit.
    pub fn new(limit: Duration) -> Self {
        let alarm = Box::pin(deadline::until(deadline::now() + limit));
        Self { shared: Arc::default(), alarm, bell: None, limit }
    }

    /// For hyper.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// The stream for hyper, which notices the first byte of a head.
    pub fn watch(&self, stream: TcpStream) -> WatchedStream {
        WatchedStream { stream, shared: self.shared.clone(), limit: self.limit }
    }

    /// The connection's task begins or ends a turn: an overdue head ends its wait in it.
    pub fn tick(&mut self, context: &mut Context<'_>) {
        if self.shared.is_shortened.swap(false, Ordering::Relaxed)
            && let Some(due) = self.shared.due()
        {
            self.alarm = Box::pin(deadline::until(tokio::time::Instant::from_std(due)));
            if let Some(bell) = &self.bell {
                bell.rang.store(true, Ordering::Relaxed);
            }
        }
        let make = || Arc::new(Bell { task: context.waker().clone(), rang: AtomicBool::new(true) });
        let bell = self.bell.get_or_insert_with(make);
        if !bell.rang.swap(false, Ordering::Relaxed) {
            return;
        }
        let waker = Waker::from(bell.clone());
        let context = &mut Context::from_waker(&waker);
        while self.alarm.as_mut().poll(context).is_ready() {
            let now = deadline::now();
            let due = self.shared.due().map(tokio::time::Instant::from_std);
            let is_overdue = due.is_some_and(|due| due <= now);
            if is_overdue {
                self.shared.is_expired.store(true, Ordering::Relaxed);
            }
            let next = due.filter(|_| !is_overdue).unwrap_or(now + self.limit);
            self.alarm = Box::pin(deadline::until(next));
        }
    }
}

impl Shared {
    fn due(&self) -> Option<Instant> {
        self.awaited().due
    }

    /// hyper waits for a head. Between two requests a client has more time than for the head itself.
    fn begin(&self, due: Instant) {
        let mut awaited = self.awaited();
        let is_idle = awaited.is_used;
        let due = if is_idle { (deadline::now() + IDLE).into_std() } else { due };
        *awaited = Awaited { due: Some(due), is_idle, is_used: true };
    }

    fn end(&self) {
        self.awaited().due = None;
    }

    /// Bytes arrived.
    fn received(&self, limit: Duration) {
        let mut awaited = self.awaited();
        if awaited.is_idle && awaited.due.is_some() {
            awaited.is_idle = false;
            awaited.due = Some((deadline::now() + limit).into_std());
            self.is_shortened.store(true, Ordering::Relaxed);
        }
    }

    fn awaited(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's stream.
pub struct WatchedStream {
    stream: TcpStream,
    shared: Arc<Shared>,
    limit: Duration,
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.shared.received(self.limit);
        }
        polled
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Timer for Handle {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until((deadline::now() + duration).into_std())
    }

    fn sleep_until(&self, due: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.begin(due);
        Box::pin(Wait(self.0.clone()))
    }
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    /// The task that ticks checks the moment; this only reads the state.
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0.is_expired.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const LIMIT: Duration = Duration::from_secs(10);

    async fn ticked(timer: &mut HeadTimer, mut wait: Pin<Box<dyn Sleep>>) {
        poll_fn(|context| {
            timer.tick(context);
            wait.as_mut().poll(context)
        })
        .await;
    }

    /// R-CLIENT-1: slow headers time out, quick ones never do.
    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_own_moment_whenever_the_alarm_was_set() {
        let mut timer = HeadTimer::new(LIMIT);
        let handle = timer.handle();
        let begin = deadline::now();
        for _ in 0..3 {
            drop(handle.sleep(LIMIT));
            tokio::time::advance(LIMIT / 4).await;
        }
        let wait = handle.sleep(LIMIT);
        timer.shared.received(LIMIT);
        ticked(&mut timer, wait).await;
        let took = deadline::now() - begin;
        assert!(took >= LIMIT + LIMIT * 3 / 4 && took < LIMIT * 2, "{took:?}");
    }

    /// Only the first head has to come at once; between two requests a client may be idle.
    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_more_time_than_a_head() {
        let mut timer = HeadTimer::new(LIMIT);
        let handle = timer.handle();
        let begin = deadline::now();
        ticked(&mut timer, handle.sleep(LIMIT)).await;
        assert_eq!((deadline::now() - begin).as_secs(), LIMIT.as_secs());

        let mut timer = HeadTimer::new(LIMIT);
        let handle = timer.handle();
        drop(handle.sleep(LIMIT));
        let begin = deadline::now();
        ticked(&mut timer, handle.sleep(LIMIT)).await;
        assert_eq!((deadline::now() - begin).as_secs(), IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_awaited_does_not_expire() {
        let mut timer = HeadTimer::new(LIMIT);
        let handle = timer.handle();
        drop(handle.sleep(LIMIT));
        tokio::time::advance(LIMIT * 3).await;
        let mut wait = handle.sleep(LIMIT);
        poll_fn(|context| {
            timer.tick(context);
            assert!(wait.as_mut().poll(context).is_pending(), "it began just now");
            Poll::Ready(())
        })
        .await;
    }
}
