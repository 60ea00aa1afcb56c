//! The supervisor's end of one listener: it publishes the worker behind it, and asks what is in flight.

use std::sync::Arc;

use mcpd_common::ids::{Port, RunTag};
use mcpd_common::status::WorkerState;
use tokio::sync::watch;

use super::http::upstream::{Live, Publisher, Upstream};
use super::mcp::session;

/// Whether a door is open, or who holds its port.
pub type BindState = watch::Receiver<Result<(), String>>;

/// The supervisor's end of one listener.
pub struct ProxyHandle {
    /// Whose processes these are.
    pub run: RunTag,
    /// Tells the door of the worker behind it.
    pub publisher: Publisher,
    /// Whether the door is open.
    pub bind_state: BindState,
}

impl ProxyHandle {
    /// Whether clients can come in.
    ///
    /// # Errors
    /// Who holds the client port.
    pub fn is_open(&self) -> Result<(), String> {
        self.bind_state.borrow().clone()
    }

    /// Whether requests are in in_flight_guard.
    pub fn is_busy(&self) -> bool {
        matches!(&*self.publisher.borrow(), Upstream::Live(up) if up.in_flight() > 0)
    }

    /// Tells the door what became of its worker's `process`, the first being 1.
    pub fn show(&self, state: WorkerState, process: u32, port: Port, reason: Option<&str>) {
        let epoch = session::epoch(self.run, process);
        let next = match state {
            WorkerState::Ready | WorkerState::Unhealthy => match &*self.publisher.borrow() {
                Upstream::Live(up) if up.epoch == epoch => return,
                _ => Upstream::Live(Arc::new(Live::new(epoch, port))),
            },
            WorkerState::Starting | WorkerState::BackingOff | WorkerState::Stopping => Upstream::Waiting,
            WorkerState::Failed | WorkerState::Stopped => {
                Upstream::Down(reason.unwrap_or(state.name()).to_owned())
            }
        };
        // Streams let go before the worker is asked to leave: none shall wait for a client.
        if let Upstream::Live(up) = self.publisher.send_replace(next) {
            up.detach.cancel();
        }
    }

    /// The worker leaves: new requests wait, streams let go of it.
    pub fn detach(&self) -> Option<Arc<Live>> {
        match self.publisher.send_replace(Upstream::Waiting) {
            Upstream::Live(up) => {
                up.detach.cancel();
                Some(up)
            }
            Upstream::Waiting | Upstream::Down(_) => None,
        }
    }
}
