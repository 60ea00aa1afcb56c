//! Connections to a worker's port, made only to listeners that are proved to be the worker's (R-SUP-7).
//!
//! A server may be reloaded in place (`uvicorn --reload`, `nodemon`, `tsx watch`): the leader lives, and another process
//! listens. That is noticed here, when a connection is made or refused.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcpd_common::check::listener::{self, Listener, ListenerOwner, ProvenListener};
use mcpd_common::ids::Port;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::deadline;
use crate::listening_sockets::{Pace, listening_sockets};

/// How often a listener that changes while it is connected to is examined again.
const MAX_TRIES: usize = 3;

/// The port that one process of a worker was given.
pub struct WorkerListener {
    port: Port,
    owner: ListenerOwner,
    proven: Mutex<Option<ProvenListener>>,
    /// What was proven last, until nothing listens or another process does.
    served: Mutex<Option<ProvenListener>>,
    /// How often the serving process was replaced.
    replaced: watch::Sender<u32>,
    /// It was replaced, and only the leader has been seen with the socket since.
    is_successor_unknown: AtomicBool,
}

/// Why there is no connection to a worker.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("nothing listens on {0} yet")]
    NotListening(Port),
    /// The text names the other process.
    #[error("{0}")]
    Foreign(String),
    #[error("can't find out which process listens on {port}: {source}")]
    Unknown { port: Port, source: io::Error },
    #[error("{address}: {source}")]
    Refused { address: SocketAddr, source: io::Error },
}

impl WorkerListener {
    pub fn new(port: Port, owner: ListenerOwner) -> Arc<Self> {
        let (proven, served) = (Mutex::default(), Mutex::default());
        let (replaced, is_successor_unknown) = (watch::Sender::new(0), AtomicBool::new(false));
        Arc::new(Self { port, owner, proven, served, replaced, is_successor_unknown })
    }

    /// Changes when the process that served is gone although the worker lives.
    pub fn replacements(&self) -> watch::Receiver<u32> {
        self.replaced.subscribe()
    }

    pub fn port(&self) -> Port {
        self.port
    }

    /// Connects to the worker. The listener is compared after the connection was made, so that a process that
    /// takes the port in between gets no byte.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(self: &Arc<Self>) -> Result<TcpStream, ConnectError> {
        self.connect_at(Pace::AtOnce).await
    }

    /// The same for a probe, which may take a moment longer: the probes of all workers begin together.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_to_probe(self: &Arc<Self>) -> Result<TcpStream, ConnectError> {
        // Connections to a socket that only the leader still holds wait: nothing is refused.
        if self.proven().is_some_and(|proven| proven.has_lost_a_holder(&self.owner)) {
            self.prove().await?;
        }
        self.connect_at(Pace::Together).await
    }

    /// Looks which processes serve: a replacement is noticed at once.
    pub async fn examine(self: &Arc<Self>) {
        // What is wrong with it the next probe tells.
        let _ = self.prove().await;
    }

    /// Whether the serving process was replaced by one that has not been seen.
    pub fn has_unknown_successor(&self) -> bool {
        self.is_successor_unknown.load(Ordering::Relaxed)
    }

    /// Looks for the process that serves after a replacement, so that its own is noticed as well.
    pub async fn look_for_successor(self: Arc<Self>) {
        const PAUSE: Duration = Duration::from_millis(250);
        const TRIES: u32 = 240;
        for _ in 0..TRIES {
            deadline::until(deadline::now() + PAUSE).await;
            self.examine().await;
            if !self.has_unknown_successor() {
                return;
            }
        }
    }

    async fn connect_at(self: &Arc<Self>, pace: Pace) -> Result<TcpStream, ConnectError> {
        for _ in 0..MAX_TRIES {
            let proven = match self.proven() {
                Some(proven) => proven,
                None => self.prove().await?,
            };
            let connected = self.connect_to(&proven).await;
            let (stream, address) = connected.inspect_err(|_| self.is_served_by(None))?;
            let listening = listening_sockets(pace).await.map_err(|source| self.unknown(source))?;
            if proven.is_unchanged(address, &listening) {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            self.forget();
        }
        Err(self.unknown(io::Error::other("it changes all the time")))
    }

    /// The addresses on which the worker listens instead of its port.
    pub async fn other_addresses(self: &Arc<Self>) -> Vec<SocketAddr> {
        let this = self.clone();
        // Reads the descriptors of all processes, which takes some milliseconds.
        let scan = tokio::task::spawn_blocking(move || listener::addresses_of(&this.owner));
        let mut found = scan.await.ok().and_then(Result::ok).unwrap_or_default();
        found.retain(|address| address.port() != self.port.get());
        found
    }

    async fn connect_to(&self, proven: &ProvenListener) -> Result<(TcpStream, SocketAddr), ConnectError> {
        let mut failure = ConnectError::NotListening(self.port);
        for address in proven.addresses() {
            let address = SocketAddr::new(address, self.port.get());
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok((stream, address)),
                Err(source) => failure = ConnectError::Refused { address, source },
            }
        }
        Err(failure)
    }

    async fn prove(self: &Arc<Self>) -> Result<ProvenListener, ConnectError> {
        let this = self.clone();
        let examined = tokio::task::spawn_blocking(move || {
            crate::fault::hang_in("listener");
            listener::examine(this.port, &this.owner)
        });
        let found = examined.await.map_err(io::Error::other).and_then(|result| result);
        match found.map_err(|source| self.unknown(source))? {
            Listener::Own(proven) => {
                self.is_served_by(Some(&proven));
                *self.lock() = Some(proven.clone());
                Ok(proven)
            }
            Listener::Foreign(holder) => Err(ConnectError::Foreign(holder)),
            Listener::None => {
                self.is_served_by(None);
                Err(ConnectError::NotListening(self.port))
            }
        }
    }

    fn is_served_by(&self, now: Option<&ProvenListener>) {
        self.forget();
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *served, now.cloned());
        let is_known = now.is_some_and(|now| now.is_held_by_others(&self.owner));
        let was_replaced = before.is_some_and(|before| now.is_none_or(|now| before.was_replaced_by(now)));
        if is_known || was_replaced {
            self.is_successor_unknown.store(!is_known, Ordering::Relaxed);
        }
        if was_replaced {
            self.replaced.send_modify(|count| *count += 1);
        }
    }

    fn unknown(&self, source: io::Error) -> ConnectError {
        ConnectError::Unknown { port: self.port, source }
    }

    fn proven(&self) -> Option<ProvenListener> {
        self.lock().clone()
    }

    fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ProvenListener>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
