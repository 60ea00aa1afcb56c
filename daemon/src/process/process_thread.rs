//! One thread starts, signals and reaps all children.
//!
//! ```text
//!   supervisor --ProcessCommand--> process thread (ProcessOperations) --FamilyChange--> supervisor
//!   SIGCHLD, poll interval --------^
//! ```
//!
//! One thread, because a second waiter would take exit statuses, because a child must be known
//! before it can be reaped, and because a parent-death signal belongs to the thread that
//! forked: this one lives as long as the daemon. While a family is being killed, the thread kills
//! it again every 2 ms, so that a process that keeps forking loses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use mcpd_common::ids::{Pid, Slot};
use mcpd_common::os::Containment;
use mcpd_common::outcome::ExitStatus;
use tokio::sync::{mpsc, oneshot};

use super::operations::{DescendantProof, FamilyChange, LaunchSpec, ProcessOperations, ProcessSnapshot};
use crate::deadline::{self, Deadline};

/// Poll interval for children made by clone(2) with another exit signal than `SIGCHLD`.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Between two passes of `SIGKILL`.
const KILL_INTERVAL: Duration = Duration::from_millis(2);
/// Poll interval for a leader whose program does not run yet: exec causes no `SIGCHLD`.
const START_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Poll interval for descendants that outlived a leader below another process: they cause no `SIGCHLD`.
const ORPHAN_POLL_INTERVAL: Duration = Duration::from_millis(50);

pub enum ProcessCommand {
    /// Start a leader; a [`FamilyChange`] has the result.
    Spawn(LaunchSpec),
    /// Start a helper command; the reply is its exit status, when its family is gone.
    Run(LaunchSpec, oneshot::Sender<Result<ExitStatus, String>>),
    /// `SIGCONT`, so that a stopped process can receive its stop request (R-SHUT-9).
    Continue(Slot),
    /// `SIGTERM`, `SIGCONT`.
    Terminate(Slot),
    /// `SIGKILL` until the family is gone.
    KillUntilGone(Slot),
    /// Stop killing the family.
    StopKilling(Slot),
    /// `SIGKILL` to all descendants of the daemon until none is left.
    KillAllUntilGone,
    /// The number of living descendants of each leader.
    Descendants(oneshot::Sender<Vec<(Pid, u32)>>),
    /// The descendants of the daemon.
    Remaining(oneshot::Sender<ProcessSnapshot>),
    /// The kernel's proof that no descendant is left.
    Prove(oneshot::Sender<DescendantProof>),
    /// How the processes are contained.
    Containment(oneshot::Sender<Containment>),
    /// Remove the cgroups.
    Dismantle(oneshot::Sender<Result<(), String>>),
}

/// Sends commands to the process thread. Cloning it is cheap.
#[derive(Clone)]
pub struct ProcessThread {
    commands: mpsc::UnboundedSender<ProcessCommand>,
    next_helper: Arc<AtomicU16>,
}

/// The process thread has ended; normally it ends only with the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the thread that owns all children has ended")]
pub struct ProcessThreadGone;

