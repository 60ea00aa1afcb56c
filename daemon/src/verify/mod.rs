//! Verification: checks everything again after all workers were stopped (section 7).
//!
//! Each check returns findings or its evidence. The order matters: closing a resource may start
//! a process, freeing a port may kill one, so processes come after both, the kernel's
//! proof after them, and the daemon's own descriptors last.

pub mod ports;
pub mod processes;
mod rows;
pub mod self_check;

use std::collections::BTreeMap;

use mcpd_common::check::ports::PortReport;
use mcpd_common::config::ForcePorts;
use mcpd_common::event::EventKind;
use mcpd_common::ids::{Pid, Port, RunTag, Slot, WorkerName};
use mcpd_common::os::Containment;
use mcpd_common::outcome::{Check, ExitStatus, Finding, FindingKind, OwnReport, ResourceReport};
use tokio::time::Instant;

use crate::client_ports::ClientPorts;
use crate::deadline::{self, Deadline};
use crate::process::process_thread::ProcessThread;
use crate::progress::{Progress, millis};
use crate::resources::{self, Resource};
use self_check::Baseline;

/// What to verify, and with what.
pub struct Scope<'a> {
    /// Marks of this run are ours.
    pub run: RunTag,
    pub workers: &'a [StoppedWorker],
    pub ports: &'a ClientPorts,
    /// Which processes may be killed to free a port.
    pub force_ports: ForcePorts,
    pub resources: &'a [Box<dyn Resource>],
    /// What the daemon had open after boot.
    pub baseline: &'a Baseline,
    pub process_thread: &'a ProcessThread,
    pub progress: &'a Progress,
}

/// What verification needs to know of one worker.
pub struct StoppedWorker {
    /// The number in the marks of its processes.
    pub slot: Slot,
    pub name: WorkerName,
    pub port: Port,
    /// The port that it was given last, if it is behind a listener of mcpd.
    pub private_port: Option<Port>,
    /// The leader it had when the shutdown began; `None` if it was not running.
    pub pid: Option<Pid>,
    /// How the leader exited, if that is known.
    pub exit: Option<ExitStatus>,
    /// Whether the supervisor recorded how it stopped.
    pub has_outcome: bool,
}

/// The results of all checks.
#[derive(Default)]
pub struct Verification {
    pub findings: Vec<Finding>,
    pub checks: BTreeMap<WorkerName, Vec<Check>>,
    pub ports: Vec<PortReport>,
    pub resources: Vec<ResourceReport>,
    pub own: OwnReport,
    /// The kernel's statement that no descendant is left.
    pub proof: Option<String>,
    /// How the workers' processes were contained.
    pub containment: Option<Containment>,
}

/// Runs all checks; none of them waits past the deadline.
pub async fn run(scope: Scope<'_>, deadline: Deadline) -> Verification {
    let mut verdict = Verification::default();

    let watch = CheckTimer::start(&scope, "resources");
    verdict.resources = resources::close_all(scope.resources, deadline).await;
    verdict.findings.extend(verdict.resources.iter().filter_map(resource_finding));
    watch.stop(&verdict, format!("{} closed", verdict.resources.len()));

    let watch = CheckTimer::start(&scope, "ports");
    let held = ports::free_them(&scope, deadline).await;
    verdict.findings.extend(held.findings);
    verdict.ports = held.reports;
    let ports_ms = watch.stop(&verdict, ports::evidence(&verdict.ports));

    let watch = CheckTimer::start(&scope, "processes");
    let left = processes::end_them(&scope, deadline).await;
    verdict.findings.extend(left.findings);
    verdict.proof = left.proof;
    verdict.containment = left.containment;
    let processes_ms = watch.stop(&verdict, left.evidence);

    let watch = CheckTimer::start(&scope, "descriptors");
    verdict.own = scope.baseline.compare(deadline).await;
    verdict.findings.extend(self_check::finding(&verdict.own));
    watch.stop(&verdict, self_check::evidence(&verdict.own));

    verdict.checks = rows::checks(&scope, &verdict, &left.remaining, ports_ms, processes_ms);
    verdict
}

fn resource_finding(resource: &ResourceReport) -> Option<Finding> {
    let error = resource.error.clone()?;
    Some(Finding::new(FindingKind::ResourceFailed, &resource.name, format!("failed to close: {error}")))
}

/// Measures one check, logs and publishes it.
struct CheckTimer<'a> {
    scope: &'a Scope<'a>,
    check: &'static str,
    began: Instant,
}

impl<'a> CheckTimer<'a> {
    fn start(scope: &'a Scope<'a>, check: &'static str) -> Self {
        Self { scope, check, began: deadline::now() }
    }

    /// Returns its duration in milliseconds.
    fn stop(self, verdict: &Verification, evidence: String) -> u64 {
        let duration_ms = millis(deadline::now().saturating_duration_since(self.began));
        let kinds: &[FindingKind] = match self.check {
            "resources" => &[FindingKind::ResourceFailed],
            "ports" => &[FindingKind::PortInUse],
            "processes" => &[FindingKind::ProcessLeft, FindingKind::ZombieLeft, FindingKind::InternalError],
            _ => &[],
        };
        let passed = !verdict.findings.iter().any(|finding| kinds.contains(&finding.kind));
        tracing::info!(check = self.check, passed, evidence, duration_ms, "verified");
        let check = self.check.to_owned();
        self.scope.progress.publish(EventKind::Verified { check, passed, evidence, duration_ms });
        duration_ms
    }
}
