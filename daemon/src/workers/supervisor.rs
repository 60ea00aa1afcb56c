//! One task owns all workers. It takes events in, asks each worker's pure
//! [`Machine`] what to do, and performs it.
//!
//! ```text
//!   orders (RPC, shutdown) --\                 /--> keeper: spawn, SIGTERM, SIGKILL
//!   news (keeper)  -----------> Machine::on ------> probe, POST /shutdown: a task each,
//!   notes (probes, answers) --/                \    which sends a note back
//!   timers ------------------/                  `-> journal, log, progress
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hyper::Method;
use jiff::Timestamp;
use mcpd_common::config::{Config, WorkerConfig};
use mcpd_common::event::{EventKind, WorkerStep};
use mcpd_common::ids::{Port, Slot, WorkerName};
use mcpd_common::outcome::{Asked, Departure, ExitStatus};
use mcpd_common::status::{WorkerState, WorkerStatus};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::http::Ask;
use super::keeper::{Command, Keeper, News};
use super::orders::{Account, Order, Transition, Unknown, Wish, Workers};
use super::output::Output;
use super::processes::{self, Change, Started};
use super::reach::{Network, Reach};
use super::record::Memory;
use super::spawn::Ground;
use super::state::{Act, Event, Machine, Policy};
use super::stop::{self, ANSWER, Answer, Leave};
use crate::clients::front_door::Backstage;
use crate::deadline::{self, Deadline};
use crate::shutdown::budget::Budget;
use crate::shutdown::progress::{Progress, millis};

/// Transitions that a slow listener may lag behind.
const TRANSITIONS: usize = 4096;

/// What the supervisor works with.
pub struct Tools {
    /// Starts, signals, reaps.
    pub keeper: Keeper,
    /// Drains what workers write.
    pub output: Output,
    /// What a worker's process starts from.
    pub ground: Ground,
    /// Remembers.
    pub memory: Memory,
    /// The doors in front of workers whose client port mcpd holds.
    pub doors: HashMap<WorkerName, Backstage>,
}

/// What tasks report back. The number is the process's: answers about an earlier one are
/// out of date.
enum Note {
    Probed(Slot, u32, bool),
    Answered(Slot, u32, Answer),
    StopCommandEnded(Slot, Result<(), String>),
    Drained(Slot, u32, stop::Act),
}

/// Starts the task. It ends when all handles are gone.
pub fn start(
    config: &Config,
    tools: Tools,
    news: mpsc::UnboundedReceiver<News>,
) -> (Workers, JoinHandle<()>) {
    start_reaching(Arc::new(Network), config, tools, news)
}

/// The same with another way to the workers.
pub(super) fn start_reaching(
    reach: Arc<dyn Reach>,
    config: &Config,
    tools: Tools,
    news: mpsc::UnboundedReceiver<News>,
) -> (Workers, JoinHandle<()>) {
    let (orders, received) = mpsc::unbounded_channel();
    let (present, watched) = watch::channel(0);
    let transitions = broadcast::Sender::new(TRANSITIONS);
    let workers =
        Workers { orders, present: watched, transitions: transitions.clone(), keeper: tools.keeper.clone() };
    let (notes, noted) = mpsc::unbounded_channel();
    let supervisor = Supervisor {
        workers: workers_of(config),
        graceful: config.shutdown.worker_graceful,
        tools,
        reach,
        notes,
        transitions,
        present,
        progress: None,
        hurried: CancellationToken::new(),
    };
    (workers, tokio::spawn(supervisor.run(received, news, noted)))
}

fn workers_of(config: &Config) -> BTreeMap<Slot, Worker> {
    let budget = Budget::new(&config.shutdown);
    let slots = (0..Slot::FIRST_HELPER.0).map(Slot);
    slots
        .zip(config.workers.values())
        .map(|(slot, worker)| (slot, Worker::new(worker, &config.shutdown.worker_graceful, &budget, slot)))
        .collect()
}

struct Worker {
    config: Arc<WorkerConfig>,
    machine: Machine,
    /// Counts processes, to know an answer about an earlier one.
    process: u32,
    /// Where the worker itself listens: its client port, or a private one behind a door.
    listens_on: Port,
    started: Option<Started>,
    started_at: Option<Timestamp>,
    shown: WorkerState,
    since: Timestamp,
    stop_commands: u32,
    /// The process that the stop command was run for: a `POST` that is answered by 404 is followed
    /// by another request.
    stop_command_for: Option<u32>,
    account: Account,
}

