//! The proxy: all listeners, opened together and closed together.

pub mod budget;
pub mod handle;
pub mod http;
pub mod listener;
pub mod mcp;
pub mod observe;
pub mod stdio;
pub mod thread;
pub mod upstream;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcpd_common::config::{Config, SessionsPolicy, Transport, WorkerConfig};
use mcpd_common::ids::{Port, RunTag, WorkerName};
use mcpd_common::journal::KeptSession;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::handle::{BindState, Epochs, ProcessRequest, ProxyHandle, SharedCondition};
use self::listener::{Listener, ProxyPhase, Shared, serve_from};
use self::observe::client_watch::ClientWatch;
use self::observe::registry::Registry;
use self::stdio::own::SessionProcesses;
use self::thread::ProxyThread;
use self::upstream::Upstream;
use crate::deadline::{self, Deadline};
use crate::journal::JournalHandle;
use crate::random;

/// Between two attempts to bind a port that another process holds.
const AGAIN: Duration = Duration::from_secs(1);

/// What the proxy is opened with.
pub struct ProxyConfig {
    pub run: RunTag,
    /// Where sessions are kept.
    pub journal: JournalHandle,
    /// Sessions that an earlier daemon kept.
    pub kept: Vec<KeptSession>,
    /// Limit of connections of all clients together.
    pub max_clients: usize,
    /// Listening sockets of the program that this one replaced.
    pub inherited: Vec<std::net::TcpListener>,
    /// To the supervisor: processes for single sessions.
    pub process_requests: mpsc::UnboundedSender<ProcessRequest>,
}

pub struct Proxy {
    phase: watch::Sender<ProxyPhase>,
    registry: Registry,
    notified: Arc<AtomicU32>,
    /// Sessions of clients that have exited, which mcpd ended; an element for each listener.
    ended_sessions: Vec<Arc<AtomicU32>>,
    forced: CancellationToken,
    closed: CancellationToken,
    tasks: TaskTracker,
    listeners: Listeners,
    ports: Vec<Port>,
    /// `None` if there is no listener.
    thread: Option<ProxyThread>,
}

/// All listening sockets; the next program inherits them.
type Listeners = Arc<Mutex<Vec<Arc<TcpListener>>>>;

impl Proxy {
    /// Opens a listener for every worker whose client port mcpd holds. A port that another process holds is
    /// tried again until it is free.
    ///
    /// # Errors
    /// When no thread or descriptor is available.
    pub fn open(
        config: &Config,
        opening: ProxyConfig,
    ) -> io::Result<(Self, HashMap<WorkerName, ProxyHandle>)> {
        let (phase, watched) = watch::channel(ProxyPhase::Open);
        let served = || config.workers.values().filter(|worker| worker.transport != Transport::Direct);
        let thread = served().next().map(|_| ProxyThread::start()).transpose()?;
        let mut front = Self {
            thread,
            phase,
            registry: Registry::default(),
            notified: Arc::default(),
            ended_sessions: vec![],
            forced: CancellationToken::new(),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
            listeners: Listeners::default(),
            ports: served().map(|worker| worker.port).collect(),
        };
        if let Some(thread) = &front.thread {
            thread.handle().spawn(front.registry.clone().watch_limits());
        }
        let shared = Shared {
            places: Arc::new(Semaphore::new(opening.max_clients)),
            phase: watched,
            registry: front.registry.clone(),
            budget: Arc::default(),
            notified: front.notified.clone(),
            forced: front.forced.clone(),
            closed: front.closed.clone(),
            tasks: front.tasks.clone(),
            journal: opening.journal,
            kept: opening.kept,
        };
        let mut handles = HashMap::new();
        let mut listeners = vec![];
        let mut inherited = opening.inherited;
        for (worker, thread) in served().zip(front.thread.iter().cycle()) {
            let (publisher, upstream) = watch::channel(Upstream::Waiting { reason: None });
            let condition = SharedCondition::default();
            let session_processes = (worker.sessions == SessionsPolicy::Own)
                .then(|| front.session_processes(worker, opening.run, &opening.process_requests));
            let listener =
                Listener::new(worker, upstream, condition.clone(), session_processes.clone(), &shared);
            let ours = |listener: &mut std::net::TcpListener| {
                listener.local_addr().is_ok_and(|address| address.port() == worker.port.get())
            };
            let listening = inherited.extract_if(.., ours).collect();
            let listening = Listening { all: front.listeners.clone(), inherited: listening };
            listeners.push(listener.clone());
            let bind_state = listen(listener.clone(), &shared, listening, thread.handle().clone());
            let handle = ProxyHandle {
                epochs: Epochs::new(opening.run),
                publisher,
                bind_state,
                registry: front.registry.clone(),
                budget: shared.budget.clone(),
                thread: thread.handle().clone(),
                server: Mutex::default(),
                stray_lines: Arc::default(),
                condition,
                session_processes,
                ended_sessions: listener.ended_sessions.clone(),
                worker_host: listener.worker_host.clone(),
            };
            handles.insert(worker.name.clone(), handle);
        }
        front.watch_clients(listeners);
        Ok((front, handles))
    }

