//! Putting the daemon together, in the one order that works: the lock before anything is
//! written, the run file before anything is started, the socket when there is somebody to answer.

use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use mcpd_common::config::Config;
use mcpd_common::crash::last_shutdown;
use mcpd_common::exit_code::program;
use mcpd_common::ids::{Pid, RunId, Slot};
use mcpd_common::journal::{Record, RunStarted};
use mcpd_common::known_processes::KnownProcessesFile;
use mcpd_common::os::process::StartTime;
use mcpd_common::os::this_process::OpenFileLimit;
use mcpd_common::os::{self, process, this_process};
use mcpd_common::paths::StateDir;
use mcpd_common::run_file::{ProcessId, RUN_FILE_SCHEMA, RunFile, RunFileError, WorkerEntry};
use mcpd_common::status::{DaemonStatus, LastShutdown};
use mcpd_proto::v1::control_server::ControlServer;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::Options;
use crate::control::health::Health;
use crate::control::service::ControlService;
use crate::control::socket::{self, SocketError};
use crate::guardian::Details;
use crate::handover::Inheritance;
use crate::instance::{Instance, InstanceError};
use crate::journal::JournalHandle;
use crate::logging::{self, Logs};
use crate::process::containment::{Children, cgroups};
use crate::process::launch::LaunchEnv;
use crate::process::output::Output;
use crate::process::process_thread::ProcessThread;
use crate::progress::Progress;
use crate::proxy::observe::socket_table;
use crate::proxy::{Proxy, ProxyConfig};
use crate::random;
use crate::recovery::LastRun;
use crate::resources::Resource;
use crate::resources::declared::Declared;
use crate::resources::logs::WorkerLogs;
use crate::shutdown::request::Trigger;
use crate::supervisor::handle::SupervisorHandle;
use crate::supervisor::recorder::Recorder;
use crate::supervisor::{self, Deps};
use crate::time_limits::TimeLimits;
use crate::verify::self_check::{Baseline, ExpectedDescriptors};

/// Why the daemon could not start (R-EXIT-2).
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The run file: without it, a crash could not be cleaned up after.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// The kernel.
    #[error("can't {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What happened.
        source: std::io::Error,
    },
}

impl StartError {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Instance(InstanceError::AlreadyRunning { .. }) | Self::Socket(SocketError::Live(_)) => {
                program::TEMPFAIL
            }
            Self::Instance(InstanceError::Unusable { .. }) | Self::Socket(_) | Self::RunFile(_) => {
                program::CONFIG
            }
            Self::System { .. } => program::SOFTWARE,
        }
    }

    /// The kernel refused this.
    pub fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// The daemon's parts.
pub struct Parts {
    /// This life of it.
    pub run: RunId,
    /// The lock.
    pub instance: Instance,
    /// The logs.
    pub logs: Logs,
    /// The journal.
    pub journal: JournalHandle,
    /// The workers.
    pub workers: SupervisorHandle,
    /// The proxies that clients come through.
    pub proxy: Arc<Proxy>,
    /// Whose ports these are.
    pub ports: socket_table::Ports,
    /// What has to be closed at the end.
    pub resources: Vec<Box<dyn Resource>>,
    /// What was open when all of this was there.
    pub baseline: Baseline,
    /// The story of the shutdown.
    pub progress: Progress,
    /// Requests for one.
    pub triggers: mpsc::UnboundedReceiver<Trigger>,
    /// The standard health service.
    pub health: Health,
    /// The control service.
    pub service: JoinHandle<()>,
    /// Stops it.
    pub stop_service: CancellationToken,
    /// What it listens on.
    pub control: Arc<UnixListener>,
    /// The limit of open files that this program found.
    pub open_files: OpenFileLimit,
}

