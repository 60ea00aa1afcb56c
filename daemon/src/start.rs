//! From the arguments to two processes: the guardian, and the daemon that it watches.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::exit_code::{Severity, program};
use mcpd_common::ids::{RunId, RunTag};
use mcpd_common::os::child;
use mcpd_common::os::handover::hold_stop_signals;
use mcpd_common::os::this_process;
use mcpd_common::paths::StateDir;
use mcpd_common::phase::OVERRUN_GRACE;

use crate::app::{self, Stopped};
use crate::args;
use crate::boot::StartError;
use crate::commands;
use crate::commands::run::Settings;
use crate::guardian::{self, ForkSide, GuardianConfig, GuardianLink};
use crate::handover::Inheritance;
use crate::instance::Instance;
use crate::logging::{self, ConsoleFormat};
use crate::random;
use crate::service_manager::{Message, ServiceManager};
use mcpd_common::time_limits::TimeLimits;

/// How long the runtime's threads may take to end after the daemon's last task.
const RUNTIME_LIMIT: Duration = Duration::from_millis(100);

/// Why nothing was started.
enum NotStarted {
    /// The text for the user.
    Configuration(String),
    Start(StartError),
}

impl From<StartError> for NotStarted {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

/// Runs `mcpd` itself; returns the exit code.
pub fn run(args: args::Run) -> u8 {
    this_process::restrict_umask();
    this_process::return_large_buffers();
    if args.log_format == Some(ConsoleFormat::Json) {
        logging::print_json();
    }
    // Before anything is opened, because inherited descriptors are known by their numbers.
    let mut inheritance = Inheritance::receive();
    let service_manager = ServiceManager::from_environment();
    // Re-executed by `restart --daemon`: keep the existing guardian.
    if let Some(link) = inheritance.guardian_link.take() {
        let manager = service_manager.clone();
        return run_daemon(link, &service_manager, |link| {
            daemon(settings(args)?, new_run()?, link, manager, inheritance)
        });
    }
    code_of(fork(args, &service_manager), &service_manager)
}

/// Forks while the process has a single thread: the parent becomes the guardian, the child the daemon.
fn fork(args: args::Run, service_manager: &ServiceManager) -> Result<u8, NotStarted> {
    let settings = settings(args)?;
    let run = new_run()?;
    let state = StateDir::new(&settings.config.daemon.state_dir);
    let socket = settings.config.daemon.socket.clone();
    let instance = Instance::acquire(&state, &socket, None).map_err(StartError::from)?;
    let bound = TimeLimits::new(&settings.config.shutdown).total() + OVERRUN_GRACE;
    let manager = service_manager.clone();
    let config = GuardianConfig { run, state, socket, bound, instance, service_manager: manager.clone() };
    match guardian::fork(config).map_err(StartError::system("start the guardian"))? {
        ForkSide::Guardian(guardian) => {
            drop(settings);
            Ok(guardian.watch())
        }
        ForkSide::Daemon(link, instance) => {
            let lock = Some((settings.config.daemon.state_dir.clone(), instance.into_lock()));
            let inheritance = Inheritance { lock, ..Inheritance::default() };
            Ok(run_daemon(link, service_manager, |link| daemon(settings, run, link, manager, inheritance)))
        }
    }
}

/// Marks the run as completed, so that the guardian does not treat the exit as a crash.
fn run_daemon(
    link: GuardianLink,
    service_manager: &ServiceManager,
    daemon: impl FnOnce(Arc<GuardianLink>) -> Result<u8, NotStarted>,
) -> u8 {
    let link = Arc::new(link);
    let code = code_of(daemon(link.clone()), service_manager);
    link.complete(code);
    code
}

fn daemon(
    settings: Settings,
    run: RunId,
    link: Arc<GuardianLink>,
    service_manager: ServiceManager,
    inheritance: Inheritance,
) -> Result<u8, NotStarted> {
    // Before any thread or child exists: orphans of the workers are reparented to this process.
    child::become_subreaper().map_err(StartError::system("become a subreaper"))?;
    // Unblocked by `signals.rs`, on this thread.
    hold_stop_signals().map_err(|error| StartError::system("block signals")(error.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mcpd")
        .enable_all()
        .build()
        .map_err(StartError::system("start its threads"))?;
    let Settings { config, warnings, console, replaceable } = settings;
    let guardian_link = link.clone();
    let options =
        app::Options { config, warnings, console, run, guardian_link, service_manager, replaceable };
    let stopped = runtime.block_on(app::run(options, inheritance));
    runtime.shutdown_timeout(RUNTIME_LIMIT);
    let Stopped { exit_code, handover } = stopped?;
    let Some(handover) = handover else { return Ok(exit_code) };
    let error = handover.exec(&link);
    commands::complain(&format!("mcpd can't continue as the new program: {error}; start it again\n"));
    Ok(Severity::Internal.code())
}

fn settings(args: args::Run) -> Result<Settings, NotStarted> {
    commands::run::settings(args).map_err(NotStarted::Configuration)
}

fn new_run() -> Result<RunId, StartError> {
    let tag = random::bytes().map_err(StartError::system("get random bytes"))?;
    Ok(RunId::new(Timestamp::now(), RunTag(u32::from_ne_bytes(tag))))
}

/// Prints why nothing was started.
fn code_of(result: Result<u8, NotStarted>, service_manager: &ServiceManager) -> u8 {
    let (code, text) = match result {
        Ok(code) => return code,
        Err(NotStarted::Configuration(text)) => (program::CONFIG, text),
        Err(NotStarted::Start(error)) => (error.exit_code(), format!("mcpd could not start: {error}\n")),
    };
    commands::complain(&text);
    service_manager.send(&Message::new().status(&format!("exit code {code}: {}", text.trim_end())));
    code
}
