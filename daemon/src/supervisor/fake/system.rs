//! The fake processes, and a record of what was done to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcpd_common::ids::{Pgid, Pid, Port, Slot};
use mcpd_common::os::ProcessInfo;
use mcpd_common::outcome::ExitStatus;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::behaviour::{Behaviour, SignalReaction};
use crate::deadline;

/// Above the highest pid of the kernel, so that no real process has such a pid.
const FIRST_PID: i32 = 5_000_000;
/// The port of the worker in slot 0. The ports are never bound.
const FIRST_PORT: u16 = 20_000;
const KILLED_BY_SIGTERM: ExitStatus = ExitStatus::Signal(15);
const KILLED_BY_SIGKILL: ExitStatus = ExitStatus::Signal(9);

/// What was done to a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Spawned,
    /// A start was refused, because the last family in this slot was not gone.
    SpawnedTooEarly,
    /// `POST` to the shutdown route.
    Posted,
    Terminated,
    /// The first `SIGKILL` of this family.
    Killed,
    Gone,
}

/// Cloning it is cheap; all clones are the same system.
#[derive(Clone)]
pub struct FakeSystem {
    inner: Arc<Mutex<Inner>>,
    /// Notified where a real system sends `SIGCHLD`.
    pub exited: Arc<Notify>,
}

pub(super) struct Inner {
    began: Instant,
    /// By slot.
    pub(super) workers: Vec<(String, Behaviour)>,
    /// By program.
    pub(super) commands: BTreeMap<String, Behaviour>,
    pub(super) families: BTreeMap<Slot, Family>,
    /// Descendants of the daemon that belong to no family.
    pub(super) strays: Vec<FakeProcess>,
    /// The holders of ports that are in use.
    pub(super) held: BTreeMap<Port, String>,
    effects: Vec<(Duration, Slot, Effect)>,
    pub(super) polls: usize,
    next_pid: i32,
}

pub(super) struct Family {
    pub(super) leader: FakeProcess,
    pub(super) descendants: Vec<FakeProcess>,
    /// The start hangs, and is reported then.
    pub(super) hangs_until: Option<Instant>,
    pub(super) start_reported: bool,
    pub(super) exit_reported: bool,
    pub(super) killed: bool,
}

pub(super) struct FakeProcess {
    pub(super) pid: Pid,
    /// As in ps(1).
    state: char,
    reaction: SignalReaction,
    /// The exit, which may be in the future.
    exit: Option<(Instant, ExitStatus)>,
}

impl FakeSystem {
    /// A system in which these workers can be started. They have to be sorted by name, as slots are.
    pub fn of(workers: Vec<(String, Behaviour)>) -> Self {
        assert!(
            workers.is_sorted_by(|one, other| one.0 < other.0),
            "slots are allocated in the order of names"
        );
        let inner = Inner {
            began: deadline::now(),
            workers,
            commands: BTreeMap::new(),
            families: BTreeMap::new(),
            strays: vec![],
            held: BTreeMap::new(),
            effects: vec![],
            polls: 0,
            next_pid: FIRST_PID,
        };
        Self { inner: Arc::new(Mutex::new(inner)), exited: Arc::default() }
    }

    /// Adds a program that helpers can run.
    pub fn add_command(&self, name: &str, behaviour: Behaviour) {
        self.inner().commands.insert(name.to_owned(), behaviour);
    }

    /// Changes how a worker behaves: requests and probes at once, processes from the next start on.
    pub fn set_behaviour(&self, name: &str, behaviour: Behaviour) {
        let mut inner = self.inner();
        let worker = inner.workers.iter_mut().find(|worker| worker.0 == name).expect("a known worker");
        worker.1 = behaviour;
    }

    /// Adds a descendant of the daemon that belongs to no family; `state` as in ps(1).
    pub fn add_stray(&self, reaction: SignalReaction, state: char) {
        let mut inner = self.inner();
        let process = inner.new_process(reaction, state);
        inner.strays.push(process);
    }

    /// Lets another process hold a worker's port.
    pub fn hold_port(&self, name: &str, holder: &str) {
        let mut inner = self.inner();
        let port = Self::port(inner.slot_of(name));
        inner.held.insert(port, holder.to_owned());
    }

    /// The port of the worker in this slot.
    pub fn port(slot: Slot) -> Port {
        Port::new(FIRST_PORT + slot.0).expect("not 0")
    }

    /// The slot of the worker with this port.
    pub(super) fn slot(port: Port) -> Slot {
        Slot(port.get() - FIRST_PORT)
    }

    /// What was done to this worker, in order.
    pub fn effects(&self, name: &str) -> Vec<Effect> {
        self.timed_effects(name).into_iter().map(|(_, effect)| effect).collect()
    }

    /// What was done to this worker, with the time since the system was created.
    pub fn timed_effects(&self, name: &str) -> Vec<(Duration, Effect)> {
        let inner = self.inner();
        let slot = inner.slot_of(name);
        let of_slot = inner.effects.iter().filter(|effect| effect.1 == slot);
        of_slot.map(|(at, _, effect)| (*at, *effect)).collect()
    }

