//! Connections to a worker's port, made only to listeners that are proved to be the worker's (R-SUP-7).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use mcpd_common::check::listener::{self, Listener, ListenerOwner, ProvenListener};
use mcpd_common::ids::Port;
use tokio::net::TcpStream;

use crate::listening_sockets::{Pace, listening_sockets};

/// How often a listener that changes while it is connected to is examined again.
const MAX_TRIES: usize = 3;

/// The port that one process of a worker was given.
pub struct WorkerListener {
    port: Port,
    owner: ListenerOwner,
    proven: Mutex<Option<ProvenListener>>,
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
        Arc::new(Self { port, owner, proven: Mutex::default() })
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
        self.connect_at(Pace::Together).await
    }

    async fn connect_at(self: &Arc<Self>, pace: Pace) -> Result<TcpStream, ConnectError> {
        for _ in 0..MAX_TRIES {
            let proven = match self.proven() {
                Some(proven) => proven,
                None => self.prove().await?,
            };
            let (stream, address) = self.connect_to(&proven).await.inspect_err(|_| self.forget())?;
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
                *self.lock() = Some(proven.clone());
                Ok(proven)
            }
            Listener::Foreign(holder) => Err(ConnectError::Foreign(holder)),
            Listener::None => Err(ConnectError::NotListening(self.port)),
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
