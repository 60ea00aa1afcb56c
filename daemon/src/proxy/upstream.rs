//! The worker behind a listener, as published by the supervisor.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::http::pool::Pool;
use super::http::request::Request;
use super::http::worker_connection::{CallError, Response, Wire, WorkerBody, WorkerConnection};
use super::http::worker_host::WorkerHost;
use super::mcp::session::Epoch;
use super::mcp::sessions::SharedSession;
use super::stdio::own::Usage;
use super::stdio::server::{Lost, StdioServer};
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

impl From<Option<Live>> for Upstream {
    fn from(live: Option<Live>) -> Self {
        live.map_or(Self::Waiting { reason: None }, |live| Self::Live(Arc::new(live)))
    }
}

pub type Publisher = watch::Sender<Upstream>;
pub type Watcher = watch::Receiver<Upstream>;

/// One process of a worker that is ready.
pub struct Live {
    pub epoch: Epoch,
    /// Counts the processes that the supervisor started for the worker.
    pub process: u32,
    /// Cancelled when it is about to stop, or has exited: long-lived streams detach.
    pub detach: CancellationToken,
    /// Of a process that serves one session.
    pub usage: Option<Usage>,
    server: Server,
    in_flight: AtomicUsize,
    drained: Notify,
}

/// How the process is reached.
enum Server {
    Http(Arc<Pool>),
    Stdio(Arc<StdioServer>),
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

impl SendError {
    fn of_stdio(lost: Lost) -> Self {
        match lost {
            Lost::NotSent => Self::NotSent(io::ErrorKind::BrokenPipe.into()),
            Lost::Unanswered => Self::Call(CallError::Broken(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// Counts a request as in flight until it is dropped.
pub struct InFlightGuard(Arc<Live>);

impl Live {
    pub fn http(
        epoch: Epoch,
        process: u32,
        listener: Arc<WorkerListener>,
        worker_host: Arc<WorkerHost>,
    ) -> Self {
        let detach = CancellationToken::new();
        let pool = Pool::new(listener, detach.clone(), worker_host);
        Self::new(epoch, process, detach, Server::Http(pool), None)
    }

    pub fn stdio(epoch: Epoch, process: u32, server: Arc<StdioServer>) -> Self {
        Self::new(epoch, process, CancellationToken::new(), Server::Stdio(server), None)
    }

    /// A process that serves one session.
    pub fn of_session(epoch: Epoch, process: u32, server: Arc<StdioServer>, usage: Usage) -> Self {
        Self::new(epoch, process, CancellationToken::new(), Server::Stdio(server), Some(usage))
    }

    fn new(
        epoch: Epoch,
        process: u32,
        detach: CancellationToken,
        server: Server,
        usage: Option<Usage>,
    ) -> Self {
        let (in_flight, drained) = (AtomicUsize::new(0), Notify::new());
        Self { epoch, process, detach, usage, server, in_flight, drained }
    }

    /// Requests whose responses have not been read to their end.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Since when its session has not used it; `None` while a request is in flight.
    pub fn idle_since(&self) -> Option<Instant> {
        self.usage.as_ref().filter(|_| self.in_flight() == 0)?.idle_since()
    }

    /// Counts as a request in flight until it is dropped.
    pub fn keep_busy(self: &Arc<Self>) -> InFlightGuard {
        InFlightGuard::begin(self)
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

    /// The worker's own address, as `Host` names it; for a server that speaks stdio any name will do.
    pub fn host(&self) -> String {
        match &self.server {
            Server::Http(pool) => pool.host(),
            Server::Stdio(_) => "localhost".to_owned(),
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
        match &self.server {
            Server::Http(pool) => {
                let host = pool.own_host();
                pool.call(|| Wire::of(request, session, host.as_deref()), request.head.method, guard).await
            }
            Server::Stdio(server) => {
                let kept = session.map(|session| session.lock().worker_id.clone());
                let responded =
                    server.respond(request, kept.as_deref().or(request.head.session.as_deref())).await;
                let (head, body) = responded.map_err(SendError::of_stdio)?;
                Ok(Response::of(head, WorkerBody::Stdio { body, _guard: guard }))
            }
        }
    }

    /// Looks whether the same process still serves; if not, streams detach from it.
    pub async fn examine(&self) {
        match &self.server {
            Server::Http(pool) => pool.examine().await,
            Server::Stdio(_) => {}
        }
    }

    /// The worker's own host, if it gets that instead of the client's.
    pub fn own_host(&self) -> Option<String> {
        match &self.server {
            Server::Http(pool) => pool.own_host(),
            Server::Stdio(_) => None,
        }
    }

    /// A connection for a request that is streamed.
    ///
    /// # Errors
    /// Most likely no process listens; or the worker speaks no HTTP.
    pub async fn connect(self: &Arc<Self>) -> io::Result<(WorkerConnection, Lease)> {
        let guard = InFlightGuard::begin(self);
        match &self.server {
            Server::Http(pool) => Ok((pool.connect().await?, (pool.clone(), guard))),
            Server::Stdio(_) => Err(io::ErrorKind::Unsupported.into()),
        }
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
            self.0.usage.as_ref().inspect(|usage| usage.rests());
        }
    }
}
