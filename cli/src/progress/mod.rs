//! A shutdown as it is seen so far.
//!
//! ```text
//! event --View::apply--> View --render.rs--> a table a phase (live on a terminal, final everywhere)
//! event ---------------------- plain.rs --> one line (without a terminal)
//! ```
//!
//! Pure: events go in, what is known comes out.

use std::collections::BTreeMap;

use mcpd_common::event::{EventKind, ShutdownEvent, WorkerStep};
use mcpd_common::ids::{Pid, RunId, WorkerName};
use mcpd_common::outcome::{Asked, Departure, ExitStatus, Finding, PhaseOutcome, ShutdownReport};
use mcpd_common::phase::Phase;

pub mod plain;
pub mod render;
#[cfg(test)]
mod tests;

/// What is known of the shutdown.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What the first event said.
    pub started: Option<Begun>,
    /// The phase that runs, or ran last.
    pub phase: Option<PhaseView>,
    /// The workers.
    pub workers: BTreeMap<WorkerName, WorkerView>,
    /// Clients: still connected, left, forced.
    pub clients: Option<(u32, u32, u32)>,
    /// The checks of the verification.
    pub checks: Vec<CheckView>,
    /// All that was found.
    pub findings: Vec<Finding>,
    /// The last event's report.
    pub report: Option<ShutdownReport>,
}

/// The first event.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The run that ends.
    pub run: RunId,
    /// Why.
    pub reason: String,
    /// The longest it can take, milliseconds.
    pub limit_ms: u64,
}

/// A phase.
#[derive(Clone, Debug)]
pub struct PhaseView {
    /// Which.
    pub phase: Phase,
    /// The longest it can take, milliseconds.
    pub limit_ms: u64,
    /// When it began, milliseconds after the shutdown.
    pub began_ms: u64,
    /// For whom it waits.
    pub waiting: Vec<String>,
    /// How it ended, how long it took, in one line.
    pub finished: Option<(PhaseOutcome, u64, String)>,
}

/// A worker.
#[derive(Clone, Debug, Default)]
pub struct WorkerView {
    /// Its leader.
    pub pid: Option<Pid>,
    /// How it was asked.
    pub asked: Option<Asked>,
    /// What it answered.
    pub answer: Option<String>,
    /// The last signal that was sent to it, and why.
    pub signal: Option<(String, String)>,
    /// How its leader ended.
    pub exit: Option<ExitStatus>,
    /// Descendants that outlived the leader.
    pub remaining: u32,
    /// How it left and after how many milliseconds.
    pub left: Option<(Departure, u64)>,
    /// What could not be ended.
    pub remains: Option<String>,
    /// The phase in which something last happened to it.
    pub touched: Option<Phase>,
}

/// A check of the verification.
#[derive(Clone, Debug)]
pub struct CheckView {
    /// What was looked at.
    pub check: String,
    /// Whether it was as it should be.
    pub passed: bool,
    /// What was seen.
    pub evidence: String,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
}

impl View {
    /// Learns from an event.
    pub fn apply(&mut self, event: &ShutdownEvent) {
        match &event.kind {
            EventKind::Started { run, reason, workers, limit_ms } => {
                self.started = Some(Begun { run: *run, reason: reason.clone(), limit_ms: *limit_ms });
                self.workers.extend(workers.iter().map(|name| (name.clone(), WorkerView::default())));
            }
            EventKind::PhaseStarted { phase, limit_ms } => {
                self.phase = Some(PhaseView::new(*phase, *limit_ms, event.elapsed_ms));
            }
            EventKind::Worker { name, pid, step } => self.worker(name, *pid, step),
            EventKind::Clients { connected, left, forced } => {
                self.clients = Some((*connected, *left, *forced));
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
                let began = event.elapsed_ms.saturating_sub(*duration_ms);
                let current = self.phase.take().filter(|current| current.phase == *phase);
                let mut view = current.unwrap_or_else(|| PhaseView::new(*phase, 0, began));
                view.finished = Some((*outcome, *duration_ms, summary.clone()));
                view.waiting.clear();
                self.phase = Some(view);
            }
            EventKind::Finished { report } => self.report = Some((**report).clone()),
        }
    }

    fn worker(&mut self, name: &WorkerName, pid: Option<Pid>, step: &WorkerStep) {
        let phase = self.phase.as_ref().map(|view| view.phase);
        let worker = self.workers.entry(name.clone()).or_default();
        worker.touched = phase;
        worker.pid = pid.or(worker.pid);
        match step {
            WorkerStep::Asked { how } => worker.asked = Some(*how),
            WorkerStep::Answered { answer } => worker.answer = Some(answer.clone()),
            WorkerStep::Signalled { signal, why } => worker.signal = Some((signal.clone(), why.clone())),
            WorkerStep::LeaderExited { exit, remaining } => {
                worker.exit = Some(*exit);
                worker.remaining = *remaining;
            }
            WorkerStep::Left { departure, exit, after_ms } => {
                worker.left = Some((*departure, *after_ms));
                worker.exit = exit.or(worker.exit);
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
    /// It left when it was asked, and nothing of it is there.
    pub fn is_clean(&self) -> bool {
        self.remains.is_none() && matches!(self.left, Some((Departure::Left | Departure::NotRunning, _)))
    }
}