struct Supervisor {
    workers: BTreeMap<Slot, Worker>,
    graceful: std::time::Duration,
    tools: Tools,
    reach: Arc<dyn Reach>,
    notes: mpsc::UnboundedSender<Note>,
    transitions: broadcast::Sender<Transition>,
    present: watch::Sender<usize>,
    progress: Option<Progress>,
    /// Stop commands are waits, too.
    hurried: CancellationToken,
}

impl Worker {
    fn new(config: &WorkerConfig, graceful: &std::time::Duration, budget: &Budget, slot: Slot) -> Self {
        let policy = Policy {
            restart: config.restart,
            restart_unhealthy: config.restart_unhealthy,
            has_route: config.shutdown_path.is_some(),
            graceful: *graceful,
            term: budget.term(),
        };
        let machine = match &config.unusable {
            Some(reason) => Machine::unusable(policy, reason.clone()),
            None => Machine::new(policy, u64::from(slot.0) << 1 ^ u64::from(std::process::id())),
        };
        let machine = match crate::fault::first_wait() {
            Some(first) => machine.with_first_wait(first),
            None => machine,
        };
        let account =
            Account { name: config.name.clone(), port: config.port, pid: None, leave: None, notes: vec![] };
        Self {
            shown: machine.state(),
            config: Arc::new(config.clone()),
            machine,
            process: 0,
            listens_on: config.port,
            started: None,
            started_at: None,
            since: Timestamp::now(),
            stop_commands: 0,
            stop_command_for: None,
            account,
        }
    }

    fn is_present(&self) -> bool {
        self.machine.is_alive() || self.stop_commands > 0
    }

    /// Something of it is there and was found to resist `SIGKILL` before.
    fn is_given_up(&self) -> bool {
        self.started.is_some() && !self.machine.is_alive()
    }

    /// Its account; of one that is still on its way out, as far as it went.
    fn account_now(&self) -> Account {
        let so_far = || {
            let leave = self.machine.leaving()?.so_far(deadline::now());
            Some(Leave { departure: Departure::Remains, ..leave })
        };
        Account { leave: self.account.leave.clone().or_else(so_far), ..self.account.clone() }
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus {
            name: self.config.name.clone(),
            state: self.machine.state(),
            reason: self.machine.reason().map(str::to_owned),
            pid: self.started.map(|started| started.pid),
            port: self.config.port,
            transport: self.config.transport,
            url: self.config.url(),
            repo: self.config.repo.display().to_string(),
            since: self.since,
            started_at: self.started_at,
            restarts: self.process.saturating_sub(1),
            descendants: 0,
            clients: 0,
            last_exit: self.machine.last_exit(),
        }
    }

    /// "docs (pid 4711)"
    fn label(&self) -> String {
        match self.started {
            Some(started) => format!("{} (pid {})", self.config.name, started.pid),
            None => self.config.name.to_string(),
        }
    }
}

