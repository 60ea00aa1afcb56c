//! One task owns all workers. It receives events, lets each worker's pure
//! [`Machine`](self::state::Machine) decide, and performs the actions.
//!
//! ```text
//!   orders (RPC, shutdown) ----------\                /--> process thread: spawn, SIGTERM, SIGKILL
//!   process events (process thread) ---> Machine::on ---> probe, stop request: a task each, which
//!   task results (probes, responses) -/               \   sends its result back
//!   timers --------------------------/                 `-> journal, log, progress, proxy
//! ```
//!
//! `worker.rs` has the data of one worker, `actions.rs` performs what was decided.

mod actions;
pub mod backoff;
mod containers;
#[cfg(test)]
pub mod fake;
pub mod handle;
mod install_turns;
pub mod private_ports;
pub mod probe;
pub mod recorder;
mod session_processes;
mod start_check;
pub mod state;
pub mod stop_sequence;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mcpd_common::config::{Config, WorkerConfig};
use mcpd_common::event::WorkerStep;
use mcpd_common::ids::{Slot, WorkerName};
use mcpd_common::status::{WorkerState, WorkerStatus};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::containers::{CheckedStart, ContainerEnd};
use self::handle::{Order, RunningWorker, SupervisorHandle, Transition, UnknownWorker, WorkerAction};
use self::install_turns::InstallTurns;
use self::probe::worker_client::{HttpWorkerClient, WorkerClient};
use self::recorder::Recorder;
use self::state::{ProbeResult, WorkerEvent};
use self::stop_sequence::{StopAction, StopResponse};
use self::worker::Worker;
use crate::deadline;
use crate::process::container::ContainerEnv;
use crate::process::launch::LaunchEnv;
use crate::process::operations::FamilyChange;
use crate::process::output::Output;
use crate::process::process_thread::ProcessThread;
use crate::progress::Progress;
use crate::proxy::handle::{ProcessRequest, ProxyHandle};
use crate::service_manager::ServiceManager;
use crate::slots::Slots;
use mcpd_common::time_limits::TimeLimits;

/// Limit of transitions that a slow subscriber may lag behind.
const TRANSITIONS: usize = 4096;

pub struct Deps {
    pub process_thread: ProcessThread,
    pub output: Output,
    pub launch_env: LaunchEnv,
    pub containers: ContainerEnv,
    pub recorder: Recorder,
    pub service_manager: ServiceManager,
    /// For the workers whose client port mcpd holds.
    pub proxies: HashMap<WorkerName, ProxyHandle>,
    /// From the proxy: processes for single sessions.
    pub process_requests: mpsc::UnboundedReceiver<ProcessRequest>,
}

/// Results of tasks. The number counts the processes of the worker: a result about an earlier
/// process is ignored.
enum TaskResult {
    StartChecked(Slot, u32, Result<CheckedStart, String>),
    Probed(Slot, u32, ProbeResult),
    Responded(Slot, u32, StopResponse),
    StopCommandEnded(Slot, Result<(), String>),
    ContainerEnded(Slot, ContainerEnd),
    Drained(Slot, u32, StopAction),
}

/// Starts the task. It ends when all handles are dropped.
pub fn start(
    config: &Config,
    slots: &Slots,
    deps: Deps,
    process_events: mpsc::UnboundedReceiver<FamilyChange>,
) -> (SupervisorHandle, JoinHandle<()>) {
    start_with_client(Arc::new(HttpWorkerClient), config, slots, deps, process_events)
}

/// With another worker client, for tests.
pub(super) fn start_with_client(
    worker_client: Arc<dyn WorkerClient>,
    config: &Config,
    slots: &Slots,
    deps: Deps,
    process_events: mpsc::UnboundedReceiver<FamilyChange>,
) -> (SupervisorHandle, JoinHandle<()>) {
    let (orders, received) = mpsc::unbounded_channel();
    let (present, watched) = watch::channel(0);
    let transitions = broadcast::Sender::new(TRANSITIONS);
    let workers = SupervisorHandle {
        orders,
        present: watched,
        transitions: transitions.clone(),
        process_thread: deps.process_thread.clone(),
    };
    let (task_results, task_results_received) = mpsc::unbounded_channel();
    let session_slots = |name: &WorkerName| (name.clone(), slots.of_sessions(name).to_vec());
    let supervisor = Supervisor {
        workers: workers_of(config, slots),
        session_slots: config.workers.keys().map(session_slots).collect(),
        graceful: config.shutdown.worker_graceful,
        deps,
        worker_client,
        task_results,
        transitions,
        present,
        install_turns: InstallTurns::default(),
        progress: None,
        cut_short: CancellationToken::new(),
    };
    (workers, tokio::spawn(supervisor.run(received, process_events, task_results_received)))
}

