//! The one clock for waiting, and the only waits: until a condition is looked at again, or until
//! a deadline.

use std::time::Duration;

pub use tokio::time::Instant;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the one place where mcpctl asks for the time to wait by")]
pub fn now() -> Instant {
    Instant::now()
}

/// Lets some time pass before a condition is looked at again.
#[expect(clippy::disallowed_methods, reason = "the one pause of mcpctl, between two looks")]
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Returns at this deadline.
#[expect(clippy::disallowed_methods, reason = "the one deadline of mcpctl")]
pub async fn until(deadline: Instant) {
    tokio::time::sleep_until(deadline).await;
}
