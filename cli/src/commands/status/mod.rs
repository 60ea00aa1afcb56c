//! `mcpctl status`: the daemon and its workers; without a daemon the last shutdown alone.

use std::time::Duration;

use mcpd_common::crash::last_shutdown;
use mcpd_common::exit_code::program;
use mcpd_common::ids::WorkerName;
use mcpd_common::status::{LastShutdown, STATUS_SCHEMA, StatusReport};
use tokio::signal::ctrl_c;

use crate::args::Status;
use crate::context::Context;
use crate::exit::{Failure, SUCCESS};
use crate::wait::pause;

pub mod render;

const TRIED: &str = "show the status";

/// How often `--watch` looks again.
const REFRESH: Duration = Duration::from_secs(1);

/// Shows it, once or again and again.
pub async fn run(context: &mut Context, args: Status) -> Result<u8, Failure> {
    if !args.watch {
        let report = ask(context, args.worker.as_ref()).await?;
        show(context, &report, args.worker.is_some());
        return Ok(code(&report));
    }
    let mut interrupted = std::pin::pin!(ctrl_c());
    while !context.out.is_closed() {
        match ask(context, args.worker.as_ref()).await {
            Ok(report) => show(context, &report, args.worker.is_some()),
            // A daemon that ends in this moment is what one watches for.
            Err(failure) if failure.code == program::UNAVAILABLE => context.out.note(&failure.happened),
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            _ = &mut interrupted => break,
            () = pause(REFRESH) => {}
        }
    }
    Ok(SUCCESS)
}

fn code(report: &StatusReport) -> u8 {
    if report.daemon.is_some() { SUCCESS } else { program::NOT_RUNNING }
}

async fn ask(context: &Context, worker: Option<&WorkerName>) -> Result<StatusReport, Failure> {
    match context.reach(TRIED).await? {
        Some(mut daemon) => daemon.status(TRIED, worker.map(ToString::to_string)).await,
        None => Ok(absent(context)),
    }
}

fn absent(context: &Context) -> StatusReport {
    let last = last_shutdown(&context.local().state);
    StatusReport {
        schema: STATUS_SCHEMA.to_owned(),
        daemon: None,
        workers: Vec::new(),
        last_shutdown: last.as_ref().map(LastShutdown::from),
    }
}

fn show(context: &mut Context, report: &StatusReport, detailed: bool) {
    if context.out.is_json() {
        return context.out.json(report);
    }
    let mut doc = context.out.doc();
    render::status(&mut doc, report, &context.clock(), detailed);
    // Without --watch there is one drawing, which stays.
    context.out.redraw(doc);
}
