//! Whether a worker answers (R-SUP-2): the pid's existence proves nothing.

use std::time::Duration;

use hyper::Method;
use mcpd_common::config::{Probe, WorkerConfig};
use mcpd_common::ids::Port;

use super::http::{self, WorkerRequest};
use crate::deadline::Deadline;

/// A probe that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks once. Any status below 500 is alive.
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
