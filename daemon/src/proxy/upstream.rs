//! The worker behind a listener, as published by the supervisor.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::http::pool::Pool;
use super::http::request::Request;
use super::http::worker_connection::{CallError, Response, Wire, WorkerConnection};
use super::mcp::session::Epoch;
use super::mcp::sessions::SharedSession;
use crate::worker_listener::WorkerListener;

#[derive(Clone)]
pub enum Upstream {
    /// No worker yet, or none at the moment: requests wait.
    Waiting {
        /// Why, if the start takes long.
        reason: Option<String>,
    },
    /// A worker that is ready.
    Live(Arc<Live>),
    /// No worker, and none is started without a request.
    Down(String),
}

pub type Publisher = watch::Sender<Upstream>;
pub type Watcher = watch::Receiver<Upstream>;

/// One process of a worker that is ready.
pub struct Live {
    pub epoch: Epoch,
    /// Cancelled when it is about to stop, or has exited: long-lived streams detach.
    pub detach: CancellationToken,
    pool: Arc<Pool>,
    in_flight: AtomicUsize,
    drained: Notify,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing was sent: the request may be sent again.
    #[error("no connection to the worker: {0}")]
    NotSent(io::Error),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Counts a request as in flight until it is dropped.
pub struct InFlightGuard(Arc<Live>);

impl Live {
    pub fn new(epoch: Epoch, listener: Arc<WorkerListener>) -> Self {
        let detach = CancellationToken::new();
        let pool = Pool::new(listener, detach.clone());
        Self { epoch, detach, pool, in_flight: AtomicUsize::new(0), drained: Notify::new() }
    }

    /// Requests whose responses have not been read to their end.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Completes when none is in flight.
    pub async fn drained(&self) {
        loop {
            // Registered before the count is read, so that no notification is missed.
            let mut drained = std::pin::pin!(self.drained.notified());
            drained.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            drained.await;
        }
    }

    /// Sends a request that is kept whole, of a session that mcpd keeps or of none.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn call(
        self: &Arc<Self>,
        request: &Request,
        session: Option<&SharedSession>,
    ) -> Result<Response, SendError> {
        let guard = InFlightGuard::begin(self);
        self.pool.call(&Wire::of(request, session), request.head.method, guard).await
    }

    /// A connection for a request that is streamed.
    ///
    /// # Errors
    /// Most likely no process listens.
    pub async fn connect(self: &Arc<Self>) -> io::Result<(WorkerConnection, Lease)> {
        let guard = InFlightGuard::begin(self);
        Ok((self.pool.connect().await?, (self.pool.clone(), guard)))
    }
}

/// Where a connection goes when its response has been read, and what counts it until then.
pub type Lease = (Arc<Pool>, InFlightGuard);

impl InFlightGuard {
    fn begin(up: &Arc<Live>) -> Self {
        up.in_flight.fetch_add(1, Ordering::AcqRel);
        Self(up.clone())
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.drained.notify_waiters();
        }
    }
}
