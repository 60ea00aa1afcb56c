//! Waits for conditions, always with a limit.

use std::thread;
use std::time::{Duration, Instant};

/// The default limit: long enough for a busy machine.
pub const BOUND: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Returns the result and how long it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed())
}

/// Polls until there is a value; panics with `what` after this limit.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < end, "after {limit:?} still waiting for {what}");
        thread::sleep(POLL_INTERVAL);
    }
}
