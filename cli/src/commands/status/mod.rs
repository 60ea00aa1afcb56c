//! `mcpctl status`: the daemon, its workers and the last shutdown. Without a daemon only the last shutdown.

use std::time::Duration;

use mcpd_common::crash::last_shutdown;
use mcpd_common::exit_code::program;
use mcpd_common::ids::WorkerName;
use mcpd_common::status::{LastShutdown, STATUS_SCHEMA, StatusReport};
use tokio::signal::ctrl_c;

use crate::args::Status;
use crate::color::Tone;
use crate::context::Context;
use crate::failure::{Failure, SUCCESS};
use crate::wait::sleep;

pub mod render;

const ACTION: &str = "show the status";

/// Interval of `--watch`.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

pub async fn run(context: &mut Context, args: Status) -> Result<u8, Failure> {
    if !args.watch {
        let report = read_status(context, args.worker.as_ref()).await?;
        show(context, &report, args.worker.is_some()).await;
        return Ok(code(&report));
    }
    let mut interrupted = std::pin::pin!(ctrl_c());
    while !context.out.is_closed() {
        match read_status(context, args.worker.as_ref()).await {
            Ok(report) => show(context, &report, args.worker.is_some()).await,
            // The daemon is exiting or starting: keep watching.
            Err(failure) if failure.code == program::UNAVAILABLE => context.out.note(&failure.happened),
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            _ = &mut interrupted => break,
            () = sleep(REFRESH_INTERVAL) => {}
        }
    }
    Ok(SUCCESS)
}

fn code(report: &StatusReport) -> u8 {
    if report.daemon.is_some() { SUCCESS } else { program::NOT_RUNNING }
}

async fn read_status(context: &Context, worker: Option<&WorkerName>) -> Result<StatusReport, Failure> {
    match context.connect(ACTION).await? {
        Some(mut daemon) => daemon.status(ACTION, worker.map(ToString::to_string)).await,
        None => Ok(not_running(context)),
    }
}

fn not_running(context: &Context) -> StatusReport {
    let last = last_shutdown(&context.locations().state);
    StatusReport {
        schema: STATUS_SCHEMA.to_owned(),
        daemon: None,
        workers: Vec::new(),
        last_shutdown: last.as_ref().map(LastShutdown::from),
    }
}

async fn show(context: &mut Context, report: &StatusReport, detailed: bool) {
    if context.out.is_json() {
        return context.out.json(report);
    }
    let mut doc = context.out.document();
    if report.daemon.is_none() {
        match context.wrong_socket(ACTION).await {
            Some(wrong) => {
                doc.line(&[(&wrong.happened, Tone::Strong)]);
                doc.sentence(&wrong.next, Tone::Plain);
            }
            None => doc.line(&[("mcpd is not running", Tone::Strong)]),
        }
    }
    render::status(&mut doc, report, &context.clock(), detailed);
    // Without --watch nothing replaces the document, so it stays.
    context.out.redraw(doc);
}
