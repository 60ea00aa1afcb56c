//! Waits for conditions, always with a bound.

use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a busy machine, short enough to be waited for when something is wrong.
pub const BOUND: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The result, and how long it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed())
}

/// Polls until there is a value, and panics with `what` at the bound.
#[track_caller]
pub fn until<T>(what: &str, bound: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(seen) = poll() {
            return seen;
        }
        assert!(Instant::now() < end, "after {bound:?} still waiting for {what}");
        thread::sleep(POLL_INTERVAL);
    }
}