fn workers_of(config: &Config, slots: &Slots) -> BTreeMap<Slot, Worker> {
    let limits = TimeLimits::new(&config.shutdown);
    let worker = |worker: &WorkerConfig| {
        let slot = slots.of(&worker.name)?;
        Some((slot, Worker::new(worker, &config.shutdown.worker_graceful, &limits, slot)))
    };
    config.workers.values().filter_map(worker).collect()
}

struct Supervisor {
    /// All processes: the worker's own, and those of single sessions.
    workers: BTreeMap<Slot, Worker>,
    /// Which slots processes of single sessions may have.
    session_slots: HashMap<WorkerName, Vec<Slot>>,
    graceful: Duration,
    deps: Deps,
    worker_client: Arc<dyn WorkerClient>,
    task_results: mpsc::UnboundedSender<TaskResult>,
    transitions: broadcast::Sender<Transition>,
    present: watch::Sender<usize>,
    install_turns: InstallTurns,
    progress: Option<Progress>,
    /// Cancelled when the waits are cut short: it ends running stop commands.
    cut_short: CancellationToken,
}

impl Supervisor {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut process_events: mpsc::UnboundedReceiver<FamilyChange>,
        mut task_results: mpsc::UnboundedReceiver<TaskResult>,
    ) {
        // Workers that can't be started: requests to them get the reason at once.
        for slot in self.workers.keys().copied().collect::<Vec<_>>() {
            self.publish_state(slot);
        }
        let mut watchdog = Watchdog::new(&self.deps.service_manager);
        loop {
            let timer = self.workers.values().filter_map(|worker| worker.machine.timer()).min();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.on_order(order),
                    None => return,
                },
                Some(event) = process_events.recv() => self.on_process_event(event),
                Some(result) = task_results.recv() => self.on_task_result(result),
                Some(request) = self.deps.process_requests.recv() => self.on_process_request(request),
                () = deadline::until_some(timer) => self.on_timer(),
                () = deadline::until_some(watchdog.next) => watchdog.feed(&self.deps.service_manager),
            }
            let present = self.workers.values().filter(|worker| worker.is_present()).count();
            self.present.send_if_modified(|old| std::mem::replace(old, present) != present);
        }
    }

    fn on_order(&mut self, order: Order) {
        // The caller may have stopped waiting; then the reply is not needed.
        match order {
            Order::Worker(name, action, reply) => drop(reply.send(self.action(&name, action))),
            Order::Status(reply) => {
                let main = self.workers.values().filter(|worker| worker.is_main());
                drop(reply.send(main.map(|worker| self.running(worker)).collect()));
            }
            Order::StopAll { grace_until, progress } => self.stop_all(grace_until, progress),
            Order::DisableRestarts => self.all(&WorkerEvent::DisableRestarts),
            Order::Escalate => self.all(&WorkerEvent::Escalate),
            Order::KillAll => {
                self.cut_short.cancel();
                self.all(&WorkerEvent::KillAll);
            }
            Order::EndStopCommands => self.cut_short.cancel(),
            Order::Remaining(reply) => {
                let present = self.workers.values().filter(|worker| worker.is_present());
                drop(reply.send(present.map(Worker::label).collect()));
            }
            Order::Outcomes(reply) => {
                drop(reply.send(self.workers.values().map(Worker::outcome_so_far).collect()));
            }
        }
    }

    fn running(&self, worker: &Worker) -> RunningWorker {
        let session_leaders = self.session_leaders(&worker.config.name);
        let proxy = self.deps.proxies.get(&worker.config.name);
        let output = self.deps.output.last(&worker.config.name);
        let status = worker.status(proxy, session_leaders.len(), &output);
        RunningWorker { status: WorkerStatus { state: self.state_of(worker), ..status }, session_leaders }
    }

    fn action(&mut self, name: &WorkerName, action: WorkerAction) -> Result<WorkerState, UnknownWorker> {
        let is_meant = |worker: &Worker| worker.config.name == *name && worker.is_main();
        let slot = self.workers.iter().find(|(_, worker)| is_meant(worker)).map(|(slot, _)| *slot);
        let Some(slot) = slot else {
            let main = self.workers.values().filter(|worker| worker.is_main());
            let known = main.map(|worker| worker.config.name.to_string()).collect();
            return Err(UnknownWorker { name: name.clone(), known });
        };
        crate::fault::panic_if_asked_for(name);
        if action == WorkerAction::Restart {
            crate::fault::hang_if_asked_for(name);
        }
        if action != WorkerAction::Start {
            self.stop_session_processes(name);
        }
        self.on(
            slot,
            match action {
                WorkerAction::Start => WorkerEvent::Start,
                WorkerAction::Stop => WorkerEvent::Stop,
                WorkerAction::Restart => WorkerEvent::Restart,
            },
        );
        Ok(self.state_of(&self.workers[&slot]))
    }

    fn stop_all(&mut self, grace_until: Instant, progress: Progress) {
        self.progress = Some(progress);
        for worker in self.workers.values_mut() {
            worker.outcome.pid = worker.started.map(|started| started.pid);
            if !worker.is_given_up() {
                worker.outcome.stop = None;
            }
        }
        self.all(&WorkerEvent::Shutdown { grace_until });
    }

    fn all(&mut self, event: &WorkerEvent) {
        for slot in self.workers.keys().copied().collect::<Vec<_>>() {
            self.on(slot, event.clone());
        }
    }

    fn on_timer(&mut self) {
        let now = deadline::now();
        let due = |(slot, worker): (&Slot, &Worker)| {
            worker.machine.timer().is_some_and(|timer| timer <= now).then_some(*slot)
        };
        for slot in self.workers.iter().filter_map(due).collect::<Vec<_>>() {
            self.on(slot, WorkerEvent::Timer);
        }
    }

    fn on_process_event(&mut self, event: FamilyChange) {
        match event {
            FamilyChange::Started { slot, leader } => self.spawned(slot, leader),
            FamilyChange::NotStarted { slot, reason } => self.on(slot, WorkerEvent::SpawnFailed { reason }),
            FamilyChange::StartHangs { slot, leader, reason } => {
                self.spawned(slot, leader);
                self.on(slot, WorkerEvent::StartHangs { reason });
            }
            FamilyChange::LeaderExited { slot, exit, remaining } => {
                self.publish_step(
                    slot,
                    WorkerStep::LeaderExited {
                        exit,
                        remaining: u32::try_from(remaining.len()).unwrap_or(u32::MAX),
                    },
                );
                self.on(slot, WorkerEvent::LeaderExited { exit, remaining });
            }
            FamilyChange::Gone { slot } => {
                self.ended(slot);
                self.end_container(slot);
                self.on(slot, WorkerEvent::Gone);
            }
        }
    }

    fn on_task_result(&mut self, result: TaskResult) {
        match result {
            TaskResult::StartChecked(slot, process, result) if self.is_current(slot, process) => {
                self.start_checked(slot, result);
            }
            TaskResult::Probed(slot, process, result) if self.is_current(slot, process) => {
                let busy = self.is_busy(slot);
                self.on(slot, WorkerEvent::Probed { result, busy });
            }
            TaskResult::Responded(slot, process, answer) if self.is_current(slot, process) => {
                self.publish_step(slot, WorkerStep::Answered { answer: answer.to_string() });
                self.record_late_response(slot, &answer);
                self.on(slot, WorkerEvent::Answered(answer));
            }
            TaskResult::StopCommandEnded(slot, result) => {
                if let Some(worker) = self.workers.get_mut(&slot) {
                    worker.stop_commands -= 1;
                    worker.outcome.notes.extend(result.err());
                }
            }
            TaskResult::ContainerEnded(slot, end) => self.container_ended(slot, end),
            TaskResult::Drained(slot, process, action) if self.is_current(slot, process) => {
                self.stop(slot, action)
            }
            TaskResult::StartChecked(..)
            | TaskResult::Probed(..)
            | TaskResult::Responded(..)
            | TaskResult::Drained(..) => {}
        }
    }

    /// A worker may exit before its response has been read; the response still counts.
    fn record_late_response(&mut self, slot: Slot, answer: &StopResponse) {
        let worker = self.workers.get_mut(&slot);
        if let Some(outcome) = worker.and_then(|worker| worker.outcome.stop.as_mut()) {
            outcome.answer.get_or_insert_with(|| answer.to_string());
        }
    }

    fn is_busy(&self, slot: Slot) -> bool {
        let proxy = self.workers.get(&slot).and_then(|worker| self.deps.proxies.get(&worker.config.name));
        proxy.is_some_and(ProxyHandle::is_busy)
    }

    fn is_current(&self, slot: Slot, process: u32) -> bool {
        self.workers.get(&slot).is_some_and(|worker| worker.process == process)
    }

    fn on(&mut self, slot: Slot, event: WorkerEvent) {
        let Some(worker) = self.workers.get_mut(&slot) else {
            return;
        };
        let actions = worker.machine.on(event, deadline::now());
        for action in actions {
            self.perform(slot, action);
        }
        self.publish_state(slot);
    }
}

/// When the watchdog of the service manager is fed next. The loop itself feeds it, so that a loop that hangs does
/// not.
struct Watchdog {
    interval: Option<Duration>,
    next: Option<Instant>,
}

impl Watchdog {
    fn new(service_manager: &ServiceManager) -> Self {
        let interval = service_manager.watchdog_interval();
        Self { interval, next: interval.map(|_| deadline::now()) }
    }

    fn feed(&mut self, service_manager: &ServiceManager) {
        service_manager.feed_watchdog();
        self.next = self.interval.map(|interval| deadline::now() + interval);
    }
}

#[cfg(test)]
mod tests;
