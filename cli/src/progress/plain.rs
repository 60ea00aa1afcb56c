//! An event as one line, for logs and pipes.

use mcpd_common::event::{EventKind, ShutdownEvent, WorkerStep};
use mcpd_common::outcome::Departure;

use super::render::asked;
use crate::text::{Clock, count, duration, limit};

/// "13:05:01.123    +12 ms  docs (pid 4711): asked by POST". Nothing for what the table of the
/// phase or the end of the account says anyway.
pub fn line(event: &ShutdownEvent, clock: &Clock) -> Option<String> {
    let said = sentence(&event.kind)?;
    let elapsed = format!("+{}", duration(event.elapsed_ms));
    Some(format!("{}  {elapsed:>10}  {said}", clock.moment(event.at)))
}

fn sentence(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::Started { reason, workers, .. } => {
            format!("shutdown begins ({reason}): {}", count(workers.len(), "worker"))
        }
        EventKind::PhaseStarted { phase, limit_ms } => {
            format!("{phase}: begins, at most {}", limit(*limit_ms))
        }
        EventKind::Worker { name, pid: Some(pid), step } => format!("{name} (pid {pid}): {}", worker(step)),
        EventKind::Worker { name, pid: None, step } => format!("{name}: {}", worker(step)),
        EventKind::Clients { connected, left, forced } => {
            format!("clients: {connected} connected, {left} left, {forced} forced")
        }
        EventKind::Verified { check, passed, evidence, .. } => {
            format!("{check}: {}, {evidence}", if *passed { "ok" } else { "failed" })
        }
        EventKind::Waiting { phase, remaining } => {
            format!("{phase}: still waiting for {}", remaining.join(", "))
        }
        EventKind::Hurried { by } => format!("the remaining waits are cut short by {by}"),
        EventKind::Found { finding } => format!("found: {}: {}", finding.subject, finding.detail),
        EventKind::PhaseFinished { .. } | EventKind::Finished { .. } => return None,
    })
}

fn worker(step: &WorkerStep) -> String {
    match step {
        WorkerStep::Asked { how } => format!("asked to leave by {}", asked(*how)),
        WorkerStep::Answered { answer } => format!("answer: {answer}"),
        WorkerStep::Signalled { signal, why } => format!("{signal} sent: {why}"),
        WorkerStep::LeaderExited { exit, remaining: 0 } => format!("ended with {exit}"),
        WorkerStep::LeaderExited { exit, remaining } => {
            format!("ended with {exit}, {} left", count(*remaining as usize, "descendant"))
        }
        WorkerStep::Left { departure, exit, after_ms } => {
            let exit = exit.map_or_else(String::new, |exit| format!(" ({exit})"));
            format!("{} after {}{exit}", left(*departure), duration(*after_ms))
        }
        WorkerStep::Remains { detail } => format!("remains: {detail}"),
    }
}

fn left(departure: Departure) -> &'static str {
    match departure {
        Departure::NotRunning => "was not running",
        Departure::Left => "left",
        Departure::Terminated => "left by SIGTERM",
        Departure::Killed => "left by SIGKILL",
        Departure::Remains => "remains",
    }
}
