//! Ends the sessions of clients that have exited without a word (R-CLIENT-9): the worker would keep them for ever.
//!
//! It sleeps while no connection uses another session and no process of a client exits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use mcpd_common::ids::WorkerName;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::client_process::{ClientProcess, Notice};
use super::departures::{Departures, SessionKey, Usage};
use super::registry::{Connection, Registry};
use super::socket_table::{self, Endpoints};
use crate::deadline::{self, Deadline};
use crate::proxy::http::request::{Request, RequestHead};
use crate::proxy::listener::{Listener, ProxyPhase};
use crate::proxy::mcp::sessions::SharedSession;
use crate::proxy::upstream::{Live, Upstream};

/// Least time between two passes over all connections.
const PASS_INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two lookups of the processes of clients, which read all processes of the machine.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(2);
/// A connection that is closed sooner is most likely of a command that sends one message (`curl`): the next command goes on
/// with its session.
const LOOKUP_AGE: Duration = Duration::from_secs(1);
/// Processes whose exit is noticed by a descriptor; that of others is looked for.
const MAX_DESCRIPTORS: usize = 256;
/// Limit for the response to `DELETE`.
const ANSWER: Duration = Duration::from_secs(5);
/// Sessions that are ended at the same time.
const AT_ONCE: usize = 8;

pub struct ClientWatch {
    listeners: HashMap<WorkerName, Arc<Listener>>,
    registry: Registry,
    /// For lookups, which block.
    runtime: Handle,
    departures: Departures,
    exits: JoinSet<ClientProcess>,
    watched: HashMap<ClientProcess, AbortHandle>,
    next_lookup: Instant,
}

impl ClientWatch {
    pub fn new(listeners: Vec<Arc<Listener>>, registry: Registry, runtime: Handle) -> Self {
        Self {
            listeners: listeners.into_iter().map(|listener| (listener.name.clone(), listener)).collect(),
            registry,
            runtime,
            departures: Departures::default(),
            exits: JoinSet::new(),
            watched: HashMap::new(),
            next_lookup: deadline::now(),
        }
    }

    /// Until the proxy pauses or shuts down: the next daemon keeps the sessions, or the workers end.
    pub async fn run(mut self, mut phase: watch::Receiver<ProxyPhase>) {
        tokio::select! {
            _ = phase.wait_for(|phase| *phase != ProxyPhase::Open) => {}
            () = self.watch() => {}
        }
    }

    async fn watch(&mut self) {
        let mut next = None;
        loop {
            tokio::select! {
                () = self.registry.use_changed() => {}
                Some(exited) = self.exits.join_next() => self.note_exit(exited.ok()),
                () = deadline::until_some(next) => {}
            }
            while let Some(exited) = self.exits.try_join_next() {
                self.note_exit(exited.ok());
            }
            next = self.pass().await;
            deadline::until(deadline::now() + PASS_INTERVAL).await;
        }
    }

    fn note_exit(&mut self, exited: Option<ClientProcess>) {
        if let Some(process) = exited {
            self.departures.exited(process, deadline::now());
            self.watched.remove(&process);
        }
    }

    /// Returns when the next one is due.
    async fn pass(&mut self) -> Option<Instant> {
        let mut connections = self.registry.all();
        connections.retain(|connection| self.listeners.contains_key(&connection.worker));
        let lookup = self.look_up(&connections).await;
        let open = self.note_users(&connections);
        let usage = |session: &SessionKey| {
            let (_, last_used) = self.listeners[&session.worker].sessions.look_at(&session.id)?;
            Some(Usage { last_used, is_connected: open.contains(session) })
        };
        let (abandoned, check) = self.departures.take_abandoned(deadline::now(), usage);
        self.watch_processes();
        let listeners = &self.listeners;
        let end = |session: SessionKey| async move { end(&listeners[&session.worker], &session.id).await };
        stream::iter(abandoned).for_each_concurrent(AT_ONCE, end).await;
        lookup.into_iter().chain(check).min()
    }

