//! From the supervisor's outcomes to findings and rows of the report. Pure.

use std::collections::BTreeMap;

use mcpd_common::ids::WorkerName;
use mcpd_common::os::ProcessInfo;
use mcpd_common::outcome::{Asked, Check, Departure, Finding, FindingKind, WorkerReport};
use mcpd_common::status::WorkerStatus;

use crate::progress::millis;
use crate::supervisor::handle::WorkerOutcome;
use crate::supervisor::stop_sequence::StopOutcome;
use crate::verify::StoppedWorker;

/// The findings about how workers stopped.
pub fn findings(outcomes: &[WorkerOutcome]) -> Vec<Finding> {
    let mut findings = vec![];
    for outcome in outcomes {
        let departure = outcome.stop.as_ref().and_then(|stop| departure(outcome, stop));
        findings.extend(departure);
        let information =
            |information: &String| Finding::new(FindingKind::Information, &outcome.name, information.clone());
        findings.extend(outcome.notes.iter().map(information));
        let killed = |container: &String| {
            Finding::new(FindingKind::DescendantsKilled, &outcome.name, container.clone())
        };
        findings.extend(outcome.killed_containers.iter().map(killed));
    }
    findings
}

fn departure(outcome: &WorkerOutcome, stop: &StopOutcome) -> Option<Finding> {
    let alone = stop.outlived.is_empty();
    let rest = names(&stop.outlived);
    let answer = stop.answer.as_deref().map(|answer| format!(" (response: {answer})"));
    let answer = answer.unwrap_or_default();
    let (kind, detail) = match (stop.departure, alone) {
        (Departure::NotRunning | Departure::Left, true) => return None,
        (Departure::NotRunning | Departure::Left, false) => {
            (FindingKind::Information, format!("descendants outlived their leader, then exited: {rest}"))
        }
        (Departure::Terminated, true) if stop.forced.is_none() => {
            let seconds = stop.after.as_secs_f64();
            (FindingKind::WorkerTerminated, format!("exited only {seconds:.1} s after the request{answer}"))
        }
        (Departure::Terminated, true) => {
            (FindingKind::WorkerTerminated, format!("did not exit on request{answer}; SIGTERM was needed"))
        }
        (Departure::Terminated, false) => (
            FindingKind::DescendantsTerminated,
            format!("descendants outlived their leader and needed SIGTERM: {rest}"),
        ),
        (Departure::Killed | Departure::Remains, true) => {
            (FindingKind::WorkerKilled, format!("did not exit{answer}; SIGKILL was needed"))
        }
        (Departure::Killed | Departure::Remains, false) => (
            FindingKind::DescendantsKilled,
            format!("descendants outlived their leader and needed SIGKILL: {rest}"),
        ),
    };
    Some(Finding::new(kind, &outcome.name, detail))
}

/// The worker as verification needs to know it.
pub fn to_verify(outcome: &WorkerOutcome) -> StoppedWorker {
    StoppedWorker {
        slot: outcome.slot,
        name: outcome.name.clone(),
        port: outcome.port,
        private_port: outcome.private_port,
        had_port: outcome.had_port,
        pid: outcome.pid,
        exit: outcome.stop.as_ref().and_then(|stop| stop.exit),
        has_outcome: outcome.stop.is_some(),
        container: outcome.container.clone(),
    }
}

fn names(processes: &[ProcessInfo]) -> String {
    const NAMED: usize = 5;
    let named: Vec<_> = processes.iter().take(NAMED).map(ToString::to_string).collect();
    match processes.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// The workers' rows, by name.
pub fn rows(
    outcomes: &[WorkerOutcome],
    before: &[WorkerStatus],
    mut checks: BTreeMap<WorkerName, Vec<Check>>,
) -> Vec<WorkerReport> {
    let descendants = |name: &WorkerName| {
        before.iter().find(|worker| worker.name == *name).map_or(0, |worker| worker.descendants)
    };
    let row = |outcome: &WorkerOutcome| {
        let stop = outcome.stop.as_ref();
        WorkerReport {
            name: outcome.name.clone(),
            pid: outcome.pid,
            port: Some(outcome.port),
            asked: stop.map_or(Asked::NotAsked, |stop| stop.asked),
            answer: stop.and_then(|stop| stop.answer.clone()),
            departure: match (stop, outcome.pid) {
                (Some(stop), _) => stop.departure,
                (None, Some(_)) => Departure::Remains,
                (None, None) => Departure::NotRunning,
            },
            exit: stop.and_then(|stop| stop.exit),
            left_after_ms: stop.map(|stop| millis(stop.after)),
            descendants: descendants(&outcome.name),
            outlived: stop.map(|stop| stop.outlived.clone()).unwrap_or_default(),
            checks: checks.remove(&outcome.name).unwrap_or_default(),
        }
    };
    outcomes.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use mcpd_common::ids::{Pid, Port, Slot};

    use super::*;

    /// Without an outcome, because the supervisor has ended: nothing shows that a worker that ran is gone.
    #[test]
    fn a_worker_without_an_outcome_remains_if_it_ran() {
        let outcome = |pid| WorkerOutcome {
            slot: Slot(0),
            name: "docs".parse().expect("a name"),
            port: Port::new(8080).expect("a port"),
            private_port: None,
            had_port: true,
            pid,
            stop: None,
            notes: vec![],
            killed_containers: vec![],
            container: None,
        };
        let rows = rows(&[outcome(Some(Pid::current())), outcome(None)], &[], BTreeMap::new());
        let departures: Vec<_> = rows.iter().map(|row| row.departure).collect();
        assert_eq!(departures, [Departure::Remains, Departure::NotRunning]);
    }
}
