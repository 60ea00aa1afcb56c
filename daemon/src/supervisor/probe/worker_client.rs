//! What the daemon does to a worker over the network, as one narrow interface: is it well, will
//! it leave, can it bind its port. A fake answers in tests (`fake.rs`), where nothing listens.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mcpd_common::config::{Transport, WorkerConfig};
use mcpd_common::ids::{Pid, Port};

use super::http::WorkerRequest;
use super::ready;
use crate::deadline::Deadline;
use crate::supervisor::private_ports;

/// An answer that takes its time.
pub type ClientFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The way to the workers.
pub trait WorkerClient: Send + Sync {
    /// Whether it answers its probe.
    fn probe(&self, worker: Arc<WorkerConfig>, port: Port) -> ClientFuture<bool>;

    /// The status that it answers a request with, or why there is none.
    fn ask(&self, ask: WorkerRequest, deadline: Deadline) -> ClientFuture<Result<u16, String>>;

    /// The port that the worker below this leader listens on, if it is not the one it was given.
    fn other_ports(&self, leader: Pid, given: Port) -> ClientFuture<Option<Port>>;

    /// Where it shall listen: its client port, or a private one behind a door.
    ///
    /// # Errors
    /// Who holds the port, and what to do.
    fn find_port(&self, worker: &WorkerConfig) -> Result<Port, String>;
}

/// The real one.
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
            // Looks at all descriptors of all processes: some milliseconds.
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
