//! The state of a shutdown as far as its events have arrived.
//!
//! ```text
//! event -- View::apply --> View -- phase_table.rs --> one table per phase (redrawn live on a terminal)
//! event ------------------------- event_line.rs ---> one line per event (without a terminal)
//! ```
//!
//! No input or output here: events go in, the current state comes out.

use std::collections::BTreeMap;

use mcpd_common::event::{EventKind, ShutdownEvent, WorkerStep};
use mcpd_common::ids::{Pid, RunId, WorkerName};
use mcpd_common::outcome::{Asked, Departure, ExitStatus, Finding, PhaseOutcome, ShutdownReport};
use mcpd_common::phase::Phase;

pub mod event_line;
pub mod phase_table;
#[cfg(test)]
mod tests;

#[derive(Clone, Debug, Default)]
pub struct View {
    /// From the first event.
    pub started: Option<Started>,
    /// The current phase, or the last one.
    pub phase: Option<PhaseView>,
    pub workers: BTreeMap<WorkerName, WorkerView>,
    pub clients: Option<ClientsView>,
    pub checks: Vec<CheckView>,
    pub findings: Vec<Finding>,
    /// From the last event.
    pub report: Option<ShutdownReport>,
}

#[derive(Clone, Debug)]
pub struct Started {
    pub run: RunId,
    pub reason: String,
    /// Limit of the whole shutdown.
    pub limit_ms: u64,
}

#[derive(Clone, Debug)]
pub struct PhaseView {
    pub phase: Phase,
    pub limit_ms: u64,
    /// Milliseconds from the start of the shutdown to the start of the phase.
    pub began_ms: u64,
    /// What the phase still waits for, each as a name with pid.
    pub waiting: Vec<String>,
    /// `None` while the phase runs.
    pub finished: Option<FinishedPhase>,
}

#[derive(Clone, Debug)]
pub struct FinishedPhase {
    pub outcome: PhaseOutcome,
    pub duration_ms: u64,
    /// One line: "3 of 3 can be bound".
    pub summary: String,
}

#[derive(Clone, Debug, Default)]
pub struct WorkerView {
    /// The pid of the worker's leader.
    pub pid: Option<Pid>,
    /// All processes that steps were about, and whether each of them has ended. Sessions may have processes of their own.
    pub processes: BTreeMap<Pid, bool>,
    pub asked: Option<Asked>,
    pub answer: Option<String>,
    /// The last signal that was sent, and the reason.
    pub signal: Option<(String, String)>,
    /// Exit status of the leader.
    pub exit: Option<ExitStatus>,
    /// Number of descendants that outlived the leader.
    pub remaining: u32,
    /// How the worst of its processes ended that have, and after how many milliseconds the last one.
    pub ended: Option<(Departure, u64)>,
    /// The same, once all have ended.
    pub left: Option<(Departure, u64)>,
    /// What could not be killed.
    pub remains: Option<String>,
    /// The phase of the worker's last event.
    pub touched: Option<Phase>,
}

/// Numbers of client connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientsView {
    pub connected: u32,
    pub left: u32,
    pub forced: u32,
}

/// A check of the verification phase.
#[derive(Clone, Debug)]
pub struct CheckView {
    /// What was checked: "ports".
    pub check: String,
    pub passed: bool,
    pub evidence: String,
    pub duration_ms: u64,
}

