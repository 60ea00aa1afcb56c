//! Every port can be bound again, or all its holders are named (R-VER-2).

use std::collections::HashMap;
use std::time::Duration;

use mcpd_common::check::ports::{self, KnownPort, PortReport, PortState};
use mcpd_common::config::ForcePorts;
use mcpd_common::ids::{Pid, Port, RunTag, Slot, WorkerName};
use mcpd_common::os::child::{Handle, Signal};
use mcpd_common::os::process;
use mcpd_common::outcome::{Finding, FindingKind};
use mcpd_common::wording::count;
use tokio::task::JoinError;

use super::{MINIMUM_TIME, Scope};
use crate::deadline::{self, Deadline};

/// Between two checks of the ports.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Limit when only foreign processes hold ports: waiting does not end them.
const FOREIGN_HOLDER_LIMIT: Duration = Duration::from_secs(2);

pub struct PortsOutcome {
    pub findings: Vec<Finding>,
    /// One line about all ports.
    pub evidence: String,
    /// The last report of each port.
    pub reports: Vec<PortReport>,
}

/// Checks until every port is free or waiting is pointless; kills holders as far as
/// `force_ports` allows.
pub async fn wait_until_free(scope: &Scope<'_>, deadline: Deadline) -> PortsOutcome {
    let known = known_ports(scope);
    let excuses = Excuses::of(scope);
    // A third is reserved for the checks that follow, also if this one hangs.
    let limit = Deadline::at(deadline.instant() - deadline.remaining() / 3);
    let check_limit = limit.max(Deadline::after(MINIMUM_TIME));
    let foreign_until = limit.at_most(FOREIGN_HOLDER_LIMIT);
    let mut last = None;
    loop {
        let reports = match check_limit.wait(check(scope, &known)).await {
            Ok(Ok(reports)) => reports,
            Ok(Err(error)) => return last.unwrap_or_else(|| unknown(known.len(), &error.to_string())),
            Err(elapsed) => return last.unwrap_or_else(|| unknown(known.len(), &elapsed.to_string())),
        };
        let concerns_mcpd = |report: &&PortReport| is_held(report) && excuses.find(report).is_none();
        let held: Vec<_> = reports.iter().filter(concerns_mcpd).collect();
        let only_foreign = held.iter().all(|report| is_held_by_foreign_processes(report));
        let until = if only_foreign { foreign_until } else { limit };
        if held.is_empty() || until.remaining().is_zero() {
            return outcome(reports, &excuses);
        }
        for report in held {
            kill_holders(report, scope.run, scope.force_ports);
        }
        last = Some(outcome(reports, &excuses));
        deadline::until(deadline::now() + POLL_INTERVAL).await;
    }
}

fn outcome(reports: Vec<PortReport>, excuses: &Excuses) -> PortsOutcome {
    let findings = reports.iter().filter_map(|report| finding(report, excuses)).collect();
    PortsOutcome { findings, evidence: evidence(&reports), reports }
}

/// The ports could not be checked even once, so nothing may be claimed about them.
fn unknown(ports: usize, why: &str) -> PortsOutcome {
    let evidence = format!("{} could not be checked: {why}", count(ports, "port"));
    let findings = vec![Finding::new(FindingKind::InternalError, "mcpd", evidence.clone())];
    PortsOutcome { findings, evidence, reports: vec![] }
}

fn evidence(reports: &[PortReport]) -> String {
    let held = reports.iter().filter(|report| is_held(report)).count();
    let lingering: u32 = reports.iter().map(|report| report.time_wait).sum();
    let seconds = reports.iter().map(|report| report.time_wait_seconds).max().unwrap_or(0);
    let ports = reports.len();
    match (held, lingering) {
        (0, 0) => format!("{ports} of {ports} can be bound"),
        (0, lingering) => {
            format!("{ports} of {ports} can be bound; {lingering} in TIME_WAIT, {seconds} s more")
        }
        (held, _) => format!("{held} of {ports} are in use"),
    }
}

