//! Limits the time for the head of a request, without a timer for each request.
//!
//! hyper starts a timer when it waits for a head and drops it when the head has arrived: with most
//! clients thousands of times before one expires. Here both only store a moment, and one alarm for the
//! connection reads it when it may have passed.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::deadline;

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
    /// The deadline of the head; `None` while none is awaited.
    due: Mutex<Option<Instant>>,
    is_expired: AtomicBool,
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

    /// The connection's task begins a turn: an overdue head ends its wait in it.
    pub fn tick(&mut self, context: &mut Context<'_>) {
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
        *self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, due: Option<Instant>) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }
}

impl Timer for Handle {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until((deadline::now() + duration).into_std())
    }

    fn sleep_until(&self, due: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.set(Some(due));
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
        self.0.set(None);
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
        ticked(&mut timer, handle.sleep(LIMIT)).await;
        let took = deadline::now() - begin;
        assert!(took >= LIMIT + LIMIT * 3 / 4 && took < LIMIT * 2, "{took:?}");
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
