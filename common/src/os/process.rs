//! What runs on the machine. Read only; every function tolerates that the process
//! vanishes meanwhile.

use serde::{Deserialize, Serialize};

use super::ProcessInfo;
use crate::ids::{Mark, Pid};

/// When a process began, in a unit of the kernel's own. Together with the pid it names
/// one process, even after the pid was given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartTime(pub u64);

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
}

/// The process with this pid.
pub fn read(_pid: Pid) -> Option<Process> {
    None
}

/// The process with this pid, as a report names it.
pub fn describe(_pid: Pid) -> Option<ProcessInfo> {
    None
}

/// The direct children of this process.
pub fn children(_pid: Pid) -> Vec<Pid> {
    Vec::new()
}

/// All processes that can be read.
pub fn all() -> Vec<Process> {
    Vec::new()
}

/// All descendants of `root`, without itself, parents before their children.
pub fn tree(_root: Pid) -> Vec<Process> {
    Vec::new()
}

/// The mark that this process carries, if it is of one of our runs.
pub fn mark(_pid: Pid) -> Option<Mark> {
    None
}

/// Whether it has ended and waits to be reaped. A leader that has exited while other threads
/// of it still run looks the same in its state, but is none.
pub fn is_zombie(process: &Process) -> bool {
    process.state == 'Z'
}

/// The process that traces this one, if one does.
pub fn tracer(_pid: Pid) -> Option<Pid> {
    None
}
