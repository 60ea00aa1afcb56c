//! The registry of client connections to the proxy (R-CLIENT-2).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use jiff::Timestamp;
use mcpd_common::ids::WorkerName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::client_process::ClientProcess;
use super::socket_table::Endpoints;
use crate::deadline;

const NO_LIMIT: u32 = u32::MAX;
/// Sessions that are remembered for one connection; nearly all have one.
const MAX_SESSIONS: usize = 16;

#[derive(Clone, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    last: AtomicU64,
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// Told when there is a connection again.
    first: Notify,
    /// Told when a connection used another session, or one that used a session is closed.
    use_changed: Arc<Notify>,
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
    /// When it was accepted, on the clock of the deadlines.
    pub opened: Instant,
    /// The client's processes that have the socket, once they were looked up; empty if they are not readable.
    pub owners: OnceLock<Vec<ClientProcess>>,
    /// The sessions that were used on it, the last one last.
    sessions: Mutex<Vec<String>>,
    use_changed: Arc<Notify>,
    /// Seconds until its time limit; 0 after it, or [`NO_LIMIT`].
    seconds_left: AtomicU32,
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
            opened: deadline::now(),
            owners: OnceLock::new(),
            sessions: Mutex::default(),
            use_changed: self.0.use_changed.clone(),
            seconds_left: AtomicU32::new(NO_LIMIT),
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

    /// Completes when a connection has used another session, or one that used a session was closed.
    pub async fn use_changed(&self) {
        self.0.use_changed.notified().await;
    }

    /// Something changed that may concern any connection: each one looks what it is.
    pub fn wake_all(&self) {
        self.connections().values().for_each(|connection| connection.wake());
    }

    /// Once a second, while there are connections: wakes those whose time limit has passed. One timer serves all, and no
    /// request reads the clock, because nearly all limits are replaced before they pass.
    pub async fn watch_limits(self) {
        const SECOND: Duration = Duration::from_secs(1);
        loop {
            if self.connections().is_empty() {
                self.0.first.notified().await;
            }
            deadline::until(deadline::now() + SECOND).await;
            self.connections().values().for_each(|connection| connection.count_second());
        }
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
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
        if !self.connection.lock_sessions().is_empty() {
            self.registry.0.use_changed.notify_one();
        }
    }
}

impl Connection {
    /// The MCP session that was last used on it.
    pub fn session(&self) -> Option<String> {
        self.lock_sessions().last().cloned()
    }

    /// The MCP sessions that were used on it, as far as they are remembered.
    pub fn sessions(&self) -> Vec<String> {
        self.lock_sessions().clone()
    }

    /// Records that a request of this session was received.
    pub fn used_by(&self, session: &str) {
        let mut known = self.lock_sessions();
        if known.last().is_some_and(|last| last == session) {
            return;
        }
        known.retain(|other| other != session);
        if known.len() >= MAX_SESSIONS {
            known.remove(0);
        }
        known.push(session.to_owned());
        self.use_changed.notify_one();
    }

    fn lock_sessions(&self) -> MutexGuard<'_, Vec<String>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its task wakes up to a second after this number of seconds, unless this or [`Self::lift_limit`] is called before.
    pub fn set_limit(&self, seconds: u32) {
        // The second that is running may be nearly over.
        self.seconds_left.store(seconds + 1, Ordering::Relaxed);
    }

    pub fn lift_limit(&self) {
        self.seconds_left.store(NO_LIMIT, Ordering::Relaxed);
    }

    /// Whether its time limit has passed.
    pub fn is_overdue(&self) -> bool {
        self.seconds_left.load(Ordering::Relaxed) == 0
    }

    fn count_second(&self) {
        let count = |left| (left != NO_LIMIT).then(|| u32::saturating_sub(left, 1));
        let before = self.seconds_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        if matches!(before, Ok(0 | 1)) {
            self.wake();
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(registry: &Registry) -> Entry {
        let address = "127.0.0.1:8081".parse().expect("an address");
        let endpoints = Endpoints { client: address, server: address };
        registry.enter(&"docs".parse().expect("a name"), endpoints)
    }

    /// R-CLIENT-9: a connection may serve several sessions.
    #[tokio::test]
    async fn a_connection_remembers_its_sessions_and_says_when_they_change() {
        let registry = Registry::default();
        let entry = connection(&registry);
        let at_once = || crate::deadline::Deadline::after(Duration::ZERO);
        for (session, is_new) in [("a", true), ("a", false), ("b", true), ("a", true)] {
            entry.connection.used_by(session);
            assert_eq!(at_once().wait(registry.use_changed()).await.is_ok(), is_new, "{session}");
        }
        assert_eq!(entry.connection.sessions(), ["b", "a"]);
        assert_eq!(entry.connection.session().as_deref(), Some("a"));
        (0..2 * MAX_SESSIONS).for_each(|number| entry.connection.used_by(&number.to_string()));
        assert_eq!(entry.connection.sessions().len(), MAX_SESSIONS);
        drop(entry);
        assert!(at_once().wait(registry.use_changed()).await.is_ok());
        drop(connection(&registry));
        assert!(at_once().wait(registry.use_changed()).await.is_err(), "it used no session");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_wakes_within_a_second_after_its_limit() {
        let registry = Registry::default();
        let entry = connection(&registry);
        tokio::spawn(registry.clone().watch_limits());
        for wait_ms in [0, 300, 999] {
            deadline::until(deadline::now() + Duration::from_millis(wait_ms)).await;
            let began = deadline::now();
            entry.connection.set_limit(10);
            entry.connection.changed().await;
            assert!(entry.connection.is_overdue());
            let took = deadline::now() - began;
            assert!((10_000..=11_010).contains(&took.as_millis()), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_lifted_or_set_again_does_not_pass() {
        let registry = Registry::default();
        let (lifted, repeated) = (connection(&registry), connection(&registry));
        tokio::spawn(registry.clone().watch_limits());
        lifted.connection.set_limit(1);
        lifted.connection.lift_limit();
        for _ in 0..100 {
            repeated.connection.set_limit(2);
            deadline::until(deadline::now() + Duration::from_millis(1500)).await;
        }
        assert!(!lifted.connection.is_overdue() && !repeated.connection.is_overdue());
        let changed = crate::deadline::Deadline::after(Duration::from_millis(400));
        assert!(changed.wait(lifted.connection.changed()).await.is_err());
    }
}
