//! `mcpctl restart`: workers, or the daemon itself (R-CLIENT-7).
//!
//! ```text
//! restart --daemon -> RestartDaemon RPC -> events, as of a shutdown -> the daemon answers as another run
//!                                                                   -> its workers have settled
//! ```

use std::time::Duration;

use mcpd_common::exit_code::program;
use mcpd_common::ids::{Pid, RunId};
use mcpd_common::status::{StatusReport, WorkerState, WorkerStatus};
use mcpd_proto::v1;
use serde::Serialize;
use tokio::time::timeout;
use tonic::{Response, Streaming};

use super::shutdown::follow;
use super::workers::{self, Verb};
use crate::args::{Restart, Workers};
use crate::client::{self, ANSWER, Daemon, silent};
use crate::context::Context;
use crate::exit::{Failure, SUCCESS};
use crate::paint::Tone;
use crate::wait::{now, pause};

const TRIED: &str = "restart mcpd";
/// The `schema` of the result in JSON: the last line, after the events.
const RESULT_SCHEMA: &str = "mcpd.restart-result.v1";
/// So long the new program may take to answer, and its workers to settle.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// From this code on the stop left something behind.
const SOMETHING_IS_LEFT: u8 = 4;

/// How it ended.
#[derive(Debug, Serialize)]
struct Outcome {
    exit_code: u8,
    verdict: String,
    /// What the stop before would have exited with.
    stop_exit_code: Option<u8>,
    run: RunId,
    pid: Pid,
    version: String,
    workers: usize,
    workers_ready: usize,
}

/// Restarts.
pub async fn run(context: &mut Context, args: Restart) -> Result<u8, Failure> {
    if args.what.daemon {
        return daemon(context, args.reason.unwrap_or_default()).await;
    }
    let workers = Workers { names: args.what.names, all: args.what.all };
    workers::run(context, Verb::Restart, workers).await
}

async fn daemon(context: &mut Context, reason: String) -> Result<u8, Failure> {
    let mut daemon = context.need(TRIED).await?;
    let before = run_of(&daemon.status(TRIED, None).await?);
    let mut events = ask(&mut daemon, reason).await?;
    let followed = follow::to_the_end(context, &daemon, &mut events).await?;
    let status = come_back(&daemon, before).await?;
    let outcome = outcome(&status, followed.report.map(|report| report.exit_code))?;
    show(context, &outcome);
    Ok(outcome.exit_code)
}

async fn ask(daemon: &mut Daemon, reason: String) -> Result<Streaming<v1::ShutdownEvent>, Failure> {
    let answer = timeout(ANSWER, daemon.control.restart_daemon(v1::RestartDaemonRequest { reason })).await;
    let answer = answer.map_err(|_| silent(TRIED, &daemon.socket))?;
    answer.map(Response::into_inner).map_err(|status| daemon.answered(TRIED, &status))
}

fn run_of(status: &StatusReport) -> Option<RunId> {
    status.daemon.as_ref().map(|daemon| daemon.run)
}

/// The status of the new program, when its workers have settled or patience is at its end.
async fn come_back(daemon: &Daemon, before: Option<RunId>) -> Result<StatusReport, Failure> {
    let limit = now() + PATIENCE;
    let mut last = None;
    while now() < limit {
        // Between the two programs its socket may break a connection; it never refuses one.
        let reached = client::reach(TRIED, std::slice::from_ref(&daemon.socket)).await;
        if let Ok(Some(mut reached)) = reached
            && let Ok(status) = reached.status(TRIED, None).await
            && run_of(&status) != before
        {
            if let Some(shutdown) = status.daemon.as_ref().and_then(|daemon| daemon.shutdown.as_ref()) {
                return Err(stopped(&shutdown.reason));
            }
            if !status.workers.iter().any(is_on_its_way) {
                return Ok(status);
            }
            last = Some(status);
        } else if daemon.handle.as_ref().is_some_and(|handle| !handle.is_alive()) {
            return Err(gone(daemon));
        }
        pause(LOOK).await;
    }
    last.ok_or_else(|| silent(TRIED, &daemon.socket))
}

/// One that has never run in this run is about to be started.
fn is_on_its_way(worker: &WorkerStatus) -> bool {
    match worker.state {
        WorkerState::Starting | WorkerState::BackingOff | WorkerState::Stopping => true,
        WorkerState::Stopped => worker.last_exit.is_none(),
        WorkerState::Ready | WorkerState::Unhealthy | WorkerState::Failed => false,
    }
}

fn stopped(reason: &str) -> Failure {
    let happened = format!("somebody asked mcpd to stop meanwhile ({reason}), and it does");
    Failure::new(program::UNAVAILABLE, TRIED, happened, "start mcpd again")
}

fn gone(daemon: &Daemon) -> Failure {
    let happened = format!(
        "everything was stopped, and the daemon at {} did not come back as a new program",
        daemon.socket.display()
    );
    Failure::new(
        program::UNAVAILABLE,
        TRIED,
        happened,
        "see what it said, `mcpctl report`, and start mcpd again",
    )
}

fn outcome(status: &StatusReport, stop_exit_code: Option<u8>) -> Result<Outcome, Failure> {
    let Some(daemon) = &status.daemon else {
        let happened = "the daemon's status says nothing of the daemon";
        return Err(Failure::new(program::SOFTWARE, TRIED, happened, "report it"));
    };
    let workers = status.workers.len();
    let ready = status.workers.iter().filter(|worker| worker.state == WorkerState::Ready).count();
    let left = stop_exit_code.filter(|code| *code >= SOMETHING_IS_LEFT);
    let verdict = format!(
        "mcpd goes on as version {} (pid {}, run {}); {ready} of {workers} workers are ready",
        daemon.version, daemon.pid, daemon.run
    );
    Ok(Outcome {
        exit_code: left.unwrap_or(if ready == workers { SUCCESS } else { program::UNAVAILABLE }),
        verdict,
        stop_exit_code,
        run: daemon.run,
        pid: daemon.pid,
        version: daemon.version.clone(),
        workers,
        workers_ready: ready,
    })
}

fn show(context: &mut Context, outcome: &Outcome) {
    if context.out.is_json() {
        context.out.json_line(RESULT_SCHEMA, outcome);
        return;
    }
    let mut doc = context.out.doc();
    let tone = if outcome.exit_code == SUCCESS { Tone::Good } else { Tone::Warn };
    doc.sentence(&outcome.verdict, tone);
    context.out.print(doc);
}
