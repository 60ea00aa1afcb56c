//! No container has the labels of a worker, by the word of its engine (R-STDIO-6).

use std::time::Duration;

use futures_util::future::join_all;
use mcpd_common::ids::WorkerName;
use mcpd_common::outcome::{Check, CheckSubject, Finding, FindingKind};
use mcpd_common::wording::count;

use super::{CheckName, CheckTimer, MINIMUM_TIME, Scope, StoppedWorker, Verification};
use crate::deadline::{self, Deadline};
use crate::process::container::{EndReport, EngineError, WorkerContainer, names};
use crate::progress::millis;

/// An engine that does not answer must not take the time of the other checks.
const LIMIT: Duration = Duration::from_secs(6);

/// What the engine of one worker said.
struct Answer<'a> {
    worker: &'a StoppedWorker,
    container: &'a WorkerContainer,
    result: Result<EndReport, EngineError>,
    duration_ms: u64,
}

/// Asks the engines of all workers that have started a container, and ends what is left. Returns the row of
/// each worker.
pub async fn verify(
    scope: &Scope<'_>,
    deadline: Deadline,
    result: &mut Verification,
) -> Vec<(WorkerName, Check)> {
    let workers: Vec<_> = scope.workers.iter().filter_map(|it| Some((it, it.container.as_ref()?))).collect();
    if workers.is_empty() {
        return vec![];
    }
    let timer = CheckTimer::start(scope, CheckName::Containers);
    let limit = deadline.max(Deadline::after(MINIMUM_TIME)).at_most(LIMIT);
    let answers =
        join_all(workers.into_iter().map(|(worker, container)| ask(worker, container, limit))).await;
    let findings: Vec<_> = answers.iter().flat_map(Answer::findings).collect();
    timer.stop(&findings, evidence(&answers));
    result.findings.extend(findings);
    answers.iter().map(|answer| (answer.worker.name.clone(), answer.check())).collect()
}

async fn ask<'a>(worker: &'a StoppedWorker, container: &'a WorkerContainer, limit: Deadline) -> Answer<'a> {
    let began = deadline::now();
    let result = container.end(None, limit).await;
    if result.as_ref().is_ok_and(|report| report.left.is_empty()) {
        container.remove_record();
    }
    let duration_ms = millis(deadline::now().saturating_duration_since(began));
    Answer { worker, container, result, duration_ms }
}

/// "the engines list no container of 2 workers", or what is different.
fn evidence(answers: &[Answer<'_>]) -> String {
    let different: Vec<_> = answers.iter().filter(|answer| !answer.is_clear()).collect();
    if different.is_empty() {
        return format!("no container of {} is left", count(answers.len(), "worker"));
    }
    let texts: Vec<_> =
        different.iter().map(|answer| format!("{}: {}", answer.worker.name, answer.evidence())).collect();
    texts.join("; ")
}

impl Answer<'_> {
    fn is_clear(&self) -> bool {
        self.result.as_ref().is_ok_and(|report| *report == EndReport::default())
    }

    fn findings(&self) -> Vec<Finding> {
        let finding = |kind, detail| Finding::new(kind, &self.worker.name, detail);
        let report = match &self.result {
            Ok(report) => report,
            Err(_) => return vec![finding(FindingKind::Information, self.evidence())],
        };
        let engine = self.container.engine();
        let mut findings = vec![];
        for left in &report.left {
            let detail = format!("its container {left} is left: {engine} could not end it");
            findings.push(finding(FindingKind::ProcessLeft, detail));
        }
        for killed in &report.killed {
            let detail = format!("its container {killed} was still running and had to be killed");
            findings.push(finding(FindingKind::DescendantsKilled, detail));
        }
        for kept in &report.kept {
            let detail = format!(
                "its container {kept} is stopped and stays, because the command has no --rm; remove it with: \
                 {engine} rm {}",
                kept.name
            );
            findings.push(finding(FindingKind::Information, detail));
        }
        findings
    }

    fn check(&self) -> Check {
        let passed = self.result.as_ref().map_or(true, |report| report.left.is_empty());
        let evidence = self.evidence();
        Check { subject: CheckSubject::Container, passed, evidence, duration_ms: self.duration_ms }
    }

    fn evidence(&self) -> String {
        let engine = self.container.engine();
        match &self.result {
            Err(error) => format!("its engine was not asked whether a container is left: {error}"),
            Ok(report) if !report.left.is_empty() => format!("{} left", names(&report.left)),
            Ok(report) if !report.kept.is_empty() => format!("{} stopped, not removed", names(&report.kept)),
            Ok(_) => format!("{engine} lists none with its labels"),
        }
    }
}
