//! `mcpctl restart`: workers, or the daemon itself (R-CLIENT-7).
//!
//! ```text
//! restart --daemon -> RestartDaemon RPC -> events, as in a shutdown -> status shows another run -> workers settled
//! ```

use std::time::Duration;

use mcpd_common::exit_code::{self, program};
use mcpd_common::ids::{Pid, RunId};
use mcpd_common::outcome::{Finding, ShutdownReport};
use mcpd_common::status::{StatusReport, WorkerState, WorkerStatus};
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
    /// What that stop found. It does not change the exit code of the restart.
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
    let old_run = run_of(&daemon.status(ACTION, None).await?);
    let wait = daemon.wait_for(ACTION, "a reply to the request", REPLY_TIMEOUT);
    let mut events = wait.reply(daemon.control.restart_daemon(v1::RestartDaemonRequest { reason })).await?;
    let followed = follow::to_the_end(context, &daemon, &mut events).await?;
    let status = wait_for_new_run(&daemon, old_run).await?;
    let outcome = outcome(&status, followed.report.as_ref())?;
    show(context, &outcome);
    Ok(outcome.exit_code)
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
                if !status.workers.iter().any(is_settling) {
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

/// A stopped worker that has never run in this run is about to be started.
pub fn is_settling(worker: &WorkerStatus) -> bool {
    match worker.state {
        WorkerState::Starting | WorkerState::BackingOff | WorkerState::Stopping => true,
        WorkerState::Stopped => worker.last_exit.is_none(),
        WorkerState::Ready | WorkerState::Unhealthy | WorkerState::Failed => false,
    }
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

/// The exit code says whether the restart has succeeded: all workers are ready.
fn outcome(status: &StatusReport, stop: Option<&ShutdownReport>) -> Result<Outcome, Failure> {
    let Some(daemon) = &status.daemon else {
        let happened = "the status in the daemon's reply lacks the daemon itself";
        return Err(Failure::new(program::SOFTWARE, ACTION, happened, "report this as a bug"));
    };
    let workers = status.workers.len();
    let ready = status.workers.iter().filter(|worker| worker.state == WorkerState::Ready).count();
    let exit_code = if ready == workers { SUCCESS } else { program::WORKER_FAILED };
    let verdict = format!(
        "mcpd was restarted: version {} (pid {}, run {}); {ready} of {} ready",
        daemon.version,
        daemon.pid,
        daemon.run,
        count(workers, "worker")
    );
    Ok(Outcome {
        exit_code,
        verdict,
        stop_exit_code: stop.map(|report| report.exit_code),
        stop_findings: stop.map(|report| report.findings.clone()).unwrap_or_default(),
        run: daemon.run,
        pid: daemon.pid,
        version: daemon.version.clone(),
        workers,
        workers_ready: ready,
    })
}

fn show(context: &mut Context, outcome: &Outcome) {
    if context.out.is_json() {
        context.out.json_with_schema(RESULT_SCHEMA, outcome);
        return;
    }
    let mut doc = context.out.document();
    if let Some(code) = outcome.stop_exit_code.filter(|code| *code != SUCCESS) {
        doc.blank_line();
        doc.sentence(&format!("The stop before the restart: {}", exit_code::meaning(code)), Tone::Warn);
        summary::findings(&mut doc, &outcome.stop_findings);
        doc.blank_line();
    }
    let tone = if outcome.exit_code == SUCCESS { Tone::Good } else { Tone::Warn };
    doc.sentence(&outcome.verdict, tone);
    context.out.print(doc);
}
