//! Nobody answers: "not running" is no error, unless something of an earlier run is still there.

use std::time::Duration;

use mcpd_common::crash::last_shutdown;
use mcpd_common::exit_code::{self, program};
use mcpd_common::os::child::Handle;
use mcpd_common::os::process::Process;
use mcpd_common::outcome::ShutdownReport;
use mcpd_common::run_file::RunFile;
use tokio::time::timeout;

use super::{Outcome, RESULT_SCHEMA, State, TRIED, gone, verdict};
use crate::args::Shutdown;
use crate::client::Daemon;
use crate::context::Context;
use crate::exit::{Failure, SUCCESS};
use crate::leftovers::{self, Leftovers};
use crate::offline::{self, Local};
use crate::paint::Tone;
use crate::wait::{now, pause};

/// A daemon without a socket is at the end of its shutdown: this long at most.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// How long what is about to be gone may still be seen.
const DYING: Duration = Duration::from_secs(1);

const AGAIN: Duration = Duration::from_millis(20);

/// Says that it is not running, or what is left.
pub async fn run(context: &mut Context, args: &Shutdown) -> Result<u8, Failure> {
    let local = context.local();
    if args.wait {
        // A guardian that cleans up, or is about to exit itself.
        let limit = now() + LAST_MOMENTS;
        while offline::is_held(&local.state) && now() < limit {
            pause(AGAIN).await;
        }
    }
    let run_file = match RunFile::read(&local.state.run_file()) {
        Ok(Some(run)) => run,
        Ok(None) => return Ok(show(context, &nothing())),
        Err(error) => {
            context.out.note(&format!("{error}; whether an earlier run left something can't be told"));
            return Ok(show(context, &nothing()));
        }
    };
    let left = lasting(&run_file, &local).await?;
    if let Some(daemon) = &left.daemon {
        return still_there(context, args, &local, &run_file, daemon).await;
    }
    Ok(show(context, &left_behind(&run_file, left)))
}

/// Whether a daemon whose connection broke was at the very end of a shutdown that somebody else
/// had asked for: its process is gone soon.
pub async fn is_leaving(daemon: &Daemon) -> bool {
    match &daemon.handle {
        Some(handle) => timeout(LAST_MOMENTS, gone::process(handle)).await.is_ok(),
        None => false,
    }
}

/// What is left and stays: after a daemon's sudden death its workers die too, but not in the same
/// moment.
async fn lasting(run_file: &RunFile, local: &Local) -> Result<Leftovers, Failure> {
    let limit = now() + DYING;
    loop {
        let left = Leftovers::of(run_file, local).map_err(|error| leftovers::cannot_look(TRIED, error))?;
        if left.daemon.is_some() || left.processes.is_empty() || now() >= limit {
            return Ok(left);
        }
        pause(AGAIN).await;
    }
}

/// What is left of a run whose daemon is gone.
fn left_behind(run_file: &RunFile, left: Leftovers) -> Outcome {
    let findings = left.findings();
    if findings.is_empty() {
        return nothing();
    }
    let code = exit_code::of(&findings);
    Outcome {
        state: State::Leftovers,
        exit_code: code,
        verdict: format!("mcpd is not running, but something is left: {}", exit_code::meaning(code)),
        run: Some(run_file.run),
        ports: left.ports,
        findings,
        ..nothing()
    }
}

/// The daemon's process lives, its socket does not answer: it is about to exit, or just begins.
async fn still_there(
    context: &mut Context,
    args: &Shutdown,
    local: &Local,
    run: &RunFile,
    daemon: &Process,
) -> Result<u8, Failure> {
    let ended = match (args.wait, Handle::open(daemon)) {
        (true, Ok(Some(handle))) => timeout(LAST_MOMENTS, gone::process(&handle)).await.is_ok(),
        (true, Ok(None)) => true,
        (true, Err(_)) | (false, _) => false,
    };
    let report = last_shutdown(&local.state).filter(|report| report.run == run.run);
    match report {
        Some(report) if ended => Ok(show(context, &past(&report))),
        // It died without an account.
        _ if ended => Ok(show(context, &left_behind(run, lasting(run, local).await?))),
        _ => Err(Failure::new(
            program::UNAVAILABLE,
            TRIED,
            format_args!(
                "the daemon (pid {}) lives, but nobody answers at {}",
                daemon.pid,
                run.socket.display()
            ),
            format!("try again in a moment; if it stays so: kill -TERM {}", daemon.pid),
        )),
    }
}

fn show(context: &mut Context, outcome: &Outcome) -> u8 {
    if context.out.is_json() {
        context.out.json_line(RESULT_SCHEMA, outcome);
    } else if outcome.state == State::NotRunning {
        let mut doc = context.out.doc();
        doc.sentence(&outcome.verdict, Tone::Plain);
        context.out.print(doc);
    } else {
        verdict::show(context, outcome);
        if outcome.state == State::Leftovers {
            context.out.note("nothing has been signalled: end what is listed with kill(1), then look again");
        }
    }
    outcome.exit_code
}

fn nothing() -> Outcome {
    Outcome {
        state: State::NotRunning,
        exit_code: SUCCESS,
        verdict: "mcpd is not running, and nothing of it is left".to_owned(),
        run: None,
        daemon_exit_code: None,
        duration_ms: None,
        looked_at: None,
        disagreements: Vec::new(),
        ports: Vec::new(),
        findings: Vec::new(),
    }
}

/// It exited while we watched.
fn past(report: &ShutdownReport) -> Outcome {
    Outcome {
        state: State::Finished,
        exit_code: report.exit_code,
        verdict: report.verdict().to_owned(),
        run: Some(report.run),
        daemon_exit_code: Some(report.exit_code),
        duration_ms: Some(report.duration_ms),
        findings: report.findings.clone(),
        ..nothing()
    }
}