/// Puts them together.
///
/// # Errors
/// See [`StartError`].
pub async fn assemble(options: &Options, inheritance: Inheritance) -> Result<Parts, StartError> {
    let (config, run, guardian_link) = (&options.config, options.run, &options.guardian_link);
    let state = StateDir::new(&config.daemon.state_dir);
    // Limits and the original of them come first: workers get the original back.
    let open_files = this_process::raise_open_files();
    // What belongs to other places than the configuration names now is closed.
    let Inheritance { lock, control, doors: inherited, asked, guardian_link: _ } = inheritance;
    let lock = lock.filter(|(path, _)| path == state.path()).map(|(_, lock)| lock);
    let instance = Instance::acquire(&state, &config.daemon.socket, lock)?;
    let control = Arc::new(listen(&config.daemon.socket, control)?);
    let (socket, state_dir) = (config.daemon.socket.clone(), state.path().to_owned());
    let mut details = Details { run, socket, state_dir, cgroups: None };
    guardian_link.publish(&details).map_err(StartError::system("tell the guardian"))?;
    let logs = logging::start(&config.daemon.log_dir, run, options.console);
    let mut last_run = LastRun::recover(&state).await;
    let (journal, kept, journal_warnings) =
        JournalHandle::open(&state.journal(), &last_run.records(), || last_run.remove_crash_record(&state));
    let warnings = [&options.warnings, &logs.warnings, &journal_warnings, &last_run.warnings];
    let (cgroups, refused) = cgroups::set_up(run.tag(), last_run.run(), guardian_link.guardian()).await;
    details.cgroups = cgroups.as_ref().ok().map(|cgroups| cgroups.layout().clone());
    guardian_link.publish(&details).map_err(StartError::system("tell the guardian"))?;
    let warnings: Vec<String> = warnings.into_iter().flatten().cloned().chain(refused).collect();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    run_file(config, run, guardian_link.guardian()).write(&state.run_file())?;
    journal.record(Record::RunStarted(run_started(config, run)));

    let (triggers, triggered) = mpsc::unbounded_channel();
    if let Some(reason) = asked {
        let _ = triggers.send(Trigger::Rpc { reason, now: false });
    }
    crate::signals::listen(&triggers, guardian_link).map_err(StartError::system("listen to signals"))?;
    let progress = Progress::new();
    let token = random::bytes::<16>().map_err(StartError::system("get random bytes"))?;
    let launch_env =
        LaunchEnv::from_this_process(random::hex(&token)).map_err(StartError::system("find this program"))?;
    let known_file = KnownProcessesFile::new(state.members(), run.tag());
    let children = Children::new(run.tag(), open_files, cgroups, known_file)
        .map_err(|error| StartError::system("list the children of this process")(error.into()))?;
    let (process_thread, process_events) =
        ProcessThread::start(children).map_err(StartError::system("start a thread"))?;
    let output =
        Output::start(config.daemon.log_dir.clone()).map_err(StartError::system("start a thread"))?;
    let resources = resources(config, &output, &process_thread, &launch_env);
    let recorder = Recorder { run, journal: journal.clone() };
    let (proxy, proxies) =
        Proxy::open(config, ProxyConfig { run: run.tag(), journal: journal.clone(), kept, inherited })
            .map_err(StartError::system("start a thread"))?;
    let deps = Deps { process_thread, output, launch_env, recorder, proxies };
    let (workers, supervising) = supervisor::start(config, deps, process_events);
    watch(supervising, triggers.clone());

    let ports: socket_table::Ports =
        config.workers.values().map(|worker| (worker.port, worker.name.clone())).collect();
    let expected = ExpectedDescriptors::default();
    let service = ControlService {
        daemon: DaemonStatus { guardian: Some(guardian_link.guardian()), ..status(config, run, warnings) },
        workers: workers.clone(),
        clients: proxy.registry().clone(),
        ports: ports.clone(),
        progress: progress.clone(),
        triggers,
        replaceable: options.replaceable.clone(),
        stop_limit: TimeLimits::new(&config.shutdown).total(),
        last_shutdown: last_shutdown(&state).as_ref().map(LastShutdown::from),
    };
    let stop_service = CancellationToken::new();
    let health = Health::new().await;
    let incoming = socket::accept(control.clone(), expected.clone());
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(20)))
        .add_service(ControlServer::new(service))
        .add_service(health.service())
        .add_service(reflection())
        .serve_with_incoming_shutdown(incoming, stop_service.clone().cancelled_owned());
    let service = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the control service ended");
        }
    });
    let baseline = Baseline::take(expected);
    Ok(Parts {
        run,
        instance,
        logs,
        journal,
        workers,
        proxy: Arc::new(proxy),
        ports,
        resources,
        baseline,
        progress,
        triggers: triggered,
        health,
        service,
        stop_service,
        control,
        open_files,
    })
}

