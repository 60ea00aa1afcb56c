//! The processes of the machine. Read only; every function tolerates that the process exits
//! meanwhile.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;

use super::lookup::{CannotLook, Listing};
pub use super::process_data::{Birth, PipeId, Process, StartTime};
use super::{ProcessInfo, machine, portable, system};
use crate::ids::{Mark, Pgid, Pid};

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
        user: system::owner(pid).map_or_else(|| "unknown user".to_owned(), machine::user_name),
        name: process.name,
    })
}

/// The effective user id of a process; `None` if it can't be read.
pub fn user(pid: Pid) -> Option<u32> {
    system::owner(pid)
}

/// The command line, arguments joined by spaces; the name in brackets if it is empty, or can't be read.
pub fn command(process: &Process) -> String {
    let line = system::command_line(process.pid).filter(|line| !line.is_empty());
    line.unwrap_or_else(|| format!("[{}]", process.name))
}

/// The direct children of this process.
pub fn children(pid: Pid) -> Listing<Pid> {
    #[cfg(target_os = "linux")]
    if super::backend() == super::Backend::Linux && super::linux::has_lists_of_children() {
        return super::linux::children(pid);
    }
    portable::children(pid)
}

/// All processes that this user may read.
pub fn all() -> Listing<Process> {
    portable::all()
}

/// The pids of all processes, in no particular order.
///
/// # Errors
/// When the kernel can't be asked.
pub fn pids() -> Result<Vec<Pid>, CannotLook> {
    system::pids()
}

/// The pipe behind one of our own descriptors; `None` if it is no pipe.
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
    if super::backend() == super::Backend::Linux && super::linux::has_lists_of_children() {
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
    portable::is_zombie(process)
}

/// The process that traces this one with ptrace(2); `None` if there is none, or can't be read.
pub fn tracer(pid: Pid) -> Option<Pid> {
    system::tracer(pid)
}
