//! A shutdown although no daemon listens: a success, unless something of an earlier run is left.

use std::path::PathBuf;
use std::time::Duration;

use mcpd_common::check::orphans::{self, Orphan};
use mcpd_common::crash::last_shutdown;
use mcpd_common::exit_code::{self, program};
use mcpd_common::os::child::Handle;
use mcpd_common::os::process::Process;
use mcpd_common::outcome::{Finding, FindingKind};
use mcpd_common::run_file::RunFile;
use tokio::time::timeout;

use super::{ACTION, Outcome, RESULT_SCHEMA, State, summary, wait_for_exit};
use crate::args::Shutdown;
use crate::color::Tone;
use crate::context::Context;
use crate::daemon_client::DaemonClient;
use crate::failure::{Failure, SUCCESS};
use crate::formatting::count;
use crate::leftovers::{self, Leftovers};
use crate::locations::{self, Locations};
use crate::wait::{now, sleep};

/// Limit for a daemon that has closed its socket, and for its guardian, to exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit for the workers of a crashed daemon to die.
const WORKERS_EXIT_TIMEOUT: Duration = Duration::from_secs(1);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Interval for reading the marks of all processes.
const ORPHAN_INTERVAL: Duration = Duration::from_millis(200);

pub async fn run(context: &mut Context, args: &Shutdown) -> Result<u8, Failure> {
    let locations = context.locations();
    if args.wait {
        wait_for_lock(&locations).await;
    }
    let run = match RunFile::read(&locations.state.run_file()) {
        Ok(Some(run)) => run,
        Ok(None) => {
            let place = format!("no run is recorded in {}", locations.state.path().display());
            let outcome = without_record(&place, lasting_orphans().await?);
            return Ok(show(context, &outcome));
        }
        Err(error) => {
            let outcome = without_record(&error.to_string(), lasting_orphans().await?);
            context.out.note(&format!("{error}; only processes with the mark of a run were searched for"));
            return Ok(show(context, &outcome));
        }
    };
    let leftovers = lasting_leftovers(&run, &locations).await?;
    if let Some(daemon) = &leftovers.daemon {
        return daemon_without_socket(context, args, &locations, &run, daemon).await;
    }
    Ok(show(context, &outcome(&run, leftovers)))
}

/// A guardian may still be cleaning up, or about to exit.
async fn wait_for_lock(locations: &Locations) {
    let deadline = now() + EXIT_TIMEOUT;
    while locations::is_locked(&locations.state) && now() < deadline {
        sleep(POLL_INTERVAL).await;
    }
}

/// Whether a daemon whose connection was lost exits soon: it was at the end of a shutdown that another client
/// had requested.
pub async fn exits_soon(daemon: &DaemonClient) -> bool {
    match &daemon.handle {
        Some(handle) => timeout(EXIT_TIMEOUT, wait_for_exit::process(handle)).await.is_ok(),
        None => false,
    }
}

