//! Every port can be bound again, or all its holders are named (R-VER-2).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use mcpd_common::check::ports::{self, KnownPort, PortReport, PortState};
use mcpd_common::config::ForcePorts;
use mcpd_common::ids::{Pid, Port, RunTag, Slot, WorkerName};
use mcpd_common::os::child::{Handle, Signal};
use mcpd_common::os::process;
use mcpd_common::outcome::{Finding, FindingKind};

use super::Scope;
use crate::deadline::{self, Deadline};

/// Between two checks of the ports.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Limit when only foreign processes hold ports: waiting does not end them.
const FOREIGN_HOLDER_LIMIT: Duration = Duration::from_secs(2);

pub struct Held {
    pub findings: Vec<Finding>,
    /// The last report of each port.
    pub reports: Vec<PortReport>,
}

/// Checks until every port is free or waiting is pointless; kills holders as far as
/// `force_ports` allows.
pub async fn free_them(scope: &Scope<'_>, deadline: Deadline) -> Held {
    let known = known_ports(scope);
    let private = private_ports(scope);
    let deadline = Deadline::at(deadline.instant() - deadline.remaining() / 3);
    let strangers_until = deadline.at_most(FOREIGN_HOLDER_LIMIT);
    loop {
        let reports = check(scope, &known).await;
        let concerns_us = |report: &&PortReport| is_held(report) && !was_given_back(report, &private);
        let held: Vec<_> = reports.iter().filter(concerns_us).collect();
        let only_strangers = held.iter().all(|report| is_held_by_strangers(report));
        let limit = if only_strangers { strangers_until } else { deadline };
        if held.is_empty() || limit.remaining().is_zero() {
            let findings = reports.iter().filter_map(|report| finding(report, &private)).collect();
            return Held { findings, reports };
        }
        for report in held {
            force(report, scope.run, scope.force_ports);
        }
        deadline::until(deadline::now() + POLL_INTERVAL).await;
    }
}

/// One line about all ports.
pub fn evidence(reports: &[PortReport]) -> String {
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

fn private_ports(scope: &Scope<'_>) -> HashSet<Port> {
    scope.workers.iter().filter_map(|worker| worker.private_port).collect()
}

/// A private port came from the kernel and went back to it: its new holder is not a leak.
fn was_given_back(report: &PortReport, private: &HashSet<Port>) -> bool {
    private.contains(&report.port) && is_held_by_strangers(report)
}

async fn check(scope: &Scope<'_>, known: &[KnownPort]) -> Vec<PortReport> {
    let known = known.to_vec();
    let run = scope.run;
    let names = names(scope);
    let examined =
        tokio::task::spawn_blocking(move || ports::examine(&known, &|pid| owner(pid, run, &names)));
    examined.await.unwrap_or_default()
}

fn names(scope: &Scope<'_>) -> HashMap<Slot, WorkerName> {
    scope.workers.iter().map(|worker| (worker.slot, worker.name.clone())).collect()
}

fn owner(pid: Pid, run: RunTag, names: &HashMap<Slot, WorkerName>) -> Option<WorkerName> {
    let mark = process::best_effort::mark(pid).filter(|mark| mark.run == run)?;
    names.get(&mark.slot).cloned()
}

fn is_held_by_strangers(report: &PortReport) -> bool {
    !report.holders.is_empty() && report.holders.iter().all(|holder| holder.worker.is_none())
}

/// Kills the holders that may be killed. Each is identified again right before, because the pid in
/// the report may have been reused.
fn force(report: &PortReport, run: RunTag, whose: ForcePorts) {
    for pid in report.holders.iter().filter_map(|holder| holder.pid) {
        let ours = process::best_effort::mark(pid).is_some_and(|mark| mark.run == run);
        let allowed = match whose {
            ForcePorts::Own => ours,
            ForcePorts::Never => false,
            ForcePorts::Any => pid != Pid::current(),
        };
        if !allowed {
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
fn finding(report: &PortReport, private: &HashSet<Port>) -> Option<Finding> {
    if !is_held(report) {
        return None;
    }
    if was_given_back(report, private) {
        let detail = format!("a private port that was given back: {}", report.holders_sentence());
        return Some(Finding::new(FindingKind::Information, report.port, detail));
    }
    let mut detail = report.holders_sentence();
    if is_held_by_strangers(report) {
        detail.push_str("; it is not a process of mcpd and was left alone");
    }
    Some(Finding::new(FindingKind::PortInUse, report.port, detail))
}
