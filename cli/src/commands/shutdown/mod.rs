//! `mcpctl shutdown`: begin it, follow it, wait until the daemon is gone, look from outside.
//!
//! ```text
//! no daemon ----------------------> absent.rs   "not running", or what an earlier run left
//! daemon -> Shutdown RPC -> follow.rs (events) -> gone.rs (both processes) -> outside.rs (our own look)
//! ```
//!
//! The stream is only what the daemon says. What counts is that it and its guardian are gone, what
//! `last-shutdown.json` says then, and what is seen from outside (R-SHUT-5).

use std::path::PathBuf;

use jiff::Timestamp;
use mcpd_common::check::ports::{KnownPort, PortReport};
use mcpd_common::crash::last_shutdown;
use mcpd_common::exit_code::program;
use mcpd_common::ids::RunId;
use mcpd_common::os::child::Handle;
use mcpd_common::os::process;
use mcpd_common::outcome::{Finding, ShutdownReport};
use mcpd_common::paths::StateDir;
use mcpd_proto::v1;
use serde::Serialize;
use tokio::time::timeout;
use tonic::{Response, Streaming};

use crate::args::Shutdown;
use crate::client::{ANSWER, Daemon, silent};
use crate::context::Context;
use crate::exit::{Failure, SUCCESS};
use crate::offline::Local;

mod absent;
pub mod follow;
mod gone;
mod outside;
pub mod verdict;

const TRIED: &str = "shut mcpd down";

/// The `schema` of how it ended, in JSON: the last line, after the events.
pub const RESULT_SCHEMA: &str = "mcpd.shutdown-result.v1";

/// How far it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There was no daemon, and nothing is left of one.
    NotRunning,
    /// There was no daemon, but something is left of one.
    Leftovers,
    /// It has begun; nobody waits.
    Begun,
    /// The daemon is gone.
    Finished,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// How far it went.
    pub state: State,
    /// What `mcpctl` exits with.
    pub exit_code: u8,
    /// One sentence.
    pub verdict: String,
    /// The run that ended.
    pub run: Option<RunId>,
    /// What the daemon exited with.
    pub daemon_exit_code: Option<u8>,
    /// How long the shutdown took by the daemon's clock, milliseconds.
    pub duration_ms: Option<u64>,
    /// When the look from outside was taken.
    pub looked_at: Option<Timestamp>,
    /// What of it disagrees with the daemon.
    pub disagreements: Vec<String>,
    /// The ports, seen from outside.
    pub ports: Vec<PortReport>,
    /// What the daemon found, or what is left.
    pub findings: Vec<Finding>,
}

/// What is known before anything is asked to end.
#[derive(Debug)]
struct Before {
    state: StateDir,
    ports: Vec<KnownPort>,
    guardian: Option<Handle>,
}

/// Shuts down.
pub async fn run(context: &mut Context, args: Shutdown) -> Result<u8, Failure> {
    let Some(mut daemon) = context.reach(TRIED).await? else {
        return absent::run(context, &args).await;
    };
    let before = before(context, &mut daemon, args.wait).await;
    let mut events = match ask(&mut daemon, &args).await {
        Ok(events) => events,
        Err(failure) if failure.code == program::UNAVAILABLE && absent::is_leaving(&daemon).await => {
            return absent::run(context, &args).await;
        }
        Err(failure) => return Err(failure),
    };
    if !args.wait {
        return follow::beginning(context, &daemon, &mut events).await;
    }
    let followed = follow::to_the_end(context, &daemon, &mut events).await?;
    gone::wait(context, &daemon, before.guardian.as_ref(), followed.deadline).await?;
    let outcome = judge(&daemon, &before, &followed).await?;
    verdict::show(context, &outcome);
    Ok(outcome.exit_code)
}

async fn ask(daemon: &mut Daemon, args: &Shutdown) -> Result<Streaming<v1::ShutdownEvent>, Failure> {
    let request = v1::ShutdownRequest { reason: args.reason.clone().unwrap_or_default(), now: args.now };
    let answer = timeout(ANSWER, daemon.control.shutdown(request)).await;
    let answer = answer.map_err(|_| silent(TRIED, &daemon.socket))?;
    answer.map(Response::into_inner).map_err(|status| daemon.answered(TRIED, &status))
}

/// Asks where the daemon keeps its state and which ports it has; who can't say is stopped all
/// the same, and the places are guessed.
async fn before(context: &Context, daemon: &mut Daemon, wait: bool) -> Before {
    let status = if wait { daemon.status(TRIED, None).await.ok() } else { None };
    let workers = status.iter().flat_map(|status| &status.workers);
    let ports = workers.map(|worker| KnownPort { port: worker.port, worker: Some(worker.name.clone()) });
    let ports = ports.collect();
    let told = status.as_ref().and_then(|status| status.daemon.as_ref());
    let guardian = told.and_then(|daemon| daemon.guardian).and_then(process::best_effort::read);
    let guardian = guardian.and_then(|guardian| Handle::open(&guardian).ok().flatten());
    let state = told.map(|daemon| StateDir::new(PathBuf::from(&daemon.state_dir)));
    Before { state: state.unwrap_or_else(|| Local::find(&context.global).state), ports, guardian }
}

/// What the daemon said, what it wrote, and what is seen now, in one outcome.
async fn judge(daemon: &Daemon, before: &Before, followed: &follow::Followed) -> Result<Outcome, Failure> {
    let written = last_shutdown(&before.state);
    let written = written.filter(|report| followed.run.is_none_or(|run| report.run == run));
    // The file has the last word: it is written at the very end, and by whoever ended last.
    let Some(report) = written.or_else(|| followed.report.clone()) else {
        return Err(no_account(&followed.broke, &before.state));
    };
    let look = outside::look(daemon, &before.ports, &report).await;
    Ok(outcome(&report, look))
}

fn outcome(report: &ShutdownReport, look: outside::Look) -> Outcome {
    let disagreement = if look.disagreements.is_empty() { SUCCESS } else { outside::DISAGREES };
    Outcome {
        state: State::Finished,
        // What is worse than a held port stays what it is (R-EXIT-1: the highest that applies).
        exit_code: report.exit_code.max(disagreement),
        verdict: report.verdict().to_owned(),
        run: Some(report.run),
        daemon_exit_code: Some(report.exit_code),
        duration_ms: Some(report.duration_ms),
        looked_at: Some(look.at),
        disagreements: look.disagreements,
        ports: look.ports,
        findings: report.findings.clone(),
    }
}

fn no_account(broke: &Option<String>, state: &StateDir) -> Failure {
    let why = broke.as_deref().unwrap_or("the events ended early");
    Failure::new(
        program::UNAVAILABLE,
        "learn how the shutdown ended",
        format_args!(
            "the daemon is gone without an account: {why}, and {} has none of this run",
            state.last_shutdown().display()
        ),
        "see `mcpctl logs --daemon`, `mcpctl verify-ports` and `mcpctl list-zombies --all`",
    )
}
