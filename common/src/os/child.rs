//! What is ours: starting, waiting, signalling, proving that nothing is left.
//!
//! Call [`spawn`], [`peek_exit`], [`reap`] and [`prove_no_children`] only from the one thread
//! that owns all children: a second waiter would steal statuses, and the parent-death signal of a
//! child belongs to the **thread** that spawned it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::own::OpenFileLimit;
use super::process::Process;
use crate::ids::{Mark, Pgid, Pid};
use crate::outcome::ExitStatus;

/// What [`prove_no_children`] asks, and the answer that proves: for reports.
pub const PROOF: &str = "waitid(P_ALL, WEXITED|WNOHANG|__WALL) = ECHILD";

/// The variable that carries the mark of a process where resource limits can't.
pub const MARK_VARIABLE: &str = "MCPD_MARK";

/// Makes this process the parent of whatever its descendants leave behind. The portable
/// backend has no such thing: there it does nothing.
pub fn become_subreaper() -> io::Result<()> {
    Ok(())
}

/// What to start, and with what.
#[derive(Debug)]
pub struct SpawnPlan {
    /// The program; without a slash it is looked up in the `PATH` of `env`.
    pub program: PathBuf,
    /// Its arguments, without the program itself.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub directory: PathBuf,
    /// Its complete environment; only [`MARK_VARIABLE`] is added.
    pub env: Vec<(OsString, OsString)>,
    /// Its standard input; `None`: `/dev/null`.
    pub input: Option<OwnedFd>,
    /// Its standard output and error; `None`: `/dev/null`.
    pub output: Option<OwnedFd>,
    /// What it and its descendants carry.
    pub mark: Mark,
    /// The limit of open files that it gets: the one the daemon was started with.
    pub open_files: OpenFileLimit,
}

/// Starts a process as the leader of a new session and group, with nothing inherited by accident:
/// empty signal mask, default dispositions, descriptors 0 to 2 only, the given limit of open
/// files. On Linux it is killed when the calling thread ends.
pub fn spawn(_plan: SpawnPlan) -> io::Result<Pid> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How this child ended, if it did, leaving it unreaped: its pid stays its own.
pub fn peek_exit(_pid: Pid) -> Option<ExitStatus> {
    None
}

/// How this child ended, if it did. Its pid is free for others afterwards.
pub fn reap(_pid: Pid) -> Option<ExitStatus> {
    None
}

/// What the kernel says about our children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Proof {
    /// `ECHILD`: there is none. With a subreaper that means: there is no descendant.
    NoChildren,
    /// At least one is there.
    Children,
}

/// What [`prove_no_children`] saw and did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Sweep {
    /// What the kernel said at last.
    pub proof: Proof,
    /// The children that had ended and that it reaped on the way.
    pub reaped: Vec<(Pid, ExitStatus)>,
}

/// Reaps every child that has ended, and asks the kernel whether any is left (see [`PROOF`]).
pub fn prove_no_children() -> Sweep {
    Sweep { proof: Proof::Children, reaped: Vec::new() }
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
}

/// Signals a group. The caller vouches that the group's leader is an unreaped child.
pub fn signal_group(_group: Pgid, _signal: Signal) -> Delivery {
    Delivery::Gone
}

/// Signals one process. The caller vouches that it is an unreaped child.
pub fn signal_child(_pid: Pid, _signal: Signal) -> Delivery {
    Delivery::Gone
}

/// A hold on one process, which need not be a child: it never comes to mean another one.
#[derive(Debug)]
pub struct Handle(());

impl Handle {
    /// A hold on exactly the process that was read; `None` if it is gone.
    pub fn open(_process: &Process) -> Option<Self> {
        None
    }

    /// Signals it.
    pub fn signal(&self, _signal: Signal) -> Delivery {
        Delivery::Gone
    }

    /// Whether it runs still (a zombie does not).
    pub fn is_alive(&self) -> bool {
        false
    }

    /// Waits until it has ended, at most this long; whether it has.
    pub fn wait(&self, _timeout: Duration) -> bool {
        true
    }
}
