//! The turns of a connection's task, and which wake-ups cause the next one.
//!
//! The parts of a connection (hyper's two ends, bodies, relays) wake each other when they pass data on.
//! All of them are in one task, and most of these wake-ups happen in a turn for work that this turn
//! does anyhow; each would cost another turn for nothing. Code that knows this uses [`quietly`].

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The waker of one connection's task.
struct Turns(Waker);

impl Wake for Turns {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !IS_QUIET.get() {
            self.0.wake_by_ref();
        }
    }
}

/// A waker for this task that can be kept quiet.
pub fn waker(context: &Context<'_>) -> Waker {
    Arc::new(Turns(context.waker().clone())).into()
}

/// Runs code whose wake-ups on this thread are ignored.
pub fn quietly<T>(act: impl FnOnce() -> T) -> T {
    let before = IS_QUIET.replace(true);
    let done = act();
    IS_QUIET.set(before);
    done
}

/// Requests another turn.
pub async fn another() {
    poll_fn(|context| {
        context.waker().wake_by_ref();
        Poll::Ready(())
    })
    .await;
}
