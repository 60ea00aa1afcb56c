//! Processes of which each serves one session, of a worker with `sessions = "own"` (R-STDIO-2).
//!
//! ```text
//!   a session without a process --start--> places (pure) --ProcessRequest--> supervisor, which owns the process
//!                       ^-------------------- Live ------------ connected, stopping, gone ---'
//!   DELETE, the client has exited, idle for long, another session needs the place --end--> supervisor
//! ```
//!
//! A session finds its process by its epoch, so that a process which is gone is never taken for the next one.

mod client_watch;
mod places;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcpd_common::ids::{RunTag, WorkerName};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

pub use self::places::ProcessNumber;
use self::places::{Admission, Occupation, StartDelay};
pub use self::usage::Usage;
use crate::deadline::{self, Deadline};
use crate::proxy::mcp::session::{self, Epoch};
use crate::proxy::observe::registry::Registry;
use crate::proxy::stdio::server::StdioServer;
use crate::proxy::upstream::Live;

/// Lower numbers are those of the worker's first process and its successors.
const FIRST_NUMBER: ProcessNumber = 1 << 31;

/// What the supervisor is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessRequest {
    Start { worker: WorkerName, number: ProcessNumber },
    End { worker: WorkerName, number: ProcessNumber },
}

/// Why a process is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    OnRequest,
    /// It exited, or could not be started; why.
    ByItself(String),
}

pub struct SessionProcesses {
    worker: WorkerName,
    run: RunTag,
    /// Limit of processes.
    places: usize,
    requests: mpsc::UnboundedSender<ProcessRequest>,
    registry: Registry,
    state: Mutex<State>,
    /// Who waits for a place looks again.
    changed: Notify,
    /// A session got a process: its client is looked up while it is connected.
    claimed: Notify,
}

#[derive(Default)]
struct State {
    processes: BTreeMap<ProcessNumber, Process>,
    last_number: ProcessNumber,
    /// Sessions that wait for a place, the first one first.
    tickets: BTreeSet<u64>,
    last_ticket: u64,
    delay: StartDelay,
}

struct Process {
    began: Instant,
    stage: Stage,
    session: Option<client_watch::Owner>,
}

enum Stage {
    Starting(oneshot::Sender<Result<Arc<Live>, String>>),
    Running(Arc<Live>),
    Ending,
}

impl Process {
    fn occupation(&self) -> Occupation {
        match &self.stage {
            Stage::Starting(_) => Occupation::Busy,
            Stage::Ending => Occupation::Ending,
            Stage::Running(up) => {
                up.idle_since().map_or(Occupation::Busy, |since| Occupation::Idle { since })
            }
        }
    }
}

impl SessionProcesses {
    pub fn new(
        worker: WorkerName,
        run: RunTag,
        places: usize,
        requests: mpsc::UnboundedSender<ProcessRequest>,
        registry: Registry,
    ) -> Arc<Self> {
        let state = Mutex::new(State { last_number: FIRST_NUMBER, ..State::default() });
        let (changed, claimed) = (Notify::new(), Notify::new());
        Arc::new(Self { worker, run, places, requests, registry, state, changed, claimed })
    }

    /// The process of this epoch, unless it is about to exit.
    pub fn live(&self, epoch: Epoch) -> Option<Arc<Live>> {
        let number = ProcessNumber::try_from(epoch & u64::from(ProcessNumber::MAX)).ok()?;
        match &self.state().processes.get(&number)?.stage {
            Stage::Running(up) if up.epoch == epoch => Some(up.clone()),
            Stage::Running(_) | Stage::Starting(_) | Stage::Ending => None,
        }
    }

    /// A new process. It ends with its first request, unless a session claims it.
    ///
    /// # Errors
    /// A sentence for the client.
    pub async fn start(&self, deadline: Deadline) -> Result<Arc<Live>, String> {
        let delay = self.state().delay.until(deadline::now());
        if let Some(until) = delay {
            deadline.wait(deadline::until(until)).await.map_err(|_| self.exits_at_once())?;
        }
        let (number, started) = self.wait_for_place(deadline).await?;
        let mut starting = EndIfDropped { processes: self, number: Some(number) };
        match deadline.wait(started).await {
            Ok(Ok(Ok(up))) => {
                starting.number = None;
                Ok(up)
            }
            Ok(Ok(Err(why))) => Err(format!("a process of {} could not be started: {why}", self.worker)),
            Ok(Err(_)) => Err(format!("a process of {} was stopped while it started", self.worker)),
            Err(elapsed) => Err(format!("a process of {} was not started: {elapsed} (hold)", self.worker)),
        }
    }

    fn exits_at_once(&self) -> String {
        format!("the processes of {} exit soon after their start; its log says why", self.worker)
    }