/// The control socket: the one from before, if it is still the one that the configuration names.
fn listen(path: &Path, inherited: Option<(PathBuf, StdUnixListener)>) -> Result<UnixListener, SocketError> {
    match inherited {
        Some((before, listener)) if before == path => socket::inherit(path, listener),
        Some((before, _)) => {
            // Nobody listens there any more; a file that can't be removed is stale and harms nobody.
            let _ = std::fs::remove_file(before);
            socket::listen(path)
        }
        None => socket::listen(path),
    }
}

/// A supervisor that ends by a panic is an emergency (R-SUP-5).
fn watch(supervising: JoinHandle<()>, triggers: mpsc::UnboundedSender<Trigger>) {
    tokio::spawn(async move {
        if let Err(error) = supervising.await {
            let what = format!("the task that supervises the workers ended: {error}");
            let _ = triggers.send(Trigger::Emergency { what });
        }
    });
}

fn resources(
    config: &Config,
    output: &Output,
    process_thread: &ProcessThread,
    launch_env: &LaunchEnv,
) -> Vec<Box<dyn Resource>> {
    let mut resources: Vec<Box<dyn Resource>> = vec![Box::new(WorkerLogs(output.clone()))];
    let directory = config.file.as_ref().and_then(|file| file.parent()).map(PathBuf::from);
    for declared in &config.resources {
        resources.push(Box::new(Declared {
            config: declared.clone(),
            process_thread: process_thread.clone(),
            launch_env: launch_env.clone(),
            directory: directory.clone().unwrap_or_else(|| config.daemon.state_dir.clone()),
        }));
    }
    resources
}

fn run_file(config: &Config, run: RunId, guardian: Pid) -> RunFile {
    let entry = |(slot, worker): (Slot, &mcpd_common::config::WorkerConfig)| WorkerEntry {
        slot,
        name: worker.name.clone(),
        port: worker.port,
        repo: worker.repo.clone(),
        process: None,
    };
    RunFile {
        schema: RUN_FILE_SCHEMA.to_owned(),
        run,
        boot_id: os::boot_id().unwrap_or_default(),
        daemon: process_id(Pid::current()),
        guardian: Some(process_id(guardian)),
        socket: config.daemon.socket.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        workers: Slot::of_workers().zip(config.workers.values()).map(entry).collect(),
    }
}

fn process_id(pid: Pid) -> ProcessId {
    ProcessId { pid, start: process::best_effort::read(pid).map_or(StartTime(0), |process| process.start) }
}

fn run_started(config: &Config, run: RunId) -> RunStarted {
    RunStarted {
        run,
        pid: Pid::current(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: config.file.as_ref().map(|file| file.display().to_string()),
        started_at: Timestamp::now(),
    }
}

fn status(config: &Config, run: RunId, warnings: Vec<String>) -> DaemonStatus {
    DaemonStatus {
        pid: Pid::current(),
        guardian: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run,
        started_at: Timestamp::now(),
        socket: config.daemon.socket.display().to_string(),
        state_dir: config.daemon.state_dir.display().to_string(),
        log_dir: config.daemon.log_dir.display().to_string(),
        config: config.file.as_ref().map(|file| file.display().to_string()),
        backend: os::backend(),
        containment: None,
        shutdown: None,
        warnings,
    }
}

fn reflection()
-> tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mcpd_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were made by our own build")
}
