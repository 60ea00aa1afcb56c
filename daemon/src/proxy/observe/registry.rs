//! The registry of client connections to the proxy (R-CLIENT-2).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use jiff::Timestamp;
use mcpd_common::ids::WorkerName;
use tokio::time::Instant;

use super::socket_table::Endpoints;
use crate::deadline;

#[derive(Clone, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    last: AtomicU64,
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// Told when there is a connection again.
    first: tokio::sync::Notify,
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
    due: Mutex<Option<Instant>>,
    has_changed: AtomicBool,
    task: AtomicWaker,
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
            due: Mutex::default(),
            has_changed: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        let mut connections = self.connections();
        if connections.is_empty() {
            self.0.first.notify_one();
        }
        connections.insert(connection.id, connection.clone());
        drop(connections);
        Entry { registry: self.clone(), connection }
    }

    /// All connections, oldest first.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.connections().values().cloned().collect()
    }

    /// Something changed that may concern any connection: each one looks what it is.
    pub fn wake_all(&self) {
        self.connections().values().for_each(|connection| connection.wake());
    }

    /// Once a second, while there are connections: wakes those whose deadline has passed. One timer serves all, because
    /// nearly all deadlines are replaced before they pass.
    pub async fn watch_deadlines(self) {
        const SECOND: Duration = Duration::from_secs(1);
        loop {
            if self.connections().is_empty() {
                self.0.first.notified().await;
            }
            deadline::until(deadline::now() + SECOND).await;
            let now = deadline::now();
            let connections = self.connections();
            connections.values().filter(|it| it.is_due(now)).for_each(|it| it.wake());
        }
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

    /// Its task wakes up to a second after `limit`, unless this is called again.
    pub fn set_limit(&self, limit: Option<Duration>) {
        *self.due() = limit.map(|limit| deadline::now() + limit);
    }

    /// Whether its deadline has passed.
    pub fn is_overdue(&self) -> bool {
        self.due().is_some_and(|due| due <= deadline::now())
    }

    /// Completes when something may have changed since the last time: the phase, the worker, or a deadline passed. The
    /// task that serves the connection looks what it is before it waits again.
    pub async fn changed(&self) {
        poll_fn(|context| {
            self.task.register(context.waker());
            if self.has_changed.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn wake(&self) {
        self.has_changed.store(true, Ordering::Release);
        self.task.wake();
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    fn due(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
