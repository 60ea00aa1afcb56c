//! One absolute deadline, handed down; the only clock of the daemon.
//!
//! A function that gets a [`Deadline`] passes on the same one or an earlier one, so that waits
//! inside of waits never add up. `clippy.toml` keeps bare sleeps and clocks out of the
//! other files.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

/// The present, on the clock of all deadlines (`CLOCK_MONOTONIC`).
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Blocks the thread for this time, where there is no runtime.
#[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until this moment.
#[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub async fn until(moment: Instant) {
    tokio::time::sleep_until(moment).await;
}

/// The next moment of a rhythm that all tasks of the daemon share: what is done every `interval` is done by all of them
/// together, so that an idle daemon seldom wakes (R-SUP-9).
pub fn next_beat(now: Instant, interval: Duration) -> Instant {
    static FIRST: LazyLock<Instant> = LazyLock::new(self::now);
    let since_first = now.saturating_duration_since(*FIRST);
    let since_beat = since_first.as_nanos() % interval.as_nanos().max(1);
    now + interval.saturating_sub(Duration::from_nanos_u128(since_beat))
}

/// Waits until this moment; for ever if there is none.
pub async fn until_some(moment: Option<Instant>) {
    match moment {
        Some(moment) => until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits before another attempt to accept a connection. Only if descriptors or memory are short: every other error
/// concerns one connection, accept(2).
pub async fn pause_after_accept_error(error: &std::io::Error, pause: Duration) {
    let errno = rustix::io::Errno::from_io_error(error);
    use rustix::io::Errno;
    if matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) {
        until(now() + pause).await;
    }
}

/// Completes when this process has run for `limit`. Time in which it was stopped (`SIGSTOP`, Ctrl-Z, a frozen cgroup)
/// does not count; time in which the machine was suspended does not pass on this clock at all.
pub async fn until_run_for(limit: Duration) {
    const STEP: Duration = Duration::from_millis(100);
    /// A busy machine may be this late; after a longer step the process was stopped.
    const LONGEST_STEP: Duration = Duration::from_secs(1);
    let mut left = limit;
    while !left.is_zero() {
        let began = now();
        until(began + STEP.min(left)).await;
        left = left.saturating_sub(now().saturating_duration_since(began).min(LONGEST_STEP));
    }
}

/// A moment by which work has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// The deadline passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not done in time")]
pub struct Elapsed;

impl Deadline {
    /// The moment after this duration.
    pub fn after(duration: Duration) -> Self {
        Self(now() + duration)
    }

    /// This moment.
    pub fn at(moment: Instant) -> Self {
        Self(moment)
    }

    pub fn instant(self) -> Instant {
        self.0
    }

    /// The remaining time; zero after the deadline.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    /// The earlier of this and the moment after this duration.
    pub fn at_most(self, duration: Duration) -> Self {
        self.min(Self::after(duration))
    }

    /// The result of `future`, or [`Elapsed`].
    pub async fn wait<T>(self, future: impl Future<Output = T>) -> Result<T, Elapsed> {
        tokio::time::timeout_at(self.0, future).await.map_err(|_| Elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    /// A connection that its client has reset already must not keep all others waiting.
    #[tokio::test(start_paused = true)]
    async fn only_a_shortage_pauses_a_listener() {
        let pause = Duration::from_millis(500);
        for (errno, expected) in [
            (rustix::io::Errno::CONNABORTED, Duration::ZERO),
            (rustix::io::Errno::PROTO, Duration::ZERO),
            (rustix::io::Errno::MFILE, pause),
            (rustix::io::Errno::NOMEM, pause),
        ] {
            let began = now();
            pause_after_accept_error(&Error::from_raw_os_error(errno.raw_os_error()), pause).await;
            assert_eq!(now() - began, expected, "{errno}");
        }
    }

    proptest::proptest! {
        /// Between two beats, the next one is always the same, and in the future.
        #[test]
        fn a_beat_is_shared(first_ms in 0u64..100_000, later_ms in 0u64..10_000, interval_ms in 1u64..20_000) {
            let interval = Duration::from_millis(interval_ms);
            let moment = now() + Duration::from_millis(first_ms);
            let beat = next_beat(moment, interval);
            proptest::prop_assert!(beat > moment && beat <= moment + interval);
            let later = moment + Duration::from_millis(later_ms);
            if later < beat {
                proptest::prop_assert_eq!(next_beat(later, interval), beat);
            }
        }
    }
}
