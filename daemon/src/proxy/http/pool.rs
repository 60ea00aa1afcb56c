//! The connections to a worker's private port that no request uses at the moment.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::request::Method;
use super::worker_connection::{CallError, Response, Wire, WorkerConnection};
use super::worker_host::WorkerHost;
use crate::deadline::Deadline;
use crate::proxy::upstream::{InFlightGuard, SendError};
use crate::worker_listener::WorkerListener;

/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(1);
/// The sweep that drops an idle connection: before the servers' own limit of 5 s.
const LAST_SWEEP: u32 = 4;

pub struct Pool {
    listener: Arc<WorkerListener>,
    worker_host: Arc<WorkerHost>,
    idle: Mutex<Vec<Idle>>,
    is_swept: AtomicBool,
    /// Cancelled when the worker is about to stop.
    detach: CancellationToken,
}

struct Idle {
    connection: WorkerConnection,
    /// Since it is idle.
    sweeps: u32,
}

impl Pool {
    pub fn new(
        listener: Arc<WorkerListener>,
        detach: CancellationToken,
        worker_host: Arc<WorkerHost>,
    ) -> Arc<Self> {
        Arc::new(Self {
            listener,
            worker_host,
            idle: Mutex::default(),
            is_swept: AtomicBool::new(false),
            detach,
        })
    }

    /// The worker's own address, as `Host` names it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.listener.port())
    }

    /// The same, if the worker gets it instead of the client's.
    pub fn own_host(&self) -> Option<String> {
        self.worker_host.is_own().then(|| self.host())
    }

    /// Sends a request. Its connection is used again when the response has been read.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn call<'a>(
        self: &Arc<Self>,
        wire: impl Fn() -> Wire<'a>,
        method: Method,
        guard: InFlightGuard,
    ) -> Result<Response, SendError> {
        loop {
            let idle = self.take_idle();
            let is_used = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => Box::pin(self.connect()).await.map_err(SendError::NotSent)?,
            };
            match connection.call(wire(), method).await {
                Ok((head, sent)) => {
                    // The process that has just responded is alive.
                    if self.listener.has_unknown_successor() {
                        Box::pin(self.listener.examine()).await;
                    }
                    return Ok(Response::new(head, connection, (self.clone(), guard), sent));
                }
                Err(CallError::Unread) if is_used => {}
                Err(CallError::Unread) => {
                    return Err(SendError::NotSent(io::ErrorKind::ConnectionReset.into()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A new connection.
    ///
    /// # Errors
    /// Most likely no process listens.
    pub async fn connect(&self) -> io::Result<WorkerConnection> {
        WorkerConnection::open(&self.listener).await
    }

    /// Looks whether the same process still listens.
    pub async fn examine(&self) {
        self.listener.examine().await;
    }

    fn take_idle(&self) -> Option<WorkerConnection> {
        loop {
            let connection = self.idle().pop()?.connection;
            if connection.is_usable() {
                return Some(connection);
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A response has been read to its end: its connection may be used again.
    pub fn put(self: &Arc<Self>, connection: WorkerConnection) {
        if self.detach.is_cancelled() {
            return;
        }
        self.idle().push(Idle { connection, sweeps: 0 });
        if !self.is_swept.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().sweep());
        }
    }

    /// Drops connections that were idle too long, until none is idle.
    async fn sweep(self: Arc<Self>) {
        loop {
            let pause = Deadline::after(SWEEP);
            // Ends at once when the worker stops, so that no worker waits for an idle connection.
            let leaving = pause.wait(self.detach.cancelled()).await.is_ok();
            let mut idle = self.idle();
            idle.iter_mut().for_each(|idle| idle.sweeps += 1);
            idle.retain(|idle| !leaving && idle.sweeps < LAST_SWEEP);
            if idle.is_empty() {
                self.is_swept.store(false, Ordering::Release);
                return;
            }
        }
    }
}
