//! The narrow interface between the supervisor and the network. Tests use a fake (`fake.rs`),
//! so that no process has to listen.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use mcpd_common::config::{Probe, Transport, WorkerConfig};
use mcpd_common::ids::{Pid, Port};

use super::http::{self, WorkerRequest};
use crate::deadline::Deadline;
use crate::supervisor::private_ports;

const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

pub type ClientFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub trait WorkerClient: Send + Sync {
    /// Sends one probe (R-SUP-2) and returns whether it succeeds.
    fn probe(&self, worker: Arc<WorkerConfig>, port: Port) -> ClientFuture<bool>;

    /// Sends a request and returns the status of the response, or why there is no response.
    fn send(&self, request: WorkerRequest, deadline: Deadline) -> ClientFuture<Result<u16, String>>;

    /// See [`private_ports::wrong_port`].
    fn wrong_port(&self, leader: Pid, given: Port) -> ClientFuture<Option<Port>>;

    /// The port that the worker has to bind: its client port, or a new private one.
    ///
    /// # Errors
    /// Names the holder of the port, and what to do.
    fn find_port(&self, worker: &WorkerConfig) -> Result<Port, String>;
}

pub struct HttpWorkerClient;

impl WorkerClient for HttpWorkerClient {
    fn probe(&self, worker: Arc<WorkerConfig>, port: Port) -> ClientFuture<bool> {
        Box::pin(async move { probe(&worker, port).await })
    }

    fn send(&self, request: WorkerRequest, deadline: Deadline) -> ClientFuture<Result<u16, String>> {
        Box::pin(request.status(deadline))
    }

    fn wrong_port(&self, leader: Pid, given: Port) -> ClientFuture<Option<Port>> {
        Box::pin(async move {
            // Reads the descriptors of all processes, which takes some milliseconds.
            let scan = tokio::task::spawn_blocking(move || private_ports::wrong_port(leader, given));
            scan.await.ok().flatten()
        })
    }

    fn find_port(&self, worker: &WorkerConfig) -> Result<Port, String> {
        match worker.transport {
            Transport::Http => private_ports::private(),
            Transport::Direct => private_ports::is_free(worker).map(|()| worker.port),
        }
    }
}

/// A pid proves only that the process exists, not that it serves. Any HTTP status below 500 counts as alive.
async fn probe(worker: &WorkerConfig, port: Port) -> bool {
    let deadline = Deadline::after(PROBE_TIMEOUT);
    match &worker.ready {
        Probe::None => true,
        Probe::Tcp => matches!(deadline.wait(http::connect(port)).await, Ok(Ok(_))),
        Probe::Http(path) => {
            let request = WorkerRequest { method: Method::GET, port, path: path.clone(), token: None };
            matches!(request.status(deadline).await, Ok(..500))
        }
    }
}
