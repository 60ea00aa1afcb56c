//! The supervisor's end of one listener: publishes the worker behind it, and reads what is in flight.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mcpd_common::ids::{RunTag, WorkerName};
use mcpd_common::status::WorkerState;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::budget::Budget;
use super::http::worker_host::WorkerHost;
use super::mcp::session::{self, Epoch};
use super::observe::registry::Registry;
use super::stdio::own::SessionProcesses;
pub use super::stdio::own::{Gone, ProcessNumber, ProcessRequest};
use super::stdio::router::Sharing;
pub use super::stdio::server::{ServerPipes, StdioServer};
use super::upstream::{Live, Publisher, Upstream};
use crate::condition::Condition;
use crate::worker_listener::WorkerListener;

/// Whether the port is bound; the error names its holder.
pub type BindState = watch::Receiver<Result<(), String>>;

pub struct ProxyHandle {
    pub publisher: Publisher,
    pub bind_state: BindState,
    pub registry: Registry,
    pub budget: Arc<Budget>,
    /// Of the proxy.
    pub thread: Handle,
    /// The process that speaks stdio, from its start to its end.
    pub server: Mutex<Option<Arc<StdioServer>>>,
    pub stray_lines: Arc<AtomicU64>,
    /// Of the listener.
    pub worker_host: Arc<WorkerHost>,
    /// Of the listener.
    pub ended_sessions: Arc<AtomicU32>,
    pub epochs: Arc<Epochs>,
    pub condition: SharedCondition,
    /// If each session has a process of its own.
    pub session_processes: Option<Arc<SessionProcesses>>,
}

/// What the supervisor published last.
pub type SharedCondition = Arc<Mutex<Option<Arc<Condition>>>>;

/// The epochs of this worker in this run; the first one is 1.
pub struct Epochs {
    run: RunTag,
    last: AtomicU32,
}

impl Epochs {
    pub fn new(run: RunTag) -> Arc<Self> {
        Arc::new(Self { run, last: AtomicU32::new(0) })
    }

