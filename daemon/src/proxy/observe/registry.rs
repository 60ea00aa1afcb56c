//! The registry of client connections to the proxy (R-CLIENT-2).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use mcpd_common::ids::WorkerName;

use super::socket_table::Endpoints;

#[derive(Clone, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    last: AtomicU64,
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
}

#[derive(Debug)]
pub struct Connection {
    pub id: u64,
    pub worker: WorkerName,
    pub endpoints: Endpoints,
    pub since: Timestamp,
    /// Requests received on it.
    pub requests: AtomicU64,
    /// Open event streams.
    pub streams: AtomicU32,
    session: Mutex<Option<String>>,
}

/// Removes the connection from the registry when it is closed.
pub struct Entry {
    registry: Registry,
    pub connection: Arc<Connection>,
}

impl Registry {
    /// Registers a new connection.
    pub fn enter(&self, worker: &WorkerName, endpoints: Endpoints) -> Entry {
        let connection = Arc::new(Connection {
            id: self.0.last.fetch_add(1, Ordering::Relaxed) + 1,
            worker: worker.clone(),
            endpoints,
            since: Timestamp::now(),
            requests: AtomicU64::new(0),
            streams: AtomicU32::new(0),
            session: Mutex::default(),
        });
        self.connections().insert(connection.id, connection.clone());
        Entry { registry: self.clone(), connection }
    }

    /// All connections, oldest first.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.connections().values().cloned().collect()
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts an event stream as open until it is dropped.
pub struct OpenStream(Arc<Connection>);

impl OpenStream {
    pub fn new(connection: Arc<Connection>) -> Self {
        connection.streams.fetch_add(1, Ordering::Relaxed);
        Self(connection)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.connections().remove(&self.connection.id);
    }
}

impl Connection {
    /// The MCP session that was last used on it.
    pub fn session(&self) -> Option<String> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that a request of this session was received.
    pub fn used_by(&self, session: &str) {
        let mut known = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != Some(session) {
            *known = Some(session.to_owned());
        }
    }
}