/// Whether a process holds it.
pub fn is_held(report: &PortReport) -> bool {
    matches!(report.state, PortState::InUse | PortState::Serving)
}

fn known_ports(scope: &Scope<'_>) -> Vec<KnownPort> {
    let mut known: Vec<_> = scope
        .ports
        .iter()
        .map(|(port, worker)| KnownPort { port: *port, worker: Some(worker.clone()) })
        .collect();
    let private = scope.workers.iter().filter_map(|worker| Some((worker.private_port?, &worker.name)));
    known.extend(private.map(|(port, worker)| KnownPort { port, worker: Some(worker.clone()) }));
    known.sort_by_key(|known| known.port);
    known
}

/// Why a port that only foreign processes hold is not a leak, by port.
struct Excuses(HashMap<Port, &'static str>);

impl Excuses {
    fn of(scope: &Scope<'_>) -> Self {
        let mut excuses = HashMap::new();
        for worker in scope.workers {
            // It came from the kernel and went back to it.
            excuses.extend(worker.private_port.map(|port| (port, "a private port that mcpd had returned")));
            if !worker.had_port && scope.force_ports != ForcePorts::Any {
                excuses.insert(worker.port, "mcpd never had this port");
            }
        }
        Self(excuses)
    }

    fn find(&self, report: &PortReport) -> Option<&'static str> {
        self.0.get(&report.port).copied().filter(|_| is_held_by_foreign_processes(report))
    }
}

/// # Errors
/// If the examining task panicked.
async fn check(scope: &Scope<'_>, known: &[KnownPort]) -> Result<Vec<PortReport>, JoinError> {
    let known = known.to_vec();
    let run = scope.run;
    let names = names(scope);
    tokio::task::spawn_blocking(move || {
        crate::fault::panic_in("port-check");
        crate::fault::hang_in("port-check");
        ports::examine(&known, &|pid| owner(pid, run, &names))
    })
    .await
}

fn names(scope: &Scope<'_>) -> HashMap<Slot, WorkerName> {
    scope.workers.iter().map(|worker| (worker.slot, worker.name.clone())).collect()
}

fn owner(pid: Pid, run: RunTag, names: &HashMap<Slot, WorkerName>) -> Option<WorkerName> {
    let mark = process::best_effort::mark(pid).filter(|mark| mark.run == run)?;
    names.get(&mark.slot).cloned()
}

fn is_held_by_foreign_processes(report: &PortReport) -> bool {
    !report.holders.is_empty() && report.holders.iter().all(|holder| holder.worker.is_none())
}

/// Kills the holders that may be killed. Each is identified again right before, because the pid in
/// the report may have been reused.
fn kill_holders(report: &PortReport, run: RunTag, allowed: ForcePorts) {
    for pid in report.holders.iter().filter_map(|holder| holder.pid) {
        let ours = process::best_effort::mark(pid).is_some_and(|mark| mark.run == run);
        let may_kill = match allowed {
            ForcePorts::Own => ours,
            ForcePorts::Never => false,
            ForcePorts::Any => pid != Pid::current(),
        };
        if !may_kill {
            continue;
        }
        if let Some(process) = process::best_effort::read(pid)
            && let Ok(Some(holder)) = Handle::open(&process)
        {
            tracing::warn!(port = %report.port, %pid, "killing the holder of a port");
            let _ = holder.signal(Signal::Kill);
        }
    }
}

/// `TIME_WAIT` is not a finding: the port's row and the evidence have it.
fn finding(report: &PortReport, excuses: &Excuses) -> Option<Finding> {
    if !is_held(report) {
        return None;
    }
    if let Some(excuse) = excuses.find(report) {
        let detail = format!("{excuse}: {}", report.holders_sentence());
        return Some(Finding::new(FindingKind::Information, report.port, detail));
    }
    let mut detail = report.holders_sentence();
    if is_held_by_foreign_processes(report) {
        detail.push_str("; it is not a process of mcpd and was left alone");
    }
    Some(Finding::new(FindingKind::PortInUse, report.port, detail))
}
