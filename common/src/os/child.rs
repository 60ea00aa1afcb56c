//! Our children: spawn, wait, signal, and prove that none is left.
//!
//! Call [`spawn()`], [`peek_exit`], [`reap`] and [`prove_no_children`] only from the one thread
//! that owns all children: a second waiter would steal statuses, and the parent-death signal of a
//! child belongs to the **thread** that spawned it.

use std::io;

use rustix::process::{kill_process, kill_process_group};

use crate::ids::{Pgid, Pid};

mod handle;
mod identity;
mod image;
mod report;
mod setup;
mod spawn;
mod wait;

pub use super::portable::MARK_VARIABLE;
pub use super::signal::Signal;
pub use handle::Handle;
pub use spawn::{ExecState, SpawnPlan, Spawned, spawn};
pub use wait::{PROOF, Proof, ReapedChildren, has_any_ended, peek_exit, prove_no_children, reap};

/// Makes this process a child subreaper: orphans among its descendants are reparented to it
/// (prctl(2)). Does nothing with the portable backend.
pub fn become_subreaper() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if super::backend() == super::Backend::Linux {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    Ok(())
}

/// The result of sending a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Delivery {
    /// Sent. For a group: to at least one member; members of other users may have been left out.
    Sent,
    /// There is no such process or group.
    Gone,
    /// The process belongs to another user.
    NotPermitted,
    /// Not sent: whether the pid still means the process can't be read.
    CannotLook,
}

impl Delivery {
    fn of(result: rustix::io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Sent,
            Err(rustix::io::Errno::PERM) => Self::NotPermitted,
            // The other errors are about invalid arguments, which are never passed here.
            Err(_) => Self::Gone,
        }
    }
}

/// Signals a group. The caller guarantees that the group's leader is an unreaped child, so that the id
/// can't have been reused.
pub fn signal_group(group: Pgid, signal: Signal) -> Delivery {
    match rustix::process::Pid::from_raw(group.get()) {
        Some(group) => Delivery::of(kill_process_group(group, signal.native())),
        None => Delivery::Gone,
    }
}

/// Signals one process. The caller guarantees that it is an unreaped child, so that the pid can't have been
/// reused.
pub fn signal_child(pid: Pid, signal: Signal) -> Delivery {
    match rustix::process::Pid::from_raw(pid.get()) {
        Some(pid) => Delivery::of(kill_process(pid, signal.native())),
        None => Delivery::Gone,
    }
}

#[cfg(test)]
mod tests;