    /// Looking up clients blocks, so it is not done on the proxy thread.
    fn session_processes(
        &self,
        worker: &WorkerConfig,
        run: RunTag,
        requests: &mpsc::UnboundedSender<ProcessRequest>,
    ) -> Arc<SessionProcesses> {
        let places = usize::from(worker.max_processes);
        let name = worker.name.clone();
        let processes = SessionProcesses::new(name, run, places, requests.clone(), self.registry.clone());
        tokio::spawn(processes.clone().watch_clients(self.closed.clone()));
        processes
    }

    fn watch_clients(&mut self, listeners: Vec<Arc<Listener>>) {
        self.ended_sessions = listeners.iter().map(|listener| listener.ended_sessions.clone()).collect();
        if let Some(thread) = &self.thread {
            let watch = ClientWatch::new(listeners, self.registry.clone(), Handle::current());
            self.tasks.spawn_on(watch.run(self.phase.subscribe()), thread.handle());
        }
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The ports that mcpd itself listens on.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// mcpd is about to replace itself: no connection is accepted, streams end with a hint to reconnect
    /// soon, idle connections are closed.
    pub fn pause(&self) {
        self.enter(ProxyPhase::Pausing);
        self.tasks.close();
    }

    fn enter(&self, phase: ProxyPhase) {
        self.phase.send_replace(phase);
        self.registry.wake_all();
    }

    /// Completes when no client is connected any more. Only in a pause.
    pub async fn drained(&self) {
        self.tasks.wait().await;
    }

    /// mcpd shuts down: from now on it answers new requests itself, and closes idle connections.
    pub fn begin_shutdown(&self) {
        self.enter(ProxyPhase::ShuttingDown);
    }

    /// Streams get the shutdown notice and end.
    pub fn send_shutdown_notice(&self, reason: &str) {
        self.enter(ProxyPhase::Notify(reason.to_owned()));
    }

    /// Streams that got the shutdown notice.
    pub fn notified(&self) -> u32 {
        self.notified.load(Ordering::Relaxed)
    }

    /// Sessions of clients that have exited, which mcpd ended.
    pub fn ended_sessions(&self) -> u32 {
        self.ended_sessions.iter().map(|ended| ended.load(Ordering::Relaxed)).sum()
    }

    /// Closes the listeners and all connections.
    pub async fn close(&self, deadline: Deadline) {
        self.cut_off(deadline).await;
        self.listening().clear();
    }

    /// Closes all connections; the listeners stay.
    pub async fn cut_off(&self, deadline: Deadline) {
        self.closed.cancel();
        self.forced.cancel();
        self.registry.wake_all();
        self.tasks.close();
        // Tasks that do not end in time end with their thread.
        let _ = deadline.wait(self.tasks.wait()).await;
        if let Some(thread) = &self.thread {
            thread.stop(deadline).await;
        }
    }

    /// The listening sockets, for the next program.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn hand_over(&self) -> std::io::Result<Vec<OwnedFd>> {
        self.listening().iter().map(|listener| listener.as_fd().try_clone_to_owned()).collect()
    }

    fn listening(&self) -> std::sync::MutexGuard<'_, Vec<Arc<TcpListener>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sockets of one listener.
struct Listening {
    /// Where all listening sockets are stored.
    all: Listeners,
    /// What the program before listened with.
    inherited: Vec<std::net::TcpListener>,
}

/// Binds the port, not on the proxy thread: finding the holder of a port takes a while.
fn listen(listener: Arc<Listener>, shared: &Shared, listening: Listening, thread: Handle) -> BindState {
    let Listening { all, inherited } = listening;
    let adopted: Vec<_> = inherited.into_iter().filter_map(|listener| serve_from(listener).ok()).collect();
    let first = if adopted.is_empty() { listener.bind() } else { Ok(adopted) };
    let (told, bind_state) = watch::channel(first.as_ref().map(|_| ()).map_err(Clone::clone));
    let closed = shared.closed.clone();
    let tasks = shared.tasks.clone();
    let mut phase = shared.phase.clone();
    shared.tasks.spawn(async move {
        let mut bound = first;
        let listeners = loop {
            match bound {
                Ok(listeners) => break listeners,
                Err(why) => drop(told.send_replace(Err(why))),
            }
            let pause = deadline::until(deadline::now() + AGAIN);
            tokio::select! {
                () = pause => {}
                () = closed.cancelled() => return,
                _ = phase.wait_for(|phase| *phase == ProxyPhase::Pausing) => return,
            }
            bound = bind_again(listener.clone()).await;
        };
        drop(told.send_replace(Ok(())));
        for socket in listeners.into_iter().map(Arc::new) {
            all.lock().unwrap_or_else(PoisonError::into_inner).push(socket.clone());
            tasks.spawn_on(listener.clone().accept(socket, closed.clone(), tasks.clone()), &thread);
        }
    });
    bind_state
}

/// Naming the holder of a port reads the descriptors of all processes.
async fn bind_again(listener: Arc<Listener>) -> Result<Vec<TcpListener>, String> {
    let bound = tokio::task::spawn_blocking(move || listener.bind()).await;
    bound.unwrap_or_else(|error| Err(error.to_string()))
}

/// A session id: 128 random bits in visible ASCII, as the MCP specification requires.
///
/// # Errors
/// When no random bytes are available.
pub fn mint() -> std::io::Result<String> {
    random::token()
}
