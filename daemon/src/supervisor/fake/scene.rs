//! The real supervisor and the real process thread in a scripted world.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::config::{
    Config, DaemonConfig, PortSource, Probe, Program, RestartPolicy, SessionsPolicy, ShutdownConfig,
    Transport, WorkerConfig,
};
use mcpd_common::ids::{RunId, RunTag, Slot, WorkerName};
use mcpd_common::status::{WorkerState, WorkerStatus};
use tokio::task::JoinHandle;

use super::script::{Script, ms};
use super::world::World;
use crate::deadline::{self, Deadline};
use crate::journal::JournalHandle;
use crate::process::launch::LaunchEnv;
use crate::process::output::Output;
use crate::process::process_thread::ProcessThread;
use crate::slots::Slots;
use crate::supervisor::handle::{Order, SupervisorHandle, UnknownWorker, WorkerAction};
use crate::supervisor::recorder::Recorder;
use crate::supervisor::{self, Deps};

/// A supervised world.
pub struct Scene {
    /// Who lives in it.
    pub world: World,
    /// The way to the supervisor.
    pub workers: SupervisorHandle,
    /// The supervisor's task.
    pub supervising: JoinHandle<()>,
    /// What it was started with.
    pub config: Config,
}

/// The run that all scenes are.
pub fn run() -> RunId {
    RunId::new(Timestamp::UNIX_EPOCH, RunTag(7))
}

/// A worker's name.
pub fn name(text: &str) -> WorkerName {
    text.parse().expect("a name")
}

impl Scene {
    /// No worker is started yet.
    pub fn of<'a>(scripts: impl IntoIterator<Item = (&'a str, Script)>) -> Self {
        Self::configured(scripts, |_| {})
    }

    /// The same with another configuration.
    pub fn configured<'a>(
        scripts: impl IntoIterator<Item = (&'a str, Script)>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let scripts: Vec<_> = scripts.into_iter().map(|(name, script)| (name.to_owned(), script)).collect();
        let mut config = config(&scripts);
        change(&mut config);
        let world = World::of(scripts);
        let (process_thread, process_events) = ProcessThread::start_here(world.clone(), world.exited.clone());
        let launch_env = LaunchEnv { mcpd: "mcpd".into(), env: BTreeMap::new(), token: "token".to_owned() };
        let recorder = Recorder { run: run(), journal: JournalHandle::none() };
        // No worker writes anything, so no log is ever opened there.
        let output = Output::start(PathBuf::from("nowhere")).expect("a thread");
        let deps = Deps { process_thread, output, launch_env, recorder, proxies: HashMap::new() };
        let slots = Slots::allocate(config.workers.keys());
        let worker_client = Arc::new(world.clone());
        let (workers, supervising) =
            supervisor::start_with_client(worker_client, &config, &slots, deps, process_events);
        Self { world, workers, supervising, config }
    }

    /// All are started and had time for their first probe, or their first death.
    pub async fn running<'a>(scripts: impl IntoIterator<Item = (&'a str, Script)>) -> Self {
        let scene = Self::of(scripts);
        scene.start_all().await;
        scene
    }

    /// Starts all, and gives them time for their first probe.
    pub async fn start_all(&self) {
        for worker in self.config.workers.values().filter(|worker| worker.unusable.is_none()) {
            self.action(worker.name.as_str(), WorkerAction::Start).await.expect("a known worker");
        }
        self.pass(ms(50)).await;
    }

    /// Tells the supervisor.
    ///
    /// # Errors
    /// That there is no such worker.
    pub async fn action(&self, worker: &str, action: WorkerAction) -> Result<WorkerState, UnknownWorker> {
        self.workers.ask(|reply| Order::Worker(name(worker), action, reply)).await.expect("a supervisor")
    }

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        deadline::until(deadline::now() + time).await;
    }

    /// A worker as it is now.
    pub async fn status(&self, worker: &str) -> WorkerStatus {
        let workers = self.workers.status().await.expect("a supervisor");
        workers.into_iter().find(|status| status.name == name(worker)).expect("a known worker")
    }

    /// A worker's state now.
    pub async fn state(&self, worker: &str) -> WorkerState {
        self.status(worker).await.state
    }

    /// Waits until a worker is, or was for a moment, in this state; how long that took.
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

fn config(scripts: &[(String, Script)]) -> Config {
    let workers = Slot::of_workers().zip(scripts).map(|(slot, (name, script))| worker(slot, name, script));
    let nowhere = PathBuf::from("nowhere");
    Config {
        file: None,
        daemon: DaemonConfig { socket: nowhere.clone(), state_dir: nowhere.clone(), log_dir: nowhere },
        shutdown: ShutdownConfig::default(),
        workers: workers.map(|worker| (worker.name.clone(), worker)).collect(),
        resources: vec![],
    }
}

fn worker(slot: Slot, text: &str, script: &Script) -> WorkerConfig {
    WorkerConfig {
        name: name(text),
        repo: PathBuf::from("nowhere"),
        port: World::port(slot),
        port_source: PortSource::Written,
        transport: Transport::Direct,
        program: Program::BuiltIn,
        env: BTreeMap::new(),
        ready: Probe::Tcp,
        shutdown_path: script.has_route.then(|| "/shutdown".to_owned()),
        stop_command: script.stop_command.map(|program| vec![program.into()]),
        restart: RestartPolicy::Always,
        restart_unhealthy: false,
        hold: Duration::from_secs(30),
        sessions: SessionsPolicy::Keep,
        allowed_hosts: vec![],
        allowed_origins: vec![],
        unusable: None,
    }
}
