//! The narrow interface to processes: all that the process thread needs, so that escalation,
//! timeouts and every exit code can be tested with a fake (`fake.rs`), without processes and
//! without waiting. The truth is in `containment/`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use mcpd_common::ids::{Pid, Slot};
use mcpd_common::os::process::StartTime;
use mcpd_common::os::{Containment, ProcessInfo};
use mcpd_common::outcome::ExitStatus;

/// What to start.
#[derive(Debug)]
pub struct LaunchSpec {
    pub slot: Slot,
    /// The program, absolute or to be found in `PATH`.
    pub program: PathBuf,
    /// Its arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub directory: PathBuf,
    /// Its complete environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where its standard output and error go; `None`: nowhere.
    pub output: Option<OwnedFd>,
}

/// A process that was started: the leader of its own session and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    pub pid: Pid,
    /// When the kernel started it.
    pub start: StartTime,
}

/// What happened to the children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FamilyChange {
    /// A leader exited. It is not reaped yet, so that its group id stays ours.
    LeaderExited {
        slot: Slot,
        exit: ExitStatus,
        /// Descendants that are still there.
        remaining: Vec<ProcessInfo>,
    },
    /// Leader and descendants are gone, the leader is reaped.
    Gone { slot: Slot },
}

/// Processes at one moment: those that are left, or that belong to no worker.
pub type ProcessSnapshot = Vec<ProcessInfo>;

/// What is known at the end, beyond what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum DescendantProof {
    /// No descendant is left: the kernel's statement.
    Proved(String),
    /// The kernel says nothing here: no subreaper, or children that were there before mcpd.
    Unprovable,
    /// A descendant is left, or may be; why.
    Doubted(&'static str),
}

/// Effects on processes. Only the process thread's thread calls them.
pub trait ProcessOperations: Send {
    /// Starts the leader of a slot.
    ///
    /// # Errors
    /// What the kernel said, or that something of the slot's last process is still there.
    fn spawn(&mut self, spec: LaunchSpec) -> Result<Started, String>;

    /// Reaps orphans, and returns what changed.
    fn collect(&mut self) -> Vec<FamilyChange>;

    /// `SIGCONT` to the group of a slot's leader.
    fn resume(&mut self, slot: Slot);

    /// `SIGTERM`, then `SIGCONT`, to everything of a slot.
    fn terminate(&mut self, slot: Slot);

    /// One pass of `SIGKILL` over everything of these slots.
    fn kill(&mut self, slots: &BTreeSet<Slot>);

    /// One pass of `SIGKILL` over every descendant of the daemon; how many were there, and not 0 if that
    /// could not be seen.
    fn kill_all(&mut self) -> usize;

    /// The living descendants of each leader.
    fn descendants(&mut self) -> Vec<(Pid, u32)>;

    /// Everything that is left below the daemon, zombies included.
    fn remaining(&mut self) -> ProcessSnapshot;

    /// What is known of children that are left, beyond what can be seen.
    fn prove(&mut self) -> DescendantProof;

    /// What holds them together.
    fn containment(&self) -> Containment;

    /// Removes what was made to hold them together, when all of them are gone.
    ///
    /// # Errors
    /// What could not be removed.
    fn dismantle(&mut self) -> Result<(), String>;
}
