//! No process, no zombie, and the kernel's own statement that no descendant is left (R-VER-1).

use std::time::Duration;

use mcpd_common::os::{Containment, ProcessInfo, process};
use mcpd_common::outcome::{Finding, FindingKind};

use super::{MINIMUM_TIME, Scope};
use crate::deadline::{self, Deadline};
use crate::process::operations::DescendantProof;
use crate::process::process_thread::{ProcessCommand, ProcessThreadGone};

/// Poll interval after `SIGKILL`.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Evidence where the kernel can give no proof.
const UNPROVED: &str =
    "no descendant was seen; the kernel gives no proof here (portable backend, or children older than mcpd)";

pub struct ProcessesOutcome {
    pub findings: Vec<Finding>,
    pub evidence: String,
    /// The kernel's statement that no descendant is left.
    pub proof: Option<String>,
    /// How the workers' processes were contained.
    pub containment: Option<Containment>,
    /// Processes that could not be killed.
    pub remaining: Vec<ProcessInfo>,
}

/// Kills and reaps all descendants of the daemon.
pub async fn kill_and_prove(scope: &Scope<'_>, deadline: Deadline) -> ProcessesOutcome {
    // Also when earlier checks took all the time: without a scan nothing may be claimed.
    let limit = deadline.max(Deadline::after(MINIMUM_TIME));
    let mut seen = None;
    match limit.wait(try_to_kill_and_prove(scope, limit, &mut seen)).await {
        Ok(Ok(left)) => left,
        Ok(Err(_)) | Err(_) => seen.filter(|seen| !seen.is_empty()).map_or_else(unknown, not_in_time),
    }
}

/// `seen` is the last snapshot: it is reported if the time runs out.
async fn try_to_kill_and_prove(
    scope: &Scope<'_>,
    deadline: Deadline,
    seen: &mut Option<Vec<ProcessInfo>>,
) -> Result<ProcessesOutcome, ProcessThreadGone> {
    // A second is reserved for the rest: the report must not be lost because of a process that can't be
    // killed.
    let limit = Deadline::at(deadline.instant() - Duration::from_secs(1).min(deadline.remaining() / 2));
    let strays = scope.process_thread.ask(ProcessCommand::Remaining).await?;
    *seen = Some(strays.clone());
    let mut remaining = strays.clone();
    if !strays.is_empty() {
        remaining = kill_until_gone(scope, limit, seen).await?;
    }
    let containment = Some(scope.process_thread.ask(ProcessCommand::Containment).await?);
    let mut proof_state = scope.process_thread.ask(ProcessCommand::Prove).await?;
    if !remaining.is_empty() {
        // The proof reaped the leaders that were kept unreaped because of their group ids.
        remaining = scope.process_thread.ask(ProcessCommand::Remaining).await?;
    }
    while matches!(proof_state, DescendantProof::Doubted(_)) && remaining.is_empty() {
        // A descendant exists that no scan found: most likely no descriptor was left.
        let is_last = limit.remaining().is_zero();
        remaining = kill_until_gone(scope, limit, seen).await?;
        proof_state = scope.process_thread.ask(ProcessCommand::Prove).await?;
        if is_last {
            break;
        }
    }
    let mut findings: Vec<_> = remaining.iter().map(finding).collect();
    findings.extend(ended(&strays, &remaining).map(stray));
    let is_doubted = matches!(proof_state, DescendantProof::Doubted(_));
    let (evidence, proof) = match (proof_state, remaining.len()) {
        (DescendantProof::Proved(proof), _) => (proof.clone(), Some(proof)),
        (DescendantProof::Unprovable, 0) => (UNPROVED.to_owned(), None),
        (DescendantProof::Doubted(why), 0) => {
            findings.push(Finding::new(FindingKind::ProcessLeft, "mcpd", why));
            (why.to_owned(), None)
        }
        (_, left) => (format!("{left} could not be ended"), None),
    };
    if remaining.is_empty() && !is_doubted {
        findings.extend(dismantle(scope).await?);
    }
    Ok(ProcessesOutcome { findings, evidence, proof, containment, remaining })
}

/// The cgroups are empty: they are removed.
async fn dismantle(scope: &Scope<'_>) -> Result<Option<Finding>, ProcessThreadGone> {
    let done = scope.process_thread.ask(ProcessCommand::Dismantle).await?;
    Ok(done.err().map(|error| Finding::new(FindingKind::ResourceFailed, "cgroups", error)))
}

/// The process thread does not respond, so nothing is known about its children.
fn unknown() -> ProcessesOutcome {
    let detail = "remaining processes are unknown: the thread that owns all children does not respond";
    let findings = vec![Finding::new(FindingKind::InternalError, "mcpd", detail)];
    ProcessesOutcome {
        findings,
        evidence: detail.to_owned(),
        proof: None,
        containment: None,
        remaining: vec![],
    }
}

/// Some processes could not be killed before the deadline; nothing more is known.
fn not_in_time(remaining: Vec<ProcessInfo>) -> ProcessesOutcome {
    let evidence =
        format!("{} could not be killed; nothing more is known, because the time ran out", remaining.len());
    let findings = remaining.iter().map(finding).collect();
    ProcessesOutcome { findings, evidence, proof: None, containment: None, remaining }
}

/// Kills all of them; returns what is left at the deadline.
async fn kill_until_gone(
    scope: &Scope<'_>,
    deadline: Deadline,
    seen: &mut Option<Vec<ProcessInfo>>,
) -> Result<Vec<ProcessInfo>, ProcessThreadGone> {
    scope.process_thread.send(ProcessCommand::KillAllUntilGone);
    loop {
        deadline::until(deadline::now() + POLL_INTERVAL).await;
        let remaining = scope.process_thread.ask(ProcessCommand::Remaining).await?;
        *seen = Some(remaining.clone());
        if remaining.is_empty() || deadline.remaining().is_zero() {
            return Ok(remaining);
        }
    }
}

fn ended<'a>(
    strays: &'a [ProcessInfo],
    remaining: &'a [ProcessInfo],
) -> impl Iterator<Item = &'a ProcessInfo> {
    strays.iter().filter(|stray| remaining.iter().all(|left| left.pid != stray.pid))
}

fn stray(process: &ProcessInfo) -> Finding {
    let detail = format!("{process} belonged to no worker any more and was killed with the daemon");
    Finding::new(FindingKind::Information, process.pid, detail)
}

fn finding(left: &ProcessInfo) -> Finding {
    let zombie = left.state == 'Z';
    let kind = if zombie { FindingKind::ZombieLeft } else { FindingKind::ProcessLeft };
    let why = match (process::tracer(left.pid), zombie) {
        (Some(tracer), _) => format!("it is traced by pid {tracer}, which must detach from it first"),
        (None, true) => format!("its parent, pid {}, does not wait for it", left.ppid),
        (None, false) if left.state == 'D' => "it is in uninterruptible sleep".to_owned(),
        (None, false) => "it survived SIGKILL".to_owned(),
    };
    Finding::new(kind, left.pid, format!("{left} is left: {why}"))
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
