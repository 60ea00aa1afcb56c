//! Puts the daemon together in the one order that works: the lock before anything is written, the run file
//! before anything is started, the control service when everything it serves exists.

mod records;
mod start_error;

use std::collections::HashMap;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcpd_common::config::{Config, SessionsPolicy};
use mcpd_common::crash::last_shutdown;
use mcpd_common::ids::WorkerName;
use mcpd_common::journal::{KeptSession, Record};
use mcpd_common::known_processes::KnownProcessesFile;
use mcpd_common::os::this_process::{self, OpenFileLimit};
use mcpd_common::outcome::Finding;
use mcpd_common::paths::{StateDir, durable, private_directory};
use mcpd_common::run_file::RunFile;
use mcpd_common::status::LastShutdown;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::start_error::StartError;
use crate::app::{Daemon, Inheritable, Options};
use crate::client_ports::ClientPorts;
use crate::control::service::ControlService;
use crate::control::{self, ControlServer};
use crate::descriptors::Descriptors;
use crate::guardian::{Details, GuardianLink};
use crate::handover::Inheritance;
use crate::instance::Instance;
use crate::journal::JournalHandle;
use crate::logging;
use crate::logging::console::Console;
use crate::process::container::ContainerEnv;
use crate::process::containment::{Cgroups, Children, cgroups};
use crate::process::launch::LaunchEnv;
use crate::process::operations::FamilyChange;
use crate::process::output::Output;
use crate::process::process_thread::ProcessThread;
use crate::progress::Progress;
use crate::proxy::handle::{ProcessRequest, ProxyHandle};
use crate::proxy::{Proxy, ProxyConfig};
use crate::recovery::{self, LastRun};
use crate::resources::Resource;
use crate::resources::declared::Declared;
use crate::resources::logs::WorkerLogs;
use crate::shutdown::Shutdown;
use crate::shutdown::exit::Exit;
use crate::shutdown::request::{Requests, Trigger};
use crate::shutdown::request_listener::RequestListener;
use crate::slots::Slots;
use crate::socket_file::{self, SocketError};
use crate::supervisor::handle::SupervisorHandle;
use crate::supervisor::recorder::Recorder;
use crate::supervisor::{self, Deps};
use crate::verify::self_check::{Baseline, ExpectedDescriptors};
use crate::warnings::Warnings;
use mcpd_common::time_limits::TimeLimits;

/// Boots the daemon; no worker runs yet.
///
/// # Errors
/// See [`StartError`].
pub async fn boot(options: Options, inheritance: Inheritance) -> Result<Daemon, StartError> {
    let boot = Boot::new(&options);
    // First, because workers get the original limit back.
    let open_files = this_process::raise_open_files();
    let places = boot.take_places(inheritance)?;
    let booted = boot.in_these_places(places, open_files).await;
    if booted.is_err() {
        boot.remove_files();
    }
    booted
}

/// What the steps have in common.
struct Boot<'a> {
    options: &'a Options,
    config: &'a Config,
    link: &'a Arc<GuardianLink>,
    state: StateDir,
    slots: Slots,
    warnings: Warnings,
}

/// What only one daemon can have, from the system or from the program before.
struct Places {
    instance: Instance,
    control: Arc<UnixListener>,
    listeners: Vec<std::net::TcpListener>,
    exit_reason: Option<String>,
}

/// What starts, signals and reads processes.
struct ProcessParts {
    process_thread: ProcessThread,
    output: Output,
    launch_env: LaunchEnv,
}

impl<'a> Boot<'a> {
    fn new(options: &'a Options) -> Self {
        let config = &options.config;
        Self {
            options,
            config,
            link: &options.guardian_link,
            state: StateDir::new(&config.daemon.state_dir),
            slots: slots(config),
            warnings: Warnings::default(),
        }
    }

