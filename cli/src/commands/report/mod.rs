//! `mcpctl report`: the full account of one shutdown, with or without a daemon.

use mcpd_common::crash::last_shutdown;
use mcpd_common::exit_code::program;
use mcpd_common::ids::RunId;
use mcpd_common::journal::{Journal, JournalError};
use mcpd_common::outcome::ShutdownReport;
use mcpd_common::paths::StateDir;

use super::history::unreadable;
use crate::args::Report;
use crate::context::Context;
use crate::exit::{Failure, SUCCESS};

mod render;
#[cfg(test)]
mod tests;

const TRIED: &str = "show the report";

/// Shows it.
pub async fn run(context: &mut Context, args: Report) -> Result<u8, Failure> {
    let state = context.state().await;
    let report = find(&state, args.run)?.ok_or_else(|| missing(args.run, &state))?;
    if context.out.is_json() {
        context.out.json(&report);
    } else {
        let mut doc = context.out.doc();
        render::report(&mut doc, &report, &context.clock());
        context.out.print(doc);
    }
    Ok(SUCCESS)
}

/// From the journal or from `last-shutdown.json`, whichever has the run; of two, the later.
fn find(state: &StateDir, run: Option<RunId>) -> Result<Option<ShutdownReport>, Failure> {
    let journal = Journal::open_read_only(&state.journal()).and_then(|journal| journal.report(run));
    let file = last_shutdown(state);
    let file = file.filter(|report| run.is_none_or(|run| report.run == run));
    match (journal, file) {
        (Ok(journal), file) => Ok(journal.into_iter().chain(file).max_by_key(|report| report.finished_at)),
        // A journal that can't be read is no reason to hide what the file says.
        (Err(_), Some(report)) => Ok(Some(report)),
        (Err(JournalError::Missing(_)), None) => Ok(None),
        (Err(error), None) => Err(unreadable(TRIED, &error)),
    }
}

fn missing(run: Option<RunId>, state: &StateDir) -> Failure {
    let place = state.path().display();
    match run {
        Some(run) => Failure::new(
            program::USAGE,
            TRIED,
            format_args!("there is no report of run {run} in {place}"),
            "`mcpctl history` lists the runs; one that still goes on, or that died, has none",
        ),
        None => Failure::new(
            program::UNAVAILABLE,
            TRIED,
            format_args!("no shutdown has been recorded in {place}"),
            "name the daemon's --socket or --config if its state is elsewhere",
        ),
    }
}
