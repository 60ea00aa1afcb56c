//! One listener: mcpd listens on a worker's client port and forwards (R-CLIENT-1).
//!
//! ```text
//!   accept -> serve (a task a connection) -> exchange (a request) -> upstream (connections to the worker)
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcpd_common::config::{SessionsPolicy, Transport, WorkerConfig};
use mcpd_common::ids::{Port, WorkerName};
use mcpd_common::journal::KeptSession;
use mcpd_common::os::socket::{self, PeerUser};
use mcpd_common::os::this_process;
use rustix::net::sockopt;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::budget::Budget;
use super::handle::SharedCondition;
use super::http::incoming::WHOLE;
use super::http::response::Next;
use super::http::serve::{TurnedAway, serve, turn_away};
use super::http::worker_host::WorkerHost;
use super::mcp::message::{INTERRUPTED, SHUTTING_DOWN};
use super::mcp::sessions::Sessions;
use super::observe::registry::Registry;
use super::observe::socket_table::Endpoints;
use super::stdio;
use super::stdio::own::SessionProcesses;
use super::upstream::{Live, Upstream, Watcher};
use crate::condition::Fate;
use crate::deadline::{self, Deadline};
use crate::host_check::Allowed;
use crate::journal::JournalHandle;
use crate::port_holder;

/// More connections than this to one worker get a 503.
const CONNECTIONS: usize = 1024;
/// Connections over the limit that get a 503; further ones are closed unread.
const TURNED_AWAY: usize = 64;
/// TCP keepalive of client connections, tcp(7): idle time, probes, interval. A client that vanished
/// silently, for instance because its `RST` was lost, must not keep its place for ever.
const QUIET: Duration = Duration::from_secs(60);
const PROBES: u32 = 3;
const BETWEEN_PROBES: Duration = Duration::from_secs(10);
/// Bytes that the kernel keeps for a client that does not read, which its connection inherits from the listener; Linux
/// doubles it (socket(7)). By itself it would keep 4 MiB.
const SEND_BUFFER: usize = 128 * 1024;
/// Between two attempts to accept when no descriptor is free.
const AGAIN: Duration = Duration::from_millis(500);

/// The phase of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyPhase {
    /// It forwards.
    Open,
    /// mcpd is about to replace itself: new connections are not accepted, so they wait
    /// in the listening socket's queue; requests in flight may finish.
    Pausing,
    /// mcpd shuts down: requests in flight may finish, new ones are answered by mcpd.
    ShuttingDown,
    /// Streams get the shutdown notice with this reason.
    Notify(String),
}

impl ProxyPhase {
    /// Whether new requests are answered by mcpd itself.
    pub fn is_shutting_down(&self) -> bool {
        matches!(self, Self::ShuttingDown | Self::Notify(_))
    }
}

/// What the connections of one listener share.
pub struct Listener {
    pub name: WorkerName,
    /// The port that clients use.
    pub port: Port,
    pub allowed: Allowed,
    /// Which `Host` the worker gets.
    pub worker_host: Arc<WorkerHost>,
    /// Whether programs of other users may connect.
    allows_other_users: bool,
    /// The worker's own route, which clients may not request.
    pub shutdown_path: Option<String>,
    /// How long a request is held until the worker is live.
    pub hold: Duration,
    pub upstream: Watcher,
    condition: SharedCondition,
    /// The result of the last `server/discover`, for clients that ask while no worker is live: with an error they would
    /// fall back to an earlier version of the protocol.
    pub discovered: Mutex<Option<Value>>,
    pub phase: watch::Receiver<ProxyPhase>,
    /// Sessions by the id that the client knows.
    pub sessions: Sessions,
    /// Whether sessions survive a restart of the worker.
    pub keeps_sessions: bool,
    /// Whether the worker speaks MCP on its standard input and output.
    pub is_stdio: bool,
    /// If each session has a process of its own.
    pub session_processes: Option<Arc<SessionProcesses>>,
    /// Streams that got the shutdown notice.
    pub notified: Arc<AtomicU32>,
    /// Sessions of clients that have exited, which mcpd ended.
    pub ended_sessions: Arc<AtomicU32>,
    /// Memory for messages that are kept whole.
    pub budget: Arc<Budget>,
    registry: Registry,
    places: Places,
    turned_away: Arc<Semaphore>,
    /// Closes all connections by force.
    pub forced: CancellationToken,
}

