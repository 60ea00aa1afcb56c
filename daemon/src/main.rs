//! `mcpd`: runs MCP servers, one worker per repository, and stops them so that nothing is left.
//!
//! Arguments, the fork, the runtime, the exit code. The daemon's life is in `app.rs`, its end in
//! `shutdown/mod.rs`, who looks after it in `guardian/mod.rs`.

mod app;
mod args;
mod banner;
mod boot;
mod commands;
mod control;
mod deadline;
mod fault;
mod guardian;
mod handover;
mod instance;
mod journal;
mod logging;
mod process;
mod progress;
mod proxy;
mod random;
mod recovery;
mod repo_worker;
mod resources;
mod shutdown;
mod signals;
mod supervisor;
mod time_limits;
mod verify;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use jiff::Timestamp;
use mcpd_common::exit_code::{Severity, program};
use mcpd_common::ids::{RunId, RunTag};
use mcpd_common::os::child;
use mcpd_common::os::handover::hold_stop_signals;
use mcpd_common::paths::StateDir;
use mcpd_common::phase::OVERRUN_GRACE;

use args::{Args, Command};
use boot::StartError;
use commands::run::Wanted;
use guardian::{ForkSide, GuardianConfig, GuardianLink};
use handover::Inheritance;
use instance::Instance;
use time_limits::TimeLimits;

/// What a runtime may take to end its own threads, when all is done.
const RUNTIME_END: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A closed terminal is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() { program::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let code = match args.command {
        Some(Command::Init { dirs }) => commands::init::run(&dirs),
        Some(Command::CheckConfig { file }) => commands::check_config::run(file.or(args.run.config)),
        Some(Command::Worker { repo, port }) => commands::worker::run(repo, port),
        None => run(args.run),
    };
    code.into()
}

fn run(args: args::Run) -> u8 {
    // Before anything else is opened: descriptors are told by their numbers.
    let mut inheritance = Inheritance::receive();
    // A daemon already, as another program, with the guardian that it had.
    if let Some(guardian_link) = inheritance.guardian_link.take() {
        return complete(guardian_link, |guardian_link| {
            daemon(wanted(args)?, new_run()?, guardian_link, inheritance)
        });
    }
    refuse(divide(args))
}

/// Before any thread exists one process becomes two: the guardian, which this one stays, and the
/// daemon.
fn divide(args: args::Run) -> Result<u8, NotStarted> {
    let (wanted, run) = (wanted(args)?, new_run()?);
    let places = &wanted.config.daemon;
    let (state, socket) = (StateDir::new(&places.state_dir), places.socket.clone());
    let instance = Instance::acquire(&state, &socket, None).map_err(StartError::from)?;
    let bound = TimeLimits::new(&wanted.config.shutdown).total() + OVERRUN_GRACE;
    let launch = GuardianConfig { run, state, socket, bound, instance };
    match guardian::fork(launch).map_err(StartError::system("make a guardian"))? {
        ForkSide::Guardian(guardian) => {
            drop(wanted);
            Ok(guardian.watch())
        }
        ForkSide::Daemon(guardian_link, instance) => {
            let lock = Some((wanted.config.daemon.state_dir.clone(), instance.into_lock()));
            let inheritance = Inheritance { lock, ..Inheritance::default() };
            Ok(complete(guardian_link, |guardian_link| daemon(wanted, run, guardian_link, inheritance)))
        }
    }
}

/// What the guardian has to know at the very end: this was no crash.
fn complete(
    guardian_link: GuardianLink,
    daemon: impl FnOnce(Arc<GuardianLink>) -> Result<u8, NotStarted>,
) -> u8 {
    let guardian_link = Arc::new(guardian_link);
    let code = refuse(daemon(guardian_link.clone()));
    guardian_link.complete(code);
    code
}

fn daemon(
    wanted: Wanted,
    run: RunId,
    guardian_link: Arc<GuardianLink>,
    inheritance: Inheritance,
) -> Result<u8, NotStarted> {
    // Before any thread or child exists: whatever workers leave behind becomes our child.
    child::become_subreaper().map_err(StartError::system("become a subreaper"))?;
    // Taken by `signals.rs`, on this thread.
    hold_stop_signals().map_err(|error| StartError::system("hold signals back")(error.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mcpd")
        .enable_all()
        .build()
        .map_err(StartError::system("start its threads"))?;
    let Wanted { config, warnings, console, replaceable } = wanted;
    let options =
        app::Options { config, warnings, console, run, guardian_link: guardian_link.clone(), replaceable };
    let result = runtime.block_on(app::run(options, inheritance));
    runtime.shutdown_timeout(RUNTIME_END);
    let mut stopped = result?;
    match stopped.handover() {
        None => Ok(stopped.exit_code()),
        Some(handover) => {
            let error = handover.exec(&guardian_link);
            commands::complain(&format!("mcpd can't go on as a new program: {error}; start it again\n"));
            Ok(Severity::Internal.code())
        }
    }
}

fn wanted(args: args::Run) -> Result<Wanted, NotStarted> {
    commands::run::wanted(args).map_err(NotStarted::Configuration)
}

fn new_run() -> Result<RunId, StartError> {
    let tag = random::bytes().map_err(StartError::system("get random bytes"))?;
    Ok(RunId::new(Timestamp::now(), RunTag(u32::from_ne_bytes(tag))))
}

/// Why nothing was started.
enum NotStarted {
    /// A complaint about the configuration, as it is to be shown.
    Configuration(String),
    /// Something else.
    Start(StartError),
}

impl From<StartError> for NotStarted {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

/// The exit code, after a word about why nothing was started.
fn refuse(result: Result<u8, NotStarted>) -> u8 {
    match result {
        Ok(code) => code,
        Err(NotStarted::Configuration(complaint)) => {
            commands::complain(&complaint);
            program::CONFIG
        }
        Err(NotStarted::Start(error)) => {
            commands::complain(&format!("mcpd could not start: {error}\n"));
            error.exit_code()
        }
    }
}