impl View {
    pub fn apply(&mut self, event: &ShutdownEvent) {
        match &event.kind {
            EventKind::Started { run, reason, workers, limit_ms } => {
                self.started = Some(Started { run: *run, reason: reason.clone(), limit_ms: *limit_ms });
                self.workers.extend(workers.iter().map(|name| (name.clone(), WorkerView::default())));
            }
            EventKind::PhaseStarted { phase, limit_ms } => {
                self.phase = Some(PhaseView::new(*phase, *limit_ms, event.elapsed_ms));
            }
            EventKind::Worker { name, pid, step } => self.apply_worker_step(name, *pid, step),
            EventKind::Clients { connected, left, forced } => {
                self.clients = Some(ClientsView { connected: *connected, left: *left, forced: *forced });
            }
            EventKind::Verified { check, passed, evidence, duration_ms } => self.checks.push(CheckView {
                check: check.clone(),
                passed: *passed,
                evidence: evidence.clone(),
                duration_ms: *duration_ms,
            }),
            EventKind::Waiting { remaining, .. } => {
                if let Some(phase) = &mut self.phase {
                    phase.waiting.clone_from(remaining);
                }
            }
            EventKind::Hurried { .. } => {}
            EventKind::Found { finding } => self.findings.push(finding.clone()),
            EventKind::PhaseFinished { phase, outcome, duration_ms, summary } => {
                let finished =
                    FinishedPhase { outcome: *outcome, duration_ms: *duration_ms, summary: summary.clone() };
                self.finish_phase(*phase, event.elapsed_ms, finished);
            }
            EventKind::Finished { report } => self.report = Some((**report).clone()),
        }
    }

    /// What the shutdown waits for now: "docs (pid 4711) in the phase workers-graceful".
    pub fn awaited(&self) -> String {
        match &self.phase {
            Some(PhaseView { phase, waiting, finished: None, .. }) if waiting.is_empty() => {
                format!("the end of the phase {phase}")
            }
            Some(PhaseView { phase, waiting, finished: None, .. }) => {
                format!("{} in the phase {phase}", waiting.join(", "))
            }
            _ => "the next event".to_owned(),
        }
    }

    fn finish_phase(&mut self, phase: Phase, elapsed_ms: u64, finished: FinishedPhase) {
        let current = self.phase.take().filter(|current| current.phase == phase);
        // A client that attaches late has not seen the start of the phase.
        let began_ms = elapsed_ms.saturating_sub(finished.duration_ms);
        let mut view = current.unwrap_or_else(|| PhaseView::new(phase, 0, began_ms));
        view.finished = Some(finished);
        view.waiting.clear();
        self.phase = Some(view);
    }

    fn apply_worker_step(&mut self, name: &WorkerName, pid: Option<Pid>, step: &WorkerStep) {
        let phase = self.phase.as_ref().map(|view| view.phase);
        let worker = self.workers.entry(name.clone()).or_default();
        worker.touched = phase;
        worker.pid = worker.pid.or(pid);
        if let Some(pid) = pid {
            *worker.processes.entry(pid).or_default() |= matches!(step, WorkerStep::Left { .. });
        }
        match step {
            WorkerStep::Asked { how } => worker.asked = Some(*how),
            WorkerStep::Answered { answer } => worker.answer = Some(answer.clone()),
            WorkerStep::Signalled { signal, why } => worker.signal = Some((signal.clone(), why.clone())),
            WorkerStep::LeaderExited { exit, remaining } => {
                worker.exit = Some(*exit);
                worker.remaining = *remaining;
            }
            WorkerStep::Left { departure, exit, after_ms } => {
                let before = worker.ended.map_or(Departure::NotRunning, |(before, _)| before);
                if *departure >= before {
                    worker.exit = exit.or(worker.exit);
                }
                let after_ms = worker.ended.map_or(*after_ms, |(_, before_ms)| before_ms.max(*after_ms));
                worker.ended = Some((before.max(*departure), after_ms));
                worker.left = worker.ended.filter(|_| worker.processes.values().all(|ended| *ended));
                worker.remaining = 0;
            }
            WorkerStep::Remains { detail } => worker.remains = Some(detail.clone()),
        }
    }
}

impl PhaseView {
    fn new(phase: Phase, limit_ms: u64, began_ms: u64) -> Self {
        Self { phase, limit_ms, began_ms, waiting: Vec::new(), finished: None }
    }
}

impl WorkerView {
    /// The worker exited on request, or was not running, and nothing of it is left.
    pub fn is_clean(&self) -> bool {
        self.remains.is_none() && matches!(self.left, Some((Departure::Left | Departure::NotRunning, _)))
    }
}
