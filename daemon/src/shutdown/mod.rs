//! **Read second.** The shutdown: six phases, each always runs, none waits without bound.
//!
//! ```text
//!   initiated          what exists is recorded, restarts are off
//!   workers-graceful   everybody is asked, all at the same time          worker_graceful
//!   clients            connections take their last bytes                 clients, in total
//!   workers-terminate  SIGTERM, then SIGKILL, to what is still there     worker_total - worker_graceful, + 5 s
//!   verification       processes, zombies, ports, resources, ourselves   verification
//!   exit               report, journal, socket (exit.rs)                 1 s
//! ```
//!
//! What goes wrong becomes a finding, never an early return; findings alone decide the exit
//! code. `request.rs` says who may start this and what later requests do, `limits.rs` how long
//! each phase may take, `progress.rs` tells every step to whoever listens.

pub mod exit;
mod report;
pub mod request;
mod stage;
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
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::request::AfterShutdown;
use crate::deadline;
use crate::progress::{Progress, millis};
use crate::proxy::Proxy;
use crate::proxy::observe::client_drain::ClientDrain;
use crate::proxy::observe::socket_table;
use crate::resources::Resource;
use crate::supervisor::handle::{Order, SupervisorHandle, WorkerOutcome};
use crate::time_limits::TimeLimits;
use crate::verify::self_check::Baseline;
use crate::verify::{self, Verification};

/// Everything that a shutdown works with.
pub struct Shutdown {
    /// The run that ends.
    pub run: RunId,
    /// Why.
    pub reason: String,
    /// What comes after it.
    pub ending: AfterShutdown,
    /// Who has to leave.
    pub workers: SupervisorHandle,
    /// The doors that clients come through.
    pub proxy: Arc<Proxy>,
    /// Whose ports these are.
    pub ports: socket_table::Ports,
    /// How long each phase may take.
    pub limits: TimeLimits,
    /// Whose processes may be killed to free a port.
    pub force_ports: ForcePorts,
    /// What has to be closed.
    pub resources: Vec<Box<dyn Resource>>,
    /// What the daemon held when it had booted.
    pub baseline: Baseline,
    /// Where every step is told.
    pub progress: Progress,
    /// Cuts the remaining waits short.
    pub hurry: CancellationToken,
    /// Findings from outside: an internal error during the shutdown.
    pub noted: mpsc::UnboundedReceiver<Finding>,
}

/// What has come together so far.
struct Collected {
    began: Instant,
    started_at: Timestamp,
    before: Vec<WorkerStatus>,
    clients: ClientDrain,
    phases: Vec<PhaseReport>,
    findings: Vec<Finding>,
    verdict: Verification,
}

impl Shutdown {
    /// All phases but the last, which needs the report.
    pub async fn run(mut self) -> ShutdownReport {
        let mut so_far = self.initiated().await;
        match self.ending {
            AfterShutdown::Exit => {
                self.workers_graceful(&mut so_far).await;
                self.clients(&mut so_far).await;
            }
            // Clients that come back shall not notice: their workers leave when nobody uses them.
            AfterShutdown::Replace => {
                self.clients_pause(&mut so_far).await;
                self.workers_graceful(&mut so_far).await;
            }
        }
        let outcomes = self.workers_terminate(&mut so_far).await;
        self.verification(&mut so_far, &outcomes).await;
        self.report(so_far, &outcomes)
    }

    async fn initiated(&mut self) -> Collected {
        let (began, started_at) = (deadline::now(), Timestamp::now());
        let before = self.workers.status().await.unwrap_or_default();
        self.progress.publish(EventKind::Started {
            run: self.run,
            reason: self.reason.clone(),
            workers: before.iter().map(|worker| worker.name.clone()).collect(),
            limit_ms: millis(self.limits.total()),
        });
        let stage = self.begin(Phase::Initiated);
        let clients = ClientDrain::begin(self.ports.clone(), began);
        match self.ending {
            AfterShutdown::Exit => self.proxy.begin_shutdown(),
            AfterShutdown::Replace => self.proxy.pause(),
        }
        let summary = format!("{} workers, {} client connections", before.len(), clients.connected());
        let mut so_far = Collected {
            began,
            started_at,
            before,
            clients,
            phases: vec![],
            findings: vec![],
            verdict: Verification::default(),
        };
        self.finish(stage, PhaseOutcome::Done, summary, &mut so_far);
        so_far
    }

