//! What is ours: starting, waiting, signalling, proving that nothing is left.
//!
//! Call [`spawn()`], [`peek_exit`], [`reap`] and [`prove_no_children`] only from the one thread
//! that owns all children: a second waiter would steal statuses, and the parent-death signal of a
//! child belongs to the **thread** that spawned it.

use std::io;

use rustix::process::{kill_process, kill_process_group};

use crate::ids::{Pgid, Pid};

mod birth;
mod handle;
mod spawn;
mod wait;

pub use handle::Handle;
pub use spawn::{SpawnPlan, spawn};
pub use wait::{PROOF, Proof, Sweep, has_any_ended, peek_exit, prove_no_children, reap};

/// The variable that carries the mark of a process where resource limits can't.
pub const MARK_VARIABLE: &str = "MCPD_MARK";

/// Makes this process the parent of whatever its descendants leave behind. The portable
/// backend has no such thing: there it does nothing.
pub fn become_subreaper() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if super::backend() == super::Backend::Linux {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    Ok(())
}

/// The signals that we send or ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// `SIGTERM`.
    Term,
    /// `SIGKILL`.
    Kill,
    /// `SIGCONT`.
    Cont,
    /// `SIGSTOP`.
    Stop,
    /// `SIGINT`.
    Int,
    /// `SIGHUP`.
    Hup,
    /// `SIGQUIT`.
    Quit,
    /// `SIGUSR1`.
    Usr1,
    /// `SIGUSR2`.
    Usr2,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Term,
        Self::Kill,
        Self::Cont,
        Self::Stop,
        Self::Int,
        Self::Hup,
        Self::Quit,
        Self::Usr1,
        Self::Usr2,
    ];

    /// Its number on this system.
    pub fn number(self) -> i32 {
        self.native().as_raw()
    }

    pub(super) fn native(self) -> rustix::process::Signal {
        match self {
            Self::Term => rustix::process::Signal::TERM,
            Self::Kill => rustix::process::Signal::KILL,
            Self::Cont => rustix::process::Signal::CONT,
            Self::Stop => rustix::process::Signal::STOP,
            Self::Int => rustix::process::Signal::INT,
            Self::Hup => rustix::process::Signal::HUP,
            Self::Quit => rustix::process::Signal::QUIT,
            Self::Usr1 => rustix::process::Signal::USR1,
            Self::Usr2 => rustix::process::Signal::USR2,
        }
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&super::signal_name(self.number()))
    }
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Delivery {
    /// The kernel took it. For a group it says nothing about members of other users.
    Sent,
    /// Nobody is there.
    Gone,
    /// It belongs to another user.
    NotPermitted,
    /// Not sent: whether the pid still means the process can't be read.
    CannotLook,
}

impl Delivery {
    fn of(result: rustix::io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Sent,
            Err(rustix::io::Errno::PERM) => Self::NotPermitted,
            // The other errors, of a signal or an argument that is none, can't come from here.
            Err(_) => Self::Gone,
        }
    }
}

/// Signals a group. The caller vouches that the group's leader is an unreaped child.
pub fn signal_group(group: Pgid, signal: Signal) -> Delivery {
    match rustix::process::Pid::from_raw(group.get()) {
        Some(group) => Delivery::of(kill_process_group(group, signal.native())),
        None => Delivery::Gone,
    }
}

/// Signals one process. The caller vouches that it is an unreaped child.
pub fn signal_child(pid: Pid, signal: Signal) -> Delivery {
    match rustix::process::Pid::from_raw(pid.get()) {
        Some(pid) => Delivery::of(kill_process(pid, signal.native())),
        None => Delivery::Gone,
    }
}

#[cfg(test)]
mod tests;
