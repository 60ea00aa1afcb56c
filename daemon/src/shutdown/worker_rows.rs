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
    let detail = match outcome.pid.filter(|_| outcome.is_of_session) {
        Some(pid) => format!("the process of a session, pid {pid}: {detail}"),
        None => detail,
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
            session_processes: 0,
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
    let (of_sessions, main): (Vec<_>, Vec<_>) = outcomes.iter().partition(|it| it.is_of_session);
    let mut rows: Vec<_> = main.into_iter().map(row).collect();
    for outcome in of_sessions.into_iter().filter(|it| it.pid.is_some()) {
        let of_worker = rows.iter_mut().find(|row| row.name == outcome.name);
        of_worker.into_iter().for_each(|row| add_session(row, outcome));
    }
    rows
}

/// A worker has stopped as its last and worst process has.
fn add_session(row: &mut WorkerReport, outcome: &WorkerOutcome) {
    row.session_processes += 1;
    let Some(stop) = &outcome.stop else {
        (row.departure, row.left_after_ms) = (Departure::Remains, None);
        return;
    };
    if stop.departure > row.departure {
        (row.departure, row.exit, row.asked) = (stop.departure, stop.exit, stop.asked);
    }
    let after = (stop.departure != Departure::Remains).then(|| millis(stop.after));
    let ran = row.pid.is_some();
    row.left_after_ms = match (row.left_after_ms, after) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (None, other) if !ran => other,
        _ => None,
    };
    row.outlived.extend(stop.outlived.iter().cloned());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcpd_common::ids::{Pid, Port, Slot};
    use mcpd_common::outcome::ExitStatus;

    use super::*;

    /// Without an outcome, because the supervisor has ended: nothing shows that a worker that ran is gone.
    #[test]
    fn a_worker_without_an_outcome_remains_if_it_ran() {
        let outcome = |pid| WorkerOutcome {
            is_of_session: false,
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

    /// R-STDIO-2: processes of sessions are in the row of their worker.
    #[test]
    fn a_worker_has_stopped_as_its_worst_process_has() {
        let outcome = |is_of_session, departure, seconds| WorkerOutcome {
            is_of_session,
            slot: Slot(0),
            name: "docs".parse().expect("a name"),
            port: Port::new(8080).expect("a port"),
            private_port: None,
            had_port: true,
            pid: Some(Pid::current()),
            stop: Some(StopOutcome {
                asked: Asked::EndOfInput,
                answer: None,
                departure,
                forced: None,
                exit: Some(ExitStatus::Code(departure as i32)),
                after: Duration::from_secs(seconds),
                outlived: vec![],
            }),
            notes: vec![],
            killed_containers: vec![],
            container: None,
        };
        let outcomes = [
            outcome(false, Departure::Left, 1),
            outcome(true, Departure::Killed, 3),
            outcome(true, Departure::Left, 2),
        ];
        let rows = rows(&outcomes, &[], BTreeMap::new());
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!((row.session_processes, row.departure), (2, Departure::Killed));
        assert_eq!(
            (row.left_after_ms, row.exit),
            (Some(3000), Some(ExitStatus::Code(Departure::Killed as i32)))
        );
        let findings = findings(&outcomes);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].detail.starts_with("the process of a session, pid "), "{findings:?}");
    }
}
