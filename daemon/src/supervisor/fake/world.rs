//! The processes of the scripted world, and what was done to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcpd_common::ids::{Pgid, Pid, Port, Slot};
use mcpd_common::os::ProcessInfo;
use mcpd_common::outcome::ExitStatus;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::script::{Nature, Script};
use crate::deadline;

/// Past the kernel's highest pid, so that no real process has such a pid.
const FIRST_PID: i32 = 5_000_000;
/// The worker in slot 0 has this port, and so on. It is never bound.
const FIRST_PORT: u16 = 20_000;
/// Death by this signal.
const TERM: ExitStatus = ExitStatus::Signal(15);
const KILL: ExitStatus = ExitStatus::Signal(9);

/// What was done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A leader was started.
    Spawned,
    /// Starting was refused, since the last process was not gone.
    SpawnedTooEarly,
    /// `POST` to its shutdown route.
    Posted,
    /// `SIGTERM`.
    Termed,
    /// `SIGKILL`, the first of this process.
    Killed,
    /// Leader and descendants are gone.
    Gone,
}

/// A handle on the world.
#[derive(Clone)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
    /// Stands for `SIGCHLD`.
    pub exited: Arc<Notify>,
}

pub(super) struct Inner {
    began: Instant,
    pub(super) scripts: Vec<(String, Script)>,
    pub(super) commands: BTreeMap<String, Script>,
    pub(super) families: BTreeMap<Slot, Family>,
    /// Of no family.
    pub(super) strays: Vec<Body>,
    /// Ports held by other processes.
    pub(super) held: BTreeMap<Port, String>,
    effects: Vec<(Duration, Slot, Effect)>,
    /// How often the process thread has looked for changes.
    pub(super) turns: usize,
    next_pid: i32,
}

/// A leader and what it started.
pub(super) struct Family {
    pub(super) leader: Body,
    pub(super) descendants: Vec<Body>,
    pub(super) exit_told: bool,
    pub(super) killed: bool,
}

/// A process.
pub(super) struct Body {
    pub(super) pid: Pid,
    state: char,
    nature: Nature,
    end: Option<(Instant, ExitStatus)>,
}

impl World {
    /// A world in which these workers can be started. Names are in order, as slots are.
    pub fn of(scripts: Vec<(String, Script)>) -> Self {
        assert!(scripts.is_sorted_by(|one, other| one.0 < other.0), "slots are given by name");
        let inner = Inner {
            began: deadline::now(),
            scripts,
            commands: BTreeMap::new(),
            families: BTreeMap::new(),
            strays: vec![],
            held: BTreeMap::new(),
            effects: vec![],
            turns: 0,
            next_pid: FIRST_PID,
        };
        Self { inner: Arc::new(Mutex::new(inner)), exited: Arc::default() }
    }

    /// The program `name` behaves like this.
    pub fn add_command(&self, name: &str, script: Script) {
        self.inner().commands.insert(name.to_owned(), script);
    }

    /// From its next start on, for requests and probes at once, a worker behaves like this.
    pub fn rewrite(&self, name: &str, script: Script) {
        let mut inner = self.inner();
        let entry = inner.scripts.iter_mut().find(|entry| entry.0 == name).expect("a known worker");
        entry.1 = script;
    }

    /// A descendant of the daemon that belongs to no worker; `state` as in ps(1).
    pub fn add_stray(&self, nature: Nature, state: char) {
        let mut inner = self.inner();
        let body = inner.bear(nature, state);
        inner.strays.push(body);
    }