    async fn in_these_places(&self, places: Places, open_files: OpenFileLimit) -> Result<Daemon, StartError> {
        let Places { instance, control, listeners, exit_reason } = places;
        let descriptors = Descriptors::divide(this_process::open_files(), self.config.workers.len());
        self.inform_guardian(None)?;
        let logs = logging::start(&self.config.daemon.log_dir, self.options.run, self.options.console);
        let mut last_run = LastRun::recover(&self.state).await;
        let (journal, kept, journal_warnings) = self.open_journal(&mut last_run);
        let (cgroups, cgroup_warning) = self.set_up_cgroups(&last_run).await?;
        let directories = self.directory_warnings();
        let warnings =
            [&self.options.warnings, &directories, &logs.warnings, &journal_warnings, &last_run.warnings];
        let warnings = warnings.into_iter().flatten().cloned();
        let warnings: Vec<String> = warnings.chain(cgroup_warning).chain(descriptors.warning()).collect();
        self.start_records(&journal, &warnings)?;
        let (triggers, received) = self.listen_for_requests(exit_reason)?;
        let (processes, events) = self.start_processes(open_files, cgroups)?;
        let containers = self.container_env(&processes);
        self.end_containers_of_dead_runs(&containers).await;
        let (process_requests, requested) = mpsc::unbounded_channel();
        let opening = ProxyConfig {
            run: self.options.run.tag(),
            journal: journal.clone(),
            kept,
            max_clients: descriptors.clients,
            inherited: listeners,
            process_requests,
        };
        let (proxy, handles) =
            Proxy::open(self.config, opening).map_err(StartError::system("start the proxy's thread"))?;
        let proxy = Arc::new(proxy);
        let resources = self.resources(&processes);
        let recorder = Recorder { run: self.options.run, journal: journal.clone() };
        let front = (handles, requested);
        let supervisor = self.start_supervisor(processes, containers, recorder, front, events, &triggers);
        let progress = Progress::new();
        let expected = ExpectedDescriptors::default();
        let service = self.control_service(&supervisor, &proxy, &progress, triggers, warnings);
        let ControlServer { health, task, stop } =
            control::serve(service, control.clone(), descriptors.control, expected.clone()).await;
        let (findings, other_findings) = mpsc::unbounded_channel();
        let shutdown = self.shutdown(&supervisor, &proxy, resources, &progress, expected, other_findings);
        Ok(Daemon {
            requests: self.request_listener(received, &shutdown, findings),
            exit: self.exit(journal, &progress, stop, task, logs.console.clone()),
            inheritable: Inheritable {
                control: (self.config.daemon.socket.clone(), control),
                proxy,
                open_files,
            },
            shutdown,
            instance,
            logs,
            health,
            guardian_link: self.link.clone(),
            service_manager: self.options.service_manager.clone(),
            config: self.config.clone(),
        })
    }

    /// After an error: the next start must not find a run that never began. The run file may still be that of an
    /// earlier run, which the next start has to read.
    fn remove_files(&self) {
        let run_file = self.state.run_file();
        let is_own =
            RunFile::read(&run_file).is_ok_and(|file| file.is_some_and(|it| it.run == self.options.run));
        let socket = Some(&self.config.daemon.socket);
        for file in socket.into_iter().chain(is_own.then_some(&run_file)) {
            if let Err(error) = durable::remove(file) {
                tracing::warn!(path = %file.display(), %error, "can't be removed");
            }
        }
    }

    /// Inherited descriptors of places that the configuration no longer names are closed.
    fn take_places(&self, inheritance: Inheritance) -> Result<Places, StartError> {
        let Inheritance { lock, control, listeners, exit_reason, guardian_link: _ } = inheritance;
        let lock = lock.filter(|(path, _)| path == self.state.path()).map(|(_, lock)| lock);
        let socket = &self.config.daemon.socket;
        let instance = Instance::acquire(&self.state, socket, lock)?;
        let control = Arc::new(listen(socket, control)?);
        Ok(Places { instance, control, listeners, exit_reason })
    }

    fn inform_guardian(&self, cgroups: Option<cgroups::Layout>) -> Result<(), StartError> {
        let details = Details {
            run: self.options.run,
            socket: self.config.daemon.socket.clone(),
            state_dir: self.state.path().to_owned(),
            cgroups,
        };
        self.link.publish(&details).map_err(StartError::system("inform the guardian"))
    }

    /// Directories that other users may read. Those that others may write were refused before.
    fn directory_warnings(&self) -> Vec<String> {
        let daemon = &self.config.daemon;
        let directories = [Some(self.state.path()), Some(&daemon.log_dir), daemon.socket.parent()];
        let mut warnings: Vec<_> =
            directories.into_iter().flatten().filter_map(private_directory::warning).collect();
        warnings.dedup();
        warnings
    }

