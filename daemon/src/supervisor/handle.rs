//! The way to the supervisor: what it can be told and asked.

use std::time::Duration;

use mcpd_common::ids::{Pid, Port, Slot, WorkerName};
use mcpd_common::status::{WorkerState, WorkerStatus};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::stop_sequence::StopOutcome;
use crate::deadline::Deadline;
use crate::process::process_thread::{ProcessCommand, ProcessThread};
use crate::progress::Progress;

/// What a person can do with one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerAction {
    /// It shall run.
    Start,
    /// It shall leave and stay away.
    Stop,
    /// It shall leave and come back.
    Restart,
}

/// A message to the supervisor.
pub enum Order {
    /// A action for one worker; answers with the state that it led to at once.
    Worker(WorkerName, WorkerAction, oneshot::Sender<Result<WorkerState, UnknownWorker>>),
    /// All workers as they are now; descendants and clients are not counted here.
    Status(oneshot::Sender<Vec<WorkerStatus>>),
    /// The shutdown begins: everybody is asked to leave.
    StopAll {
        /// End of the graceful time.
        grace_until: Instant,
        /// Where steps are told.
        progress: Progress,
    },
    /// A shutdown was requested: from now on nothing is started again (R-SHUT-8).
    DisableRestarts,
    /// `SIGTERM` to those still there.
    Escalate,
    /// `SIGKILL` to those still there.
    KillAll,
    /// The workers that are still running: "docs (pid 4711)".
    Remaining(oneshot::Sender<Vec<String>>),
    /// How everybody left.
    Outcomes(oneshot::Sender<Vec<WorkerOutcome>>),
}

/// There is no such worker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no worker \"{name}\"; there are: {}", known.join(", "))]
pub struct UnknownWorker {
    /// What was asked for.
    pub name: WorkerName,
    /// What there is.
    pub known: Vec<String>,
}

/// How one worker came through the shutdown.
#[derive(Clone, Debug)]
pub struct WorkerOutcome {
    /// The number in the marks of its processes.
    pub slot: Slot,
    pub name: WorkerName,
    /// The port that clients use.
    pub port: Port,
    /// The port that it was given last, if it is behind a listener of mcpd.
    pub private_port: Option<Port>,
    /// The leader it had when the shutdown began.
    pub pid: Option<Pid>,
    /// How it left; `None` if it did not run, or is still there.
    pub stop: Option<StopOutcome>,
    /// What else is worth telling: a `stop_command` that failed.
    pub notes: Vec<String>,
}

/// A worker came into another state.
#[derive(Clone, Debug)]
pub struct Transition {
    pub name: WorkerName,
    pub state: WorkerState,
    /// Why, where that is not plain.
    pub reason: Option<String>,
}

/// A supervisor that takes longer for an answer is taken for hung: no wait is unbounded (R-SHUT-1).
const RESPONSE_LIMIT: Duration = Duration::from_secs(5);

/// The supervisor's task has ended, since it panicked or the daemon is over, or it hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task that supervises the workers does not answer")]
pub struct SupervisorGone;

/// The handle that everybody else has.
#[derive(Clone)]
pub struct SupervisorHandle {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) present: watch::Receiver<usize>,
    pub(super) transitions: broadcast::Sender<Transition>,
    pub(super) process_thread: ProcessThread,
}

impl SupervisorHandle {
    /// The process thread, for what concerns all processes.
    pub fn process_thread(&self) -> &ProcessThread {
        &self.process_thread
    }

    /// Every change of state from now on.
    pub fn transitions(&self) -> broadcast::Receiver<Transition> {
        self.transitions.subscribe()
    }

    /// Tells the supervisor something that needs no answer.
    pub fn send(&self, order: Order) {
        // A supervisor that has ended is noticed where its task is joined (R-SUP-5).
        let _ = self.orders.send(order);
    }

    /// Asks the supervisor.
    ///
    /// # Errors
    /// When its task has ended.
    pub async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, SupervisorGone> {
        let (sender, answer) = oneshot::channel();
        self.send(order(sender));
        Deadline::after(RESPONSE_LIMIT).wait(answer).await.ok().and_then(Result::ok).ok_or(SupervisorGone)
    }

    /// All workers as they are now, descendants counted.
    ///
    /// # Errors
    /// When the supervisor's task has ended.
    pub async fn status(&self) -> Result<Vec<WorkerStatus>, SupervisorGone> {
        let mut workers = self.ask(Order::Status).await?;
        let counted =
            Deadline::after(RESPONSE_LIMIT).wait(self.process_thread.ask(ProcessCommand::Descendants)).await;
        // Under a fork bomb the process thread has no time to count; then nothing is said of descendants.
        let descendants = counted.ok().and_then(Result::ok).unwrap_or_default();
        for (leader, count) in descendants {
            if let Some(worker) = workers.iter_mut().find(|worker| worker.pid == Some(leader)) {
                worker.descendants = count;
            }
        }
        Ok(workers)
    }

    /// Completes when no process of any worker is left, or what is left was given up.
    pub async fn all_stopped(&self) {
        // An error means that the supervisor has ended: then there is nothing to wait for.
        let _ = self.present.clone().wait_for(|present| *present == 0).await;
    }

    /// The workers that are still running.
    pub async fn remaining(&self) -> Vec<String> {
        self.ask(Order::Remaining).await.unwrap_or_default()
    }
}