/// Bounds the connections of one listener, and those of all together.
struct Places {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Places {
    fn try_enter(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        Some([self.own.clone().try_acquire_owned().ok()?, self.all.clone().try_acquire_owned().ok()?])
    }
}

/// What all listeners share.
pub struct Shared {
    /// Bounds the connections of all clients, so that descriptors are left for everything else.
    pub places: Arc<Semaphore>,
    pub phase: watch::Receiver<ProxyPhase>,
    pub registry: Registry,
    pub budget: Arc<Budget>,
    pub notified: Arc<AtomicU32>,
    pub forced: CancellationToken,
    /// Closes the listeners.
    pub closed: CancellationToken,
    pub tasks: TaskTracker,
    /// Where sessions are kept.
    pub journal: JournalHandle,
    /// Sessions of the last daemon.
    pub kept: Vec<KeptSession>,
}

impl Listener {
    pub fn new(
        worker: &WorkerConfig,
        upstream: Watcher,
        condition: SharedCondition,
        session_processes: Option<Arc<SessionProcesses>>,
        shared: &Shared,
    ) -> Arc<Self> {
        let allowed =
            Allowed { hosts: worker.allowed_hosts.clone(), origins: worker.allowed_origins.clone() };
        Arc::new(Self {
            name: worker.name.clone(),
            port: worker.port,
            allowed,
            worker_host: Arc::new(WorkerHost::new(worker.host)),
            allows_other_users: worker.allow_other_users,
            shutdown_path: worker.shutdown_path.clone(),
            hold: worker.hold,
            upstream,
            condition,
            discovered: Mutex::default(),
            phase: shared.phase.clone(),
            sessions: Sessions::new(worker.name.clone(), shared.journal.clone(), &shared.kept),
            keeps_sessions: worker.sessions != SessionsPolicy::Forget,
            is_stdio: worker.transport == Transport::Stdio,
            session_processes,
            notified: shared.notified.clone(),
            ended_sessions: Arc::default(),
            budget: shared.budget.clone(),
            registry: shared.registry.clone(),
            places: Places { own: Arc::new(Semaphore::new(CONNECTIONS)), all: shared.places.clone() },
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            forced: shared.forced.clone(),
        })
    }

    /// Binds 127.0.0.1 and, if the machine has it, ::1.
    ///
    /// # Errors
    /// Names the holder of the port.
    pub fn bind(&self) -> Result<Vec<TcpListener>, String> {
        let number = self.port.get();
        let first = listen((Ipv4Addr::LOCALHOST, number).into());
        let second = listen((Ipv6Addr::LOCALHOST, number).into());
        match (first, second) {
            (Ok(first), Ok(second)) => Ok(vec![first, second]),
            // Without IPv6 the error is another one than "address in use".
            (Ok(first), Err(error)) if error.kind() != std::io::ErrorKind::AddrInUse => Ok(vec![first]),
            _ => Err(port_holder::sentence(self.port, &self.name)),
        }
    }

    /// Accepts connections until the listener is closed or pauses.
    pub async fn accept(
        self: Arc<Self>,
        listener: Arc<TcpListener>,
        closed: CancellationToken,
        tasks: TaskTracker,
    ) {
        let mut phase = self.phase.clone();
        let mut pausing = std::pin::pin!(phase.wait_for(|phase| *phase == ProxyPhase::Pausing));
        loop {
            let accepted = tokio::select! {
                biased;
                () = closed.cancelled() => return,
                _ = &mut pausing => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.clone().admit(stream, peer, &tasks),
                Err(error) => {
                    tracing::warn!(worker = %self.name, %error, "can't accept a client");
                    deadline::pause_after_accept_error(&error, AGAIN).await;
                }
            }
        }
    }

    fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, tasks: &TaskTracker) {
        // Without TCP_NODELAY a small event waits for the acknowledgement of the previous one.
        let _ = stream.set_nodelay(true);
        let here = SocketAddr::new(peer.ip(), self.port.get());
        let endpoints = Endpoints { client: peer, server: stream.local_addr().unwrap_or(here) };
        if !self.is_permitted(endpoints) {
            self.turn_away(stream, endpoints, TurnedAway::OtherUser, tasks);
        } else if let Some(places) = self.places.try_enter() {
            let entry = self.registry.enter(&self.name, endpoints);
            tasks.spawn(async move {
                serve(self, stream, entry).await;
                drop(places);
            });
        } else {
            self.turn_away(stream, endpoints, TurnedAway::TooMany, tasks);
        }
    }

    /// Whether the client is of this user or root (R-CLIENT-12). If the kernel does not say whose it is, it is let in:
    /// `status` shows that at the start.
    fn is_permitted(&self, endpoints: Endpoints) -> bool {
        if self.allows_other_users {
            return true;
        }
        match socket::client_user(endpoints.client, endpoints.server) {
            Ok(PeerUser::Known(uid)) if !this_process::trusts(uid) => {
                tracing::warn!(worker = %self.name, uid, "refused a client of another user");
                false
            }
            Ok(PeerUser::Known(_)) | Err(_) => true,
            Ok(PeerUser::Gone) => false,
        }
    }

