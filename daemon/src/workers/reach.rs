//! What the daemon does to a worker over the network, as one narrow interface: is it well, will
//! it leave, can it bind its port. A fake answers in tests (`fake.rs`), where nothing listens.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mcpd_common::config::{Transport, WorkerConfig};
use mcpd_common::ids::Port;

use super::http::Ask;
use super::{ports, ready};
use crate::deadline::Deadline;

/// An answer that takes its time.
pub type Answering<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The way to the workers.
pub trait Reach: Send + Sync {
    /// Whether it answers its probe.
    fn probe(&self, worker: Arc<WorkerConfig>, port: Port) -> Answering<bool>;

    /// The status that it answers a request with, or why there is none.
    fn ask(&self, ask: Ask, deadline: Deadline) -> Answering<Result<u16, String>>;

    /// Where it shall listen: its client port, or a private one behind a door.
    ///
    /// # Errors
    /// Who holds the port, and what to do.
    fn find_port(&self, worker: &WorkerConfig) -> Result<Port, String>;
}

/// The real one.
pub struct Network;

impl Reach for Network {
    fn probe(&self, worker: Arc<WorkerConfig>, port: Port) -> Answering<bool> {
        Box::pin(async move { ready::probe(&worker, port).await })
    }

    fn ask(&self, ask: Ask, deadline: Deadline) -> Answering<Result<u16, String>> {
        Box::pin(ask.status(deadline))
    }

    fn find_port(&self, worker: &WorkerConfig) -> Result<Port, String> {
        match worker.transport {
            Transport::Http => ports::private(),
            Transport::Direct => ports::is_free(worker).map(|()| worker.port),
        }
    }
}
