//! What the daemon does to a worker over the network, as one narrow interface: is it well, will
//! it leave, can it bind its port. A fake answers in tests (`fake.rs`), where nothing listens.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mcpd_common::config::WorkerConfig;

use super::http::Ask;
use super::{ports, ready};
use crate::deadline::Deadline;

/// An answer that takes its time.
pub type Answering<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The way to the workers.
pub trait Reach: Send + Sync {
    /// Whether it answers its probe.
    fn probe(&self, worker: Arc<WorkerConfig>) -> Answering<bool>;

    /// The status that it answers a request with, or why there is none.
    fn ask(&self, ask: Ask, deadline: Deadline) -> Answering<Result<u16, String>>;

    /// Whether it will be able to bind its port.
    ///
    /// # Errors
    /// Who holds it, and what to do.
    fn port_is_free(&self, worker: &WorkerConfig) -> Result<(), String>;
}

/// The real one.
pub struct Network;

impl Reach for Network {
    fn probe(&self, worker: Arc<WorkerConfig>) -> Answering<bool> {
        Box::pin(async move { ready::probe(&worker).await })
    }

    fn ask(&self, ask: Ask, deadline: Deadline) -> Answering<Result<u16, String>> {
        Box::pin(ask.status(deadline))
    }

    fn port_is_free(&self, worker: &WorkerConfig) -> Result<(), String> {
        ports::is_free(worker)
    }
}
