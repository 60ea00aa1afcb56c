//! `mcpctl report`: the full report of one shutdown. Works without a daemon.

use mcpd_common::crash::last_shutdown;
use mcpd_common::exit_code::program;
use mcpd_common::ids::RunId;
use mcpd_common::journal::{Journal, JournalError};
use mcpd_common::outcome::ShutdownReport;
use mcpd_common::paths::StateDir;

use super::history::journal_unreadable;
use crate::args::Report;
use crate::context::Context;
use crate::failure::{Failure, SUCCESS};

mod render;
#[cfg(test)]
mod tests;

const ACTION: &str = "show the report";

pub async fn run(context: &mut Context, args: Report) -> Result<u8, Failure> {
    let state = context.state_dir().await;
    let report = find(&state, args.run)?.ok_or_else(|| missing(args.run, &state))?;
    if context.out.is_json() {
        context.out.json(&report);
    } else {
        let mut doc = context.out.document();
        render::report(&mut doc, &report, &context.clock());
        context.out.print(doc);
    }
    Ok(SUCCESS)
}

/// Finds the report in the journal or in `last-shutdown.json`. If both match, the later report wins.
fn find(state: &StateDir, run: Option<RunId>) -> Result<Option<ShutdownReport>, Failure> {
    let journal = Journal::open_read_only(&state.journal()).and_then(|journal| journal.report(run));
    let file = last_shutdown(state).filter(|report| run.is_none_or(|run| report.run == run));
    match (journal, file) {
        (Ok(journal), file) => Ok(journal.into_iter().chain(file).max_by_key(|report| report.finished_at)),
        // The file is independent of the journal, so an unreadable journal does not matter.
        (Err(_), Some(report)) => Ok(Some(report)),
        (Err(JournalError::Missing(_)), None) => Ok(None),
        (Err(error), None) => Err(journal_unreadable(ACTION, &error)),
    }
}

fn missing(run: Option<RunId>, state: &StateDir) -> Failure {
    let place = state.path().display();
    match run {
        Some(run) => Failure::new(
            program::USAGE,
            ACTION,
            format_args!("there is no report of run {run} in {place}"),
            "run `mcpctl history` to list the runs; a run that has not ended or that crashed has no report",
        ),
        None => Failure::new(
            program::UNAVAILABLE,
            ACTION,
            format_args!("no shutdown has been recorded in {place}"),
            "if the state directory is elsewhere, name the daemon with --socket or --config",
        ),
    }
}
