//! The supervisor's end of one listener: publishes the worker behind it, and reads what is in flight.

use std::sync::Arc;

use mcpd_common::ids::RunTag;
use mcpd_common::status::WorkerState;
use tokio::sync::watch;

use super::mcp::session;
use super::observe::registry::Registry;
use super::upstream::{Live, Publisher, Upstream};
use crate::worker_listener::WorkerListener;

/// Whether the port is bound; the error names its holder.
pub type BindState = watch::Receiver<Result<(), String>>;

pub struct ProxyHandle {
    pub run: RunTag,
    pub publisher: Publisher,
    pub bind_state: BindState,
    pub registry: Registry,
}

impl ProxyHandle {
    /// Whether the port is bound.
    ///
    /// # Errors
    /// Names the holder of the client port.
    pub fn is_open(&self) -> Result<(), String> {
        self.bind_state.borrow().clone()
    }

    /// Whether requests are in flight.
    pub fn is_busy(&self) -> bool {
        matches!(&*self.publisher.borrow(), Upstream::Live(up) if up.in_flight() > 0)
    }

    /// Publishes the state of the worker's `process`; the first one is 1.
    pub fn show(
        &self,
        state: WorkerState,
        process: u32,
        listener: Option<&Arc<WorkerListener>>,
        reason: Option<&str>,
    ) {
        let epoch = session::epoch(self.run, process);
        let next = match (state, listener) {
            (WorkerState::Ready | WorkerState::Unhealthy, Some(listener)) => {
                match &*self.publisher.borrow() {
                    Upstream::Live(up) if up.epoch == epoch => return,
                    _ => Upstream::Live(Arc::new(Live::new(epoch, listener.clone()))),
                }
            }
            (
                WorkerState::Ready
                | WorkerState::Unhealthy
                | WorkerState::Starting
                | WorkerState::BackingOff
                | WorkerState::Stopping,
                _,
            ) => Upstream::Waiting { reason: reason.map(str::to_owned) },
            (WorkerState::Failed | WorkerState::Stopped, _) => {
                Upstream::Down(reason.unwrap_or(state.name()).to_owned())
            }
        };
        // Streams detach before the stop request, so that no worker waits for a client.
        if let Upstream::Live(up) = self.publisher.send_replace(next) {
            self.detach_from(&up);
        }
    }

    /// The worker stops: new requests wait, streams detach from it.
    pub fn detach(&self) -> Option<Arc<Live>> {
        match self.publisher.send_replace(Upstream::Waiting { reason: None }) {
            Upstream::Live(up) => {
                self.detach_from(&up);
                Some(up)
            }
            Upstream::Waiting { .. } | Upstream::Down(_) => None,
        }
    }

    fn detach_from(&self, up: &Live) {
        up.detach.cancel();
        self.registry.wake_all();
    }
}
