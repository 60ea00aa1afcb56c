//! An event as one line, for pipes and files.

use mcpd_common::event::{EventKind, ShutdownEvent, WorkerStep};
use mcpd_common::outcome::Departure;

use super::phase_table::{asked, outcome_label};
use crate::formatting::{Clock, count, duration, limit};

/// "13:05:01.123    +12 ms  docs (pid 4711): asked to exit by POST". `None` for the last event, which
/// the final summary shows.
pub fn line(event: &ShutdownEvent, clock: &Clock) -> Option<String> {
    let text = sentence(&event.kind)?;
    let elapsed = format!("+{}", duration(event.elapsed_ms));
    Some(format!("{}  {elapsed:>10}  {text}", clock.time_of_day(event.at)))
}

fn sentence(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::Started { reason, workers, .. } => {
            format!("shutdown started ({reason}): {}", count(workers.len(), "worker"))
        }
        // The first phase only records the request and has no limit.
        EventKind::PhaseStarted { phase, limit_ms: 0 } => format!("{phase}: started"),
        EventKind::PhaseStarted { phase, limit_ms } => {
            format!("{phase}: started, limit {}", limit(*limit_ms))
        }
        EventKind::Worker { name, pid: Some(pid), step } => format!("{name} (pid {pid}): {}", worker(step)),
        EventKind::Worker { name, pid: None, step } => format!("{name}: {}", worker(step)),
        EventKind::Clients { connected, left, forced } => {
            format!("clients: {connected} connected, {left} disconnected, {forced} forced")
        }
        EventKind::Verified { check, passed, evidence, .. } => {
            format!("{check}: {}, {evidence}", if *passed { "ok" } else { "failed" })
        }
        EventKind::Waiting { phase, remaining } => {
            format!("{phase}: still waiting for {}", remaining.join(", "))
        }
        EventKind::Hurried { by } => format!("the remaining waits are cut short by {by}"),
        EventKind::Found { finding } => format!("found: {}: {}", finding.subject, finding.detail),
        EventKind::PhaseFinished { phase, outcome, duration_ms, summary } => {
            let (label, _) = outcome_label(*outcome);
            let text: Vec<_> =
                [label, summary.as_str()].into_iter().filter(|text| !text.is_empty()).collect();
            format!("{phase}: finished after {}: {}", duration(*duration_ms), text.join(": "))
        }
        EventKind::Finished { .. } => return None,
    })
}

fn worker(step: &WorkerStep) -> String {
    match step {
        WorkerStep::Asked { how } => format!("asked to exit by {}", asked(*how)),
        WorkerStep::Answered { answer } => format!("answer: {answer}"),
        WorkerStep::Signalled { signal, why } => format!("{signal} sent: {why}"),
        WorkerStep::LeaderExited { exit, remaining: 0 } => format!("main process ended ({exit})"),
        WorkerStep::LeaderExited { exit, remaining } => {
            format!("main process ended ({exit}), {} left", count(*remaining as usize, "descendant"))
        }
        WorkerStep::Left { departure, exit, after_ms } => {
            let exit = exit.map_or_else(String::new, |exit| format!(" ({exit})"));
            format!("{} after {}{exit}", ended(*departure), duration(*after_ms))
        }
        WorkerStep::Remains { detail } => format!("could not be killed: {detail}"),
    }
}

fn ended(departure: Departure) -> &'static str {
    match departure {
        Departure::NotRunning => "was not running",
        Departure::Left => "exited",
        Departure::Terminated => "ended by SIGTERM",
        Departure::Killed => "ended by SIGKILL",
        Departure::Remains => "could not be killed",
    }
}