    fn open_journal(&self, last_run: &mut LastRun) -> (JournalHandle, Vec<KeptSession>, Vec<String>) {
        JournalHandle::open(&self.state.journal(), &last_run.records(), &self.warnings, || {
            last_run.remove_crash_record(&self.state)
        })
    }

    /// The guardian moves into the daemon's cgroup, too, and has to know the layout to clean it up.
    async fn set_up_cgroups(
        &self,
        last_run: &LastRun,
    ) -> Result<(Result<Cgroups, String>, Option<String>), StartError> {
        let (cgroups, warning) =
            cgroups::set_up(self.options.run.tag(), last_run.run(), self.link.guardian()).await;
        if let Ok(cgroups) = &cgroups {
            self.inform_guardian(Some(cgroups.layout().clone()))?;
        }
        Ok((cgroups, warning))
    }

    fn start_records(&self, journal: &JournalHandle, warnings: &[String]) -> Result<(), StartError> {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let run_file = records::run_file(self.config, &self.slots, self.options.run, self.link.guardian());
        run_file.write(&self.state.run_file())?;
        journal.record(Record::RunStarted(records::run_started(self.config, self.options.run)));
        Ok(())
    }

    fn listen_for_requests(
        &self,
        exit_reason: Option<String>,
    ) -> Result<(mpsc::UnboundedSender<Trigger>, mpsc::UnboundedReceiver<Trigger>), StartError> {
        let (triggers, received) = mpsc::unbounded_channel();
        if let Some(reason) = exit_reason {
            let _ = triggers.send(Trigger::Rpc { reason, now: false });
        }
        crate::signals::listen(&triggers, self.link).map_err(StartError::system("listen to signals"))?;
        Ok((triggers, received))
    }

    fn start_processes(
        &self,
        open_files: OpenFileLimit,
        cgroups: Result<Cgroups, String>,
    ) -> Result<(ProcessParts, mpsc::UnboundedReceiver<FamilyChange>), StartError> {
        let launch_env = LaunchEnv::from_this_process().map_err(StartError::system("find this program"))?;
        let run = self.options.run.tag();
        let known_file = KnownProcessesFile::new(self.state.members(), run);
        let children = Children::new(run, open_files, cgroups, known_file)
            .map_err(|error| StartError::system("list the children of this process")(error.into()))?;
        let (process_thread, events) =
            ProcessThread::start(children).map_err(StartError::system("start the process thread"))?;
        let output = Output::start(self.config.daemon.log_dir.clone())
            .map_err(StartError::system("start the output thread"))?;
        Ok((ProcessParts { process_thread, output, launch_env }, events))
    }

    fn container_env(&self, processes: &ProcessParts) -> ContainerEnv {
        ContainerEnv {
            run: self.options.run,
            directory: self.state.containers(),
            process_thread: processes.process_thread.clone(),
            launch_env: processes.launch_env.clone(),
        }
    }

    async fn end_containers_of_dead_runs(&self, env: &ContainerEnv) {
        for warning in recovery::containers::end_leftovers(env).await {
            tracing::warn!("{warning}");
            self.warnings.add(warning);
        }
    }

    /// In the order of opening; the verification closes them in reverse.
    fn resources(&self, processes: &ProcessParts) -> Vec<Box<dyn Resource>> {
        let mut resources: Vec<Box<dyn Resource>> = vec![Box::new(WorkerLogs(processes.output.clone()))];
        let directory = self.config.file.as_ref().and_then(|file| file.parent()).map(PathBuf::from);
        let directory = directory.unwrap_or_else(|| self.config.daemon.state_dir.clone());
        for declared in &self.config.resources {
            resources.push(Box::new(Declared {
                config: declared.clone(),
                process_thread: processes.process_thread.clone(),
                launch_env: processes.launch_env.clone(),
                directory: directory.clone(),
            }));
        }
        resources
    }

    /// A panic of the supervisor is an emergency (R-SUP-5).
    fn start_supervisor(
        &self,
        processes: ProcessParts,
        containers: ContainerEnv,
        recorder: Recorder,
        (proxies, process_requests): (
            HashMap<WorkerName, ProxyHandle>,
            mpsc::UnboundedReceiver<ProcessRequest>,
        ),
        events: mpsc::UnboundedReceiver<FamilyChange>,
        triggers: &mpsc::UnboundedSender<Trigger>,
    ) -> SupervisorHandle {
        let ProcessParts { process_thread, output, launch_env } = processes;
        let service_manager = self.options.service_manager.clone();
        let deps = Deps {
            process_thread,
            output,
            launch_env,
            containers,
            recorder,
            service_manager,
            proxies,
            process_requests,
        };
        let (supervisor, task) = supervisor::start(self.config, &self.slots, deps, events);
        let triggers = triggers.clone();
        tokio::spawn(async move {
            if let Err(error) = task.await {
                let what = format!("the task that supervises the workers ended: {error}");
                let _ = triggers.send(Trigger::Emergency { what });
            }
        });
        supervisor
    }

