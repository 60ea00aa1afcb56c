//! **Read second.** The shutdown: six phases. Each always runs, and none waits without a limit.
//!
//! ```text
//!   initiated          what exists is recorded, restarts are off
//!   workers-graceful   every worker gets its stop request, all at once    worker_graceful
//!   clients            connections take their last bytes                  clients, in total
//!   workers-terminate  SIGTERM, then SIGKILL, to the remaining workers    worker_total - worker_graceful, + 5 s
//!   verification       processes, zombies, ports, resources, the daemon   verification
//!   exit               report, journal, socket (exit.rs)                  1 s
//! ```
//!
//! Errors become findings, never an early return, and the exit code is computed from the findings alone.
//! `request.rs` decides what may start a shutdown and what later requests do, `phase.rs` has what all phases share.

pub mod exit;
mod phase;
mod report;
pub mod request;
pub mod request_listener;
pub mod worker_rows;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::config::ForcePorts;
use mcpd_common::event::EventKind;
use mcpd_common::ids::RunId;
use mcpd_common::outcome::{ClientsReport, Finding, FindingKind, PhaseOutcome, PhaseReport, ShutdownReport};
use mcpd_common::phase::Phase;
use mcpd_common::status::WorkerStatus;
use mcpd_common::wording::count;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::phase::OnCutShort;
use self::request::{AfterShutdown, Trigger};
use crate::client_ports::ClientPorts;
use crate::deadline::{self, Deadline};
use crate::progress::{Progress, millis};
use crate::proxy::Proxy;
use crate::proxy::observe::client_drain::ClientDrain;
use crate::resources::Resource;
use crate::supervisor::handle::{Order, SupervisorGone, SupervisorHandle, WorkerOutcome};
use crate::verify::self_check::Baseline;
use crate::verify::{self, Verification};
use mcpd_common::time_limits::TimeLimits;

/// Everything that a shutdown works with.
pub struct Shutdown {
    pub run: RunId,
    pub supervisor: SupervisorHandle,
    pub proxy: Arc<Proxy>,
    pub ports: ClientPorts,
    pub limits: TimeLimits,
    pub force_ports: ForcePorts,
    pub resources: Vec<Box<dyn Resource>>,
    pub baseline: Baseline,
    pub progress: Progress,
    /// Cancelled by a second Ctrl-C or `--now`: the remaining waits end at once.
    pub cut_short: CancellationToken,
    /// Findings from outside of the phases: an internal error during the shutdown.
    pub other_findings: mpsc::UnboundedReceiver<Finding>,
}

/// What is known so far. It outlives the phases, so that a shutdown that overruns its bound still reports it.
struct SoFar {
    reason: String,
    after: AfterShutdown,
    began: Instant,
    started_at: Timestamp,
    workers_before: Vec<WorkerStatus>,
    outcomes: Vec<WorkerOutcome>,
    clients: ClientDrain,
    phases: Vec<PhaseReport>,
    findings: Vec<Finding>,
    verification: Verification,
}

impl Shutdown {
    /// Runs all phases but the last, which needs the report.
    pub async fn run(self, trigger: &Trigger) -> ShutdownReport {
        let bound = self.limits.total();
        self.run_within(bound, trigger).await
    }

    /// Only time in which the daemon ran counts.
    async fn run_within(mut self, bound: Duration, trigger: &Trigger) -> ShutdownReport {
        let mut so_far = SoFar::new(trigger, &self.ports);
        let is_overrun = tokio::select! {
            biased;
            () = self.phases(&mut so_far) => false,
            () = deadline::until_run_for(bound) => true,
        };
        if is_overrun {
            let detail = format!("not done within {} s", self.limits.total().as_secs());
            so_far.findings.push(Finding::new(FindingKind::Overrun, "mcpd", detail));
            self.complete_overrun(&mut so_far).await;
        }
        self.report(so_far)
    }

