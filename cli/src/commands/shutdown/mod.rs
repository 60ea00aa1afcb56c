//! `mcpctl shutdown`: request it, follow its events, wait until the daemon has exited, check that nothing is left.
//!
//! ```text
//! no daemon ------------------------> not_running.rs    "not running", or what an earlier run left
//! daemon -> Shutdown RPC -> follow.rs (events) -> wait_for_exit.rs (daemon, guardian) -> external_check.rs -> summary.rs
//! ```
//!
//! The events only show progress. The result counts when daemon and guardian have exited: it is taken from
//! `last-shutdown.json` and from the check made here (R-SHUT-5).

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

use crate::args::Shutdown;
use crate::context::Context;
use crate::daemon_client::{DaemonClient, REPLY_TIMEOUT};
use crate::failure::Failure;

mod external_check;
pub mod follow;
mod not_running;
pub mod summary;
mod wait_for_exit;

const ACTION: &str = "shut mcpd down";

/// `schema` of the result in JSON. It is the last line, after the events.
pub const RESULT_SCHEMA: &str = "mcpd.shutdown-result.v1";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There was no daemon, and nothing of an earlier run is left.
    NotRunning,
    /// There was no daemon, but something of an earlier run is left.
    Leftovers,
    /// The shutdown has begun, and `mcpctl` does not wait for it.
    Begun,
    /// The daemon has exited.
    Finished,
}

/// The result of the command. The fields are the JSON shape `mcpd.shutdown-result.v1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub state: State,
    /// The exit code of `mcpctl`.
    pub exit_code: u8,
    /// One sentence without a full stop.
    pub verdict: String,
    pub run: Option<RunId>,
    pub daemon_exit_code: Option<u8>,
    /// Duration of the shutdown, measured by the daemon.
    pub duration_ms: Option<u64>,
    /// When the external check was made.
    pub looked_at: Option<Timestamp>,
    /// Where the external check contradicts the daemon.
    pub disagreements: Vec<String>,
    /// The ports as found by the external check.
    pub ports: Vec<PortReport>,
    /// What the daemon found, or what an earlier run left.
    pub findings: Vec<Finding>,
}

impl Outcome {
    /// An outcome without details; all optional fields are empty.
    fn new(state: State, exit_code: u8, verdict: impl Into<String>) -> Self {
        Self {
            state,
            exit_code,
            verdict: verdict.into(),
            run: None,
            daemon_exit_code: None,
            duration_ms: None,
            looked_at: None,
            disagreements: Vec::new(),
            ports: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// The daemon has exited and left this report.
    fn finished(report: &ShutdownReport) -> Self {
        Self {
            run: Some(report.run),
            daemon_exit_code: Some(report.exit_code),
            duration_ms: Some(report.duration_ms),
            findings: report.findings.clone(),
            ..Self::new(State::Finished, report.exit_code, report.verdict())
        }
    }

    /// Adds the external check. If it contradicts the daemon, the exit code is at least 4: a more severe
    /// code stays (R-EXIT-1: the highest code that applies).
    fn checked(mut self, check: external_check::ExternalCheck) -> Self {
        if !check.disagreements.is_empty() {
            self.exit_code = self.exit_code.max(external_check::DISAGREES);
        }
        self.looked_at = Some(check.at);
        self.disagreements = check.disagreements;
        self.ports = check.ports;
        self
    }
}

/// What is needed after the daemon has exited, collected before the shutdown is requested.
#[derive(Debug)]
struct Before {
    state: StateDir,
    ports: Vec<KnownPort>,
    guardian: Option<Handle>,
}

pub async fn run(context: &mut Context, args: Shutdown) -> Result<u8, Failure> {
    let Some(mut daemon) = context.connect(ACTION).await? else {
        return not_running::run(context, &args).await;
    };
    let before = before(context, &mut daemon, args.wait).await;
    let request = v1::ShutdownRequest { reason: args.reason.clone().unwrap_or_default(), now: args.now };
    let wait = daemon.wait_for(ACTION, "a reply to the request", REPLY_TIMEOUT);
    let mut events = match wait.reply(daemon.control.shutdown(request)).await {
        Ok(events) => events,
        // An earlier request may have ended the daemon just now.
        Err(failure) if failure.code == program::UNAVAILABLE && not_running::exits_soon(&daemon).await => {
            return not_running::run(context, &args).await;
        }
        Err(failure) => return Err(failure),
    };
    if !args.wait {
        return follow::first_event(context, &daemon, &mut events).await;
    }
    let followed = follow::to_the_end(context, &daemon, &mut events).await?;
    wait_for_exit::wait(context, &daemon, before.guardian.as_ref(), &followed).await?;
    let outcome = outcome(&daemon, &before, &followed).await?;
    summary::show(context, &outcome);
    Ok(outcome.exit_code)
}

/// Asks the daemon for its state directory, ports and guardian. If it does not answer, it is shut down all the
/// same, and the state directory is taken from the configuration.
async fn before(context: &Context, daemon: &mut DaemonClient, wait: bool) -> Before {
    let status = if wait { daemon.status(ACTION, None).await.ok() } else { None };
    let workers = status.iter().flat_map(|status| &status.workers);
    let ports = workers.map(|worker| KnownPort { port: worker.port, worker: Some(worker.name.clone()) });
    let ports = ports.collect();
    let status = status.as_ref().and_then(|status| status.daemon.as_ref());
    let guardian = status.and_then(|status| status.guardian).and_then(process::best_effort::read);
    let state = match status {
        Some(status) => StateDir::new(PathBuf::from(&status.state_dir)),
        None => context.locations().state,
    };
    Before { state, ports, guardian: guardian.and_then(|guardian| Handle::open(&guardian).ok().flatten()) }
}

/// Combines the report with the external check.
async fn outcome(
    daemon: &DaemonClient,
    before: &Before,
    followed: &follow::Followed,
) -> Result<Outcome, Failure> {
    let in_file = last_shutdown(&before.state);
    let in_file = in_file.filter(|report| followed.run.is_none_or(|run| report.run == run));
    // The file takes precedence: it is written after the last event, by the guardian if the daemon died.
    let Some(report) = in_file.or_else(|| followed.report.clone()) else {
        return Err(no_report(followed.broke.as_deref(), &before.state));
    };
    let check = external_check::check(daemon, &before.ports, &report).await;
    Ok(Outcome::finished(&report).checked(check))
}

fn no_report(broke: Option<&str>, state: &StateDir) -> Failure {
    let why = broke.unwrap_or("the events ended early");
    Failure::new(
        program::UNAVAILABLE,
        "find out how the shutdown ended",
        format_args!(
            "the daemon exited without a report: {why}, and {} has no report of this run",
            state.last_shutdown().display()
        ),
        "see `mcpctl logs --daemon`, `mcpctl verify-ports` and `mcpctl list-zombies --all`",
    )
}
