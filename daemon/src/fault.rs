//! Faults for tests (R-SUP-5). Debug builds only:
//! a release build ignores `MCPD_FAULT`.

use std::time::Duration;

use mcpd_common::ids::WorkerName;

/// Panics if `MCPD_FAULT=panic:NAME` names this worker.
pub fn panic_if_asked_for(worker: &WorkerName) {
    if asked_for("panic").is_some_and(|name| name == worker.as_str()) {
        panic!("a panic was asked for by MCPD_FAULT");
    }
}

/// Blocks the thread for an hour if `MCPD_FAULT=hang:NAME` names this worker.
pub fn hang_if_asked_for(worker: &WorkerName) {
    if asked_for("hang").is_some_and(|name| name == worker.as_str()) {
        crate::deadline::pause(Duration::from_secs(3600));
    }
}

/// Panics if `MCPD_FAULT=panic-in:PLACE` names this place in the code.
pub fn panic_in(place: &str) {
    if asked_for("panic-in").is_some_and(|named| named == place) {
        panic!("a panic in {place} was asked for by MCPD_FAULT");
    }
}

/// Blocks the thread for an hour if `MCPD_FAULT=hang-in:PLACE` names this place in the code.
pub fn hang_in(place: &str) {
    if asked_for("hang-in").is_some_and(|named| named == place) {
        tracing::warn!(place, "hangs, as MCPD_FAULT asks for");
        crate::deadline::pause(Duration::from_secs(3600));
    }
}

/// The first wait before a restart, from `MCPD_FAULT=first-wait-ms:N`: ten of the real waits
/// take more than a minute.
pub fn first_wait() -> Option<Duration> {
    asked_for("first-wait-ms")?.parse().ok().map(Duration::from_millis)
}

/// The longest silence that clients are expected to accept, in seconds, from `MCPD_FAULT=silence:N`.
pub fn silence() -> Option<u32> {
    asked_for("silence")?.parse().ok()
}

fn asked_for(what: &str) -> Option<String> {
    let fault = cfg!(debug_assertions).then(|| std::env::var("MCPD_FAULT").ok()).flatten()?;
    fault.strip_prefix(what)?.strip_prefix(':').map(str::to_owned)
}