    fn turn_away(
        self: Arc<Self>,
        stream: TcpStream,
        endpoints: Endpoints,
        why: TurnedAway,
        tasks: &TaskTracker,
    ) {
        if let Ok(place) = self.turned_away.clone().try_acquire_owned() {
            let entry = self.registry.enter(&self.name, endpoints);
            tasks.spawn(async move {
                turn_away(&self, stream, entry, why).await;
                drop(place);
            });
        }
    }

    /// Limit in bytes for a message of a client that is kept whole.
    pub fn longest_whole(&self) -> usize {
        if self.is_stdio { stdio::LONGEST } else { WHOLE }
    }

    /// How a client's connection goes on after a response.
    pub fn next(&self, keeps_alive: bool) -> Next {
        if keeps_alive && *self.phase.borrow() == ProxyPhase::Open { Next::KeepAlive } else { Next::Close }
    }

    /// Waits until the worker is live.
    ///
    /// # Errors
    /// A sentence for the client.
    pub async fn worker(&self, deadline: Deadline) -> Result<Arc<Live>, String> {
        // Fast path: nearly always the worker is live, and no timer is needed.
        if let Upstream::Live(up) = &*self.upstream.borrow() {
            return Ok(up.clone());
        }
        // Boxed, as all that is rare: requests in flight own little memory.
        Box::pin(self.wait_worker(deadline)).await
    }

    async fn wait_worker(&self, deadline: Deadline) -> Result<Arc<Live>, String> {
        let mut upstream = self.upstream.clone();
        let mut phase = self.phase.clone();
        let there = upstream.wait_for(|upstream| !matches!(upstream, Upstream::Waiting { .. }));
        let there = tokio::select! {
            there = deadline.wait(there) => there,
            _ = phase.wait_for(ProxyPhase::is_shutting_down) => return Err(SHUTTING_DOWN.1.to_owned()),
        };
        match there {
            Ok(Ok(state)) => match &*state {
                Upstream::Live(up) => Ok(up.clone()),
                Upstream::Down(why) => Err(format!("{} is not running: {why}", self.name)),
                Upstream::Waiting { .. } => Err(format!("{} is not running", self.name)),
            },
            Ok(Err(_)) => Err(SHUTTING_DOWN.1.to_owned()),
            Err(_) => Err(self.not_in_time()),
        }
    }

    /// The data for the error of a request that fails now.
    pub fn explain(&self, fate: Fate) -> Value {
        if self.phase.borrow().is_shutting_down() {
            const BACK: &str = "the server is there again when mcpd is started again";
            let next = match fate {
                Fate::NotSent => format!("the request was not executed; {BACK}"),
                Fate::Interrupted => format!("the request may have been executed; {BACK}"),
            };
            return json!({ "worker": self.name, "next": next });
        }
        let condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone();
        condition.map_or(Value::Null, |condition| condition.data(fate))
    }

    /// The error for a request whose worker exits.
    pub fn interruption(&self) -> (i64, &'static str) {
        if self.phase.borrow().is_shutting_down() { SHUTTING_DOWN } else { INTERRUPTED }
    }

    /// Whether a worker is live.
    pub fn is_live(&self) -> bool {
        matches!(&*self.upstream.borrow(), Upstream::Live(_))
    }

    /// A new process for a session, while the worker runs.
    ///
    /// # Errors
    /// A sentence for the client.
    pub async fn session_process(
        &self,
        processes: &SessionProcesses,
        deadline: Deadline,
    ) -> Result<Arc<Live>, String> {
        self.worker(deadline).await?;
        let mut phase = self.phase.clone();
        tokio::select! {
            started = processes.start(deadline) => started,
            _ = phase.wait_for(ProxyPhase::is_shutting_down) => Err(SHUTTING_DOWN.1.to_owned()),
        }
    }

    /// The sentence for a client whose request was held for as long as `hold` allows.
    pub fn not_in_time(&self) -> String {
        let reason = match &*self.upstream.borrow() {
            Upstream::Waiting { reason } => reason.clone(),
            Upstream::Live(_) | Upstream::Down(_) => None,
        };
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{} was not ready within {} s (hold){reason}", self.name, self.hold.as_secs())
    }
}

/// Accepted sockets inherit these options.
fn probe_quiet_clients(listener: &std::net::TcpListener) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(listener, QUIET)?;
    sockopt::set_tcp_keepintvl(listener, BETWEEN_PROBES)?;
    sockopt::set_tcp_keepcnt(listener, PROBES)?;
    sockopt::set_socket_keepalive(listener, true)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    serve_from(std::net::TcpListener::bind(address)?)
}

/// Registers a listening socket with the runtime.
///
/// # Errors
/// When the runtime can't register it.
pub fn serve_from(listener: std::net::TcpListener) -> std::io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    probe_quiet_clients(&listener)?;
    sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
    TcpListener::from_std(listener)
}
