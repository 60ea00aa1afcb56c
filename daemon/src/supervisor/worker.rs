//! The supervisor's data of one worker: configuration, machine, process.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::config::{Program, Transport, WorkerConfig};
use mcpd_common::exit_code;
use mcpd_common::ids::{Port, Slot};
use mcpd_common::outcome::{Asked, Departure, ExitStatus};
use mcpd_common::status::{WorkerState, WorkerStatus};
use tokio::sync::Semaphore;

use super::handle::WorkerOutcome;
use super::session_processes::SessionProcess;
use super::state::{Machine, Policy};
use super::stop_sequence::StopOutcome;
use crate::condition::Condition;
use crate::deadline;
use crate::last_output::LastOutput;
use crate::process::container::WorkerContainer;
use crate::process::operations::Started;
use crate::proxy::handle::ProxyHandle;
use crate::worker_listener::WorkerListener;
use mcpd_common::time_limits::TimeLimits;

/// podman has no daemon: its monitor outlives the client, as a descendant, until it has removed the container.
const CLEANUP_OF_PODMAN: Duration = Duration::from_secs(2);
/// What a process of a worker is for.
pub(super) enum Role {
    /// The worker itself, whose state is the worker's.
    Main,
    Session(SessionProcess),
}

pub(super) struct Worker {
    pub(super) config: Arc<WorkerConfig>,
    pub(super) role: Role,
    pub(super) machine: Machine,
    /// Counts the processes of this worker, so that results about an earlier one are recognised.
    pub(super) process: u32,
    /// The port that the worker itself binds: its client port, or a private one.
    pub(super) listens_on: Port,
    /// Whether a start is being checked, before the process exists.
    pub(super) is_checking: bool,
    /// One permit: a check that hangs is not repeated.
    pub(super) checks: Arc<Semaphore>,
    /// The listener of its current process.
    pub(super) listener: Option<Arc<WorkerListener>>,
    /// The token that the shutdown route of its current process requires; only of a built-in worker.
    pub(super) token: Option<String>,
    pub(super) started: Option<Started>,
    pub(super) started_at: Option<Timestamp>,
    /// The state and reason that were published last.
    pub(super) shown: (WorkerState, Option<String>),
    pub(super) since: Timestamp,
    pub(super) stop_commands: u32,
    /// The process for which the stop command was run, so that it runs once: after a 404 to the
    /// `POST` there is a second stop request.
    pub(super) stop_command_for: Option<u32>,
    /// The container of its last process, if its command runs one.
    pub(super) container: Option<WorkerContainer>,
    pub(super) outcome: WorkerOutcome,
}

impl Worker {
    pub(super) fn new(config: &WorkerConfig, graceful: &Duration, limits: &TimeLimits, slot: Slot) -> Self {
        let policy = policy(config, *graceful, limits);
        let machine = match &config.unusable {
            Some(reason) => Machine::unusable(policy, reason.clone()),
            None => Machine::new(policy, u64::from(slot.0) << 1 ^ u64::from(std::process::id())),
        };
        let machine = match crate::fault::first_wait() {
            Some(first) => machine.with_first_wait(first),
            None => machine,
        };
        Self::with_machine(Arc::new(config.clone()), machine, slot)
    }

    pub(super) fn with_machine(config: Arc<WorkerConfig>, machine: Machine, slot: Slot) -> Self {
        let outcome = WorkerOutcome {
            is_of_session: false,
            slot,
            name: config.name.clone(),
            port: config.port,
            private_port: None,
            had_port: false,
            pid: None,
            stop: None,
            notes: vec![],
            killed_containers: vec![],
            container: None,
        };
        Self {
            shown: (WorkerState::Stopped, None),
            listens_on: config.port,
            config,
            role: Role::Main,
            machine,
            process: 0,
            is_checking: false,
            checks: Arc::new(Semaphore::new(1)),
            listener: None,
            token: None,
            started: None,
            started_at: None,
            since: Timestamp::now(),
            stop_commands: 0,
            stop_command_for: None,
            container: None,
            outcome,
        }
    }

