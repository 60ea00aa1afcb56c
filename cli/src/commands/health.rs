//! `mcpctl health`: the state of health in one line, for scripts and probes.

use std::time::Duration;

use mcpd_common::config::show_duration;
use mcpd_common::exit_code::program;
use mcpd_common::status::{StatusReport, WorkerState, WorkerStatus};
use serde::Serialize;
use tokio::time::timeout_at;

use crate::args;
use crate::color::Tone;
use crate::context::Context;
use crate::failure::{DEGRADED, Failure, SUCCESS};
use crate::wait::{now, sleep};

const ACTION: &str = "check the health";

/// Interval between two requests with `--wait`.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

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

pub async fn run(context: &mut Context, args: args::Health) -> Result<u8, Failure> {
    let health = if args.wait { wait(context, args.timeout).await? } else { look(context).await?.0 };
    if context.out.is_json() {
        context.out.json_with_schema(HEALTH_SCHEMA, &health);
    } else {
        let mut doc = context.out.document();
        doc.line(&[(&health.sentence(), health.tone())]);
        context.out.print(doc);
    }
    Ok(health.code())
}

/// The health as soon as it is settled; at the time limit, what was found last.
async fn wait(context: &Context, limit: Duration) -> Result<Health, Failure> {
    let deadline = now() + limit;
    let mut last = Err(no_reply(limit));
    while now() < deadline {
        match timeout_at(deadline, look(context)).await {
            Ok(Ok((health, Settled::Yes))) => return Ok(health),
            Ok(Ok((health, Settled::No))) => last = Ok(health),
            // The daemon is exiting or starting.
            Ok(Err(failure)) if failure.code == program::UNAVAILABLE => last = Err(failure),
            Ok(Err(failure)) => return Err(failure),
            Err(_) => break,
        }
        sleep(POLL_INTERVAL).await;
    }
    last
}

fn no_reply(limit: Duration) -> Failure {
    let happened = format!("mcpd did not reply within {}, the time limit of --wait", show_duration(limit));
    let next = "run `mcpctl health`: it waits longer for a reply, and says what to do without one";
    Failure::new(program::TEMPFAIL, ACTION, happened, next)
}

/// Whether the health stays as it is without a request: it is healthy, or only failed workers are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

async fn look(context: &Context) -> Result<(Health, Settled), Failure> {
    let Some(mut daemon) = context.connect(ACTION).await? else {
        let wrong = context.wrong_socket(ACTION).await;
        let problems = wrong.map(|wrong| format!("{}; {}", wrong.happened, wrong.next)).into_iter().collect();
        return Ok((Health { health: HealthState::NotRunning, problems }, Settled::No));
    };
    let report = daemon.status(ACTION, None).await?;
    let health = health_of(&report);
    let settled = settled(&report, &health);
    Ok((health, settled))
}

fn settled(report: &StatusReport, health: &Health) -> Settled {
    // An unhealthy worker may respond again.
    let may_change = |worker: &WorkerStatus| worker.is_settling() || worker.state == WorkerState::Unhealthy;
    if health.health == HealthState::ShuttingDown || report.workers.iter().any(may_change) {
        Settled::No
    } else {
        Settled::Yes
    }
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

    /// A failed worker is not started again, so waiting for it is of no use; anything else may change.
    #[test]
    fn a_wait_ends_when_only_failed_workers_are_left() {
        let mut report = test_data::status();
        let is_settled = |report: &StatusReport| settled(report, &health_of(report)) == Settled::Yes;
        report.workers.retain(|worker| matches!(worker.state, WorkerState::Ready | WorkerState::Failed));
        assert!(is_settled(&report));
        for state in [WorkerState::Starting, WorkerState::BackingOff, WorkerState::Unhealthy] {
            report.workers[0].state = state;
            assert!(!is_settled(&report), "{state:?}");
        }
        assert!(!is_settled(&test_data::status_shutting_down()));
    }

    /// R-SHUT-7.
    #[test]
    fn a_shutdown_is_shown_with_phase_and_reason() {
        let health = health_of(&test_data::status_shutting_down());
        assert_eq!(health.sentence(), "shutting down: workers-graceful (manual)");
        insta::assert_snapshot!(serde_json::to_string(&health).expect("plain"), @r#"{"health":"shutting_down","problems":["workers-graceful (manual)"]}"#);
    }
}