/// Ignores processes that exit within a second: when a daemon is killed, its workers die shortly after it.
async fn lasting_leftovers(run: &RunFile, locations: &Locations) -> Result<Leftovers, Failure> {
    let deadline = now() + WORKERS_EXIT_TIMEOUT;
    loop {
        let leftovers =
            Leftovers::of(run, locations).map_err(|error| leftovers::cannot_look(ACTION, error))?;
        if leftovers.daemon.is_some() || leftovers.processes.is_empty() || now() >= deadline {
            return Ok(leftovers);
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Processes of runs that no file names, and that nothing supervises. Those that exit within a second don't count.
async fn lasting_orphans() -> Result<Vec<Orphan>, Failure> {
    let find = || orphans::find().map_err(|error| leftovers::cannot_look(ACTION, error));
    let deadline = now() + WORKERS_EXIT_TIMEOUT;
    let mut orphans = find()?;
    while !orphans.is_empty() && now() < deadline {
        sleep(ORPHAN_INTERVAL).await;
        let still_there = find()?;
        orphans.retain(|orphan| still_there.iter().any(|it| it.is_same(orphan)));
    }
    Ok(orphans)
}

/// `why` says why nothing is known about the last run.
fn without_record(why: &str, orphans: Vec<Orphan>) -> Outcome {
    let findings: Vec<_> = orphans.iter().map(orphan_finding).collect();
    if findings.is_empty() {
        return nothing_left();
    }
    let code = exit_code::of(&findings);
    let left = count(findings.len(), "process");
    let verdict = format!("mcpd is not running, and {why}, but an earlier run of mcpd left {left}");
    Outcome { findings, ..Outcome::new(State::Leftovers, code, verdict) }
}

fn orphan_finding(orphan: &Orphan) -> Finding {
    let what = orphan.describe();
    let run = orphan.mark.run.0;
    let detail = format!("{what} has the mark of a run of mcpd ({run:08x}) whose daemon is gone");
    Finding::new(FindingKind::ProcessLeft, &orphan.process.name, detail)
}

fn outcome(run: &RunFile, leftovers: Leftovers) -> Outcome {
    let findings = leftovers.findings();
    if findings.is_empty() {
        return nothing_left();
    }
    let code = exit_code::of(&findings);
    let verdict = format!("mcpd is not running, but something is left: {}", exit_code::meaning(code));
    Outcome {
        run: Some(run.run),
        ports: leftovers.ports,
        findings,
        ..Outcome::new(State::Leftovers, code, verdict)
    }
}

/// The daemon's process is alive, but its socket does not answer: it is about to exit, or just starting.
async fn daemon_without_socket(
    context: &mut Context,
    args: &Shutdown,
    locations: &Locations,
    run: &RunFile,
    daemon: &Process,
) -> Result<u8, Failure> {
    let tried = context.sockets(ACTION)?;
    if !tried.contains(&run.socket) {
        return Err(listens_elsewhere(&tried, run, daemon));
    }
    let has_exited = args.wait
        && match Handle::open(daemon) {
            Ok(Some(handle)) => timeout(EXIT_TIMEOUT, wait_for_exit::process(&handle)).await.is_ok(),
            Ok(None) => true,
            Err(_) => false,
        };
    if !has_exited {
        return Err(does_not_answer(run, daemon));
    }
    let report = last_shutdown(&locations.state).filter(|report| report.run == run.run);
    let outcome = match report {
        Some(report) => Outcome::finished(&report),
        // It died without a report.
        None => outcome(run, lasting_leftovers(run, locations).await?),
    };
    Ok(show(context, &outcome))
}

fn does_not_answer(run: &RunFile, daemon: &Process) -> Failure {
    let pid = daemon.pid;
    let socket = run.socket.display();
    Failure::new(
        program::UNAVAILABLE,
        ACTION,
        format_args!("the daemon (pid {pid}) is running, but does not listen on {socket}"),
        format!("try again in a moment; if that does not help: kill -TERM {pid}"),
    )
}

/// `--socket` named another socket.
fn listens_elsewhere(tried: &[PathBuf], run: &RunFile, daemon: &Process) -> Failure {
    let tried: Vec<_> = tried.iter().map(|socket| socket.display().to_string()).collect();
    let (pid, socket) = (daemon.pid, run.socket.display());
    Failure::new(
        program::UNAVAILABLE,
        ACTION,
        format_args!(
            "no daemon listens on {}; the daemon (pid {pid}) listens on {socket}",
            tried.join(" or ")
        ),
        format!("if you mean that daemon: --socket {socket}"),
    )
}

fn show(context: &mut Context, outcome: &Outcome) -> u8 {
    if context.out.is_json() {
        context.out.json_with_schema(RESULT_SCHEMA, outcome);
    } else if outcome.state == State::NotRunning {
        let mut doc = context.out.document();
        doc.sentence(&outcome.verdict, Tone::Plain);
        context.out.print(doc);
    } else {
        summary::show(context, outcome);
        if outcome.state == State::Leftovers {
            context
                .out
                .note("no process was signalled: end the listed processes with kill(1), then run this again");
        }
    }
    outcome.exit_code
}

fn nothing_left() -> Outcome {
    Outcome::new(State::NotRunning, SUCCESS, "mcpd is not running, and nothing of it is left")
}