    pub(super) fn is_present(&self) -> bool {
        self.machine.is_alive() || self.stop_commands > 0
    }

    /// Killing was given up before, and a process of it still exists.
    pub(super) fn is_given_up(&self) -> bool {
        self.started.is_some() && !self.machine.is_alive()
    }

    /// The outcome; while the worker is stopping, as far as it is known.
    pub(super) fn outcome_so_far(&self) -> WorkerOutcome {
        let so_far = || {
            let outcome = self.machine.stop_sequence()?.so_far(deadline::now());
            Some(StopOutcome { departure: Departure::Remains, ..outcome })
        };
        let private_port = Some(self.listens_on).filter(|port| *port != self.config.port);
        let stop = self.outcome.stop.clone().or_else(so_far);
        let container = self.container.clone();
        WorkerOutcome { stop, private_port, container, ..self.outcome.clone() }
    }

    /// The reason of its state; why it failed, its last line often says (R-CLI-4).
    pub(super) fn shown_reason(&self, output: &LastOutput) -> Option<String> {
        let reason = self.machine.reason()?;
        let has_ended = matches!(
            self.machine.state(),
            WorkerState::Failed | WorkerState::BackingOff | WorkerState::Stopped
        );
        let last = output.last().filter(|_| has_ended);
        Some(last.map_or_else(|| reason.to_owned(), |line| format!("{reason}; its last output: {line}")))
    }

    pub(super) fn condition(&self, output: Arc<LastOutput>) -> Condition {
        Condition {
            worker: self.config.name.clone(),
            state: self.machine.state(),
            reason: self.machine.reason().map(str::to_owned),
            exit: self.machine.last_exit(),
            is_failing: self.machine.is_failing(),
            output,
        }
    }

    pub(super) fn status(
        &self,
        proxy: Option<&ProxyHandle>,
        session_processes: usize,
        output: &LastOutput,
    ) -> WorkerStatus {
        WorkerStatus {
            name: self.config.name.clone(),
            state: self.machine.state(),
            reason: self.shown_reason(output),
            pid: self.started.map(|started| started.pid),
            port: self.config.port,
            transport: self.config.transport,
            url: self.config.url(),
            repo: self.config.repo.display().to_string(),
            since: self.since,
            started_at: self.started_at,
            restarts: self.process.saturating_sub(1),
            descendants: 0,
            clients: 0,
            last_exit: self.machine.last_exit(),
            stray_lines: proxy.map_or(0, ProxyHandle::stray_lines),
            session_processes: u32::try_from(session_processes).unwrap_or(u32::MAX),
            ended_sessions: proxy.map_or(0, ProxyHandle::ended_sessions),
        }
    }

    /// "docs (pid 4711)"
    pub(super) fn label(&self) -> String {
        match self.started {
            Some(started) => format!("{} (pid {})", self.config.name, started.pid),
            None => self.config.name.to_string(),
        }
    }
}

fn policy(config: &WorkerConfig, graceful: Duration, limits: &TimeLimits) -> Policy {
    let is_built_in = config.program == Program::BuiltIn;
    Policy {
        restart: config.restart,
        restart_unhealthy: config.restart_unhealthy,
        permanent_failure: is_built_in.then_some(ExitStatus::Code(exit_code::program::CONFIG.into())),
        hint: config.hint.clone(),
        ready_within: config.ready_within,
        stop_request: match (config.transport, &config.shutdown_path) {
            (Transport::Stdio, _) => Asked::EndOfInput,
            (_, Some(_)) => Asked::Http,
            (_, None) => Asked::Sigterm,
        },
        graceful,
        term: limits.term(),
        linger: if config.container().is_some() { CLEANUP_OF_PODMAN } else { Duration::ZERO },
    }
}