impl ProcessThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        processes: impl ProcessOperations + 'static,
    ) -> std::io::Result<(Self, mpsc::UnboundedReceiver<FamilyChange>)> {
        let (process_thread, process_events, core, received) = Self::parts(processes);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("mcpd-process".into()).spawn(move || {
            runtime.block_on(async {
                let mut children = ChildSignals::listen();
                core.run(received, async || children.next().await).await;
            });
        })?;
        Ok((process_thread, process_events))
    }

    /// Runs it as a task, for tests on a paused clock. `exited` stands for `SIGCHLD`.
    #[cfg(test)]
    pub fn start_here(
        processes: impl ProcessOperations + 'static,
        exited: Arc<tokio::sync::Notify>,
    ) -> (Self, mpsc::UnboundedReceiver<FamilyChange>) {
        let (process_thread, process_events, core, received) = Self::parts(processes);
        tokio::spawn(core.run(received, async move || exited.notified().await));
        (process_thread, process_events)
    }

    fn parts(
        processes: impl ProcessOperations + 'static,
    ) -> (Self, mpsc::UnboundedReceiver<FamilyChange>, Core, mpsc::UnboundedReceiver<ProcessCommand>) {
        let (commands, received) = mpsc::unbounded_channel();
        let (process_events, events_received) = mpsc::unbounded_channel();
        let core = Core {
            processes: Box::new(processes),
            process_events,
            present: BTreeSet::new(),
            starting: BTreeSet::new(),
            killing: BTreeSet::new(),
            killing_all: false,
            ended: BTreeSet::new(),
            helpers: BTreeMap::new(),
        };
        let next_helper = Arc::default();
        (Self { commands, next_helper }, events_received, core, received)
    }

    /// Sends a command that has no reply.
    pub fn send(&self, command: ProcessCommand) {
        if self.commands.send(command).is_err() {
            tracing::error!("{ProcessThreadGone}");
        }
    }

    /// Runs a helper command until it and all its descendants are gone.
    ///
    /// # Errors
    /// When it can't be started, or not done before the deadline; then it is killed.
    pub async fn run(
        &self,
        spec: impl FnOnce(Slot) -> LaunchSpec,
        deadline: Deadline,
    ) -> Result<ExitStatus, String> {
        let slot = helper_slot(self.next_helper.fetch_add(1, Ordering::Relaxed));
        let spec = spec(slot);
        let ended = self.ask(|reply| ProcessCommand::Run(spec, reply));
        let _kill_on_drop = KillOnDrop { process_thread: self, slot };
        match deadline.wait(ended).await {
            Ok(ended) => ended.unwrap_or_else(|gone| Err(gone.to_string())),
            Err(elapsed) => Err(elapsed.to_string()),
        }
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> ProcessCommand,
    ) -> Result<T, ProcessThreadGone> {
        let (sender, reply) = oneshot::channel();
        self.send(command(sender));
        reply.await.map_err(|_| ProcessThreadGone)
    }
}

/// Kills the helper on drop, when its caller stops waiting; does nothing if the helper
/// has exited.
struct KillOnDrop<'a> {
    process_thread: &'a ProcessThread,
    slot: Slot,
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        self.process_thread.send(ProcessCommand::KillUntilGone(self.slot));
    }
}

/// Numbers are reused after a full round; the helper of the last round has exited by then.
fn helper_slot(number: u16) -> Slot {
    const SLOTS: u16 = u16::MAX - Slot::FIRST_HELPER.0 + 1;
    Slot(Slot::FIRST_HELPER.0 + number % SLOTS)
}

struct Core {
    processes: Box<dyn ProcessOperations>,
    process_events: mpsc::UnboundedSender<FamilyChange>,
    /// Slots with a family. A kill command that comes after the end of a family must not hit the next one.
    present: BTreeSet<Slot>,
    /// Slots whose leader does not run its program yet.
    starting: BTreeSet<Slot>,
    killing: BTreeSet<Slot>,
    killing_all: bool,
    /// Slots whose leader exited and whose family is not gone.
    ended: BTreeSet<Slot>,
    helpers: BTreeMap<Slot, Helper>,
}

struct Helper {
    /// What its caller gets when its family is gone; `None` while the leader runs.
    result: Option<Result<ExitStatus, String>>,
    reply: oneshot::Sender<Result<ExitStatus, String>>,
}

