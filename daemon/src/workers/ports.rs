//! A port is looked at before a worker is to bind it (R-SUP-6).

use mcpd_common::check::ports::{self, KnownPort};
use mcpd_common::config::WorkerConfig;

/// Whether the worker will be able to bind its port.
///
/// # Errors
/// Who holds it, and what to do.
pub fn is_free(worker: &WorkerConfig) -> Result<(), String> {
    if ports::is_bindable(worker.port) {
        return Ok(());
    }
    let known = KnownPort { port: worker.port, worker: Some(worker.name.clone()) };
    let reports = ports::examine(&[known], &|_| None);
    let held = reports.first().map_or_else(
        || format!("port {} is held by somebody", worker.port),
        ports::PortReport::holders_sentence,
    );
    Err(format!("{held}; end that process or give {} another port", worker.name))
}