    /// The time of the first such effect on this worker, since the system was created.
    pub fn when(&self, name: &str, effect: Effect) -> Option<Duration> {
        self.timed_effects(name).into_iter().find(|(_, done)| *done == effect).map(|(at, _)| at)
    }

    /// Number of such effects on workers and helpers.
    pub fn count(&self, effect: Effect) -> usize {
        self.inner().effects.iter().filter(|done| done.2 == effect).count()
    }

    /// The slots of the helpers, in the order of their starts.
    pub fn helpers(&self) -> Vec<Slot> {
        let inner = self.inner();
        let spawned = inner
            .effects
            .iter()
            .filter(|(_, slot, effect)| *slot >= Slot::FIRST_HELPER && *effect == Effect::Spawned);
        spawned.map(|(_, slot, _)| *slot).collect()
    }

    /// How often the process thread has polled for changes.
    pub fn polls(&self) -> usize {
        self.inner().polls
    }

    /// Time since the system was created.
    pub fn now(&self) -> Duration {
        deadline::now().saturating_duration_since(self.inner().began)
    }

    /// Number of descendants of the daemon, zombies included.
    pub fn living(&self) -> usize {
        self.inner().remaining().len()
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifies the process thread of an exit at this time.
    pub(super) fn signal_exit_at(&self, at: Option<Instant>) {
        if let Some(at) = at {
            let exited = self.exited.clone();
            tokio::spawn(async move {
                deadline::until(at).await;
                exited.notify_one();
            });
        }
    }
}

impl Inner {
    pub(super) fn record(&mut self, slot: Slot, effect: Effect) {
        let at = deadline::now().saturating_duration_since(self.began);
        self.effects.push((at, slot, effect));
    }

    pub(super) fn new_process(&mut self, reaction: SignalReaction, state: char) -> FakeProcess {
        self.next_pid += 1;
        let pid = Pid::new(self.next_pid).expect("positive");
        FakeProcess { pid, state, reaction, exit: None }
    }

    /// The behaviour of the worker in this slot, or of the program that a helper runs.
    pub(super) fn behaviour(&self, slot: Slot, program: &str) -> Option<Behaviour> {
        // Helpers and processes of sessions have slots after those of the workers.
        let worker = self.workers.get(usize::from(slot.0)).map(|(_, behaviour)| behaviour.clone());
        worker.or_else(|| self.commands.get(program).cloned())
    }

    /// All descendants of the daemon, zombies included.
    pub(super) fn remaining(&self) -> Vec<ProcessInfo> {
        let processes = self.families.values().flat_map(Family::processes).chain(&self.strays);
        processes.filter(|process| !process.has_exited()).map(FakeProcess::info).collect()
    }

    fn slot_of(&self, name: &str) -> Slot {
        let index = self.workers.iter().position(|worker| worker.0 == name).expect("a known worker");
        Slot(u16::try_from(index).expect("few workers"))
    }
}

impl Family {
    pub(super) fn processes(&self) -> impl Iterator<Item = &FakeProcess> {
        std::iter::once(&self.leader).chain(&self.descendants)
    }

    pub(super) fn processes_mut(&mut self) -> impl Iterator<Item = &mut FakeProcess> {
        std::iter::once(&mut self.leader).chain(&mut self.descendants)
    }

    /// The descendants that are still running.
    pub(super) fn remaining(&self) -> Vec<ProcessInfo> {
        let running = self.descendants.iter().filter(|process| !process.has_exited());
        running.map(FakeProcess::info).collect()
    }
}

impl FakeProcess {
    pub(super) fn has_exited(&self) -> bool {
        self.exit_status().is_some()
    }

    pub(super) fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }

    /// `None` while the process is running.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        self.exit.filter(|(at, _)| *at <= deadline::now()).map(|(_, status)| status)
    }

    /// Schedules the exit. Returns its time; `None` if an earlier exit is scheduled.
    pub(super) fn exit_after(&mut self, wait: Duration, status: ExitStatus) -> Option<Instant> {
        let at = deadline::now() + wait;
        if self.exit.is_some_and(|(scheduled, _)| scheduled <= at) {
            return None;
        }
        self.exit = Some((at, status));
        Some(at)
    }

    /// Returns the time of the exit that the signal causes.
    pub(super) fn receive_sigterm(&mut self) -> Option<Instant> {
        self.reaction.on_term.and_then(|wait| self.exit_after(wait, KILLED_BY_SIGTERM))
    }

    /// Returns the time of the exit that the signal causes.
    pub(super) fn receive_sigkill(&mut self) -> Option<Instant> {
        self.reaction.on_kill.and_then(|wait| self.exit_after(wait, KILLED_BY_SIGKILL))
    }

    fn info(&self) -> ProcessInfo {
        ProcessInfo {
            pid: self.pid,
            ppid: 1,
            pgid: Some(Pgid::led_by(self.pid)),
            state: self.state,
            name: "fake".to_owned(),
            command: "fake".to_owned(),
            user: "kim".to_owned(),
        }
    }
}