    fn next(&self) -> Epoch {
        session::epoch(self.run, self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl ProxyHandle {
    /// Whether the port is bound.
    ///
    /// # Errors
    /// Names the holder of the client port.
    pub fn is_open(&self) -> Result<(), String> {
        self.bind_state.borrow().clone()
    }

    /// Whether requests are in flight.
    pub fn is_busy(&self) -> bool {
        matches!(&*self.publisher.borrow(), Upstream::Live(up) if up.in_flight() > 0)
    }

    /// A process of a worker that speaks stdio was started.
    ///
    /// # Errors
    /// When its pipes can't be used.
    pub fn connect(&self, worker: &WorkerName, pipes: ServerPipes) -> io::Result<()> {
        *self.lock_server() = Some(self.start_server((worker.clone(), Sharing::Shared), pipes)?);
        Ok(())
    }

    /// A process for one session was started.
    ///
    /// # Errors
    /// When its pipes can't be used.
    pub fn connect_session(
        &self,
        worker: &WorkerName,
        number: ProcessNumber,
        pipes: ServerPipes,
    ) -> io::Result<Arc<StdioServer>> {
        let server = self.start_server((worker.clone(), Sharing::Own), pipes)?;
        if let Some(processes) = self.session_processes.clone() {
            processes.connected(number, &server);
            let server = server.clone();
            // One that has closed its output is of no use to its session.
            self.thread.spawn(async move {
                server.closed().await;
                processes.end(number);
            });
        }
        Ok(server)
    }

    /// The process of a session stops: its session needs another one, its streams detach.
    pub fn detach_session(&self, number: ProcessNumber) -> Option<Arc<Live>> {
        self.session_processes.as_ref()?.stopping(number)?.up
    }

    /// Nothing of the process of a session is left.
    pub fn session_gone(&self, number: ProcessNumber, why: Gone) {
        self.session_processes.iter().for_each(|processes| processes.gone(number, why.clone()));
    }

    fn start_server(&self, whose: (WorkerName, Sharing), pipes: ServerPipes) -> io::Result<Arc<StdioServer>> {
        StdioServer::start(whose, pipes, (self.budget.clone(), self.stray_lines.clone()), &self.thread)
    }

    /// The process is gone.
    pub fn disconnect(&self) {
        let server = self.lock_server().take();
        server.inspect(|server| server.disconnect());
    }

    /// The process that speaks stdio.
    pub fn server(&self) -> Option<Arc<StdioServer>> {
        self.lock_server().clone()
    }

    fn lock_server(&self) -> MutexGuard<'_, Option<Arc<StdioServer>>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines on the standard output of its processes that were no messages.
    pub fn stray_lines(&self) -> u64 {
        self.stray_lines.load(Ordering::Relaxed)
    }

    /// Sessions of clients that have exited, which mcpd ended.
    pub fn ended_sessions(&self) -> u32 {
        self.ended_sessions.load(Ordering::Relaxed)
    }

    /// Publishes the condition of the worker's `process`; the first one is 1.
    pub fn show(&self, condition: Condition, process: u32, listener: Option<&Arc<WorkerListener>>) {
        let condition = Arc::new(condition);
        *self.condition.lock().unwrap_or_else(PoisonError::into_inner) = Some(condition.clone());
        let next = match condition.state {
            WorkerState::Ready | WorkerState::Unhealthy if self.is_live(process) => return,
            WorkerState::Ready | WorkerState::Unhealthy => self.live(process, listener).into(),
            WorkerState::Starting | WorkerState::BackingOff | WorkerState::Stopping
                if !condition.is_failing =>
            {
                Upstream::Waiting { reason: condition.reason.clone() }
            }
            // What is failing is tried again, but no request waits for it.
            _ => Upstream::Down(condition.reason.clone().unwrap_or(condition.state.name().to_owned())),
        };
        // Streams detach before the stop request, so that no worker waits for a client.
        if let Upstream::Live(up) = self.publisher.send_replace(next) {
            self.detach_from(&up);
        }
    }

    fn is_live(&self, process: u32) -> bool {
        matches!(&*self.publisher.borrow(), Upstream::Live(up) if up.process == process)
    }

    fn live(&self, process: u32, listener: Option<&Arc<WorkerListener>>) -> Option<Live> {
        let Some(listener) = listener else {
            return Some(Live::stdio(self.epochs.next(), process, self.server()?));
        };
        let (publisher, registry, epochs) =
            (self.publisher.clone(), self.registry.clone(), self.epochs.clone());
        let worker_host = self.worker_host.clone();
        let replaced = listener.replacements();
        let weak = Arc::downgrade(listener);
        self.thread.spawn(follow_reloads(replaced, weak, move |listener| {
            let next = || Live::http(epochs.next(), process, listener, worker_host.clone());
            replace(&publisher, &registry, process, next)
        }));
        Some(Live::http(self.epochs.next(), process, listener.clone(), self.worker_host.clone()))
    }

    /// The worker stops: new requests wait, streams detach from it.
    pub fn detach(&self) -> Option<Arc<Live>> {
        match self.publisher.send_replace(Upstream::Waiting { reason: None }) {
            Upstream::Live(up) => {
                self.detach_from(&up);
                Some(up)
            }
            Upstream::Waiting { .. } | Upstream::Down(_) => None,
        }
    }

    fn detach_from(&self, up: &Live) {
        up.detach.cancel();
        self.registry.wake_all();
    }
}

/// Another process serves for the worker, although its leader lives: it is a worker of another epoch.
async fn follow_reloads(
    mut replaced: watch::Receiver<u32>,
    listener: Weak<WorkerListener>,
    replace: impl Fn(Arc<WorkerListener>) -> bool,
) {
    replaced.mark_unchanged();
    while replaced.changed().await.is_ok() {
        let Some(listener) = listener.upgrade() else { return };
        if !replace(listener.clone()) {
            return;
        }
        tokio::select! {
            () = listener.look_for_successor() => {}
            // Marked as seen, it would be missed.
            () = until_changed(replaced.clone()) => {}
        }
    }
}

async fn until_changed(mut replaced: watch::Receiver<u32>) {
    // If the sender is gone, so is the listener.
    let _ = replaced.changed().await;
}

/// Publishes the next epoch of this process; false if it is no longer the live one.
fn replace(publisher: &Publisher, registry: &Registry, process: u32, next: impl FnOnce() -> Live) -> bool {
    let mut old = None;
    publisher.send_if_modified(|upstream| {
        let Upstream::Live(up) = upstream else { return false };
        if up.process != process {
            return false;
        }
        old = Some(std::mem::replace(up, Arc::new(next())));
        true
    });
    if let Some(old) = &old {
        tracing::info!(process, "another process serves for the worker: it was reloaded in place");
        old.detach.cancel();
        registry.wake_all();
    }
    old.is_some()
}
