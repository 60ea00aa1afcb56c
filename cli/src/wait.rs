//! The only clock and the only sleeps of `mcpctl`: between two polls of a condition, or until a deadline.

use std::time::Duration;

pub use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "the only place where mcpctl reads the monotonic clock")]
pub fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the only sleep of mcpctl, between two polls")]
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

#[expect(clippy::disallowed_methods, reason = "the only deadline of mcpctl")]
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline).await;
}
