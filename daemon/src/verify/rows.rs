//! The checks of each worker, from the results for all.

use std::collections::{BTreeMap, HashMap};

use mcpd_common::check::ports::PortReport;
use mcpd_common::ids::{Port, WorkerName};
use mcpd_common::os::process::{self, Process};
use mcpd_common::os::{Listing, ProcessInfo};
use mcpd_common::outcome::{Check, CheckSubject};

use super::{Scope, StoppedWorker, ports};
use crate::deadline;
use crate::progress::millis;

/// The checks of every worker.
pub fn checks(
    scope: &Scope<'_>,
    reports: &[PortReport],
    remaining: &[ProcessInfo],
    ports_ms: u64,
    processes_ms: u64,
) -> BTreeMap<WorkerName, Vec<Check>> {
    let began = deadline::now();
    let groups = Groups::of(process::all(), scope);
    let groups_ms = millis(deadline::now().saturating_duration_since(began));
    let ports: HashMap<Port, &PortReport> = reports.iter().map(|report| (report.port, report)).collect();
    let row = |worker: &StoppedWorker| {
        vec![
            processes(worker, remaining, processes_ms),
            groups.check(worker, groups_ms),
            zombies(worker, remaining, processes_ms),
            port(ports.get(&worker.port).copied(), ports_ms),
        ]
    };
    let mut all = BTreeMap::new();
    for worker in scope.workers {
        join(all.entry(worker.name.clone()).or_default(), row(worker));
    }
    all
}

/// A worker may have several processes: each check is passed if it is passed for all of them.
fn join(all: &mut Vec<Check>, of_one: Vec<Check>) {
    if all.is_empty() {
        return *all = of_one;
    }
    for (joined, one) in all.iter_mut().zip(of_one) {
        joined.passed &= one.passed;
        if joined.evidence != one.evidence {
            joined.evidence = format!("{}; {}", joined.evidence, one.evidence);
        }
    }
}

fn check(subject: CheckSubject, passed: bool, evidence: String, duration_ms: u64) -> Check {
    Check { subject, passed, evidence, duration_ms }
}

fn processes(worker: &StoppedWorker, remaining: &[ProcessInfo], duration_ms: u64) -> Check {
    let left = worker.pid.is_some_and(|pid| remaining.iter().any(|process| process.pid == pid));
    let exit = worker.exit;
    let evidence = match (worker.pid, exit, left) {
        (None, ..) => "it was not running".to_owned(),
        (Some(pid), _, true) => format!("pid {pid} is still running"),
        (Some(pid), Some(exit), _) => format!("pid {pid}: {exit}, reaped; no descendant is left"),
        (Some(pid), None, _) => format!("pid {pid} is gone; no descendant is left"),
    };
    check(
        CheckSubject::Processes,
        !left && (worker.pid.is_none() || worker.has_outcome),
        evidence,
        duration_ms,
    )
}

fn zombies(worker: &StoppedWorker, remaining: &[ProcessInfo], duration_ms: u64) -> Check {
    let own = |process: &&ProcessInfo| {
        process.state == 'Z'
            && (Some(process.pid) == worker.pid
                || process.pgid.map(|group| group.get()) == worker.pid.map(|pid| pid.get()))
    };
    let zombies: Vec<_> = remaining.iter().filter(own).map(|process| process.pid.to_string()).collect();
    let evidence = if zombies.is_empty() { "none".to_owned() } else { format!("pid {}", zombies.join(", ")) };
    check(CheckSubject::Zombies, zombies.is_empty(), evidence, duration_ms)
}

fn port(report: Option<&PortReport>, duration_ms: u64) -> Check {
    let (passed, evidence) = match report {
        None => (true, "not checked".to_owned()),
        Some(report) if ports::is_held(report) => (false, report.holders_sentence()),
        Some(report) if report.time_wait > 0 => {
            (true, format!("{} can be bound, {} in TIME_WAIT", report.port, report.time_wait))
        }
        Some(report) => (true, format!("{} can be bound", report.port)),
    };
    check(CheckSubject::Port, passed, evidence, duration_ms)
}

/// The members of the workers' groups, from one snapshot of all processes.
struct Groups {
    members: HashMap<i32, Vec<Process>>,
    is_complete: bool,
}

impl Groups {
    fn of(all: Listing<Process>, scope: &Scope<'_>) -> Self {
        let ours: HashMap<i32, ()> =
            scope.workers.iter().filter_map(|worker| Some((worker.pid?.get(), ()))).collect();
        let mut groups: HashMap<i32, Vec<Process>> = HashMap::new();
        let mut scan = Listing::<Process>::default();
        for process in scan.take(all) {
            // The leader is reaped, so a foreign group may have the number now.
            let mut marked =
                || scan.record(process::mark(process.pid)).is_some_and(|mark| mark.run == scope.run);
            if ours.contains_key(&process.pgid) && (process.state == 'Z' || marked()) {
                groups.entry(process.pgid).or_default().push(process);
            }
        }
        Self { members: groups, is_complete: scan.is_complete() }
    }

    fn check(&self, worker: &StoppedWorker, duration_ms: u64) -> Check {
        let Some(pid) = worker.pid else {
            return check(CheckSubject::Group, true, "it had no group".to_owned(), duration_ms);
        };
        let members: Vec<_> =
            self.members.get(&pid.get()).into_iter().flatten().map(|member| member.pid.to_string()).collect();
        let evidence = match members.is_empty() {
            true if !self.is_complete => "not all processes could be read".to_owned(),
            true => format!("group {pid} is empty"),
            false => format!("group {pid} still has pid {}", members.join(", ")),
        };
        check(CheckSubject::Group, members.is_empty() && self.is_complete, evidence, duration_ms)
    }
}