    /// Another process holds a worker's port.
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
        self.timed_effects(name).into_iter().map(|(_, deed)| deed).collect()
    }

    /// The same with the time since the world began.
    pub fn timed_effects(&self, name: &str) -> Vec<(Duration, Effect)> {
        let inner = self.inner();
        let slot = inner.slot_of(name);
        let of_slot = inner.effects.iter().filter(|deed| deed.1 == slot);
        of_slot.map(|(at, _, deed)| (*at, *deed)).collect()
    }

    /// When this was done to this worker first, since the world began.
    pub fn when(&self, name: &str, deed: Effect) -> Option<Duration> {
        self.timed_effects(name).into_iter().find(|(_, done)| *done == deed).map(|(at, _)| at)
    }

    /// How often this was done, to workers and helpers.
    pub fn count(&self, deed: Effect) -> usize {
        self.inner().effects.iter().filter(|done| done.2 == deed).count()
    }

    /// The slots of helpers, as they were started.
    pub fn helpers(&self) -> Vec<Slot> {
        let inner = self.inner();
        let spawned = inner
            .effects
            .iter()
            .filter(|(_, slot, deed)| *slot >= Slot::FIRST_HELPER && *deed == Effect::Spawned);
        spawned.map(|(_, slot, _)| *slot).collect()
    }

    /// How often the process thread has looked for changes.
    pub fn turns(&self) -> usize {
        self.inner().turns
    }

    /// Time since the world began.
    pub fn now(&self) -> Duration {
        deadline::now().saturating_duration_since(self.inner().began)
    }

    /// Who lives below the daemon.
    pub fn living(&self) -> usize {
        self.inner().left().len()
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Like `SIGCHLD` when this moment comes.
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
    pub(super) fn note(&mut self, slot: Slot, deed: Effect) {
        let at = deadline::now().saturating_duration_since(self.began);
        self.effects.push((at, slot, deed));
    }

    pub(super) fn bear(&mut self, nature: Nature, state: char) -> Body {
        self.next_pid += 1;
        let pid = Pid::new(self.next_pid).expect("positive");
        Body { pid, state, nature, end: None }
    }

    /// The script of a worker, or of the program that a helper runs.
    pub(super) fn script(&self, slot: Slot, program: &str) -> Option<Script> {
        if slot < Slot::FIRST_HELPER {
            self.scripts.get(usize::from(slot.0)).map(|(_, script)| script.clone())
        } else {
            self.commands.get(program).cloned()
        }
    }

    /// All who live, zombies included.
    pub(super) fn left(&self) -> Vec<ProcessInfo> {
        let families = self.families.values().flat_map(|family| family.bodies());
        families.chain(&self.strays).filter(|body| !body.is_dead()).map(Body::info).collect()
    }

    fn slot_of(&self, name: &str) -> Slot {
        let index = self.scripts.iter().position(|entry| entry.0 == name).expect("a known worker");
        Slot(u16::try_from(index).expect("few workers"))
    }
}

impl Family {
    pub(super) fn bodies(&self) -> impl Iterator<Item = &Body> {
        std::iter::once(&self.leader).chain(&self.descendants)
    }

    pub(super) fn bodies_mut(&mut self) -> impl Iterator<Item = &mut Body> {
        std::iter::once(&mut self.leader).chain(&mut self.descendants)
    }

    /// The living descendants.
    pub(super) fn remaining(&self) -> Vec<ProcessInfo> {
        self.descendants.iter().filter(|body| !body.is_dead()).map(Body::info).collect()
    }
}

impl Body {
    pub(super) fn is_dead(&self) -> bool {
        self.exit().is_some()
    }

    pub(super) fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }

    /// How it ended, if it has.
    pub(super) fn exit(&self) -> Option<ExitStatus> {
        self.end.filter(|(at, _)| *at <= deadline::now()).map(|(_, exit)| exit)
    }

    /// It ends then, unless it ends earlier.
    pub(super) fn end_after(&mut self, wait: Duration, exit: ExitStatus) -> Option<Instant> {
        let at = deadline::now() + wait;
        let is_news = self.end.is_none_or(|(planned, _)| at < planned);
        is_news.then(|| {
            self.end = Some((at, exit));
            at
        })
    }

    pub(super) fn take_term(&mut self) -> Option<Instant> {
        self.nature.on_term.and_then(|wait| self.end_after(wait, TERM))
    }

    pub(super) fn take_kill(&mut self) -> Option<Instant> {
        self.nature.on_kill.and_then(|wait| self.end_after(wait, KILL))
    }

    fn info(&self) -> ProcessInfo {
        ProcessInfo {
            pid: self.pid,
            ppid: 1,
            pgid: Some(Pgid::led_by(self.pid)),
            state: self.state,
            name: "scripted".to_owned(),
            command: "scripted".to_owned(),
            user: "kim".to_owned(),
        }
    }
}
