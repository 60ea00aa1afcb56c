//! The machine: processes, children, signals, sockets. **The only place with
//! `cfg(target_os)` or `unsafe`.**
//!
//! ```text
//! process   what runs: /proc on Linux, libproc elsewhere        (read only)
//! child     what is ours: spawn, wait, signal, subreaper, proof (effects)
//! guard     a process and its guardian: fork, signals, shared memory
//! handover  a process that goes on as another program
//! socket    TCP: the kernel's socket table, owners, bind probes
//! own       this process: descriptors, threads, limits, memory
//! lookup    "could not look" as an error, apart from "not there"
//! cgroup    processes held together by the kernel, where a cgroup is delegated to us
//!
//! linux     the facts that Linux gives             darwin   those that macOS gives
//! portable  decisions that need no more than both give
//! ```
//!
//! `portable` answers on macOS, and on Linux when `MCPD_BACKEND=portable` asks for it; callers
//! never see which one answered, except through [`backend`].

use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::ids::{Pgid, Pid};

pub mod cgroup;
pub mod child;
pub mod guard;
pub mod handover;
mod lookup;
pub mod process;
pub mod socket;
pub mod this_process;

#[cfg(not(target_os = "linux"))]
mod darwin;
#[cfg(target_os = "linux")]
mod linux;
mod portable;
#[cfg(any(test, fuzzing, not(target_os = "linux")))]
mod procargs;
#[cfg(any(test, fuzzing, not(target_os = "linux")))]
mod sockinfo;

#[cfg(fuzzing)]
pub use linux::fuzzing;

pub use lookup::{CannotLook, Listing};

/// The facts that the system itself gives, whichever backend decides with them.
#[cfg(not(target_os = "linux"))]
use darwin as system;
#[cfg(target_os = "linux")]
use linux as system;

/// Which eyes look at the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Subreaper, pidfds, `/proc`, `sock_diag`: the kernel proves that nothing is left.
    Linux,
    /// Groups, sessions, the process tree and marks: best effort, no proof.
    Portable,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Linux => "linux",
            Self::Portable => "portable",
        })
    }
}

/// What holds the processes of the workers together, so that none is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Containment {
    /// By what.
    pub by: ContainedBy,
    /// Where, or why by no more, for a person.
    pub detail: String,
}

/// What processes can be held together by, from best effort to the kernel's own grip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainedBy {
    /// Groups, sessions, the tree, and marks in the environment.
    Marks,
    /// The daemon is the parent of whatever a worker leaves behind.
    Subreaper,
    /// That, and a cgroup for each worker.
    Cgroup,
}

impl fmt::Display for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            ContainedBy::Marks => "marks",
            ContainedBy::Subreaper => "subreaper",
            ContainedBy::Cgroup => "cgroup",
        };
        write!(f, "{by} ({})", self.detail)
    }
}

/// A process as a report names it: everything in it is for reading, nothing for signalling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its pid.
    pub pid: Pid,
    /// Its parent.
    pub ppid: i32,
    /// Its group, if the kernel still knows one.
    pub pgid: Option<Pgid>,
    /// One letter as in ps(1): R, S, D, T, t, Z, X.
    pub state: char,
    /// Its short name (`comm`).
    pub name: String,
    /// Its command line, arguments joined by spaces; the name in brackets if it has none.
    pub command: String,
    /// Its user's name, or number where there is no name.
    pub user: String,
}

impl fmt::Display for ProcessInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}, {})", self.command, self.pid, self.user)
    }
}

/// Which eyes look: Linux's, unless this is another system or `MCPD_BACKEND=portable` asks
/// otherwise. It is decided once.
pub fn backend() -> Backend {
    static BACKEND: OnceLock<Backend> = OnceLock::new();
    *BACKEND.get_or_init(|| {
        let forced = std::env::var_os("MCPD_BACKEND").is_some_and(|wish| wish == "portable");
        match cfg!(target_os = "linux") && !forced {
            true => Backend::Linux,
            false => Backend::Portable,
        }
    })
}

/// The name of a signal: "SIGTERM"; "signal 99" for one without a name.
pub fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

/// What tells this boot of the machine from every other one.
pub fn boot_id() -> Option<String> {
    system::boot_id()
}

/// The name of this user, or the number where there is no name.
pub fn user_name(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_names_that_people_know() {
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(99), "signal 99");
        assert_eq!(signal_name(-1), "signal -1");
    }

    #[test]
    fn root_has_a_name_and_a_stranger_a_number() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(3_999_999_999), "3999999999");
    }

    #[test]
    fn this_boot_is_told_apart() {
        assert!(boot_id().is_some_and(|id| id.len() > 8 && id == id.trim()));
    }
}
