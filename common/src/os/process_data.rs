//! What is read of a process: plain data, shared by the backends and by everything that uses them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Pgid, Pid};

/// The start time of a process, in clock ticks since boot (Linux) or microseconds (macOS). Together with
/// the pid it identifies one process, even after the pid was reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartTime(pub u64);

/// Unique ids that the kernel assigns at fork(2) and never reuses. They stay the same through exec, setsid
/// and reparenting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The id of this process.
    pub own: u64,
    /// The id of the process that forked it, whichever process is its parent now.
    pub parent: u64,
}

/// A process at the moment in which it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The process id; may mean another process later (compare `start`).
    pub pid: Pid,
    /// The pid of the parent; 0 where the kernel shows none.
    pub ppid: i32,
    /// The process group id.
    pub pgid: i32,
    /// The session id; 0 if it can't be read.
    pub session: i32,
    /// One letter as in ps(1): R, S, D, T, t, Z, X.
    pub state: char,
    /// The start time, which tells processes with the same pid apart.
    pub start: StartTime,
    /// The short name (`comm`), without control characters.
    pub name: String,
    /// The number of threads.
    pub threads: u32,
    /// The signal that its parent gets at its exit; clone(2) can choose another one than `SIGCHLD`.
    pub exit_signal: i32,
    /// Unique ids of this process and of the one that forked it; `None` except on macOS.
    pub birth: Option<Birth>,
}

/// The kernel's id of a pipe (Linux) or of one end of a pipe (macOS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipeId(pub u64);

/// A process as a report shows it: everything in it is for reading, nothing for signalling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// The process id when it was read.
    pub pid: Pid,
    /// The pid of the parent; 0 where the kernel shows none.
    pub ppid: i32,
    /// The process group; `None` where the kernel shows none.
    pub pgid: Option<Pgid>,
    /// One letter as in ps(1): R, S, D, T, t, Z, X.
    pub state: char,
    /// The short name (`comm`).
    pub name: String,
    /// The command line, arguments joined by spaces; the name in brackets if it is empty.
    pub command: String,
    /// The name of its user, or the user id if it has no name.
    pub user: String,
}

impl fmt::Display for ProcessInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}, {})", self.command, self.pid, self.user)
    }
}
