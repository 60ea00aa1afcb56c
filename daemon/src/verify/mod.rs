//! Verification: checks everything again after all workers were stopped (section 7).
//!
//! Each check returns findings or its evidence. The order matters: a container may hold a port, closing a resource or
//! asking a container engine starts a process, freeing a port may kill one, so processes come after all of them, the
//! kernel's proof after them, and the daemon's own descriptors last.

pub mod containers;
pub mod ports;
pub mod processes;
mod rows;
pub mod self_check;

use std::collections::BTreeMap;
use std::time::Duration;

use mcpd_common::check::ports::PortReport;
use mcpd_common::config::ForcePorts;
use mcpd_common::event::EventKind;
use mcpd_common::ids::{Pid, Port, RunTag, Slot, WorkerName};
use mcpd_common::os::Containment;
use mcpd_common::outcome::{Check, ExitStatus, Finding, FindingKind, OwnReport, ResourceReport};
use tokio::time::Instant;

use crate::client_ports::ClientPorts;
use crate::deadline::{self, Deadline};
use crate::process::container::WorkerContainer;
use crate::process::process_thread::ProcessThread;
use crate::progress::{Progress, millis};
use crate::resources::{self, Resource};
use self_check::Baseline;

/// Time that looking at ports or processes gets at least, even past the deadline: without a look nothing may be claimed.
const MINIMUM_TIME: Duration = Duration::from_millis(500);

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
    /// Whether mcpd or the worker ever had the client port.
    pub had_port: bool,
    /// The leader it had when the shutdown began; `None` if it was not running.
    pub pid: Option<Pid>,
    /// How the leader exited, if that is known.
    pub exit: Option<ExitStatus>,
    /// Whether the supervisor recorded how it stopped.
    pub has_outcome: bool,
    /// The containers that it has started, if its command runs some.
    pub container: Option<WorkerContainer>,
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

/// Runs all checks; none of them waits past the deadline. `result` has what was found so far, at any moment.
pub async fn run(scope: Scope<'_>, deadline: Deadline, result: &mut Verification) {
    let timer = CheckTimer::start(&scope, CheckName::Resources);
    result.resources = resources::close_all(scope.resources, deadline).await;
    let findings: Vec<_> = result.resources.iter().filter_map(resource_finding).collect();
    timer.stop(&findings, closed(&result.resources));
    result.findings.extend(findings);

    let containers = containers::verify(&scope, deadline, result).await;

    let timer = CheckTimer::start(&scope, CheckName::Ports);
    let ports = ports::wait_until_free(&scope, deadline).await;
    let ports_ms = timer.stop(&ports.findings, ports.evidence);
    result.findings.extend(ports.findings);
    result.ports = ports.reports;

    let timer = CheckTimer::start(&scope, CheckName::Processes);
    let processes = processes::kill_and_prove(&scope, deadline).await;
    let processes_ms = timer.stop(&processes.findings, processes.evidence);
    result.findings.extend(processes.findings);
    result.proof = processes.proof;
    result.containment = processes.containment;

    let timer = CheckTimer::start(&scope, CheckName::Descriptors);
    result.own = scope.baseline.compare(deadline).await;
    let leak = self_check::finding(&result.own);
    timer.stop(leak.as_slice(), self_check::evidence(&result.own));
    result.findings.extend(leak);

    result.checks = rows::checks(&scope, &result.ports, &processes.remaining, ports_ms, processes_ms);
    for (name, check) in containers {
        result.checks.entry(name).or_default().push(check);
    }
}

/// "3 closed", or "2 of 3 closed; failed to close: cache".
fn closed(resources: &[ResourceReport]) -> String {
    let all = resources.len();
    let failed: Vec<_> =
        resources.iter().filter(|it| it.error.is_some()).map(|it| it.name.as_str()).collect();
    if failed.is_empty() {
        return format!("{all} closed");
    }
    format!("{} of {all} closed; failed to close: {}", all - failed.len(), failed.join(", "))
}

fn resource_finding(resource: &ResourceReport) -> Option<Finding> {
    let error = resource.error.clone()?;
    Some(Finding::new(FindingKind::ResourceFailed, &resource.name, format!("failed to close: {error}")))
}

/// The checks, as events and log lines name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckName {
    Resources,
    Containers,
    Ports,
    Processes,
    Descriptors,
}

impl CheckName {
    fn name(self) -> &'static str {
        match self {
            Self::Resources => "resources",
            Self::Containers => "containers",
            Self::Ports => "ports",
            Self::Processes => "processes",
            Self::Descriptors => "descriptors",
        }
    }
}

/// Measures one check, logs and publishes it.
struct CheckTimer<'a> {
    scope: &'a Scope<'a>,
    check: CheckName,
    began: Instant,
}

impl<'a> CheckTimer<'a> {
    fn start(scope: &'a Scope<'a>, check: CheckName) -> Self {
        Self { scope, check, began: deadline::now() }
    }

    /// The check has passed if its findings are information. Returns its duration in milliseconds.
    fn stop(self, findings: &[Finding], evidence: String) -> u64 {
        let duration_ms = millis(deadline::now().saturating_duration_since(self.began));
        let passed = findings.iter().all(|finding| finding.kind == FindingKind::Information);
        let check = self.check.name();
        tracing::info!(check, passed, evidence, duration_ms, "verified");
        let check = check.to_owned();
        self.scope.progress.publish(EventKind::Verified { check, passed, evidence, duration_ms });
        duration_ms
    }
}
