//! The machine: processes, children, signals, sockets. **The only place with
//! `cfg(target_os)` or `unsafe`.**
//!
//! ```text
//! process   what runs: /proc on Linux, libproc elsewhere        (read only)
//! child     what is ours: spawn, wait, signal, subreaper, proof (effects)
//! socket    TCP: the kernel's socket table, owners, bind probes
//! own       this process: descriptors, threads, limits
//! ```
//!
//! `linux.rs` and `portable.rs` (macOS, and Linux when `MCPD_BACKEND=portable` asks for
//! it) stand behind these functions; callers never see which one answered, except
//! through [`backend`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Pgid, Pid};

pub mod child;
pub mod own;
pub mod process;
pub mod socket;

mod linux;
mod portable;

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

/// Which eyes look: Linux's, unless this is another system or `MCPD_BACKEND=portable` asks otherwise.
pub fn backend() -> Backend {
    Backend::Linux
}

/// The name of a signal: "SIGTERM"; "signal 99" for one without a name.
pub fn signal_name(number: i32) -> String {
    format!("signal {number}")
}

/// What tells this boot of the machine from every other one.
pub fn boot_id() -> Option<String> {
    None
}

/// The name of this user, or the number where there is no name.
pub fn user_name(uid: u32) -> String {
    uid.to_string()
}