impl Core {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<ProcessCommand>,
        mut child_exited: impl AsyncFnMut(),
    ) {
        loop {
            let again = deadline::next_beat(deadline::now(), self.poll_interval());
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                () = child_exited() => {}
                () = deadline::until(again) => {}
            }
            while let Ok(command) = commands.try_recv() {
                self.on_command(command);
            }
            self.kill_and_reap();
        }
    }

    fn poll_interval(&self) -> Duration {
        if self.killing_all || !self.killing.is_empty() {
            KILL_INTERVAL
        } else if !self.starting.is_empty() {
            START_POLL_INTERVAL
        } else if !self.ended.is_empty() {
            ORPHAN_POLL_INTERVAL
        } else {
            POLL_INTERVAL
        }
    }

    fn on_command(&mut self, command: ProcessCommand) {
        match command {
            ProcessCommand::Spawn(spec) => {
                let slot = spec.slot;
                if let Err(reason) = self.spawn(spec) {
                    self.send_event(FamilyChange::NotStarted { slot, reason });
                }
            }
            ProcessCommand::Run(spec, reply) => self.run_helper(spec, reply),
            ProcessCommand::Continue(slot) => self.processes.resume(slot),
            ProcessCommand::Terminate(slot) => self.processes.terminate(slot),
            ProcessCommand::KillUntilGone(slot) => self.kill_until_gone(slot),
            ProcessCommand::StopKilling(slot) => {
                self.killing.remove(&slot);
            }
            ProcessCommand::KillAllUntilGone => self.killing_all = true,
            // The caller may have stopped waiting; then the reply is not needed.
            ProcessCommand::Descendants(reply) => drop(reply.send(self.processes.descendants())),
            ProcessCommand::Remaining(reply) => drop(reply.send(self.processes.remaining())),
            ProcessCommand::Prove(reply) => drop(reply.send(self.processes.prove())),
            ProcessCommand::Containment(reply) => drop(reply.send(self.processes.containment())),
            ProcessCommand::Dismantle(reply) => drop(reply.send(self.processes.dismantle())),
        }
    }

    fn spawn(&mut self, spec: LaunchSpec) -> Result<(), String> {
        let slot = spec.slot;
        self.processes.spawn(spec)?;
        self.present.insert(slot);
        self.starting.insert(slot);
        Ok(())
    }

    fn kill_until_gone(&mut self, slot: Slot) {
        if self.present.contains(&slot) {
            self.killing.insert(slot);
        }
    }

    fn run_helper(&mut self, spec: LaunchSpec, reply: oneshot::Sender<Result<ExitStatus, String>>) {
        let slot = spec.slot;
        match self.spawn(spec) {
            Ok(()) => {
                self.helpers.insert(slot, Helper { result: None, reply });
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Sends `SIGKILL` where it is due, reaps, and sends events of what changed.
    fn kill_and_reap(&mut self) {
        if self.killing_all {
            self.killing_all = self.processes.kill_all() > 0;
        }
        if !self.killing.is_empty() {
            self.processes.kill(&self.killing);
        }
        for change in self.processes.collect() {
            self.on_change(change);
        }
    }

    fn on_change(&mut self, change: FamilyChange) {
        match &change {
            FamilyChange::Started { slot, .. } | FamilyChange::StartHangs { slot, .. } => {
                self.starting.remove(slot);
            }
            FamilyChange::LeaderExited { slot, .. } => {
                self.ended.insert(*slot);
            }
            FamilyChange::Gone { slot } | FamilyChange::NotStarted { slot, .. } => {
                self.present.remove(slot);
                self.starting.remove(slot);
                self.ended.remove(slot);
                self.killing.remove(slot);
            }
        }
        if !self.helper_change(&change) {
            self.send_event(change);
        }
    }

    /// A helper has no supervisor: descendants that outlive it are killed at once, and so is one that hangs.
    fn helper_change(&mut self, change: &FamilyChange) -> bool {
        let slot = change.slot();
        let Some(helper) = self.helpers.get_mut(&slot) else { return false };
        match change {
            FamilyChange::Started { .. } => {}
            FamilyChange::StartHangs { reason, .. } => {
                helper.result = Some(Err(reason.clone()));
                self.killing.insert(slot);
            }
            FamilyChange::LeaderExited { exit, remaining, .. } => {
                helper.result.get_or_insert(Ok(*exit));
                if !remaining.is_empty() {
                    self.killing.insert(slot);
                }
            }
            FamilyChange::NotStarted { reason, .. } => self.reply_of_helper(slot, Err(reason.clone())),
            FamilyChange::Gone { .. } => {
                let result = helper.result.take();
                self.reply_of_helper(
                    slot,
                    result.unwrap_or_else(|| Err("it exited without a status".to_owned())),
                );
            }
        }
        true
    }

    /// The caller may have stopped waiting; then the reply is not needed.
    fn reply_of_helper(&mut self, slot: Slot, result: Result<ExitStatus, String>) {
        if let Some(helper) = self.helpers.remove(&slot) {
            drop(helper.reply.send(result));
        }
    }

    fn send_event(&self, event: FamilyChange) {
        // The supervisor may have ended already; its processes are killed all the same.
        let _ = self.process_events.send(event);
    }
}

/// `SIGCHLD`; where no handler can be installed, exits are noticed by polling.
struct ChildSignals(Option<tokio::signal::unix::Signal>);

impl ChildSignals {
    fn listen() -> Self {
        let kind = tokio::signal::unix::SignalKind::child();
        let signals = tokio::signal::unix::signal(kind);
        if let Err(error) = &signals {
            tracing::error!(%error, "can't listen to SIGCHLD; exits are noticed once a second");
        }
        Self(signals.ok())
    }

    async fn next(&mut self) {
        match &mut self.0 {
            Some(signals) => drop(signals.recv().await),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
#[path = "process_thread_tests.rs"]
mod tests;
