//! `mcpctl restart`: workers, or the daemon itself (R-CLIENT-7).
//!
//! ```text
//! restart --daemon -> RestartDaemon RPC -> events, as in a shutdown -> status shows another run -> workers settled
//! ```

use std::time::Duration;

use mcpd_common::crash::last_shutdown;
use mcpd_common::exit_code::{self, Severity, program};
use mcpd_common::ids::{Pid, RunId};
use mcpd_common::outcome::{Finding, ShutdownReport};
use mcpd_common::paths::StateDir;
use mcpd_common::status::{DaemonStatus, StatusReport, WorkerState, WorkerStatus};
use mcpd_proto::v1;
use serde::Serialize;

use super::shutdown::{follow, summary};
use super::workers::{self, Verb};
use crate::args::{Restart, Workers};
use crate::color::Tone;
use crate::context::Context;
use crate::daemon_client::{self, Candidate, DaemonClient, REPLY_TIMEOUT};
use crate::failure::{Failure, SUCCESS};
use crate::formatting::count;
use crate::wait::{now, sleep};

const ACTION: &str = "restart mcpd";

/// `schema` of the result in JSON. It is the last line, after the events.
const RESULT_SCHEMA: &str = "mcpd.restart-result.v1";

/// Limit for the new program to answer and for its workers to settle.
const RESTART_TIMEOUT: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize)]
struct Outcome {
    exit_code: u8,
    verdict: String,
    /// The exit code that the stop before the restart would have had as a shutdown.
    stop_exit_code: Option<u8>,
    /// What that stop found.
    stop_findings: Vec<Finding>,
    run: RunId,
    pid: Pid,
    version: String,
    workers: usize,
    workers_ready: usize,
}

pub async fn run(context: &mut Context, args: Restart) -> Result<u8, Failure> {
    if args.target.daemon {
        return restart_daemon(context, args.reason.unwrap_or_default()).await;
    }
    let workers = Workers { names: args.target.names, all: args.target.all };
    workers::run(context, Verb::Restart, workers).await
}

async fn restart_daemon(context: &mut Context, reason: String) -> Result<u8, Failure> {
    let mut daemon = context.require_daemon(ACTION).await?;
    let old = daemon.status(ACTION, None).await?.daemon;
    let wait = daemon.wait_for(ACTION, "a reply to the request", REPLY_TIMEOUT);
    let mut events = wait.reply(daemon.control.restart_daemon(v1::RestartDaemonRequest { reason })).await?;
    let followed = follow::to_the_end(context, &daemon, &mut events).await?;
    let status = wait_for_new_run(&daemon, old.as_ref().map(|old| old.run)).await?;
    let stop = followed.report.or_else(|| old.as_ref().and_then(report_of));
    let outcome = outcome(&status, stop.as_ref())?;
    show(context, &outcome);
    Ok(outcome.exit_code)
}

/// The stop counts even if the connection was lost before its last event: its report is in the state directory.
fn report_of(old: &DaemonStatus) -> Option<ShutdownReport> {
    last_shutdown(&StateDir::new(&old.state_dir)).filter(|report| report.run == old.run)
}

fn run_of(status: &StatusReport) -> Option<RunId> {
    status.daemon.as_ref().map(|daemon| daemon.run)
}

/// Returns the status of the new run as soon as its workers have settled, or when the time is up.
async fn wait_for_new_run(daemon: &DaemonClient, old_run: Option<RunId>) -> Result<StatusReport, Failure> {
    let wait = daemon.wait_for(ACTION, "the status of its new run", RESTART_TIMEOUT);
    let mut last = None;
    while now() < wait.deadline {
        // While the program is replaced, connections can break; they are never refused. So errors are retried.
        match try_status(daemon).await {
            Some(status) if run_of(&status) != old_run => {
                if let Some(shutdown) = status.daemon.as_ref().and_then(|daemon| daemon.shutdown.as_ref()) {
                    return Err(stop_requested(&shutdown.reason));
                }
                if !status.workers.iter().any(WorkerStatus::is_settling) {
                    return Ok(status);
                }
                last = Some(status);
            }
            _ if daemon.handle.as_ref().is_some_and(|handle| !handle.is_alive()) => {
                return Err(exited(daemon));
            }
            _ => {}
        }
        sleep(POLL_INTERVAL).await;
    }
    last.ok_or_else(|| wait.timed_out())
}

