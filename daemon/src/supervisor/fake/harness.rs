//! The real supervisor and the real process thread on a fake system.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::config::{
    Config, DaemonConfig, PortSource, Probe, Program, RestartPolicy, SessionsPolicy, ShutdownConfig,
    Transport, WorkerConfig, WorkerEnv,
};
use mcpd_common::ids::{RunId, RunTag, Slot, WorkerName};
use mcpd_common::status::{WorkerState, WorkerStatus};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::behaviour::{Behaviour, ms};
use super::system::FakeSystem;
use crate::deadline::{self, Deadline};
use crate::journal::JournalHandle;
use crate::process::container::ContainerEnv;
use crate::process::launch::LaunchEnv;
use crate::process::output::Output;
use crate::process::process_thread::ProcessThread;
use crate::proxy::handle::ProcessRequest;
use crate::service_manager::ServiceManager;
use crate::slots::Slots;
use crate::supervisor::handle::{Order, SupervisorHandle, UnknownWorker, WorkerAction};
use crate::supervisor::recorder::Recorder;
use crate::supervisor::{self, Deps};

pub struct Harness {
    pub system: FakeSystem,
    pub workers: SupervisorHandle,
    pub supervisor_task: JoinHandle<()>,
    pub config: Config,
    /// As from the proxy.
    pub process_requests: mpsc::UnboundedSender<ProcessRequest>,
}

/// The run id of all harnesses.
pub fn run() -> RunId {
    RunId::new(Timestamp::UNIX_EPOCH, RunTag(7))
}

pub fn name(text: &str) -> WorkerName {
    text.parse().expect("a name")
}

impl Harness {
    /// Starts the supervisor, but no worker.
    pub fn of<'a>(behaviours: impl IntoIterator<Item = (&'a str, Behaviour)>) -> Self {
        Self::configured(behaviours, |_| {})
    }

    /// Like [`Harness::of`], with a changed configuration.
    pub fn configured<'a>(
        behaviours: impl IntoIterator<Item = (&'a str, Behaviour)>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let behaviours: Vec<_> =
            behaviours.into_iter().map(|(name, behaviour)| (name.to_owned(), behaviour)).collect();
        let mut config = config(&behaviours);
        change(&mut config);
        let system = FakeSystem::of(behaviours);
        let (process_thread, process_events) =
            ProcessThread::start_here(system.clone(), system.exited.clone());
        let launch_env = LaunchEnv { mcpd: "mcpd".into(), env: BTreeMap::new() };
        let containers = ContainerEnv {
            run: run(),
            directory: PathBuf::from("nowhere"),
            process_thread: process_thread.clone(),
            launch_env: launch_env.clone(),
        };
        let recorder = Recorder { run: run(), journal: JournalHandle::none() };
        // The workers have no output, so no log is opened there.
        let output = Output::start(PathBuf::from("nowhere")).expect("a thread");
        let (process_requests, requested) = mpsc::unbounded_channel();
        let deps = Deps {
            process_thread,
            output,
            launch_env,
            containers,
            recorder,
            service_manager: ServiceManager::default(),
            proxies: HashMap::new(),
            process_requests: requested,
        };
        let mut slots = Slots::allocate(config.workers.keys());
        for worker in config.workers.values().filter(|worker| worker.sessions == SessionsPolicy::Own) {
            slots.add_for_sessions(&worker.name, worker.max_processes);
        }
        let worker_client = Arc::new(system.clone());
        let (workers, supervisor_task) =
            supervisor::start_with_client(worker_client, &config, &slots, deps, process_events);
        Self { system, workers, supervisor_task, config, process_requests }
    }

    /// Starts the supervisor and all workers, and gives them time for the first probe or an early exit.
    pub async fn running<'a>(behaviours: impl IntoIterator<Item = (&'a str, Behaviour)>) -> Self {
        let harness = Self::of(behaviours);
        harness.start_all().await;
        harness
    }

    /// Starts all workers, and gives them time for the first probe.
    pub async fn start_all(&self) {
        for worker in self.config.workers.values().filter(|worker| worker.unusable.is_none()) {
            self.action(worker.name.as_str(), WorkerAction::Start).await.expect("a known worker");
        }
        self.pass(ms(50)).await;
    }

    /// Sends an order for a worker to the supervisor.
    ///
    /// # Errors
    /// If no worker has this name.
    pub async fn action(&self, worker: &str, action: WorkerAction) -> Result<WorkerState, UnknownWorker> {
        self.workers.ask(|reply| Order::Worker(name(worker), action, reply)).await.expect("a supervisor")
    }

    pub async fn pass(&self, time: Duration) {
        deadline::until(deadline::now() + time).await;
    }

    pub async fn status(&self, worker: &str) -> WorkerStatus {
        let workers = self.workers.status().await.expect("a supervisor");
        workers.into_iter().find(|status| status.name == name(worker)).expect("a known worker")
    }

    pub async fn state(&self, worker: &str) -> WorkerState {
        self.status(worker).await.state
    }

    /// Waits until a worker enters this state, and returns how long that took. The worker may have left the state by
    /// then.
    pub async fn until(&self, worker: &str, state: WorkerState) -> Duration {
        let began = deadline::now();
        let mut transitions = self.workers.transitions();
        if self.state(worker).await != state {
            let arrival = async {
                while let Ok(transition) = transitions.recv().await {
                    if transition.name == name(worker) && transition.state == state {
                        return;
                    }
                }
            };
            let arrived = Deadline::after(Duration::from_secs(600)).wait(arrival).await;
            assert!(arrived.is_ok(), "{worker} never became {state:?}");
        }
        deadline::now().saturating_duration_since(began)
    }
}

fn config(behaviours: &[(String, Behaviour)]) -> Config {
    let workers =
        Slot::of_workers().zip(behaviours).map(|(slot, (name, behaviour))| worker(slot, name, behaviour));
    let nowhere = PathBuf::from("nowhere");
    Config {
        file: None,
        daemon: DaemonConfig { socket: nowhere.clone(), state_dir: nowhere.clone(), log_dir: nowhere },
        shutdown: ShutdownConfig::default(),
        workers: workers.map(|worker| (worker.name.clone(), worker)).collect(),
        resources: vec![],
    }
}

fn worker(slot: Slot, text: &str, behaviour: &Behaviour) -> WorkerConfig {
    WorkerConfig {
        name: name(text),
        repo: PathBuf::from("nowhere"),
        port: FakeSystem::port(slot),
        port_source: PortSource::Written,
        transport: Transport::Direct,
        program: Program::BuiltIn,
        env: WorkerEnv::default(),
        ready: Probe::Tcp,
        shutdown_path: behaviour.has_route.then(|| "/shutdown".to_owned()),
        stop_command: behaviour.stop_command.map(|program| vec![program.into()]),
        restart: RestartPolicy::Always,
        restart_unhealthy: false,
        ready_within: Duration::from_secs(120),
        trust_listener: false,
        allow_other_users: false,
        hold: Duration::from_secs(30),
        sessions: SessionsPolicy::Keep,
        max_processes: 8,
        host: None,
        allowed_hosts: vec![],
        allowed_origins: vec![],
        hint: None,
        unusable: None,
    }
}
