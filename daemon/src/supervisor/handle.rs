//! The handle of the supervisor, and the orders that it takes.

use std::time::Duration;

use mcpd_common::ids::{Pid, Port, Slot, WorkerName};
use mcpd_common::status::{WorkerState, WorkerStatus};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::stop_sequence::StopOutcome;
use crate::deadline::Deadline;
use crate::process::container::WorkerContainer;
use crate::process::process_thread::{ProcessCommand, ProcessThread};
use crate::progress::Progress;

/// What `mcpctl` can do with one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerAction {
    Start,
    Stop,
    Restart,
}

pub enum Order {
    /// An action for one worker; the reply is the state right after it.
    Worker(WorkerName, WorkerAction, oneshot::Sender<Result<WorkerState, UnknownWorker>>),
    /// All workers as they are now.
    Status(oneshot::Sender<Vec<RunningWorker>>),
    /// All workers get their stop requests.
    StopAll {
        /// End of the graceful time.
        grace_until: Instant,
        /// Where steps are published.
        progress: Progress,
    },
    /// A shutdown was requested: from now on nothing is started again (R-SHUT-8).
    DisableRestarts,
    /// `SIGTERM` to the workers that are still running.
    Escalate,
    /// `SIGKILL` to the workers that are still running.
    KillAll,
    /// The verification begins: stop commands that still run are ended.
    EndStopCommands,
    /// The workers that are still running: "docs (pid 4711)".
    Remaining(oneshot::Sender<Vec<String>>),
    /// How each worker stopped.
    Outcomes(oneshot::Sender<Vec<WorkerOutcome>>),
}

/// A worker as it is now; its descendants and clients are not counted.
pub struct RunningWorker {
    pub status: WorkerStatus,
    /// The processes of its sessions.
    pub session_leaders: Vec<Pid>,
}

/// No worker has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no worker \"{name}\"; there are: {}", known.join(", "))]
pub struct UnknownWorker {
    pub name: WorkerName,
    /// The names that exist.
    pub known: Vec<String>,
}

/// How one process of a worker stopped.
#[derive(Clone)]
pub struct WorkerOutcome {
    /// Whether it is the process of a session, besides the worker's own.
    pub is_of_session: bool,
    /// The number in the marks of its processes.
    pub slot: Slot,
    pub name: WorkerName,
    /// The port that clients use.
    pub port: Port,
    /// The port that it was given last, if it is behind a listener of mcpd.
    pub private_port: Option<Port>,
    /// Whether mcpd or the worker ever had the client port.
    pub had_port: bool,
    /// The leader it had when the shutdown began.
    pub pid: Option<Pid>,
    /// `None` if it did not run, or is still running.
    pub stop: Option<StopOutcome>,
    /// Further information for the report: a `stop_command` that failed.
    pub notes: Vec<String>,
    /// Containers that its engine had to kill: one sentence each.
    pub killed_containers: Vec<String>,
    /// The containers that it has started, if its command runs some.
    pub container: Option<WorkerContainer>,
}

/// A changed state of a worker.
#[derive(Clone, Debug)]
pub struct Transition {
    pub name: WorkerName,
    pub state: WorkerState,
    /// Why, if the state alone does not say it.
    pub reason: Option<String>,
}

/// Limit for a reply of the supervisor: no wait is unbounded (R-SHUT-1).
const RESPONSE_LIMIT: Duration = Duration::from_secs(5);

/// The supervisor's task has panicked, has ended with the daemon, or hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task that supervises the workers does not respond")]
pub struct SupervisorGone;

/// Sends orders to the supervisor. Cloning it is cheap.
#[derive(Clone)]
pub struct SupervisorHandle {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) present: watch::Receiver<usize>,
    pub(super) transitions: broadcast::Sender<Transition>,
    pub(super) process_thread: ProcessThread,
}

impl SupervisorHandle {
    /// For commands that concern all processes.
    pub fn process_thread(&self) -> &ProcessThread {
        &self.process_thread
    }

    /// Subscribes to all changes of state from now on.
    pub fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.transitions.subscribe()
    }

    /// Sends an order that has no reply.
    pub fn send(&self, order: Order) {
        // A supervisor that has ended is noticed where its task is joined (R-SUP-5).
        let _ = self.orders.send(order);
    }

    /// Sends an order and waits for its reply.
    ///
    /// # Errors
    /// When the supervisor has ended or does not reply in time.
    pub async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, SupervisorGone> {
        let (sender, received) = oneshot::channel();
        self.send(order(sender));
        Deadline::after(RESPONSE_LIMIT).wait(received).await.ok().and_then(Result::ok).ok_or(SupervisorGone)
    }

    /// All workers as they are now, descendants counted.
    ///
    /// # Errors
    /// When the supervisor's task has ended.
    pub async fn status(&self) -> Result<Vec<WorkerStatus>, SupervisorGone> {
        self.status_within(RESPONSE_LIMIT).await
    }

    /// [`Self::status`] with a limit for counting the descendants.
    ///
    /// # Errors
    /// When the supervisor's task has ended.
    pub async fn status_within(&self, limit: Duration) -> Result<Vec<WorkerStatus>, SupervisorGone> {
        let workers = self.ask(Order::Status).await?;
        let counted = Deadline::after(limit).wait(self.process_thread.ask(ProcessCommand::Descendants)).await;
        // Under a fork bomb the process thread may not reply in time; then descendants are not counted.
        let counted = counted.ok().and_then(Result::ok).unwrap_or_default();
        let of_leader = |pid: &Pid| counted.iter().find(|(leader, _)| leader == pid).map(|(_, count)| *count);
        let with_descendants = |RunningWorker { status, session_leaders }| {
            let descendants = status.pid.iter().chain(&session_leaders).filter_map(of_leader).sum();
            WorkerStatus { descendants, ..status }
        };
        Ok(workers.into_iter().map(with_descendants).collect())
    }

    /// Completes when no process of any worker is left, or killing was given up.
    pub async fn all_stopped(&self) {
        // An error means that the supervisor has ended: then there is nothing to wait for.
        let _ = self.present.clone().wait_for(|present| *present == 0).await;
    }

    /// The workers that are still running.
    pub async fn remaining(&self) -> Vec<String> {
        self.ask(Order::Remaining).await.unwrap_or_default()
    }
}
