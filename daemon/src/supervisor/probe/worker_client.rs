//! The narrow interface between the supervisor and the network. Tests use a fake (`fake.rs`),
//! so that no process has to listen.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mcpd_common::config::{Transport, WorkerConfig};
use mcpd_common::ids::{Pid, Port};

use super::http::WorkerRequest;
use super::ready;
use crate::deadline::Deadline;
use crate::supervisor::private_ports;

pub type ClientFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub trait WorkerClient: Send + Sync {
    /// Whether the probe succeeds.
    fn probe(&self, worker: Arc<WorkerConfig>, port: Port) -> ClientFuture<bool>;

    /// Sends a request; the result is the status, or why there is none.
    fn ask(&self, ask: WorkerRequest, deadline: Deadline) -> ClientFuture<Result<u16, String>>;

    /// The port that a process of this leader's tree listens on, if it is not the given one.
    fn other_ports(&self, leader: Pid, given: Port) -> ClientFuture<Option<Port>>;

    /// The port that the worker has to bind: its client port, or a new private one.
    ///
    /// # Errors
    /// Names the holder of the port, and what to do.
    fn find_port(&self, worker: &WorkerConfig) -> Result<Port, String>;
}

pub struct HttpWorkerClient;

impl WorkerClient for HttpWorkerClient {
    fn probe(&self, worker: Arc<WorkerConfig>, port: Port) -> ClientFuture<bool> {
        Box::pin(async move { ready::probe(&worker, port).await })
    }

    fn ask(&self, ask: WorkerRequest, deadline: Deadline) -> ClientFuture<Result<u16, String>> {
        Box::pin(ask.status(deadline))
    }

    fn other_ports(&self, leader: Pid, given: Port) -> ClientFuture<Option<Port>> {
        Box::pin(async move {
            // Reads the descriptors of all processes: some milliseconds.
            let looked = tokio::task::spawn_blocking(move || private_ports::other(leader, given));
            looked.await.ok().flatten()
        })
    }

    fn find_port(&self, worker: &WorkerConfig) -> Result<Port, String> {
        match worker.transport {
            Transport::Http => private_ports::private(),
            Transport::Direct => private_ports::is_free(worker).map(|()| worker.port),
        }
    }
}