    async fn wait_for_place(
        &self,
        deadline: Deadline,
    ) -> Result<(ProcessNumber, oneshot::Receiver<Result<Arc<Live>, String>>), String> {
        let ticket = Ticket::take(self);
        loop {
            // Registered before the places are looked at, so that no change is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.admit(ticket.number) {
                (Admission::Start, Some(starting)) => return Ok(starting),
                (Admission::End(oldest), _) => {
                    tracing::info!(worker = %self.worker, "the process that is idle longest makes room for another session");
                    self.end(oldest);
                }
                (Admission::Wait | Admission::Start, _) => {
                    deadline.wait(changed).await.map_err(|_| self.full("they exit slowly"))?;
                }
                (Admission::Full, _) => return Err(self.full("none of them is idle")),
            }
        }
    }

    fn full(&self, why: &str) -> String {
        format!(
            "{} has as many processes as max_processes allows ({}), and {why}: end a session, or raise max_processes",
            self.worker, self.places
        )
    }

    /// Decides, and starts a process if there is a place.
    #[expect(clippy::type_complexity, reason = "a number and its receiver")]
    fn admit(
        &self,
        ticket: u64,
    ) -> (Admission, Option<(ProcessNumber, oneshot::Receiver<Result<Arc<Live>, String>>)>) {
        let mut state = self.state();
        let ahead = state.tickets.range(..ticket).count();
        let occupied: Vec<_> =
            state.processes.iter().map(|(number, process)| (*number, process.occupation())).collect();
        let admission = places::admit(&occupied, self.places, ahead);
        if admission != Admission::Start {
            return (admission, None);
        }
        let (sender, started) = oneshot::channel();
        state.last_number += 1;
        let number = state.last_number;
        let process = Process { began: deadline::now(), stage: Stage::Starting(sender), session: None };
        state.processes.insert(number, process);
        // A supervisor that has ended starts nothing: the wait for it is bounded.
        let _ = self.requests.send(ProcessRequest::Start { worker: self.worker.clone(), number });
        (admission, Some((number, started)))
    }

    /// The process now belongs to this session.
    pub fn claim(&self, up: &Live, session: &str) {
        let Some(usage) = &up.usage else { return };
        usage.claim();
        if let Some(process) = self.state().processes.get_mut(&usage.number()) {
            process.session = Some(client_watch::Owner::new(session.to_owned()));
        }
        self.claimed.notify_one();
    }

    /// Asks the process to exit. Requests of its session get another one.
    pub fn end(&self, number: ProcessNumber) {
        if self.stopping(number).is_some() {
            let _ = self.requests.send(ProcessRequest::End { worker: self.worker.clone(), number });
        }
    }

    /// The same for the process of this epoch.
    pub fn end_epoch(&self, epoch: Epoch) {
        let up = self.live(epoch);
        up.and_then(|up| up.usage.as_ref().map(Usage::number))
            .into_iter()
            .for_each(|number| self.end(number));
    }

    /// Its pipes exist.
    pub fn connected(self: &Arc<Self>, number: ProcessNumber, server: &Arc<StdioServer>) {
        let usage = Usage::new(number, Arc::downgrade(self));
        let up = Arc::new(Live::of_session(session::epoch(self.run, number), number, server.clone(), usage));
        let mut state = self.state();
        let Some(process) = state.processes.get_mut(&number) else { return };
        if matches!(process.stage, Stage::Ending) {
            return up.detach.cancel();
        }
        if let Stage::Starting(sender) = std::mem::replace(&mut process.stage, Stage::Running(up.clone())) {
            // Who waited for it has ended it, if it does not wait any more.
            let _ = sender.send(Ok(up));
        }
    }

    /// It is about to exit, or has exited: streams detach from it. `None`: that is known already.
    pub fn stopping(&self, number: ProcessNumber) -> Option<Stopping> {
        let mut state = self.state();
        let process = state.processes.get_mut(&number)?;
        let stage = std::mem::replace(&mut process.stage, Stage::Ending);
        drop(state);
        let up = match stage {
            Stage::Ending => return None,
            Stage::Starting(_) => None,
            Stage::Running(up) => Some(up),
        };
        up.iter().for_each(|up| up.detach.cancel());
        self.registry.wake_all();
        self.changed.notify_waiters();
        Some(Stopping { up })
    }

    /// Nothing of it is left: its place is free.
    pub fn gone(&self, number: ProcessNumber, why: Gone) {
        let Some(process) = ({
            let mut state = self.state();
            let process = state.processes.remove(&number);
            if let (Some(process), Gone::ByItself(_)) = (&process, &why) {
                let now = deadline::now();
                state.delay.exited(now.saturating_duration_since(process.began), now);
            }
            process
        }) else {
            return;
        };
        if let (Stage::Starting(sender), Gone::ByItself(why)) = (process.stage, why) {
            let _ = sender.send(Err(why));
        }
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process that was not known to be about to exit.
pub struct Stopping {
    /// `None` while it starts.
    pub up: Option<Arc<Live>>,
}

/// A session's turn in the queue for a place.
struct Ticket<'a> {
    processes: &'a SessionProcesses,
    number: u64,
}

impl<'a> Ticket<'a> {
    fn take(processes: &'a SessionProcesses) -> Self {
        let mut state = processes.state();
        state.last_ticket += 1;
        let number = state.last_ticket;
        state.tickets.insert(number);
        drop(state);
        Self { processes, number }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.processes.state().tickets.remove(&self.number);
        self.processes.changed.notify_waiters();
    }
}

/// A process whose start no session waits for any more is not needed.
struct EndIfDropped<'a> {
    processes: &'a SessionProcesses,
    /// `None` when it has started.
    number: Option<ProcessNumber>,
}

impl Drop for EndIfDropped<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.processes.end(number);
        }
    }
}