    /// What can still be found out after an overrun: the phase that did not end, and how the workers stopped
    /// (R-SHUT-10).
    async fn complete_overrun(&self, so_far: &mut SoFar) {
        if let Some(phase) = self.progress.status().map(|status| status.phase)
            && so_far.phases.iter().all(|ran| ran.phase != phase)
        {
            let began = so_far.phases.iter().map(|ran| ran.duration_ms).sum();
            let duration_ms =
                millis(deadline::now().saturating_duration_since(so_far.began)).saturating_sub(began);
            let limit_ms = millis(self.limits.of(phase));
            so_far.phases.push(PhaseReport { phase, outcome: PhaseOutcome::Deadline, duration_ms, limit_ms });
        }
        if so_far.outcomes.is_empty()
            && let Ok(Ok(outcomes)) =
                Deadline::after(OUTCOMES_LIMIT).wait(self.supervisor.ask(Order::Outcomes)).await
        {
            so_far.findings.extend(worker_rows::findings(&outcomes));
            so_far.outcomes = outcomes;
        }
    }

    async fn phases(&mut self, so_far: &mut SoFar) {
        self.initiated(so_far).await;
        match so_far.after {
            AfterShutdown::Exit => {
                self.workers_graceful(so_far).await;
                self.clients(so_far).await;
            }
            // A restart of the daemon is invisible to clients: their requests finish before the workers stop.
            AfterShutdown::Replace => {
                self.clients_pause(so_far).await;
                self.workers_graceful(so_far).await;
            }
        }
        self.workers_terminate(so_far).await;
        self.verification(so_far).await;
    }

    async fn initiated(&mut self, so_far: &mut SoFar) {
        match self.supervisor.status_within(COUNT_LIMIT).await {
            Ok(workers) => so_far.workers_before = workers,
            Err(gone) => so_far.findings.push(internal_error(gone)),
        }
        let before = &so_far.workers_before;
        self.progress.publish(EventKind::Started {
            run: self.run,
            reason: so_far.reason.clone(),
            workers: before.iter().map(|worker| worker.name.clone()).collect(),
            limit_ms: millis(self.limits.total()),
        });
        let phase = self.begin(Phase::Initiated);
        so_far.clients.scan().await;
        match so_far.after {
            AfterShutdown::Exit => self.proxy.begin_shutdown(),
            AfterShutdown::Replace => self.proxy.pause(),
        }
        let workers = count(before.len(), "worker");
        let clients = count(so_far.clients.connected() as usize, "client connection");
        let summary = format!("{workers}, {clients}");
        self.finish(phase, PhaseOutcome::Done, summary, so_far);
    }

    async fn workers_graceful(&mut self, so_far: &mut SoFar) {
        let phase = self.begin(Phase::WorkersGraceful);
        let grace_until = phase.deadline().instant();
        self.supervisor.send(Order::StopAll { grace_until, progress: self.progress.clone() });
        let any_running = so_far.workers_before.iter().any(|worker| worker.pid.is_some());
        let skips_requests = self.cut_short.is_cancelled() && any_running;
        if self.cut_short.is_cancelled() {
            self.supervisor.send(Order::KillAll);
        }
        let outcome = match self.wait_for_workers(&phase, OnCutShort::EndWait).await {
            PhaseOutcome::Done if skips_requests => PhaseOutcome::CutShort,
            outcome => outcome,
        };
        let summary = self.workers_summary().await;
        self.finish(phase, outcome, summary, so_far);
    }

    async fn clients(&mut self, so_far: &mut SoFar) {
        let phase = self.begin(Phase::Clients);
        self.proxy.send_shutdown_notice(&so_far.reason);
        let outcome = self.wait_for_clients(&phase, &mut so_far.clients).await;
        so_far.findings.extend(so_far.clients.force(outcome));
        self.proxy.close(phase.deadline().at_most(CLOSE_LIMIT)).await;
        so_far.clients.set_notified(self.proxy.notified());
        so_far.clients.set_ended_sessions(self.proxy.ended_sessions());
        let ClientsReport { seen, told: notified, left, forced, .. } = so_far.clients.report();
        self.progress.publish(EventKind::Clients { connected: 0, left, forced });
        let summary = format!("{left} of {seen} clients disconnected, {notified} streams notified");
        self.finish(phase, outcome, summary, so_far);
    }

