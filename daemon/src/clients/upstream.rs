//! The worker behind a door, as the supervisor tells it, and the connections to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mcpd_common::ids::Port;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::session::Epoch;
use crate::deadline::{self, Deadline};

/// Whatever a body may fail with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A body in either direction.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Idle connections are dropped before the servers' own limit of 5 s.
const IDLE: Duration = Duration::from_secs(4);

/// A body that is there already.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// What is behind a door.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// Nobody yet, or nobody at the moment: requests wait.
    Waiting,
    /// A worker that answers.
    Up(Arc<Up>),
    /// Nobody, and nobody will come by itself.
    Away(String),
}

/// The supervisor's end.
pub type Publisher = watch::Sender<Upstream>;
/// The door's end.
pub type Watcher = watch::Receiver<Upstream>;

/// One life of a worker.
#[derive(Debug)]
pub struct Up {
    /// Which one.
    pub epoch: Epoch,
    /// It is about to leave, or has left: long-lived streams let go of it.
    pub detach: CancellationToken,
    port: Port,
    idle: Mutex<Vec<Idle>>,
    is_swept: AtomicBool,
    in_flight: AtomicUsize,
    drained: Notify,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing was sent: it may be tried again, with this request.
    #[error("no connection to the worker: {1}")]
    NotSent(Box<Request<Body>>, std::io::Error),
    /// It was sent, and the connection broke.
    #[error("the connection to the worker broke: {0}")]
    Broken(#[from] hyper::Error),
}

/// A connection that answers one request.
pub struct Lease {
    sender: Option<SendRequest<Body>>,
    flight: Flight,
}

/// Counts a request as being in flight, as long as it lives.
struct Flight(Arc<Up>);

impl Up {
    /// A worker that listens on this private port.
    pub fn new(epoch: Epoch, port: Port) -> Self {
        let detach = CancellationToken::new();
        let (idle, is_swept) = (Mutex::default(), AtomicBool::new(false));
        let (in_flight, drained) = (AtomicUsize::new(0), Notify::new());
        Self { epoch, detach, port, idle, is_swept, in_flight, drained }
    }

    /// Requests whose answers have not been read to their end.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Completes when none is in flight.
    pub async fn drained(&self) {
        loop {
            // Listened to before it is looked at, so that no end is missed in between.
            let mut drained = std::pin::pin!(self.drained.notified());
            drained.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            drained.await;
        }
    }

    /// Sends a request; the lease is given back when its answer has been read.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(
        self: &Arc<Self>,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let flight = Flight::begin(self);
        let mut sender = match self.connection().await {
            Ok(sender) => sender,
            Err(error) => return Err(SendError::NotSent(Box::new(request), error)),
        };
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, Lease { sender: Some(sender), flight })),
            Err(mut failed) => match failed.take_message() {
                // The worker closed an idle connection in this very moment: nothing was sent.
                Some(request) => {
                    Err(SendError::NotSent(Box::new(request), std::io::ErrorKind::ConnectionReset.into()))
                }
                None => Err(SendError::Broken(failed.into_error())),
            },
        }
    }

    async fn connection(self: &Arc<Self>) -> std::io::Result<SendRequest<Body>> {
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.get()))).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(async move {
            // How it ends is told by the request that was on it.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let idle = self.idle().pop()?;
        (deadline::now().saturating_duration_since(idle.since) < IDLE).then_some(idle.sender)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(self: &Arc<Self>, sender: SendRequest<Body>) {
        if self.detach.is_cancelled() || sender.is_closed() {
            return;
        }
        self.idle().push(Idle { sender, since: deadline::now() });
        if !self.is_swept.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().sweep());
        }
    }

    /// Drops what has been idle too long, until nothing is idle any more.
    async fn sweep(self: Arc<Self>) {
        loop {
            let pause = Deadline::after(IDLE / 4);
            // Ends at once when the worker leaves: no worker shall wait for an idle connection.
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

impl Lease {
    /// The answer has been read to its end: the connection may be used again.
    pub fn give_back(mut self) {
        if let Some(sender) = self.sender.take() {
            self.flight.0.put(sender);
        }
    }
}

impl Flight {
    fn begin(up: &Arc<Up>) -> Self {
        up.in_flight.fetch_add(1, Ordering::AcqRel);
        Self(up.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.drained.notify_waiters();
        }
    }
}
