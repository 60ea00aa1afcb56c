//! `mcpctl health`: the state of health in one line, for scripts and probes.

use mcpd_common::exit_code::program;
use mcpd_common::status::{StatusReport, WorkerState, WorkerStatus};
use serde::Serialize;

use crate::color::Tone;
use crate::context::Context;
use crate::failure::{DEGRADED, Failure, SUCCESS};

const ACTION: &str = "check the health";

/// `schema` of the JSON output.
pub const HEALTH_SCHEMA: &str = "mcpd.health.v1";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Health {
    health: HealthState,
    problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum HealthState {
    Healthy,
    Degraded,
    ShuttingDown,
    NotRunning,
}

pub async fn run(context: &mut Context) -> Result<u8, Failure> {
    let health = match context.connect(ACTION).await? {
        Some(mut daemon) => health_of(&daemon.status(ACTION, None).await?),
        None => Health { health: HealthState::NotRunning, problems: Vec::new() },
    };
    if context.out.is_json() {
        context.out.json_with_schema(HEALTH_SCHEMA, &health);
    } else {
        let mut doc = context.out.document();
        doc.line(&[(&health.sentence(), health.tone())]);
        context.out.print(doc);
    }
    Ok(health.code())
}

fn health_of(report: &StatusReport) -> Health {
    let shutdown = report.daemon.as_ref().and_then(|daemon| daemon.shutdown.as_ref());
    if let Some(shutdown) = shutdown {
        let problem = format!("{} ({})", shutdown.phase, shutdown.reason);
        return Health { health: HealthState::ShuttingDown, problems: vec![problem] };
    }
    let problems: Vec<_> = report.workers.iter().filter_map(problem).collect();
    let health = if problems.is_empty() { HealthState::Healthy } else { HealthState::Degraded };
    Health { health, problems }
}

/// A worker that was stopped on request is not a problem.
fn problem(worker: &WorkerStatus) -> Option<String> {
    let is_expected = matches!(worker.state, WorkerState::Ready | WorkerState::Stopped);
    (!is_expected).then(|| format!("{} is {}", worker.name, worker.state.name()))
}

impl Health {
    fn sentence(&self) -> String {
        let state = match self.health {
            HealthState::Healthy => "healthy",
            HealthState::Degraded => "degraded",
            HealthState::ShuttingDown => "shutting down",
            HealthState::NotRunning => "not running",
        };
        match self.problems.as_slice() {
            [] => state.to_owned(),
            problems => format!("{state}: {}", problems.join(", ")),
        }
    }

    fn tone(&self) -> Tone {
        match self.health {
            HealthState::Healthy => Tone::Good,
            HealthState::Degraded | HealthState::ShuttingDown => Tone::Warn,
            HealthState::NotRunning => Tone::Bad,
        }
    }

    fn code(&self) -> u8 {
        match self.health {
            HealthState::Healthy => SUCCESS,
            HealthState::Degraded | HealthState::ShuttingDown => DEGRADED,
            HealthState::NotRunning => program::NOT_RUNNING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    #[test]
    fn workers_with_problems_are_named() {
        let mut report = test_data::status();
        let health = health_of(&report);
        assert_eq!((health.sentence().as_str(), health.code()), ("degraded: docs is failed", 1));
        report.workers.retain(|worker| worker.state == WorkerState::Ready);
        let health = health_of(&report);
        assert_eq!((health.sentence().as_str(), health.code()), ("healthy", 0));
    }

    /// R-SHUT-7.
    #[test]
    fn a_shutdown_is_shown_with_phase_and_reason() {
        let health = health_of(&test_data::status_shutting_down());
        assert_eq!(health.sentence(), "shutting down: workers-graceful (manual)");
        insta::assert_snapshot!(serde_json::to_string(&health).expect("plain"), @r#"{"health":"shutting_down","problems":["workers-graceful (manual)"]}"#);
    }
}
