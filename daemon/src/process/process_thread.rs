//! One place starts, signals and reaps all children: a thread of its own.
//!
//! ```text
//!   supervisor --Command--> keeper (Processes) --News--> supervisor
//!   SIGCHLD, slow tick ------^
//! ```
//!
//! One thread, because a second waiter would steal statuses, because a child must be known
//! before it can be reaped, and because a parent-death signal belongs to the thread that
//! forked: this one lives as long as the daemon. While something is hunted the thread kills
//! in a tight loop, so that a process that keeps forking loses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use mcpd_common::ids::{Pid, Slot};
use mcpd_common::os::Containment;
use mcpd_common::outcome::ExitStatus;
use tokio::sync::{mpsc, oneshot};

use super::operations::{Census, Change, LastWord, Order, Processes, Started};
use crate::deadline::{self, Deadline};

/// In case a `SIGCHLD` says nothing: children made by clone(2) with another exit signal.
const TICK: Duration = Duration::from_secs(1);
/// Between two passes over something that has been sent `SIGKILL` already.
const AGAIN: Duration = Duration::from_millis(2);
/// Descendants that outlived a leader and hang on somebody else's child give no `SIGCHLD`.
const LINGER: Duration = Duration::from_millis(50);

/// What the keeper is told to do.
pub enum Command {
    /// Start a leader; [`News::Spawned`] answers.
    Spawn(Order),
    /// Start a helper and say how it ended, when all of it is gone.
    Run(Order, oneshot::Sender<Result<ExitStatus, String>>),
    /// `SIGTERM`, `SIGCONT`.
    Terminate(Slot),
    /// `SIGKILL` until it is gone.
    Hunt(Slot),
    /// Stop hunting it.
    Leave(Slot),
    /// `SIGKILL` to everything below the daemon until nothing is left.
    HuntAll,
    /// The living descendants of each leader.
    Descendants(oneshot::Sender<Vec<(Pid, u32)>>),
    /// What is left below the daemon.
    Left(oneshot::Sender<Census>),
    /// What the kernel says about it.
    Prove(oneshot::Sender<LastWord>),
    /// What holds the processes together.
    Containment(oneshot::Sender<Containment>),
    /// All is over: remove what was made to hold them together.
    Dismantle(oneshot::Sender<Result<(), String>>),
}

/// What the keeper tells the supervisor.
#[derive(Debug)]
pub enum News {
    /// A leader runs, or could not be started.
    Spawned(Slot, Result<Started, String>),
    /// Something happened to a family.
    Changed(Change),
}

/// The way to the keeper.
#[derive(Clone)]
pub struct Keeper {
    commands: mpsc::UnboundedSender<Command>,
    next_helper: Arc<AtomicU16>,
}

/// The keeper is gone: its thread ended, which it does only with the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the thread that owns all children has ended")]
pub struct KeeperGone;

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the kernel grants no thread.
    pub fn start(
        processes: impl Processes + 'static,
    ) -> std::io::Result<(Self, mpsc::UnboundedReceiver<News>)> {
        let (keeper, news, core, received) = Self::parts(processes);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("mcpd-keeper".into()).spawn(move || {
            runtime.block_on(async {
                let mut children = ChildSignals::listen();
                core.drive(received, async || children.next().await).await;
            });
        })?;
        Ok((keeper, news))
    }

    /// The same as a task, for tests on a paused clock. `exited` stands for `SIGCHLD`.
    #[cfg(test)]
    pub fn start_here(
        processes: impl Processes + 'static,
        exited: Arc<tokio::sync::Notify>,
    ) -> (Self, mpsc::UnboundedReceiver<News>) {
        let (keeper, news, core, received) = Self::parts(processes);
        tokio::spawn(core.drive(received, async move || exited.notified().await));
        (keeper, news)
    }

    fn parts(
        processes: impl Processes + 'static,
    ) -> (Self, mpsc::UnboundedReceiver<News>, Core, mpsc::UnboundedReceiver<Command>) {
        let (commands, received) = mpsc::unbounded_channel();
        let (news, told) = mpsc::unbounded_channel();
        let core = Core {
            processes: Box::new(processes),
            news,
            present: BTreeSet::new(),
            hunted: BTreeSet::new(),
            hunt_all: false,
            ended: BTreeSet::new(),
            helpers: BTreeMap::new(),
        };
        let next_helper = Arc::default();
        (Self { commands, next_helper }, told, core, received)
    }

    /// Sends a command that needs no answer. The keeper lives as long as the daemon.
    pub fn tell(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("{KeeperGone}");
        }
    }

    /// Runs a command of the user's to its end, with everything it starts.
    ///
    /// # Errors
    /// That it can't be started, or was not done in time; then it is killed.
    pub async fn run(
        &self,
        order: impl FnOnce(Slot) -> Order,
        deadline: Deadline,
    ) -> Result<ExitStatus, String> {
        let slot = helper_slot(self.next_helper.fetch_add(1, Ordering::Relaxed));
        let order = order(slot);
        let ended = self.ask(|reply| Command::Run(order, reply));
        let _hunt = HuntAfterwards { keeper: self, slot };
        match deadline.wait(ended).await {
            Ok(ended) => ended.unwrap_or_else(|gone| Err(gone.to_string())),
            Err(elapsed) => Err(elapsed.to_string()),
        }
    }

    /// Sends a command and awaits its answer.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, KeeperGone> {
        let (sender, answer) = oneshot::channel();
        self.tell(command(sender));
        answer.await.map_err(|_| KeeperGone)
    }
}