impl Supervisor {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut news: mpsc::UnboundedReceiver<News>,
        mut notes: mpsc::UnboundedReceiver<Note>,
    ) {
        loop {
            let timer = self.workers.values().filter_map(|worker| worker.machine.timer()).min();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some(news) = news.recv() => self.hear(news),
                Some(note) = notes.recv() => self.read(note),
                () = deadline::until_some(timer) => self.tick(),
            }
            let present = self.workers.values().filter(|worker| worker.is_present()).count();
            self.present.send_if_modified(|old| std::mem::replace(old, present) != present);
        }
    }

    fn obey(&mut self, order: Order) {
        // Whoever asked may have gone away meanwhile; then nobody needs the answer.
        match order {
            Order::Wish(name, wish, reply) => drop(reply.send(self.wish(&name, wish))),
            Order::Status(reply) => {
                drop(reply.send(self.workers.values().map(Worker::status).collect()));
            }
            Order::Leave { grace_until, progress } => self.leave(grace_until, progress),
            Order::Escalate => self.all(&Event::Escalate),
            Order::Hurry => {
                self.hurried.cancel();
                self.all(&Event::Hurry);
            }
            Order::Remaining(reply) => {
                let present = self.workers.values().filter(|worker| worker.is_present());
                drop(reply.send(present.map(Worker::label).collect()));
            }
            Order::Accounts(reply) => {
                drop(reply.send(self.workers.values().map(Worker::account_now).collect()));
            }
        }
    }

    fn wish(&mut self, name: &WorkerName, wish: Wish) -> Result<WorkerState, Unknown> {
        let slot = self.workers.iter().find(|(_, worker)| worker.config.name == *name).map(|(slot, _)| *slot);
        let Some(slot) = slot else {
            let known = self.workers.values().map(|worker| worker.config.name.to_string()).collect();
            return Err(Unknown { name: name.clone(), known });
        };
        crate::fault::panic_if_asked_for(name);
        self.on(
            slot,
            match wish {
                Wish::Start => Event::Start,
                Wish::Stop => Event::Stop,
                Wish::Restart => Event::Restart,
            },
        );
        Ok(self.workers[&slot].machine.state())
    }

    fn leave(&mut self, grace_until: Instant, progress: Progress) {
        self.progress = Some(progress);
        for worker in self.workers.values_mut() {
            worker.account.pid = worker.started.map(|started| started.pid);
            if !worker.is_given_up() {
                worker.account.leave = None;
            }
        }
        self.all(&Event::Shutdown { grace_until });
    }

    fn all(&mut self, event: &Event) {
        for slot in self.workers.keys().copied().collect::<Vec<_>>() {
            self.on(slot, event.clone());
        }
    }

    fn tick(&mut self) {
        let now = deadline::now();
        let due = |(slot, worker): (&Slot, &Worker)| {
            worker.machine.timer().is_some_and(|timer| timer <= now).then_some(*slot)
        };
        for slot in self.workers.iter().filter_map(due).collect::<Vec<_>>() {
            self.on(slot, Event::Tick);
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Spawned(slot, Ok(started)) => self.spawned(slot, started),
            News::Spawned(slot, Err(reason)) => self.on(slot, Event::SpawnFailed { reason }),
            News::Changed(Change::LeaderExited { slot, exit, remaining }) => {
                self.tell(
                    slot,
                    WorkerStep::LeaderExited {
                        exit,
                        remaining: u32::try_from(remaining.len()).unwrap_or(u32::MAX),
                    },
                );
                self.on(slot, Event::LeaderExited { exit, remaining });
            }
            News::Changed(Change::Gone { slot }) => {
                self.ended(slot);
                self.on(slot, Event::Gone);
            }
        }
    }

    fn read(&mut self, note: Note) {
        match note {
            Note::Probed(slot, process, alive) if self.is_current(slot, process) => {
                self.on(slot, Event::Probed { alive });
            }
            Note::Answered(slot, process, answer) if self.is_current(slot, process) => {
                self.tell(slot, WorkerStep::Answered { answer: answer.to_string() });
                self.note_late_answer(slot, &answer);
                self.on(slot, Event::Answered(answer));
            }
            Note::StopCommandEnded(slot, result) => {
                if let Some(worker) = self.workers.get_mut(&slot) {
                    worker.stop_commands -= 1;
                    worker.account.notes.extend(result.err());
                }
            }
            Note::Drained(slot, process, act) if self.is_current(slot, process) => self.stop(slot, act),
            Note::Probed(..) | Note::Answered(..) | Note::Drained(..) => {}
        }
    }

    /// A worker may be gone before its answer has been read; it answered all the same.
    fn note_late_answer(&mut self, slot: Slot, answer: &Answer) {
        let worker = self.workers.get_mut(&slot);
        if let Some(leave) = worker.and_then(|worker| worker.account.leave.as_mut()) {
            leave.answer.get_or_insert_with(|| answer.to_string());
        }
    }

    fn is_current(&self, slot: Slot, process: u32) -> bool {
        self.workers.get(&slot).is_some_and(|worker| worker.process == process)
    }

    fn on(&mut self, slot: Slot, event: Event) {
        let Some(worker) = self.workers.get_mut(&slot) else {
            return;
        };
        let acts = worker.machine.on(event, deadline::now());
        for act in acts {
            self.perform(slot, act);
        }
        self.show(slot);
    }

    fn perform(&mut self, slot: Slot, act: Act) {
        match act {
            Act::Spawn => self.spawn(slot),
            Act::Probe => self.probe(slot),
            Act::Stop(act) => self.stop_when_drained(slot, act),
            Act::Left(leave) => self.left(slot, *leave),
        }
    }

    fn spawn(&mut self, slot: Slot) {
        let Some(worker) = self.workers.get_mut(&slot) else {
            return;
        };
        worker.process += 1;
        if worker.process > 1 {
            let exit =
                worker.machine.last_exit().map_or_else(|| "on request".to_owned(), |exit| exit.to_string());
            self.tools.memory.restarted(&worker.config.name, &exit);
        }
        let config = worker.config.clone();
        match self.prepare(&config, slot) {
            Ok(order) => self.tools.keeper.tell(Command::Spawn(order)),
            Err(reason) => self.on(slot, Event::SpawnFailed { reason }),
        }
    }

    /// Ports are looked at before they are bound: the error then names the holder (R-SUP-6).
    fn prepare(&mut self, config: &WorkerConfig, slot: Slot) -> Result<processes::Order, String> {
        if let Some(door) = self.tools.doors.get(&config.name) {
            door.is_open()?;
        }
        let port = self.reach.find_port(config)?;
        if let Some(worker) = self.workers.get_mut(&slot) {
            worker.listens_on = port;
        }
        let pipe = self.tools.output.pipe(&config.name);
        let pipe = pipe.map_err(|error| format!("no pipe for its output: {error}"))?;
        Ok(self.tools.ground.order(config, port, slot, Some(pipe)))
    }

    fn spawned(&mut self, slot: Slot, started: Started) {
        if let Some(worker) = self.workers.get_mut(&slot) {
            worker.started = Some(started);
            worker.started_at = Some(Timestamp::now());
            // A shutdown that began while it was being started counts it too.
            worker.account.pid = Some(started.pid);
            self.tools.memory.started(&worker.config, started);
            tracing::info!(worker = %worker.config.name, pid = %started.pid, port = %worker.listens_on, "started");
        }
    }

    fn ended(&mut self, slot: Slot) {
        if let Some(worker) = self.workers.get_mut(&slot) {
            if let Some(started) = worker.started.take() {
                self.tools.memory.ended(started, worker.machine.last_exit());
            }
            worker.started_at = None;
        }
    }

    fn probe(&self, slot: Slot) {
        let Some(worker) = self.workers.get(&slot) else {
            return;
        };
        let answer = self.reach.probe(worker.config.clone(), worker.listens_on);
        let (process, notes) = (worker.process, self.notes.clone());
        tokio::spawn(async move {
            let alive = answer.await;
            let _ = notes.send(Note::Probed(slot, process, alive));
        });
    }

    /// A wanted restart lets requests in flight finish before the worker is asked to leave
    /// (R-CLIENT-3). In a shutdown they may finish while the worker leaves.
    fn stop_when_drained(&mut self, slot: Slot, act: stop::Act) {
        let request = matches!(act, stop::Act::Post | stop::Act::Terminate(stop::Why::IsTheRequest));
        let worker = self.workers.get(&slot).filter(|_| request && self.progress.is_none());
        let draining = worker.and_then(|worker| {
            let up = self.tools.doors.get(&worker.config.name)?.let_go()?;
            (up.in_flight() > 0).then_some((worker.process, up))
        });
        let Some((process, up)) = draining else {
            return self.stop(slot, act);
        };
        let (notes, limit) = (self.notes.clone(), Deadline::after(self.graceful));
        tokio::spawn(async move {
            // Those that take longer than the graceful time are cut off with their worker.
            let _ = limit.wait(up.drained()).await;
            let _ = notes.send(Note::Drained(slot, process, act));
        });
    }

    fn stop(&mut self, slot: Slot, act: stop::Act) {
        let keeper = &self.tools.keeper;
        match act {
            stop::Act::Post => self.ask_to_leave(slot),
            stop::Act::Terminate(why) => {
                keeper.tell(Command::Terminate(slot));
                if why == stop::Why::IsTheRequest {
                    self.run_stop_command(slot);
                }
                self.tell_signal(slot, "SIGTERM", why);
            }
            stop::Act::Hunt(why) => {
                keeper.tell(Command::Hunt(slot));
                self.tell_signal(slot, "SIGKILL", why);
            }
            stop::Act::GiveUp => keeper.tell(Command::Leave(slot)),
        }
    }

    fn ask_to_leave(&mut self, slot: Slot) {
        self.run_stop_command(slot);
        let Some(worker) = self.workers.get(&slot) else {
            return;
        };
        let ask = Ask {
            method: Method::POST,
            port: worker.listens_on,
            path: worker.config.shutdown_path.clone().unwrap_or_default(),
            token: self.tools.ground.token_for(&worker.config),
        };
        let answer = self.reach.ask(ask, Deadline::after(ANSWER));
        let (process, notes) = (worker.process, self.notes.clone());
        self.tell(slot, WorkerStep::Asked { how: Asked::Http });
        tokio::spawn(async move {
            let answer = match answer.await {
                Ok(status) => Answer::Status(status),
                Err(why) => Answer::None(why),
            };
            let _ = notes.send(Note::Answered(slot, process, answer));
        });
    }

    fn run_stop_command(&mut self, slot: Slot) {
        let Some(worker) = self.workers.get_mut(&slot) else {
            return;
        };
        let (config, ground) = (worker.config.clone(), self.tools.ground.clone());
        let Some(command) = &config.stop_command else {
            return;
        };
        let command: Vec<_> = command.iter().map(|word| word.with(worker.listens_on)).collect();
        if worker.stop_command_for.replace(worker.process) == Some(worker.process) {
            return;
        }
        worker.stop_commands += 1;
        let (keeper, notes, limit) =
            (self.tools.keeper.clone(), self.notes.clone(), Deadline::after(self.graceful));
        let hurried = self.hurried.clone();
        tokio::spawn(async move {
            let order = |helper| ground.helper(&command, &config.repo, helper);
            let ended = hurried.run_until_cancelled(keeper.run(order, limit)).await;
            let ended = ended.unwrap_or_else(|| Err("the remaining waits were cut short".to_owned()));
            let result = match ended {
                Ok(ExitStatus::Code(0)) => Ok(()),
                Ok(exit) => Err(exit.to_string()),
                Err(error) => Err(error),
            };
            let result = result.map_err(|error| format!("stop_command {}: {error}", command.join(" ")));
            let _ = notes.send(Note::StopCommandEnded(slot, result));
        });
    }

    fn left(&mut self, slot: Slot, leave: Leave) {
        let Some(worker) = self.workers.get_mut(&slot) else {
            return;
        };
        tracing::info!(
            worker = %worker.config.name, departure = ?leave.departure, exit = ?leave.exit,
            after_ms = millis(leave.after), outlived = leave.outlived.len(), "left"
        );
        let step =
            WorkerStep::Left { departure: leave.departure, exit: leave.exit, after_ms: millis(leave.after) };
        worker.account.leave = Some(leave);
        self.tell(slot, step);
    }

    fn tell_signal(&self, slot: Slot, signal: &str, why: stop::Why) {
        if let Some(worker) = self.workers.get(&slot) {
            tracing::info!(worker = %worker.config.name, signal, why = why.text(), "signalled");
        }
        self.tell(slot, WorkerStep::Signalled { signal: signal.to_owned(), why: why.text().to_owned() });
    }

    /// Tells a step of the shutdown, if there is one.
    fn tell(&self, slot: Slot, step: WorkerStep) {
        if let (Some(progress), Some(worker)) = (&self.progress, self.workers.get(&slot)) {
            let (name, pid) = (worker.config.name.clone(), worker.account.pid);
            progress.say(EventKind::Worker { name, pid, step });
        }
    }

    /// Makes a change of state known.
    fn show(&mut self, slot: Slot) {
        let Some(worker) = self.workers.get_mut(&slot) else {
            return;
        };
        let state = worker.machine.state();
        if std::mem::replace(&mut worker.shown, state) == state {
            return;
        }
        worker.since = Timestamp::now();
        if let Some(door) = self.tools.doors.get(&worker.config.name) {
            door.show(state, worker.process, worker.listens_on, worker.machine.reason());
        }
        let (name, reason) = (worker.config.name.clone(), worker.machine.reason().map(str::to_owned));
        match state {
            WorkerState::Failed | WorkerState::Unhealthy | WorkerState::BackingOff => {
                tracing::warn!(worker = %name, state = state.name(), reason, "state");
            }
            _ => tracing::info!(worker = %name, state = state.name(), "state"),
        }
        // Nobody may be listening.
        let _ = self.transitions.send(Transition { name, state, reason });
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
