//! `mcpctl health`: one word, for scripts and probes.

use mcpd_common::exit_code::program;
use mcpd_common::status::{DaemonStatus, StatusReport, WorkerState, WorkerStatus};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{DEGRADED, Failure, SUCCESS};
use crate::paint::Tone;

const TRIED: &str = "ask for the health";

/// The `schema` of the health in JSON.
pub const HEALTH_SCHEMA: &str = "mcpd.health.v1";

/// How things are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Health {
    health: Word,
    /// What is not as it should be.
    problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Healthy,
    Degraded,
    ShuttingDown,
    NotRunning,
}

/// Says it.
pub async fn run(context: &mut Context) -> Result<u8, Failure> {
    let health = match context.reach(TRIED).await? {
        Some(mut daemon) => judge(&daemon.status(TRIED, None).await?),
        None => Health { health: Word::NotRunning, problems: Vec::new() },
    };
    if context.out.is_json() {
        context.out.json_line(HEALTH_SCHEMA, &health);
    } else {
        let mut doc = context.out.doc();
        doc.line(&[(&health.sentence(), health.tone())]);
        context.out.print(doc);
    }
    Ok(health.code())
}

fn judge(report: &StatusReport) -> Health {
    let shutdown = report.daemon.as_ref().and_then(|daemon: &DaemonStatus| daemon.shutdown.as_ref());
    if let Some(shutdown) = shutdown {
        let problem = format!("{} ({})", shutdown.phase, shutdown.reason);
        return Health { health: Word::ShuttingDown, problems: vec![problem] };
    }
    let problems: Vec<_> = report.workers.iter().filter_map(problem).collect();
    let health = if problems.is_empty() { Word::Healthy } else { Word::Degraded };
    Health { health, problems }
}

/// A worker that was stopped on request is as it should be.
fn problem(worker: &WorkerStatus) -> Option<String> {
    let fine = matches!(worker.state, WorkerState::Ready | WorkerState::Stopped);
    (!fine).then(|| format!("{} is {}", worker.name, worker.state.name()))
}

impl Health {
    fn sentence(&self) -> String {
        let word = match self.health {
            Word::Healthy => "healthy",
            Word::Degraded => "degraded",
            Word::ShuttingDown => "shutting down",
            Word::NotRunning => "not running",
        };
        match self.problems.as_slice() {
            [] => word.to_owned(),
            problems => format!("{word}: {}", problems.join(", ")),
        }
    }

    fn tone(&self) -> Tone {
        match self.health {
            Word::Healthy => Tone::Good,
            Word::Degraded | Word::ShuttingDown => Tone::Warn,
            Word::NotRunning => Tone::Bad,
        }
    }

    fn code(&self) -> u8 {
        match self.health {
            Word::Healthy => SUCCESS,
            Word::Degraded | Word::ShuttingDown => DEGRADED,
            Word::NotRunning => program::NOT_RUNNING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn it_names_who_is_not_well() {
        let mut report = samples::status();
        let health = judge(&report);
        assert_eq!((health.sentence().as_str(), health.code()), ("degraded: docs is failed", 1));
        report.workers.retain(|worker| worker.state == WorkerState::Ready);
        let health = judge(&report);
        assert_eq!((health.sentence().as_str(), health.code()), ("healthy", 0));
    }

    /// R-SHUT-7.
    #[test]
    fn a_shutdown_is_named_with_its_phase() {
        let health = judge(&samples::status_shutting_down());
        assert_eq!(health.sentence(), "shutting down: workers-graceful (manual)");
        insta::assert_snapshot!(serde_json::to_string(&health).expect("plain"), @r#"{"health":"shutting_down","problems":["workers-graceful (manual)"]}"#);
    }
}