/// Nobody waits for this helper any more, whether it is over, late or its caller gave up. When it
/// is over the hunt hits nobody.
struct HuntAfterwards<'a> {
    keeper: &'a Keeper,
    slot: Slot,
}

impl Drop for HuntAfterwards<'_> {
    fn drop(&mut self) {
        self.keeper.tell(Command::Hunt(self.slot));
    }
}

/// Numbers go round: a helper of long ago is over.
fn helper_slot(number: u16) -> Slot {
    const SLOTS: u16 = u16::MAX - Slot::FIRST_HELPER.0 + 1;
    Slot(Slot::FIRST_HELPER.0 + number % SLOTS)
}

struct Core {
    processes: Box<dyn Processes>,
    news: mpsc::UnboundedSender<News>,
    /// Slots with a family. A hunt that comes after its end must not hit the next one.
    present: BTreeSet<Slot>,
    hunted: BTreeSet<Slot>,
    hunt_all: bool,
    /// Leaders that exited and whose families are not gone.
    ended: BTreeSet<Slot>,
    helpers: BTreeMap<Slot, Helper>,
}

struct Helper {
    exit: Option<ExitStatus>,
    reply: oneshot::Sender<Result<ExitStatus, String>>,
}

impl Core {
    async fn drive(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut child_exited: impl AsyncFnMut(),
    ) {
        loop {
            let again = deadline::now() + self.pause();
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.perform(command),
                    None => return,
                },
                () = child_exited() => {}
                () = deadline::until(again) => {}
            }
            while let Ok(command) = commands.try_recv() {
                self.perform(command);
            }
            self.turn();
        }
    }

    fn pause(&self) -> Duration {
        match (self.hunt_all || !self.hunted.is_empty(), self.ended.is_empty()) {
            (true, _) => AGAIN,
            (false, false) => LINGER,
            (false, true) => TICK,
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Spawn(order) => {
                let slot = order.slot;
                let result = self.spawn(order);
                self.tell(News::Spawned(slot, result));
            }
            Command::Run(order, reply) => self.run(order, reply),
            Command::Terminate(slot) => self.processes.terminate(slot),
            Command::Hunt(slot) => self.hunt(slot),
            Command::Leave(slot) => {
                self.hunted.remove(&slot);
            }
            Command::HuntAll => self.hunt_all = true,
            // Whoever asked may have gone away meanwhile; then nobody needs the answer.
            Command::Descendants(reply) => drop(reply.send(self.processes.descendants())),
            Command::Left(reply) => drop(reply.send(self.processes.left())),
            Command::Prove(reply) => drop(reply.send(self.processes.prove())),
            Command::Containment(reply) => drop(reply.send(self.processes.containment())),
            Command::Dismantle(reply) => drop(reply.send(self.processes.dismantle())),
        }
    }

    fn spawn(&mut self, order: Order) -> Result<Started, String> {
        let slot = order.slot;
        let started = self.processes.spawn(order)?;
        self.present.insert(slot);
        Ok(started)
    }

    fn hunt(&mut self, slot: Slot) {
        if self.present.contains(&slot) {
            self.hunted.insert(slot);
        }
    }

    fn run(&mut self, order: Order, reply: oneshot::Sender<Result<ExitStatus, String>>) {
        let slot = order.slot;
        match self.spawn(order) {
            Ok(_) => {
                self.helpers.insert(slot, Helper { exit: None, reply });
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Kills what is hunted, reaps, and tells what changed.
    fn turn(&mut self) {
        if self.hunt_all {
            self.hunt_all = self.processes.kill_all() > 0;
        }
        if !self.hunted.is_empty() {
            self.processes.kill(&self.hunted);
        }
        for change in self.processes.collect() {
            self.note(change);
        }
    }

    fn note(&mut self, change: Change) {
        match &change {
            Change::LeaderExited { slot, .. } => {
                self.ended.insert(*slot);
            }
            Change::Gone { slot } => {
                self.present.remove(slot);
                self.ended.remove(slot);
                self.hunted.remove(slot);
            }
        }
        match self.helper_change(&change) {
            true => {}
            false => self.tell(News::Changed(change)),
        }
    }

    /// A helper has no supervisor: what it leaves behind is hunted at once.
    fn helper_change(&mut self, change: &Change) -> bool {
        match change {
            Change::LeaderExited { slot, exit, remaining } => {
                let Some(helper) = self.helpers.get_mut(slot) else { return false };
                helper.exit = Some(*exit);
                if !remaining.is_empty() {
                    self.hunted.insert(*slot);
                }
            }
            Change::Gone { slot } => {
                let Some(helper) = self.helpers.remove(slot) else { return false };
                drop(helper.reply.send(helper.exit.ok_or_else(|| "it vanished".to_owned())));
            }
        }
        true
    }

    fn tell(&self, news: News) {
        // The supervisor may have ended before us; what is left is hunted all the same.
        let _ = self.news.send(news);
    }
}

/// `SIGCHLD`, or nothing where it can't be listened to; then the tick has to do.
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
