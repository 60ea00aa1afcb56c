//! The probe of a worker (R-SUP-2): an existing pid does not prove that it serves.

use std::time::Duration;

use hyper::Method;
use mcpd_common::config::{Probe, WorkerConfig};
use mcpd_common::ids::Port;

use super::http::{self, WorkerRequest};
use crate::deadline::Deadline;

/// Limit for a probe.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Probes once. Any status below 500 counts as alive.
pub async fn probe(worker: &WorkerConfig, port: Port) -> bool {
    let deadline = Deadline::after(TIMEOUT);
    match &worker.ready {
        Probe::None => true,
        Probe::Tcp => matches!(deadline.wait(http::connect(port)).await, Ok(Ok(_))),
        Probe::Http(path) => {
            let ask = WorkerRequest { method: Method::GET, port, path: path.clone(), token: None };
            matches!(ask.status(deadline).await, Ok(..500))
        }
    }
}