    /// Finds the processes of connections that have used a session. Returns when the next lookup is due.
    async fn look_up(&mut self, connections: &[Arc<Connection>]) -> Option<Instant> {
        let uses_session = |connection: &Connection| {
            let sessions = &self.listeners[&connection.worker].sessions;
            connection.sessions().iter().any(|id| sessions.look_at(id).is_some())
        };
        let is_unknown = |connection: &&Arc<Connection>| connection.owners.get().is_none();
        let mut unknown: Vec<_> = connections.iter().filter(is_unknown).collect();
        unknown.retain(|connection| uses_session(connection));
        let due =
            unknown.iter().map(|connection| connection.opened + LOOKUP_AGE).min()?.max(self.next_lookup);
        let now = deadline::now();
        if due > now {
            return Some(due);
        }
        self.next_lookup = now + LOOKUP_INTERVAL;
        let (old, young): (Vec<_>, Vec<_>) =
            unknown.into_iter().partition(|connection| connection.opened + LOOKUP_AGE <= now);
        let endpoints = old.iter().map(|connection| connection.endpoints).collect();
        if let Ok(found) = self.runtime.spawn_blocking(move || owners(endpoints)).await {
            for connection in old {
                let owners = found.get(&connection.endpoints).cloned().unwrap_or_default();
                let _ = connection.owners.set(owners);
            }
        }
        young.first().map(|_| self.next_lookup)
    }

    /// Returns the sessions with an open connection.
    fn note_users(&mut self, connections: &[Arc<Connection>]) -> HashSet<SessionKey> {
        let mut open = HashSet::new();
        for connection in connections {
            for id in connection.sessions() {
                let session = SessionKey { worker: connection.worker.clone(), id };
                for owner in connection.owners.get().into_iter().flatten() {
                    self.departures.used(session.clone(), *owner);
                }
                open.insert(session);
            }
        }
        open
    }

    fn watch_processes(&mut self) {
        let running = self.departures.running();
        self.watched.extract_if(|process, _| !running.contains(process)).for_each(|(_, watch)| watch.abort());
        for process in running {
            let notice =
                if self.watched.len() < MAX_DESCRIPTORS { Notice::Descriptor } else { Notice::Interval };
            let exits = &mut self.exits;
            self.watched.entry(process).or_insert_with(|| {
                exits.spawn(async move {
                    process.exit(notice).await;
                    process
                })
            });
        }
    }
}

fn owners(endpoints: Vec<Endpoints>) -> HashMap<Endpoints, Vec<ClientProcess>> {
    let owners = socket_table::owners_at(&endpoints).into_iter();
    owners.map(|(at, pids)| (at, pids.into_iter().filter_map(ClientProcess::of).collect())).collect()
}

/// Ends a session at its worker. If the worker refuses (mcpd keeps no credentials), it stays.
async fn end(listener: &Listener, id: &str) {
    let Some((session, last_used)) = listener.sessions.look_at(id) else { return };
    let up = match &*listener.upstream.borrow() {
        Upstream::Live(up) => Some(up.clone()),
        Upstream::Waiting { .. } | Upstream::Down(_) => None,
    };
    // A worker that has exited has no sessions.
    let has_session = |up: &Arc<Live>| up.epoch == session.lock().epoch;
    let is_ended = match up.filter(has_session) {
        Some(up) => Deadline::after(ANSWER).wait(delete(listener, &up, &session)).await.unwrap_or(false),
        None => true,
    };
    // A request that used it meanwhile has it replayed.
    if is_ended && listener.sessions.forget_if_unused_since(id, last_used) {
        listener.ended_sessions.fetch_add(1, Ordering::Relaxed);
        tracing::info!(worker = %listener.name, "ended the session of a client that has exited");
    }
}

/// Whether the worker has the session no longer.
async fn delete(listener: &Listener, up: &Arc<Live>, session: &SharedSession) -> bool {
    const NOT_FOUND: u16 = 404;
    let head = {
        let session = session.lock();
        RequestHead::to_end_session(&session.path, &up.host(), session.version())
    };
    let request = Request::of_mcpd(head, vec![]);
    let Ok(mut response) = up.call(&request, Some(session)).await else { return false };
    let is_gone = response.head.is_success() || response.head.status == NOT_FOUND;
    if !is_gone {
        let status = response.head.status;
        tracing::info!(worker = %listener.name, status, "the worker keeps the session of a client that has exited");
    }
    // Read, so that the connection can be used again.
    let _ = response.read_whole(&listener.budget).await;
    is_gone
}
