//! What runs on the machine. Read only; every function tolerates that the process
//! vanishes meanwhile.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::{CannotLook, Listing, ProcessInfo, portable, system};
use crate::ids::{Mark, Pgid, Pid};

/// When a process began, in a unit of the kernel's own. Together with the pid it names
/// one process, even after the pid was given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartTime(pub u64);

/// Numbers that a process was born with, which the kernel never gives twice: its own and its parent's.
/// They outlive changes of program, session and parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// Its own.
    pub own: u64,
    /// That of the process which forked it, whoever inherited it later.
    pub parent: u64,
}

/// A process at the moment it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: Pid,
    /// Its parent; 0 where the kernel shows none.
    pub ppid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub session: i32,
    /// One letter as in ps(1): R, S, D, T, t, Z, X.
    pub state: char,
    /// When it began.
    pub start: StartTime,
    /// Its short name (`comm`).
    pub name: String,
    /// How many threads it has.
    pub threads: u32,
    /// The signal its parent gets when it ends; not `SIGCHLD` for some made by clone(2).
    pub exit_signal: i32,
    /// Of whom it was born, where the system remembers (macOS).
    pub birth: Option<Birth>,
}

/// The lookups of this module for callers to which "could not look" and "not there" are the same: reports,
/// labels and tests. Never conclude from their answers that something is absent.
pub mod best_effort {
    use super::{Mark, Pid, Process};

    /// [`super::read`]; also `None` if it can't be read now.
    pub fn read(pid: Pid) -> Option<Process> {
        super::read(pid).ok().flatten()
    }

    /// [`super::mark`]; also `None` if it can't be read now.
    pub fn mark(pid: Pid) -> Option<Mark> {
        super::mark(pid).ok().flatten()
    }

    /// [`super::children`], as far as they can be read now.
    pub fn children(pid: Pid) -> Vec<Pid> {
        super::children(pid).best_effort()
    }

    /// [`super::tree`], as far as it can be read now.
    pub fn tree(root: Pid) -> Vec<Process> {
        super::tree(root).best_effort()
    }

    /// [`super::all`], as far as they can be read now.
    pub fn all() -> Vec<Process> {
        super::all().best_effort()
    }
}

/// The process with this pid; `None` if there is none.
///
/// # Errors
/// When the kernel can't be asked.
pub fn read(pid: Pid) -> Result<Option<Process>, CannotLook> {
    system::read(pid)
}

/// The process with this pid, as a report names it; also `None` if it can't be read now.
pub fn describe(pid: Pid) -> Option<ProcessInfo> {
    let process = best_effort::read(pid)?;
    Some(ProcessInfo {
        pid,
        ppid: process.ppid,
        pgid: Pid::new(process.pgid).map(Pgid::led_by),
        state: process.state,
        command: command(&process),
        user: system::owner(pid).map_or_else(|| "unknown user".to_owned(), super::user_name),
        name: process.name,
    })
}

/// Its command line, arguments joined by spaces; its name in brackets if it has none. Asks nobody
/// but the kernel.
pub fn command(process: &Process) -> String {
    let line = system::command_line(process.pid).filter(|line| !line.is_empty());
    line.unwrap_or_else(|| format!("[{}]", process.name))
}

/// The direct children of this process.
pub fn children(pid: Pid) -> Listing<Pid> {
    #[cfg(target_os = "linux")]
    if super::backend() == super::Backend::Linux
        && let Some(found) = super::linux::children(pid)
    {
        return found;
    }
    portable::children(pid)
}

/// All processes that this user may read.
pub fn all() -> Listing<Process> {
    let mut all = Listing::default();
    for pid in all.record(pids()) {
        let process = all.record(read(pid));
        all.extend(process);
    }
    all
}

/// The pids of all processes, in no particular order.
///
/// # Errors
/// When the kernel can't be asked.
pub fn pids() -> Result<Vec<Pid>, CannotLook> {
    system::pids()
}

/// The kernel's own name for one end of a pipe, or for the whole pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipeId(pub u64);

/// The pipe that a descriptor of ours leads to.
pub fn pipe_of(descriptor: BorrowedFd<'_>) -> Option<PipeId> {
    system::pipe_of(descriptor)
}

/// The pipes that a process holds; none if its descriptors are not readable by this user.
///
/// # Errors
/// When the kernel can't be asked.
pub fn pipes(pid: Pid) -> Result<HashSet<PipeId>, CannotLook> {
    system::pipes(pid)
}

/// All descendants of `root`, without itself, parents before their children.
pub fn tree(root: Pid) -> Listing<Process> {
    #[cfg(target_os = "linux")]
    if super::backend() == super::Backend::Linux {
        return super::linux::tree(root);
    }
    portable::tree(root)
}

/// The mark that this process carries; `None` if it is of no run of mcpd.
///
/// # Errors
/// When the kernel can't be asked.
pub fn mark(pid: Pid) -> Result<Option<Mark>, CannotLook> {
    #[cfg(target_os = "linux")]
    if super::backend() == super::Backend::Linux {
        return super::linux::mark(pid);
    }
    portable::mark(pid)
}

/// Whether it has exited and waits to be reaped. A thread group leader that has exited while other threads
/// run has the same state, but is no zombie. If its threads can't be listed it counts as running.
pub fn is_zombie(process: &Process) -> bool {
    process.state == 'Z' && !system::has_other_threads(process.pid).unwrap_or(true)
}

/// The process that traces this one, if one does.
pub fn tracer(pid: Pid) -> Option<Pid> {
    system::tracer(pid)
}
