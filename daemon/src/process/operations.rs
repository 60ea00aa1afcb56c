//! The narrow interface between the process thread and the system. With a fake (`fake.rs`), escalation,
//! timeouts and every exit code are tested without processes and without waiting. `containment/`
//! implements it with real processes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use mcpd_common::ids::{Pid, Slot};
use mcpd_common::os::process::StartTime;
use mcpd_common::os::{Containment, ProcessInfo};
use mcpd_common::outcome::ExitStatus;

/// Not `Debug`: the environment may hold secrets.
pub struct LaunchSpec {
    pub slot: Slot,
    /// Absolute, or looked up in `PATH`.
    pub program: PathBuf,
    /// Without the program's name.
    pub args: Vec<OsString>,
    /// The working directory.
    pub directory: PathBuf,
    /// The complete environment.
    pub env: Vec<(OsString, OsString)>,
    /// Standard output and error; `None`: `/dev/null`.
    pub output: Option<OwnedFd>,
    /// Standard input and output of a worker that speaks stdio; `output` is only its standard error then.
    pub mcp: Option<McpPipes>,
}

/// The worker's ends of the pipes on which it speaks MCP.
pub struct McpPipes {
    pub input: OwnedFd,
    pub output: OwnedFd,
}

/// A started process: the leader of its own session and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    pub pid: Pid,
    pub start: StartTime,
}

/// A change in a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FamilyChange {
    /// The program of a leader runs. Comes before any other change of the family, unless there is a
    /// [`FamilyChange::StartHangs`].
    Started { slot: Slot, leader: Started },
    /// The program of a leader could not be executed; no process is left.
    NotStarted { slot: Slot, reason: String },
    /// A leader neither executes its program nor fails, because a file system does not respond. It may never exit, not
    /// even after `SIGKILL`; its exit is reported like any other.
    StartHangs { slot: Slot, leader: Started, reason: String },
    /// A leader exited. It is not reaped yet, so that its group id can't be reused. Sent again if
    /// descendants are found only later.
    LeaderExited {
        slot: Slot,
        exit: ExitStatus,
        /// Descendants that are still running.
        remaining: Vec<ProcessInfo>,
    },
    /// Leader and descendants are gone, the leader is reaped.
    Gone { slot: Slot },
}

impl FamilyChange {
    pub fn slot(&self) -> Slot {
        match self {
            Self::Started { slot, .. }
            | Self::NotStarted { slot, .. }
            | Self::StartHangs { slot, .. }
            | Self::LeaderExited { slot, .. }
            | Self::Gone { slot } => *slot,
        }
    }
}

/// Processes at one moment.
pub type ProcessSnapshot = Vec<ProcessInfo>;

/// What the kernel says at the end, beyond what scans found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum DescendantProof {
    /// No descendant is left; the text quotes the kernel.
    Proved(String),
    /// The kernel can't tell: there is no subreaper, or children existed before mcpd.
    Unprovable,
    /// A descendant is left, or may be; why.
    Doubted(&'static str),
}

/// Effects on processes. Only the process thread calls them.
pub trait ProcessOperations: Send {
    /// Starts the leader of a slot. What becomes of it is among the changes that [`collect`](Self::collect) returns.
    ///
    /// # Errors
    /// The kernel's error, or that processes of the slot's last family are still running.
    fn spawn(&mut self, spec: LaunchSpec) -> Result<(), String>;

    /// Reaps orphans, and returns what changed.
    fn collect(&mut self) -> Vec<FamilyChange>;

    /// `SIGCONT` to the group of a slot's leader.
    fn resume(&mut self, slot: Slot);

    /// `SIGTERM`, then `SIGCONT`, to the family of a slot.
    fn terminate(&mut self, slot: Slot);

    /// One pass of `SIGKILL` over the families of these slots.
    fn kill(&mut self, slots: &BTreeSet<Slot>);

    /// One pass of `SIGKILL` over every descendant of the daemon; returns how many there were, and never 0 if
    /// a lookup failed.
    fn kill_all(&mut self) -> usize;

    /// The number of living descendants of each leader.
    fn descendants(&mut self) -> Vec<(Pid, u32)>;

    /// All descendants of the daemon, zombies included.
    fn remaining(&mut self) -> ProcessSnapshot;

    /// The kernel's statement about remaining children.
    fn prove(&mut self) -> DescendantProof;

    /// How the processes are contained.
    fn containment(&self) -> Containment;

    /// Removes the cgroups, when all processes are gone.
    ///
    /// # Errors
    /// Names what could not be removed.
    fn dismantle(&mut self) -> Result<(), String>;
}