    fn client_ports(&self) -> ClientPorts {
        self.config.workers.values().map(|worker| (worker.port, worker.name.clone())).collect()
    }

    /// For the worker that may take longest to become ready.
    fn action_limit(&self) -> Duration {
        let ready = self.config.workers.values().map(|worker| worker.ready_within).max();
        TimeLimits::new(&self.config.shutdown).total() + ready.unwrap_or_default()
    }

    fn control_service(
        &self,
        supervisor: &SupervisorHandle,
        proxy: &Proxy,
        progress: &Progress,
        triggers: mpsc::UnboundedSender<Trigger>,
        warnings: Vec<String>,
    ) -> ControlService {
        warnings.into_iter().for_each(|warning| self.warnings.add(warning));
        let guardian = self.link.guardian();
        ControlService {
            daemon: records::daemon_status(self.config, self.options.run, guardian),
            warnings: self.warnings.clone(),
            supervisor: supervisor.clone(),
            clients: proxy.registry().clone(),
            ports: self.client_ports(),
            progress: progress.clone(),
            triggers,
            replaceable: self.options.replaceable.clone(),
            action_limit: self.action_limit(),
            last_shutdown: last_shutdown(&self.state).as_ref().map(LastShutdown::from),
        }
    }

    fn shutdown(
        &self,
        supervisor: &SupervisorHandle,
        proxy: &Arc<Proxy>,
        resources: Vec<Box<dyn Resource>>,
        progress: &Progress,
        expected: ExpectedDescriptors,
        other_findings: mpsc::UnboundedReceiver<Finding>,
    ) -> Shutdown {
        Shutdown {
            run: self.options.run,
            supervisor: supervisor.clone(),
            proxy: proxy.clone(),
            ports: self.client_ports(),
            limits: TimeLimits::new(&self.config.shutdown),
            force_ports: self.config.shutdown.force_ports,
            resources,
            baseline: Baseline::take(expected),
            progress: progress.clone(),
            cut_short: CancellationToken::new(),
            other_findings,
        }
    }

    fn request_listener(
        &self,
        triggers: mpsc::UnboundedReceiver<Trigger>,
        shutdown: &Shutdown,
        findings: mpsc::UnboundedSender<Finding>,
    ) -> RequestListener {
        RequestListener {
            triggers,
            requests: Requests::default(),
            supervisor: shutdown.supervisor.clone(),
            progress: shutdown.progress.clone(),
            cut_short: shutdown.cut_short.clone(),
            findings,
            exit_reason: watch::Sender::new(None),
            guardian: self.link.guardian(),
        }
    }

    fn exit(
        &self,
        journal: JournalHandle,
        progress: &Progress,
        stop_service: CancellationToken,
        service: JoinHandle<()>,
        console: Option<Console>,
    ) -> Exit {
        Exit {
            state: self.state.clone(),
            journal,
            socket: self.config.daemon.socket.clone(),
            progress: progress.clone(),
            stop_service,
            service,
            console,
        }
    }
}

/// The numbers of all processes that workers can have.
fn slots(config: &Config) -> Slots {
    let mut slots = Slots::allocate(config.workers.keys());
    for worker in config.workers.values().filter(|worker| worker.sessions == SessionsPolicy::Own) {
        slots.add_for_sessions(&worker.name, worker.max_processes);
    }
    slots
}

/// The control socket: the inherited one, if the configuration still names it.
fn listen(path: &Path, inherited: Option<(PathBuf, StdUnixListener)>) -> Result<UnixListener, SocketError> {
    match inherited {
        Some((before, listener)) if before == path => socket_file::inherit(path, listener),
        Some((before, _)) => {
            // Nothing listens there any more; a file that can't be removed is stale and does no harm.
            let _ = std::fs::remove_file(before);
            socket_file::listen(path)
        }
        None => socket_file::listen(path),
    }
}
