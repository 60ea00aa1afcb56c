//! One task owns all workers. It takes events in, asks each worker's pure
//! [`Machine`](self::state::Machine) what to do, and performs it.
//!
//! ```text
//!   orders (RPC, shutdown) --\                 /--> process_thread: spawn, SIGTERM, SIGKILL
//!   process_events (process_thread)  -----------> Machine::on ------> probe, POST /shutdown: a task each,
//!   notes (probes, answers) --/                \    which sends a note back
//!   timers ------------------/                  `-> journal, log, progress
//! ```
//!
//! `worker.rs` is one worker as it is kept here, `perform.rs` the acts.

mod actions;
pub mod backoff;
#[cfg(test)]
pub mod fake;
pub mod handle;
pub mod private_ports;
pub mod probe;
pub mod recorder;
pub mod state;
pub mod stop_sequence;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mcpd_common::config::Config;
use mcpd_common::event::WorkerStep;
use mcpd_common::ids::{Slot, WorkerName};
use mcpd_common::status::WorkerState;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::handle::{Order, Transition, Unknown, Wish, Workers};
use self::probe::worker_client::{Network, Reach};
use self::recorder::Memory;
use self::state::Event;
use self::stop_sequence::Answer;
use self::worker::Worker;
use crate::deadline;
use crate::process::launch::LaunchEnv;
use crate::process::operations::FamilyChange;
use crate::process::output::Output;
use crate::process::process_thread::{ProcessEvent, ProcessThread};
use crate::progress::Progress;
use crate::proxy::Backstage;
use crate::time_limits::Budget;

/// Transitions that a slow listener may lag behind.
const TRANSITIONS: usize = 4096;

/// What the supervisor works with.
pub struct Tools {
    /// Starts, signals, reaps.
    pub process_thread: ProcessThread,
    /// Drains what workers write.
    pub output: Output,
    /// What a worker's process starts from.
    pub launch_env: LaunchEnv,
    /// Remembers.
    pub memory: Memory,
    /// The doors in front of workers whose client port mcpd holds.
    pub doors: HashMap<WorkerName, Backstage>,
}

/// What tasks report back. The number is the process's: answers about an earlier one are
/// out of date.
enum Note {
    Probed(Slot, u32, bool),
    Strayed(Slot, u32, String),
    Answered(Slot, u32, Answer),
    StopCommandEnded(Slot, Result<(), String>),
    Drained(Slot, u32, stop_sequence::Act),
}

/// Starts the task. It ends when all handles are gone.
pub fn start(
    config: &Config,
    tools: Tools,
    process_events: mpsc::UnboundedReceiver<ProcessEvent>,
) -> (Workers, JoinHandle<()>) {
    start_reaching(Arc::new(Network), config, tools, process_events)
}

/// The same with another way to the workers.
pub(super) fn start_reaching(
    reach: Arc<dyn Reach>,
    config: &Config,
    tools: Tools,
    process_events: mpsc::UnboundedReceiver<ProcessEvent>,
) -> (Workers, JoinHandle<()>) {
    let (orders, received) = mpsc::unbounded_channel();
    let (present, watched) = watch::channel(0);
    let transitions = broadcast::Sender::new(TRANSITIONS);
    let workers = Workers {
        orders,
        present: watched,
        transitions: transitions.clone(),
        process_thread: tools.process_thread.clone(),
    };
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
    (workers, tokio::spawn(supervisor.run(received, process_events, noted)))
}

fn workers_of(config: &Config) -> BTreeMap<Slot, Worker> {
    let budget = Budget::new(&config.shutdown);
    Slot::of_workers()
        .zip(config.workers.values())
        .map(|(slot, worker)| (slot, Worker::new(worker, &config.shutdown.worker_graceful, &budget, slot)))
        .collect()
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

impl Supervisor {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut process_events: mpsc::UnboundedReceiver<ProcessEvent>,
        mut notes: mpsc::UnboundedReceiver<Note>,
    ) {
        loop {
            let timer = self.workers.values().filter_map(|worker| worker.machine.timer()).min();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some(process_events) = process_events.recv() => self.hear(process_events),
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

    fn hear(&mut self, process_events: ProcessEvent) {
        match process_events {
            ProcessEvent::Spawned(slot, Ok(started)) => self.spawned(slot, started),
            ProcessEvent::Spawned(slot, Err(reason)) => self.on(slot, Event::SpawnFailed { reason }),
            ProcessEvent::Changed(FamilyChange::LeaderExited { slot, exit, remaining }) => {
                self.tell(
                    slot,
                    WorkerStep::LeaderExited {
                        exit,
                        remaining: u32::try_from(remaining.len()).unwrap_or(u32::MAX),
                    },
                );
                self.on(slot, Event::LeaderExited { exit, remaining });
            }
            ProcessEvent::Changed(FamilyChange::Gone { slot }) => {
                self.ended(slot);
                self.on(slot, Event::Gone);
            }
        }
    }

    fn read(&mut self, note: Note) {
        match note {
            Note::Probed(slot, process, alive) if self.is_current(slot, process) => {
                let busy = self.is_busy(slot);
                self.on(slot, Event::Probed { alive, busy });
            }
            Note::Strayed(slot, process, reason) if self.is_current(slot, process) => {
                self.on(slot, Event::Strayed { reason });
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
            Note::Probed(..) | Note::Strayed(..) | Note::Answered(..) | Note::Drained(..) => {}
        }
    }

    /// A worker may be gone before its answer has been read; it answered all the same.
    fn note_late_answer(&mut self, slot: Slot, answer: &Answer) {
        let worker = self.workers.get_mut(&slot);
        if let Some(leave) = worker.and_then(|worker| worker.account.leave.as_mut()) {
            leave.answer.get_or_insert_with(|| answer.to_string());
        }
    }

    fn is_busy(&self, slot: Slot) -> bool {
        let door = self.workers.get(&slot).and_then(|worker| self.tools.doors.get(&worker.config.name));
        door.is_some_and(Backstage::is_busy)
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
}

#[cfg(test)]
mod tests;
