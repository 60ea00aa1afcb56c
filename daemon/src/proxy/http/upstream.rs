//! The worker behind a listener, as published by the supervisor, and the connections to it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::request::Method;
use super::worker_connection::{CallError, Response, Wire, WorkerConnection};
use crate::deadline::{self, Deadline};
use crate::proxy::mcp::session::Epoch;
use crate::worker_listener::WorkerListener;

/// Idle connections are dropped before the servers' own limit of 5 s.
const IDLE: Duration = Duration::from_secs(4);

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
    listener: Arc<WorkerListener>,
    idle: Mutex<Vec<Idle>>,
    is_swept: AtomicBool,
    in_flight: AtomicUsize,
    drained: Notify,
}

struct Idle {
    connection: WorkerConnection,
    since: Instant,
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
        let idle = Mutex::default();
        let is_swept = AtomicBool::new(false);
        let in_flight = AtomicUsize::new(0);
        let drained = Notify::new();
        Self { epoch, detach, listener, idle, is_swept, in_flight, drained }
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

    /// Sends a request. Its connection is used again when the response has been read.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn call(self: &Arc<Self>, wire: &Wire<'_>, method: Method) -> Result<Response, SendError> {
        let guard = InFlightGuard::begin(self);
        loop {
            let idle = self.take_idle();
            let is_used = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => Box::pin(WorkerConnection::open(&self.listener)).await.map_err(SendError::NotSent)?,
            };
            match connection.call(wire, method).await {
                Ok((head, sent)) => return Ok(Response::new(head, connection, guard, sent)),
                Err(CallError::Unread) if is_used => {}
                Err(CallError::Unread) => {
                    return Err(SendError::NotSent(io::ErrorKind::ConnectionReset.into()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A connection for a request that is streamed.
    ///
    /// # Errors
    /// Most likely no process listens.
    pub async fn connect(self: &Arc<Self>) -> io::Result<(WorkerConnection, InFlightGuard)> {
        let guard = InFlightGuard::begin(self);
        Ok((WorkerConnection::open(&self.listener).await?, guard))
    }

    fn take_idle(&self) -> Option<WorkerConnection> {
        let now = deadline::now();
        loop {
            let idle = self.idle().pop()?;
            if now.saturating_duration_since(idle.since) < IDLE && idle.connection.is_usable() {
                return Some(idle.connection);
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(self: &Arc<Self>, connection: WorkerConnection) {
        if self.detach.is_cancelled() {
            return;
        }
        self.idle().push(Idle { connection, since: deadline::now() });
        if !self.is_swept.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().sweep());
        }
    }

    /// Drops connections that were idle too long, until none is idle.
    async fn sweep(self: Arc<Self>) {
        loop {
            let pause = Deadline::after(IDLE / 4);
            // Ends at once when the worker stops, so that no worker waits for an idle connection.
            let leaving = pause.wait(self.detach.cancelled()).await.is_ok();
            let now = deadline::now();
            let mut idle = self.idle();
            idle.retain(|idle| !leaving && now.saturating_duration_since(idle.since) < IDLE);
            if idle.is_empty() {
                self.is_swept.store(false, Ordering::Release);
                return;
            }
        }
    }
}

impl InFlightGuard {
    fn begin(up: &Arc<Live>) -> Self {
        up.in_flight.fetch_add(1, Ordering::AcqRel);
        Self(up.clone())
    }

    /// The response has been read to its end: its connection may be used again.
    pub fn give_back(&self, connection: WorkerConnection) {
        self.0.put(connection);
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.drained.notify_waiters();
        }
    }
}