    async fn workers_graceful(&mut self, so_far: &mut Collected) {
        let stage = self.begin(Phase::WorkersGraceful);
        let (grace_until, progress) = (stage.deadline().instant(), self.progress.clone());
        self.workers.send(Order::StopOutcome { grace_until, progress });
        // Killed instead of asked, however soon they are gone.
        let running = so_far.before.iter().any(|worker| worker.pid.is_some());
        let unasked = self.hurry.is_cancelled() && running;
        if self.hurry.is_cancelled() {
            self.workers.send(Order::Hurry);
        }
        let outcome = match self.wait_for_workers(&stage, Hurrying::CutsShort).await {
            PhaseOutcome::Done if unasked => PhaseOutcome::CutShort,
            outcome => outcome,
        };
        let summary = self.workers_summary().await;
        self.finish(stage, outcome, summary, so_far);
    }

    async fn clients(&mut self, so_far: &mut Collected) {
        let stage = self.begin(Phase::Clients);
        self.proxy.send_shutdown_notice(&self.reason);
        let outcome = self.wait_for_clients(&stage, &mut so_far.clients).await;
        so_far.findings.extend(so_far.clients.force(outcome));
        self.proxy.close(stage.deadline().at_most(CLOSE)).await;
        so_far.clients.told(self.proxy.told());
        let report = so_far.clients.report();
        self.progress.publish(EventKind::Clients { connected: 0, left: report.left, forced: report.forced });
        let ClientsReport { seen, told, left, .. } = report;
        let summary = format!("{left} of {seen} left by themselves, {told} streams were told");
        self.finish(stage, outcome, summary, so_far);
    }

    /// What is in flight may finish, as in every wanted restart; the rest gets an error of its own id
    /// when its worker leaves.
    async fn clients_pause(&mut self, so_far: &mut Collected) {
        let stage = self.begin_within(Phase::Clients, self.limits.of(Phase::WorkersGraceful));
        let outcome = self.wait_until_drained(&stage).await;
        self.proxy.begin_shutdown();
        so_far.clients.look();
        so_far.clients.told(self.proxy.told());
        let waiting = self.proxy.registry().all().len();
        let summary = match waiting {
            0 => "nothing is in flight; who calls now waits".to_owned(),
            _ => format!("{waiting} connections still wait for an answer; who calls now waits"),
        };
        self.finish(stage, outcome, summary, so_far);
    }

    async fn workers_terminate(&mut self, so_far: &mut Collected) -> Vec<WorkerOutcome> {
        let stage = self.begin(Phase::WorkersTerminate);
        self.workers.send(Order::Escalate);
        let outcome = self.wait_for_workers(&stage, Hurrying::IsUnderWay).await;
        let summary = self.workers_summary().await;
        // Without outcomes, what the workers left is killing all the same.
        let outcomes = self.workers.ask(Order::Outcomes).await.unwrap_or_else(|gone| {
            so_far.findings.push(Finding::new(FindingKind::InternalError, "mcpd", gone.to_string()));
            vec![]
        });
        so_far.findings.extend(worker_rows::findings(&outcomes));
        if self.ending == AfterShutdown::Replace {
            self.proxy.cut_off(stage.deadline().at_most(CLOSE)).await;
        }
        self.finish(stage, outcome, summary, so_far);
        outcomes
    }

    async fn verification(&mut self, so_far: &mut Collected, outcomes: &[WorkerOutcome]) {
        let stage = self.begin(Phase::Verification);
        let ports = self.ports_to_verify();
        let scope = verify::Scope {
            run: self.run.tag(),
            outcomes,
            ports: &ports,
            force_ports: self.force_ports,
            resources: &self.resources,
            baseline: &self.baseline,
            process_thread: self.workers.process_thread(),
            progress: &self.progress,
        };
        so_far.verdict = verify::run(scope, stage.deadline()).await;
        so_far.findings.append(&mut so_far.verdict.findings);
        let summary = so_far.verdict.proof.clone().unwrap_or_else(|| "no proof".to_owned());
        self.finish(stage, PhaseOutcome::Done, summary, so_far);
    }

    /// What the next program goes on listening on is not given back.
    fn ports_to_verify(&self) -> socket_table::Ports {
        let mut ports = self.ports.clone();
        if self.ending == AfterShutdown::Replace {
            ports.retain(|port, _| !self.proxy.ports().contains(port));
        }
        ports
    }

    async fn workers_summary(&self) -> String {
        match self.workers.remaining().await {
            remaining if remaining.is_empty() => "no worker is left".to_owned(),
            remaining => format!("still there: {}", remaining.join(", ")),
        }
    }
}

/// What a request to hurry does to a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hurrying {
    /// Ends it.
    CutsShort,
    /// Nothing more: `SIGKILL` has been sent, and is still verified.
    IsUnderWay,
}

/// How long the tasks of connections that were cut off may take to end.
const CLOSE: Duration = Duration::from_millis(500);

/// Between two notices of who is still awaited (R-SHUT-3).
const NOTICE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