async fn try_status(daemon: &DaemonClient) -> Option<StatusReport> {
    let connected = daemon_client::connect(ACTION, &[Candidate::any(&daemon.socket)]).await;
    connected.ok()??.status(ACTION, None).await.ok()
}

fn stop_requested(reason: &str) -> Failure {
    let happened = format!("another request asked mcpd to stop meanwhile ({reason}); it is shutting down");
    Failure::new(program::UNAVAILABLE, ACTION, happened, "start mcpd again")
}

fn exited(daemon: &DaemonClient) -> Failure {
    let happened = format!(
        "everything was stopped, but the daemon at {} exited and did not come back",
        daemon.socket.display()
    );
    let next = "see `mcpctl report` for the reason, and start mcpd again";
    Failure::new(program::UNAVAILABLE, ACTION, happened, next)
}

fn outcome(status: &StatusReport, stop: Option<&ShutdownReport>) -> Result<Outcome, Failure> {
    let Some(daemon) = &status.daemon else {
        let happened = "the status in the daemon's reply lacks the daemon itself";
        return Err(Failure::new(program::SOFTWARE, ACTION, happened, "report this as a bug"));
    };
    let workers = status.workers.len();
    let ready = status.workers.iter().filter(|worker| worker.state == WorkerState::Ready).count();
    let stop_exit_code = stop.map(|report| report.exit_code);
    let verdict = format!(
        "mcpd was restarted: version {} (pid {}, run {}); {ready} of {} ready",
        daemon.version,
        daemon.pid,
        daemon.run,
        count(workers, "worker")
    );
    Ok(Outcome {
        exit_code: exit_code(stop_exit_code, ready == workers),
        verdict,
        stop_exit_code,
        stop_findings: stop.map(|report| report.findings.clone()).unwrap_or_default(),
        run: daemon.run,
        pid: daemon.pid,
        version: daemon.version.clone(),
        workers,
        workers_ready: ready,
    })
}

/// What the stop could not do comes first: the new daemon does not mend it. That clients or workers had to be forced is no
/// failure of a restart.
fn exit_code(stop: Option<u8>, all_ready: bool) -> u8 {
    match stop {
        Some(code) if code >= Severity::PortInUse.code() => code,
        _ if all_ready => SUCCESS,
        _ => program::WORKER_FAILED,
    }
}

fn show(context: &mut Context, outcome: &Outcome) {
    if context.out.is_json() {
        context.out.json_with_schema(RESULT_SCHEMA, outcome);
        return;
    }
    let mut doc = context.out.document();
    if let Some(code) = outcome.stop_exit_code.filter(|code| *code != SUCCESS) {
        doc.blank_line();
        let text = format!("The stop before the restart: exit code {code}, {}", exit_code::meaning(code));
        doc.sentence(&text, summary::tone(code));
        summary::findings(&mut doc, &outcome.stop_findings);
        doc.blank_line();
    }
    let tone = if outcome.workers_ready == outcome.workers { Tone::Good } else { Tone::Warn };
    doc.sentence(&outcome.verdict, tone);
    context.out.print(doc);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_of_a_restart_is_what_the_stop_could_not_do_then_whether_workers_are_ready() {
        for code in [4, 5, 6, 100, 102] {
            assert_eq!((exit_code(Some(code), true), exit_code(Some(code), false)), (code, code));
        }
        for stop in [None, Some(0), Some(1), Some(2), Some(3)] {
            assert_eq!((exit_code(stop, true), exit_code(stop, false)), (0, 65), "{stop:?}");
        }
    }
}