    /// Before the daemon replaces itself: requests in flight may finish, as in every requested restart. The
    /// remaining ones get an error for their own id when their worker exits.
    async fn clients_pause(&mut self, so_far: &mut SoFar) {
        let phase = self.begin_within(Phase::Clients, self.limits.of(Phase::WorkersGraceful));
        let outcome = self.wait_until_drained(&phase).await;
        self.proxy.begin_shutdown();
        so_far.clients.scan().await;
        so_far.clients.set_notified(self.proxy.notified());
        so_far.clients.set_ended_sessions(self.proxy.ended_sessions());
        let summary = match self.proxy.registry().all().len() {
            0 => "no request is in flight; new requests wait".to_owned(),
            waiting => {
                format!("{} still waiting for a response; new requests wait", count(waiting, "connection"))
            }
        };
        self.finish(phase, outcome, summary, so_far);
    }

    async fn workers_terminate(&mut self, so_far: &mut SoFar) {
        let phase = self.begin(Phase::WorkersTerminate);
        self.supervisor.send(Order::Escalate);
        let outcome = self.wait_for_workers(&phase, OnCutShort::KeepWaiting).await;
        let summary = self.workers_summary().await;
        // Whatever they start now could outlive the verification.
        self.supervisor.send(Order::EndStopCommands);
        // Without outcomes the workers' processes are killed and reported by the verification all the same.
        match self.supervisor.ask(Order::Outcomes).await {
            Ok(outcomes) => so_far.outcomes = outcomes,
            Err(gone) => so_far.findings.push(internal_error(gone)),
        }
        so_far.findings.extend(worker_rows::findings(&so_far.outcomes));
        if so_far.after == AfterShutdown::Replace {
            self.proxy.cut_off(phase.deadline().at_most(CLOSE_LIMIT)).await;
        }
        self.finish(phase, outcome, summary, so_far);
    }

    async fn verification(&mut self, so_far: &mut SoFar) {
        let phase = self.begin(Phase::Verification);
        let ports = self.ports_to_verify(so_far.after);
        let workers: Vec<_> = so_far.outcomes.iter().map(worker_rows::to_verify).collect();
        let scope = verify::Scope {
            run: self.run.tag(),
            workers: &workers,
            ports: &ports,
            force_ports: self.force_ports,
            resources: &self.resources,
            baseline: &self.baseline,
            process_thread: self.supervisor.process_thread(),
            progress: &self.progress,
        };
        verify::run(scope, phase.deadline(), &mut so_far.verification).await;
        let summary = so_far.verification.proof.clone().unwrap_or_else(|| "no proof".to_owned());
        self.finish(phase, PhaseOutcome::Done, summary, so_far);
    }

    /// Ports that the next program inherits stay in use.
    fn ports_to_verify(&self, after: AfterShutdown) -> ClientPorts {
        let mut ports = self.ports.clone();
        if after == AfterShutdown::Replace {
            ports.retain(|port, _| !self.proxy.ports().contains(port));
        }
        ports
    }

    async fn workers_summary(&self) -> String {
        let remaining = self.supervisor.remaining().await;
        if remaining.is_empty() {
            return "no worker is left".to_owned();
        }
        format!("still running: {}", remaining.join(", "))
    }
}

impl SoFar {
    fn new(trigger: &Trigger, ports: &ClientPorts) -> Self {
        let began = deadline::now();
        Self {
            reason: trigger.reason(),
            after: trigger.after_shutdown(),
            began,
            started_at: Timestamp::now(),
            workers_before: vec![],
            outcomes: vec![],
            clients: ClientDrain::new(ports.clone(), began),
            phases: vec![],
            findings: vec![],
            verification: Verification::default(),
        }
    }
}

fn internal_error(gone: SupervisorGone) -> Finding {
    Finding::new(FindingKind::InternalError, "mcpd", gone.to_string())
}

/// How long counting the descendants may take before the first phase: it has no time of its own.
const COUNT_LIMIT: Duration = Duration::from_millis(500);
/// How long the supervisor may take for its last reply after an overrun.
const OUTCOMES_LIMIT: Duration = Duration::from_millis(500);
/// How long the tasks of connections that were cut off may take to end.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
