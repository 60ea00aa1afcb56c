//! Faults on request, for the tests of what must never happen (R-SUP-5). Debug builds only:
//! a release has no such switch.

use mcpd_common::ids::WorkerName;

/// Panics if `MCPD_FAULT=panic:NAME` names this worker.
pub fn panic_if_asked_for(worker: &WorkerName) {
    if cfg!(debug_assertions)
        && std::env::var("MCPD_FAULT").is_ok_and(|fault| fault == format!("panic:{worker}"))
    {
        panic!("a panic was asked for by MCPD_FAULT");
    }
}
