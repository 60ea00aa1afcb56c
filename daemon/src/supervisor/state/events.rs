//! Input and output of the state machine: settings, events, actions.

use std::time::Duration;

use mcpd_common::config::RestartPolicy;
use mcpd_common::os::ProcessInfo;
use mcpd_common::outcome::{Asked, ExitStatus};
use tokio::time::Instant;

use crate::supervisor::stop_sequence::{StopAction, StopOutcome, StopResponse};

/// The settings of a worker that its state machine needs.
#[derive(Clone, Debug)]
pub struct Policy {
    pub restart: RestartPolicy,
    /// Whether an unhealthy worker is restarted.
    pub restart_unhealthy: bool,
    /// The exit status of a program that can't serve this repository: a restart would not help.
    pub permanent_failure: Option<ExitStatus>,
    /// What is probably wrong if it does not start.
    pub hint: Option<String>,
    /// How long a start may take.
    pub ready_within: Duration,
    /// How a worker that has been ready is asked to exit.
    pub stop_request: Asked,
    /// Time limit between the stop request and `SIGTERM` outside a shutdown.
    pub graceful: Duration,
    /// Time limit between `SIGTERM` and `SIGKILL`.
    pub term: Duration,
    /// How long descendants may outlive a leader that exited on request, before they get `SIGTERM`.
    pub linger: Duration,
}

#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// Start the worker (start of the daemon, `mcpctl start`).
    Start,
    /// Stop the worker and keep it stopped (`mcpctl stop`).
    Stop,
    /// Stop the worker and start it again (`mcpctl restart`).
    Restart,
    /// A shutdown was requested: the worker is not started any more. [`WorkerEvent::Shutdown`] follows.
    DisableRestarts,
    /// The daemon shuts down: send the stop request.
    Shutdown {
        /// End of the graceful time.
        grace_until: Instant,
    },
    /// The shutdown phase that sends `SIGTERM` has begun.
    Escalate,
    /// Send `SIGKILL` now, without further waits.
    KillAll,
    /// The process is not started yet; or it is now, after such a wait. The time for the start begins anew.
    StartWaits {
        /// Shown to the user; `None`: the wait is over.
        why: Option<String>,
    },
    SpawnFailed {
        /// Shown to the user.
        reason: String,
    },
    /// The process hangs before its program runs. It exists, and may not be killable.
    StartHangs {
        /// Shown to the user.
        reason: String,
    },
    /// A probe has finished.
    Probed {
        result: ProbeResult,
        /// Whether requests are in flight. A busy worker is not restarted for being unhealthy.
        busy: bool,
    },
    /// The `POST` to the shutdown route has a response or has failed.
    Answered(StopResponse),
    LeaderExited {
        exit: ExitStatus,
        /// Descendants that are still running.
        remaining: Vec<ProcessInfo>,
    },
    /// Leader and descendants are gone.
    Gone,
    /// [`Machine::timer`](super::Machine::timer) is due.
    Timer,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    Alive,
    /// Shown to the user if it lasts.
    NotReady(String),
    /// Another process listens on the worker's port; the text names it (R-SUP-7).
    ForeignListener(String),
}

/// An instruction to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Spawn,
    Probe,
    Stop(StopAction),
    /// Record the outcome: all processes of the worker are gone, or killing them was given up.
    Left(Box<StopOutcome>),
}
